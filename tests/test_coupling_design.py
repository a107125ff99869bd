"""Leakage under control: sweeps over the weight of a coupling, and weights that keep a bound."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import bayesjoint as bj
from bayesjoint.studies._weighted_runs import Runs, largest_weight

GRID = bj.Grid(depth=np.arange(5.0), x=np.arange(6.0))
WAY = {"into": "a", "source": "b"}


def problem(weight=2.0, shared=False, **settings):
    """Return two fields, each seen by sums of its own along other directions."""
    rng = np.random.default_rng(4)
    fields = [
        bj.GaussianField(n, GRID, sd=s, length_scale=3.0) for n, s in (("a", 2.0), ("b", 0.5))
    ]
    modalities = []
    for name, axis in (("a", 0), ("b", 1)):
        matrix = np.kron(*(np.ones((1, n)) if k == axis else np.eye(n)
                           for k, n in enumerate(GRID.shape)))  # fmt: skip
        data = xr.DataArray(rng.normal(size=len(matrix)), dims=f"sum_{name}")
        forward = bj.linear_map(matrix, name)
        if shared and name == "a":
            forward = bj.pytensor_map(lambda a, b, m=matrix: m @ (a + 4.0 * b).ravel(), ["a", "b"])
        modalities.append(bj.Modality(f"of_{name}", data, forward, bj.GaussianNoise(sd=0.2)))
    coupling = bj.CrossGradient("a", "b", weight=weight, **settings)
    return bj.JointProblem(latents=fields, modalities=modalities, couplings=[coupling])


def point():
    rng = np.random.default_rng(5)
    return {name: sd * rng.normal(size=GRID.shape) for name, sd in (("a", 2.0), ("b", 0.5))}


@pytest.fixture(scope="module")
def local():
    runs = Runs(problem(), None, point())
    return runs.local(runs.point)


@pytest.fixture(scope="module")
def shaped():
    return bj.design_weight(problem(), leakage=0.05, shaped=True, **WAY)


@pytest.fixture(scope="module")
def weights():
    return np.random.default_rng(6).uniform(0.5, 3.0, GRID.size)


def differences(function, weights, step=1e-5):
    moves = step * np.eye(weights.size)
    return np.array([(function(weights + m) - function(weights - m)) / (2 * step) for m in moves])


def test_the_gradient_of_leakage_is_exact(local, weights):
    for way in (("a", "b"), ("b", "a")):
        expected = differences(lambda w, way=way: local.at(w).leakage(*way), weights)
        found = local.at(weights).leakage_gradient(*way)
        np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


def test_the_gradient_of_the_benefit_is_exact_and_positive(local, weights):
    expected = -differences(lambda w: local.at(w).relative_variance(), weights)
    found = local.at(weights).benefit_gradient()
    np.testing.assert_allclose(found, expected, atol=1e-6 * expected.max())
    assert (found >= 0.0).all()


@pytest.mark.slow
def test_a_constant_map_is_the_linearization(local):
    for weight in (0.3, 2.0):
        tree = bj.linearize(problem(weight), at=point())
        report, at = bj.leakage(tree), local.constant(weight)
        for into, source in (("a", "b"), ("b", "a"), ("a", "a")):
            expected = float(report.sel(into=into, source=source))
            assert at.leakage(into, source) == pytest.approx(expected, rel=1e-8)


def test_a_map_is_the_linearization_with_these_weights(local):
    weights = np.arange(GRID.size).reshape(GRID.shape) % 3.0
    tree = bj.linearize(problem(weights), at=point())
    found = local.at(weights.ravel()).leakage("a", "b")
    assert found == pytest.approx(float(bj.leakage(tree).sel(**WAY)), rel=1e-8)


@pytest.mark.slow
def test_relative_variance_is_that_of_the_sweep(local):
    sweep = bj.coupling_sweep(problem(), [2.0], at=point())
    expected = GRID.size * float((sweep["posterior_sd"] ** 2).sum())
    assert local.constant(2.0).relative_variance() == pytest.approx(expected, rel=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("at", [None, point()], ids=["map", "values"])
def test_a_sweep_is_a_linearization_at_each_weight(at):
    sweep = bj.coupling_sweep(problem(), [0.5, 5.0], at=at)
    for weight in (0.5, 5.0):
        tree, row = bj.linearize(problem(weight), at=at), sweep.sel(weight=weight)
        xr.testing.assert_allclose(row["leakage"].drop_vars("weight"), bj.leakage(tree), rtol=1e-5)
        report, ds = bj.resolution(tree), tree["linearization"].to_dataset()
        for name in "ab":
            mean = float(report[name].mean())
            assert float(row["resolution"].sel(latent=name)) == pytest.approx(mean, rel=1e-5)
        np.testing.assert_allclose(row["dofs"], report["dofs"], rtol=1e-5)
        np.testing.assert_allclose(row["chi2"], ds["chi2"], rtol=1e-4)
        np.testing.assert_allclose(row["prior_norm"], ds["prior_norm"], rtol=1e-4)


@pytest.mark.slow
def test_without_coupling_nothing_leaks():
    sweep = bj.coupling_sweep(problem(), [0.0])
    assert float(sweep["leakage"].sel(**WAY, weight=0.0)) < 1e-15
    assert float(sweep["posterior_sd"].max()) < 1.0


@pytest.mark.slow
def test_the_weight_meets_its_bound():
    found = bj.design_weight(problem(), leakage=0.05, **WAY)
    tree = bj.linearize(problem(float(found["weight"])))
    reached = float(bj.leakage(tree).sel(**WAY))
    assert reached == pytest.approx(0.05, rel=0.01) and reached <= 0.05
    assert float(found["leakage"].item()) == pytest.approx(reached, rel=1e-4)


@pytest.mark.slow
def test_a_shaped_map_gains_more_within_the_bound(shaped):
    scalar, best = (shaped.sel(design=name) for name in ("scalar", "shaped"))
    assert best["leakage"] <= 0.05 and scalar["leakage"] <= 0.05
    assert best["benefit"] > scalar["benefit"] > 0.0
    found = shaped["weight_map"]
    assert found.dims == GRID.dims and (found >= 0.0).all()
    assert found.max() <= shaped.attrs["up_to"] * (1 + 1e-9)


def test_a_map_is_never_worse_where_the_bound_does_not_bind():
    found = bj.design_weight(problem(), leakage=0.99, shaped=True, up_to=5.0, at=point(), **WAY)
    assert float(found["weight"]) == 5.0
    np.testing.assert_allclose(found["weight_map"], 5.0, rtol=1e-3)


def test_no_weight_meets_a_bound_that_the_data_exceed():
    with pytest.raises(ValueError, match=r"no weight .* keeps .* smallest is .* at a weight of"):
        bj.design_weight(problem(shared=True), leakage=0.01, at=point(), **WAY)


@pytest.mark.parametrize(
    ("leak", "expected"),
    [
        (lambda w: w / 100.0, 10.0),
        (lambda w: 0.01 * w / (1.0 + (w / 30.0) ** 2), 11.459),
        (lambda w: 0.5 * (w > 3.0), 3.0),
        (lambda w: 0.5 * (w < 1.0) + w / 100.0, 10.0),
        (lambda w: 0.05, 1000.0),
    ],
    ids=["monotone", "falls again", "jump", "not at zero", "nowhere"],
)
def test_the_first_crossing_is_taken(leak, expected):
    weight, ladder, seen = largest_weight(leak, 0.1, 1000.0, "b into a")
    assert leak(weight) <= 0.1
    assert weight == pytest.approx(expected, rel=0.01)
    assert ladder.shape == seen.shape


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="no latent 'c'"):
        bj.design_weight(problem(), into="c", source="b")
    with pytest.raises(ValueError, match="two latents"):
        bj.design_weight(problem(), into="a", source="a")
    with pytest.raises(ValueError, match="between 0 and 1"):
        bj.design_weight(problem(), leakage=0.0, **WAY)
    with pytest.raises(ValueError, match="no coupling"):
        bj.coupling_sweep(replace(problem(), couplings=[]), [1.0])
    with pytest.raises(ValueError, match="not negative"):
        bj.coupling_sweep(problem(), [-1.0])


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_the_sweep_is_drawn():
    sweep = bj.coupling_sweep(problem(), [0.0, 1.0, 10.0], at=point())
    figure = bj.plot_coupling_sweep(sweep)
    figure.canvas.draw()
    assert [ax.get_title("left") for ax in figure.axes][::2] == ["Leakage", "Misfit"]
    with pytest.raises(ValueError, match="two or more"):
        bj.plot_coupling_sweep(sweep.isel(weight=[0, 1]))
    with pytest.raises(ValueError, match="missing"):
        bj.plot_coupling_sweep(sweep.drop_vars("chi2"))
