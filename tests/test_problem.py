"""The joint problem: names and dims of its model, its parts, and its copies."""

import pickle

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
import xarray as xr

import bayesjoint as bj
from bayesjoint._graph.compile import INTERPRETED
from bayesjoint.problem import build
from tests.helpers import STANDARD, data, evaluator, log_density

RNG = np.random.default_rng(6)
GRID = bj.Grid(depth=[5.0, 15.0, 40.0], x=[0.0, 10.0, 20.0, 40.0])
G, T = RNG.normal(size=(2, 5, GRID.size))
STATIONS = {"station": list("abcde")}


def exponential(log_rate):
    """Counts a second; at module level, so that it pickles."""
    return pt.exp(log_rate) * np.ones(3)


def example(**changes):
    """Two coupled fields and a scalar, three modalities, a discrepancy between two of them."""
    fixed = {"length_scale": 20.0}
    parts = {
        "latents": [
            bj.GaussianField("density", GRID, sd=200.0, units="kg/m3", **fixed),
            bj.GaussianField("slowness", GRID, mean=2.5e-4, sd=2e-5, units="s/m", **fixed),
            bj.Parameter("log_rate", STANDARD),
        ],
        "modalities": [
            bj.Modality(
                "gravity",
                data(RNG.normal(size=5), coords=STATIONS, units="mGal"),
                bj.linear_map(G, "density", input_units="kg/m3", output_units="mGal"),
                bj.GaussianNoise(sd=bj.Prior(pm.HalfNormal, sigma=30.0)),
            ),
            bj.Modality(
                "arrivals",
                data(1e-3 * np.ones(5), "ray"),
                bj.linear_map({"slowness": T, "density": 1e-9 * G}),
                bj.GaussianNoise(sd=1e-4),
            ),
            bj.Modality(
                "counts",
                data([1, 0, 2], "detector"),
                bj.pytensor_map(exponential, "log_rate"),
                bj.PoissonNoise(),
            ),
        ],
        "couplings": [bj.CrossGradient("density", "slowness", weight=2.0)],
        "discrepancy": bj.JointDiscrepancy(
            sd={"gravity": 10.0, "arrivals": 1e-4}, correlation=0.5, form="latent"
        ),
    }
    return bj.JointProblem(**(parts | changes))


@pytest.fixture(scope="module")
def problem():
    return example()


@pytest.fixture(scope="module")
def model(problem):
    return bj.build_model(problem)


def test_names_of_the_model(model):
    assert {v.name for v in model.free_RVs} == {
        "density_white",
        "slowness_white",
        "log_rate_white",
        "gravity_sd_white",
        "discrepancy_white",
    }
    assert [v.name for v in model.observed_RVs] == ["gravity", "arrivals", "counts"]
    assert {v.name for v in model.deterministics} == {
        "density",
        "slowness",
        "log_rate",
        "gravity_sd",
        "gravity_response",
        "arrivals_response",
        "counts_response",
        "gravity_discrepancy",
        "arrivals_discrepancy",
    }
    assert [v.name for v in model.potentials] == ["cross_gradient_density_slowness"]


def test_dims_and_coordinates_are_the_users(model):
    dims = model.named_vars_to_dims
    assert dims["density"] == dims["slowness"] == ("depth", "x")
    for name in ("gravity", "gravity_response", "gravity_discrepancy"):
        assert dims[name] == ("station",)
    for name in ("arrivals", "arrivals_response", "arrivals_discrepancy"):
        assert dims[name] == ("ray",)
    assert dims["counts"] == ("detector",)
    assert model.coords["station"] == tuple("abcde")
    assert model.coords["x"] == (0.0, 10.0, 20.0, 40.0)
    assert model.coords["ray"] == (0, 1, 2, 3, 4)


def test_it_is_a_plain_model(model):
    assert type(model) is pm.Model
    assert np.isfinite(model.compile_logp(mode=INTERPRETED)(model.initial_point()))
    prior = pm.draw(model["density"], draws=3, random_seed=1, mode=INTERPRETED)
    assert prior.shape == (3, 3, 4)


def test_a_marginal_discrepancy_is_not_in_the_model(problem):
    marginal = bj.JointDiscrepancy(sd={"gravity": 10.0, "arrivals": 1e-4}, form="marginal")
    model = bj.build_model(problem.replace(discrepancy=marginal))
    names = set(model.named_vars)
    assert not names & {"discrepancy_white", "gravity_discrepancy", "arrivals_discrepancy"}
    assert {v.name for v in model.observed_RVs} == {"gravity", "arrivals", "counts"}
    assert model.named_vars_to_dims["gravity"] == ("station",)


def test_log_priors_add_up_to_the_prior_density(problem):
    """Of latents that are normal, whose white and physical densities differ by a constant."""
    made = build(problem.replace(modalities=[], discrepancy=None))
    density = log_density(made.model)
    white = {v.name: RNG.normal(size=v.type.shape) for v in made.model.free_RVs}
    assert set(made.log_priors) == {*problem.latent, "cross_gradient_density_slowness"}
    found = evaluator(made, sum(made.log_priors.values()))(**white)
    assert density(**white) == pytest.approx(found, rel=1e-10)


def test_units_are_kept_for_the_results(problem):
    units = {u.name: u.units for u in build(problem).unknowns}
    assert units == {"density": "kg/m3", "slowness": "s/m", "log_rate": "", "gravity_sd": "mGal"}


def test_without_a_modality(problem):
    left = problem.without("gravity")
    assert list(left.modality) == ["arrivals", "counts"]
    assert list(left.latent) == ["density", "slowness", "log_rate"]
    assert [c.name for c in left.couplings] == ["cross_gradient_density_slowness"]
    (discrepancy,) = left.discrepancies
    assert discrepancy.sd == {"arrivals": 1e-4} and discrepancy.correlation is None
    assert list(problem.modality) == ["gravity", "arrivals", "counts"]
    assert problem.without("gravity", "arrivals").discrepancies == ()
    with pytest.raises(ValueError, match=r"no modality \['magnetics'\]; there are \['arrivals'"):
        problem.without("magnetics")


def test_without_data_leaves_the_coupled_prior(problem):
    prior = problem.without_data()
    model = bj.build_model(prior)
    assert prior.modalities == () and prior.discrepancies == ()
    assert not model.observed_RVs
    assert [v.name for v in model.potentials] == ["cross_gradient_density_slowness"]


def test_separate_gives_each_modality_the_latents_it_reaches(problem):
    parts = problem.separate()
    assert list(parts) == ["gravity", "arrivals", "counts"]
    assert list(parts["gravity"].latent) == ["density"]
    assert list(parts["arrivals"].latent) == ["density", "slowness"]
    assert list(parts["counts"].latent) == ["log_rate"]
    assert [len(part.couplings) for part in parts.values()] == [0, 1, 0]
    assert [len(part.discrepancies) for part in parts.values()] == [1, 1, 0]


def test_restricting_a_matrix_of_correlations_keeps_the_right_pair():
    matrix = np.array([[1.0, 0.6, -0.2], [0.6, 1.0, 0.3], [-0.2, 0.3, 1.0]])
    latent = bj.Parameter("m", STANDARD)
    modalities = [
        bj.Modality(
            n, data(np.zeros(2)), bj.linear_map(np.ones((2, 1)), "m"), bj.GaussianNoise(sd=1.0)
        )
        for n in "abc"
    ]
    discrepancy = bj.JointDiscrepancy(sd={"a": 1.0, "b": 2.0, "c": 3.0}, correlation=matrix)
    problem = bj.JointProblem(latents=[latent], modalities=modalities, discrepancy=discrepancy)
    (left,) = problem.without("b").discrepancies
    assert left.sd == {"a": 1.0, "c": 3.0}
    np.testing.assert_array_equal(left.correlation, [[1.0, -0.2], [-0.2, 1.0]])


def test_with_data_replaces_values_only(problem):
    values = xr.DataArray(np.arange(5.0), dims="station", coords=STATIONS)
    changed = problem.with_data(xr.Dataset({"gravity": values}))
    np.testing.assert_array_equal(changed.modality["gravity"].data, np.arange(5.0))
    assert changed.modality["gravity"].data.attrs == {"units": "mGal"}
    assert changed.modality["arrivals"] is problem.modality["arrivals"]
    with pytest.raises(ValueError, match=r"no modality \['magnetics'\]"):
        problem.with_data(xr.Dataset({"magnetics": values}))
    with pytest.raises(ValueError, match="modality 'gravity': 1 of 5 data are NaN"):
        problem.with_data(xr.Dataset({"gravity": values.where(values > 0)}))


def test_with_data_goes_by_dimension_names():
    values = np.arange(6.0).reshape(2, 3)
    latent = bj.Parameter("m", STANDARD)
    forward = bj.linear_map(np.ones((6, 1)), "m")
    modality = bj.Modality("y", data(values, ("a", "b")), forward, bj.GaussianNoise(sd=1.0))
    problem = bj.JointProblem(latents=[latent], modalities=[modality])
    turned = xr.Dataset({"y": (("b", "a"), values.T + 1.0)})
    np.testing.assert_array_equal(problem.with_data(turned).modality["y"].data, values + 1.0)


def test_replace_checks_again(problem):
    changed = problem.replace(couplings=())
    assert changed.couplings == () and len(problem.couplings) == 1
    with pytest.raises(ValueError, match="there is no latent 'slowness'"):
        problem.replace(latents=problem.latents[:1], modalities=problem.modalities[:1])


def test_a_problem_cannot_be_changed(problem):
    with pytest.raises(AttributeError):
        problem.latents = ()


def test_pickling_round_trips(problem, model):
    copy = pickle.loads(pickle.dumps(problem))
    white = {v.name: 0.3 * RNG.normal(size=v.type.shape) for v in model.free_RVs}
    expected = log_density(model)(**white)
    assert log_density(bj.build_model(copy))(**white) == expected
    assert copy.modality["gravity"].data.identical(problem.modality["gravity"].data)


def test_pickling_keeps_shared_maps_shared():
    forward = bj.linear_map(np.ones((2, 1)), "m", coords={"east": [0.0, 1.0]})
    noise = bj.GaussianNoise(sd=1.0)
    problem = bj.JointProblem(
        latents=[bj.Parameter("m", STANDARD)],
        modalities=[bj.Modality(n, data(np.zeros(2)), forward, noise) for n in "ab"],
        discrepancy=bj.JointDiscrepancy(of=forward, sd=0.5, on="east", length_scale=1.0),
    )
    copy = pickle.loads(pickle.dumps(problem))
    assert copy.modality["a"].forward is copy.modality["b"].forward is copy.discrepancy.of
    assert log_density(bj.build_model(copy))() == log_density(bj.build_model(problem))()


def test_derivatives_are_checked_once_for_each_map():
    """So that leaving out a modality does not call a slow simulator again and again."""
    calls = []

    def jacobian(m):
        calls.append(1)
        return np.ones((2, 1))

    forward = bj.numpy_map(lambda m: m * np.ones(2), "m", jacobian=jacobian)
    noise = bj.GaussianNoise(sd=1.0)
    modalities = [bj.Modality(n, data(np.zeros(2)), forward, noise) for n in "ab"]
    problem = bj.JointProblem(latents=[bj.Parameter("m", STANDARD)], modalities=modalities)
    assert calls
    calls.clear()
    problem.without("a")
    problem.separate()
    assert not calls


def test_a_scalar_datum():
    forward = bj.linear_map(np.ones((1, 1)), "m")
    modality = bj.Modality("y", xr.DataArray(1.0), forward, bj.GaussianNoise(sd=1.0))
    problem = bj.JointProblem(latents=[bj.Parameter("m", STANDARD)], modalities=[modality])
    assert log_density(bj.build_model(problem))(m_white=0.0) == pytest.approx(
        -0.5 - np.log(2 * np.pi)
    )
