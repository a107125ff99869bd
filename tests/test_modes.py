"""Separated modes: all that matter are found, get chains, and are told of in words."""

import arviz as az
import numpy as np
import pymc as pm
import pytest
import xarray as xr
from scipy import stats

import bayesjoint as bj
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._local import mode as _mode
from bayesjoint._sampler import starts as _starts

QUICK = {"chains": 4, "random_seed": 1, "progress": False, "prior_draws": 10}


def energy(prior_mean=0.5, sd=0.1, form=None):
    """Return the problem of a velocity of which the energy is known: modes near 1 and -1."""
    discrepancy = bj.JointDiscrepancy(sd={"energy": 0.05}, form=form) if form else None
    return bj.JointProblem(
        latents=[bj.Parameter("velocity", bj.Prior(pm.Normal, mu=prior_mean, sigma=1.0))],
        modalities=[
            bj.Modality(
                "energy",
                xr.DataArray([1.0], dims="time"),
                bj.pytensor_map(lambda v: v.reshape((1,)) ** 2, "velocity"),
                bj.GaussianNoise(sd=sd),
            )
        ],
        discrepancy=discrepancy,
    )


def exact(prior_mean=0.5, sd=0.1):
    """Return share, mean and sd of the modes near 1 and -1, by quadrature."""
    found = []
    for side in (1.0, -1.0):
        v = side * np.linspace(0.0, 2.0, 20_001)
        weight = stats.norm.pdf(v, prior_mean) * stats.norm.pdf(1.0, v**2, sd)
        mean = weight @ v / weight.sum()
        found.append([weight.sum(), mean, np.sqrt(weight @ (v - mean) ** 2 / weight.sum())])
    shares = np.array(found)
    shares[:, 0] /= shares[:, 0].sum()
    return shares


def maxima(problem, starts=16):
    return _mode.maximum_a_posteriori(ModelFunctions(problem), starts)


def test_a_maximum_as_high_as_another_is_told():
    mode = maxima(energy(prior_mean=0.0))
    assert mode.lower_modes == pytest.approx([mode.log_density])
    np.testing.assert_allclose(mode.points[1], -mode.points[0], atol=1e-4)


def test_maxima_near_each_other_in_the_prior_are_two():
    """At 1 and -1 under a prior of sd 100, where all starts are far away."""
    wide = energy(prior_mean=0.0)
    latent = bj.Parameter("velocity", bj.Prior(pm.Normal, mu=0, sigma=100.0))
    mode = maxima(wide.replace(latents=(latent,)))
    assert len(mode.points) == 2
    np.testing.assert_allclose(np.sort(mode.points.ravel()), [-0.01, 0.01], rtol=1e-3)


def test_one_maximum_is_found_once():
    mode = maxima(energy(prior_mean=8.0))
    assert len(mode.points) == 1 and mode.lower_modes == ()


def test_weights_are_those_of_quadrature():
    problem = energy()
    starts = _starts.spread(ModelFunctions(problem), maxima(problem).points, chains=4)
    assert starts.weights == pytest.approx(exact()[:, 0], abs=0.01)
    assert starts.of_chain.tolist() == [0, 0, 0, 1]


def test_a_high_but_narrow_peak_holds_nothing():
    """The narrow one of two normal peaks is higher; its volume is a million times less."""

    class Peaks:
        sizes = {0.0: 1.0, 5.0: 1e-3}

        def density(self, point):
            sd = self.sizes[float(point[0])]
            return (3.0 if sd < 1 else 0.0), np.zeros(2)

    def precision(functions, point):
        class Local:
            log_determinant = -4.0 * np.log(functions.sizes[float(point[0])])

        return Local()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_starts, "curvature", precision)
        starts = _starts.spread(Peaks(), np.array([[5.0, 0.0], [0.0, 0.0]]), chains=3)
    assert starts.modes.tolist() == [[0.0, 0.0]] and starts.of_chain.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("weights", "chains", "expected"),
    [
        ([0.5, 0.5], 4, [2, 2]),
        ([0.9, 0.1], 4, [3, 1]),
        ([0.98, 0.01, 0.01], 4, [2, 1, 1]),
        ([0.7, 0.3], 1, [1, 0]),
        ([1.0], 3, [3]),
    ],
)
def test_every_mode_gets_a_chain_and_the_heavy_ones_more(weights, chains, expected):
    assert _starts.shares(np.array(weights), chains).tolist() == expected


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Drawn in two runs: what is told of the modes outlives an interrupt."""
    store = tmp_path_factory.mktemp("store") / "run.zarr"
    bj.sample(energy(), draws=500, store=store, checkpoint=500, **QUICK)
    return bj.sample(energy(), draws=1500, store=store, resume=True, checkpoint=500, **QUICK)


@pytest.mark.slow
def test_each_chain_has_the_posterior_of_its_mode(tree):
    """Means and sd of all chains against quadrature, in Monte Carlo errors (seed 1)."""
    started = tree["posterior"].attrs["mode_of_chain"]
    assert list(started) == [0, 0, 0, 1]
    for chain, mode in enumerate(started):
        draws = tree["posterior"].to_dataset()[["velocity"]].isel(chain=[chain])
        _, mean, sd = exact()[mode]
        errors = [az.mcse(draws, method=method)["velocity"].item() for method in ("mean", "sd")]
        z = [(draws["velocity"].mean().item() - mean) / errors[0],
             (draws["velocity"].std(ddof=1).item() - sd) / errors[1]]  # fmt: skip
        assert np.abs(z).max() < 4.5


@pytest.mark.slow
def test_the_verdict_names_the_chains_of_each_mode(tree):
    attrs = tree["posterior"].attrs
    assert attrs["verdict"] == "bad"
    assert "chains 0, 1 and 2 stay at one and chain 3 at another" in attrs["diagnostics"]
    assert "hold 0.73 and 0.27 of the posterior" in attrs["diagnostics"]
    assert "add a prior or data that decide" in attrs["diagnostics"]


def test_a_mode_without_a_chain_is_told():
    settings = {**QUICK, "chains": 1, "backend": "interpreted"}
    attrs = bj.sample(energy(), draws=600, tune=200, **settings)["posterior"].attrs
    assert attrs["verdict"] == "fair"
    assert "hold about 0.27 of the posterior" in attrs["diagnostics"]
    assert "at least 2 chains" in attrs["diagnostics"]


def test_a_sampled_discrepancy_has_the_modes_of_the_integrated_one():
    settings = {**QUICK, "backend": "interpreted"}
    problem = energy(form="latent")
    tree = bj.sample(problem, draws=100, tune=100, **settings)
    assert list(tree["posterior"].attrs["mode_of_chain"]) == [0, 0, 0, 1]
    means = tree["posterior"]["velocity"].mean("draw")
    np.testing.assert_allclose(means, [1.0, 1.0, 1.0, -1.0], atol=0.05)


def exactly_fitted(sd):
    """Return three data that five cells can fit exactly, with noise of unknown sd."""
    grid = bj.Grid(x=np.arange(5.0))
    seen = bj.Modality(
        "seen", xr.DataArray([1.0, -2.0, 0.5], dims="at"), bj.linear_map(np.eye(3, 5), "f"),
        bj.GaussianNoise(sd=sd),
    )  # fmt: skip
    field = bj.GaussianField("f", grid, sd=1.0, length_scale=1.0)
    return bj.JointProblem(latents=[field], modalities=[seen])


def test_a_density_without_maximum_names_the_noise_that_vanishes():
    with pytest.raises(ValueError, match=r"no maximum: .* as seen_sd vanishes.*pm\.LogNormal"):
        bj.linearize(exactly_fitted(bj.Prior(pm.HalfNormal, sigma=0.5)))
    cured = bj.linearize(exactly_fitted(bj.Prior(pm.LogNormal, mu=-1.0, sigma=0.5)))
    assert cured["linearization"].attrs["converged"] == 1
