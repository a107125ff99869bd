"""What is special to each structural coupling: its formula, its errors, its draws."""

from itertools import combinations

import numpy as np
import pytest
import xarray as xr

import bayesjoint as bj
from bayesjoint._compiled.density import CompiledDensity
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._local.actions import LocalActions
from bayesjoint._local.information import local_information
from bayesjoint._sampler.run import prior_points
from bayesjoint.studies.coupling_weight import mean_and_error
from tests.chance import largest_z
from tests.structural import GRIDS, SD, image, log_p

PLANE = bj.Grid(depth=np.arange(5.0, 60.0, 10.0), x=np.arange(0.0, 160.0, 20.0))
MORE = {"2-D": GRIDS["2-D"], "3-D": GRIDS["3-D"]}
FORMS = ["forward", "central", "face"]


def shifted(array, axis):
    """Slopes at faces, those before and those after each cell; outer faces are flat."""
    pad = [(1, 1) if i == axis else (0, 0) for i in range(array.ndim)]
    padded = np.pad(array, pad)
    return np.delete(padded, -1, axis), np.delete(padded, 0, axis)


def gradient(values, grid, form):
    """Components of the gradient times the length, written without matrices."""
    parts = []
    for axis, centres in enumerate(grid.centres.values()):
        steps = np.diff(centres).reshape([-1 if i == axis else 1 for i in range(values.ndim)])
        slope = np.diff(values, axis=axis) / steps
        before, after = shifted(slope, axis)
        if form == "central":
            parts.append(np.gradient(values, centres, axis=axis))
        elif form == "face":
            parts += [before / np.sqrt(2), after / np.sqrt(2)]
        elif form == "ahead":
            parts.append(after)
        else:
            parts.append(np.concatenate([slope, np.take(slope, [-1], axis=axis)], axis=axis))
    return np.prod(grid.extent) ** (1 / len(grid.dims)) * np.stack(parts)


def mean(values, grid):
    return np.sum(grid.volumes * values) / np.sum(grid.volumes)


def pair(grid, rng):
    return [SD[name] * rng.normal(size=grid.shape) for name in "ab"]


@pytest.fixture(params=MORE)
def grid(request):
    return MORE[request.param]


# Formulas.


@pytest.mark.parametrize("form", FORMS)
def test_the_formula_of_the_cross_gradient(form, grid, rng):
    a, b = pair(grid, rng)
    first, second = gradient(a / SD["a"], grid, form), gradient(b / SD["b"], grid, form)
    # |a|^2 |b|^2 - (a.b)^2 with squares and products averaged from faces to cells
    squared = (first**2).sum(0) * (second**2).sum(0) - (first * second).sum(0) ** 2
    found = log_p(bj.CrossGradient("a", "b", weight=7.0, form=form), grid, [a, b])
    assert found == pytest.approx(-3.5 * mean(squared, grid), rel=1e-10)
    if form != "face":
        pairs = combinations(range(len(grid.dims)), 2)
        crossed = sum((first[i] * second[j] - first[j] * second[i]) ** 2 for i, j in pairs)
        assert found == pytest.approx(-3.5 * mean(crossed, grid), rel=1e-10)


def test_the_formula_of_the_range(grid, rng):
    a, b = pair(grid, rng)
    ranges = {"a": 3.0, "b": 0.1}
    couple = bj.CrossGradient("a", "b", weight=2.0, normalisation="range", scales=ranges)
    by_sd = log_p(bj.CrossGradient("a", "b", weight=2.0), grid, [a, b])
    factor = (SD["a"] * SD["b"] / (3.0 * 0.1)) ** 2
    assert log_p(couple, grid, [a, b]) == pytest.approx(factor * by_sd, rel=1e-10)


def test_the_formula_of_normalised_gradients(grid, rng):
    a, b = pair(grid, rng)
    couple = bj.CrossGradient("a", "b", weight=2.0, normalisation="gradient", form="central")
    first, second = gradient(a / SD["a"], grid, "central"), gradient(b / SD["b"], grid, "central")
    product = (first**2).sum(0) * (second**2).sum(0)
    squared = product - (first * second).sum(0) ** 2
    scale = 0.3 * max(grid.extent)
    field = bj.GaussianField("a", grid, sd=1.0, length_scale=scale)
    covariance = (root := field.factor({}).times(np.eye(grid.size))) @ root.T
    rms2 = 0.0  # of prior gradients, from the covariance
    for axis, centres in enumerate(grid.centres.values()):
        index = np.arange(grid.size).reshape(grid.shape)
        low, high = (np.delete(index, i, axis).ravel() for i in (-1, 0))
        steps = np.diff(centres).reshape([-1 if i == axis else 1 for i in range(a.ndim)])
        variance = 2 - 2 * covariance[low, high].reshape(np.delete(index, 0, axis).shape)
        rms2 += np.mean(variance / steps**2)
    epsilon = 0.1**2 * rms2 * np.prod(grid.extent) ** (2 / len(grid.dims))
    expected = -mean(squared / (product + epsilon**2), grid)
    assert log_p(couple, grid, [a, b]) == pytest.approx(expected, rel=1e-9)
    assert -1.0 < log_p(couple, grid, [1e6 * a, b]) < 0.0


@pytest.mark.parametrize("form", FORMS)
def test_a_guide_is_a_second_field_that_is_known(form, grid, rng):
    a, known = pair(grid, rng)
    labelled = xr.DataArray(known, dims=grid.dims, coords=dict(grid.centres), name="seismic")
    turned = labelled.transpose(*reversed(grid.dims))
    couple = bj.CrossGradient("a", guide=turned, weight=7.0, form=form)
    assert couple.name == "cross_gradient_a_seismic" and couple.latents == ("a",)
    as_field = bj.CrossGradient("a", "b", weight=7.0, form=form)
    expected = log_p(as_field, grid, [a, known], sd={"a": SD["a"], "b": known.std()})
    assert log_p(couple, grid, [a]) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_the_formula_of_a_profile_along_a_guide(form, rng):
    grid = GRIDS["1-D"]
    a, known = pair(grid, rng)
    sloping = (gradient(known, grid, form) ** 2).sum(0)
    eta2 = 0.3**2 * mean(sloping, grid)
    expected = -3.5 * mean(
        (gradient(a / SD["a"], grid, form) ** 2).sum(0) * eta2 / (sloping + eta2), grid
    )
    for guide in (known, 10.0 - 3.0 * known):
        couple = bj.CrossGradient("a", guide=guide, weight=7.0, form=form, floor=0.3)
        assert log_p(couple, grid, [a]) == pytest.approx(expected, rel=1e-10)


def test_a_profile_is_free_to_change_where_its_guide_does():
    grid = bj.Grid(x=np.arange(20.0))
    at = grid.centres["x"]
    couple = bj.CrossGradient("a", guide=1.0 * (at > 9.5), weight=1.0)
    costs = [log_p(couple, grid, [1.0 * (at > place)]) for place in (9.5, 4.5)]
    # One edge in twenty cells: its square is 20 times the mean, the floor 0.1 of the rms.
    assert costs[0] / costs[1] == pytest.approx(0.01 / (20.0 + 0.01))


@pytest.mark.parametrize("form", [*FORMS, None])
@pytest.mark.parametrize("dims", GRIDS)
def test_the_formulas_of_shared_edges(form, dims, rng):
    grid, settings = GRIDS[dims], {} if form is None else {"form": form}
    a, b = pair(grid, rng)
    parts = [gradient(v, grid, "ahead" if form in (None, "forward") else form) for v in (a, b)]
    squared = sum((part**2).sum(0) for part in (parts[0] / SD["a"], parts[1] / 3.0))
    settings |= {"weight": 2.0, "epsilon": 0.5, "scales": {"b": 3.0}}
    expected = -2.0 * mean(np.sqrt(squared + 0.25), grid)
    found = log_p(bj.JointTotalVariation("a", "b", **settings), grid, [a, b])
    assert found == pytest.approx(expected, rel=1e-10)
    nu, power = 3.0, 3.0 + 2 * len(grid.dims)
    expected = -power * mean(np.log(1 + squared / (nu * 0.25)), grid)
    found = log_p(bj.JointSparsity("a", "b", nu=nu, **settings), grid, [a, b])
    assert found == pytest.approx(expected, rel=1e-10)


# What they favour.


@pytest.mark.parametrize("form", FORMS)
def test_parallel_gradients_cost_nothing(form, grid, rng):
    a, b = pair(grid, rng)
    couple = bj.CrossGradient("a", "b", weight=7.0, form=form)
    unlike = log_p(couple, grid, [a, b])
    for like in (3.0 - 0.2 * a, np.full_like(a, 4.0)):
        assert abs(log_p(couple, grid, [a, like])) < 1e-20 * abs(unlike)


@pytest.mark.parametrize(("form", "free"), [("forward", True), ("central", True), ("face", False)])
def test_fields_that_vary_along_one_axis(form, free, rng):
    """They are parallel; pairs of opposite faces tell their curvatures apart all the same."""
    couple = bj.CrossGradient("a", "b", weight=7.0, form=form)
    columns = [np.broadcast_to(v[:, :1], v.shape) for v in pair(PLANE, rng)]
    assert (abs(log_p(couple, PLANE, columns)) < 1e-18) is free


@pytest.mark.parametrize("kind", [bj.JointTotalVariation, bj.JointSparsity])
def test_edges_in_one_place_cost_less_than_edges_apart(kind):
    grid = bj.Grid(x=np.arange(20.0))
    couple = kind("a", "b", weight=1.0, epsilon=1e-3)
    steps = {at: np.where(grid.centres["x"] < at, 0.0, 1.0) for at in (4.5, 12.5)}
    costs = [
        -log_p(couple, grid, [v * SD[n] for v, n in zip(values, "ab", strict=True)])
        for values in [(0 * steps[4.5],) * 2, (steps[4.5],) * 2, (steps[4.5], steps[12.5])]
    ]
    ratio = (costs[2] - costs[0]) / (costs[1] - costs[0])
    square = 20.0**2 / 1e-6  # of the gradient of a step, in epsilon
    logs = 2 * np.log(square) / np.log(2 * square)
    assert ratio == pytest.approx(np.sqrt(2) if kind is bj.JointTotalVariation else logs, rel=1e-3)


def step_cost(couple, cells):
    grid = bj.Grid(y=(np.arange(cells) + 0.5) / cells, x=(np.arange(cells) + 0.5) / cells)
    step = np.broadcast_to(np.where(grid.centres["x"] < 0.5, -1.0, 1.0), grid.shape)
    values = [[scale * SD[n] * step for n in "ab"] for scale in (0.0, 1.0)]
    return float(-np.diff([log_p(couple, grid, v) for v in values])[0])


def test_a_step_costs_the_same_total_variation_on_every_mesh():
    couple = bj.JointTotalVariation("a", "b", weight=1.0, epsilon=1e-6)
    for cells in (10, 20, 40):  # height 2 in both, area 1
        assert step_cost(couple, cells) == pytest.approx(2 * np.sqrt(2), rel=1e-4)


def test_a_slanting_step_costs_more_in_one_direction_than_in_the_other():
    """Up to sqrt(2): differences are forward ones."""
    grid = bj.Grid(y=np.arange(40.0), x=np.arange(40.0))
    y, x = np.indices(grid.shape)
    couple = bj.JointTotalVariation("a", weight=1.0, epsilon=1e-6)
    found = [log_p(couple, grid, [1.0 * (side > 0)]) for side in (x + y - 39, x - y)]
    assert found[1] == pytest.approx(np.sqrt(2) * found[0], rel=0.05)


def test_a_step_costs_less_sparsity_on_a_finer_mesh():
    """As h log(1/h): stated in the docstring."""
    couple = bj.JointSparsity("a", "b", weight=1.0, epsilon=1.0)
    coarse, fine = (step_cost(couple, cells) for cells in (20, 40))
    assert fine == pytest.approx(coarse * np.log(1 + 8 * 40**2) / np.log(1 + 8 * 20**2) / 2)


def test_many_degrees_of_freedom_are_gaussian(rng):
    a, b = pair(PLANE, rng)
    parts = [gradient(v / SD[n], PLANE, "ahead") for v, n in zip((a, b), "ab", strict=True)]
    squared = sum((part**2).sum(0) for part in parts)
    found = log_p(bj.JointSparsity("a", "b", weight=3.0, epsilon=2.0, nu=1e9), PLANE, [a, b])
    assert found == pytest.approx(-0.5 * 3.0 * mean(squared, PLANE) / 4.0, rel=1e-5)


# In a problem.

TINY = bj.Grid(y=np.arange(3.0), x=np.arange(4.0))
COUPLINGS = {
    "cross": bj.CrossGradient("a", "b", weight=0.3, form="face"),
    "guide": bj.CrossGradient("a", guide=image(TINY), weight=1.0),
    "tv": bj.JointTotalVariation("a", "b", weight=3.0, epsilon=0.5),
    "sparsity": bj.JointSparsity("a", "b", weight=2.0, epsilon=1.0),
}


def functions_of(coupling):
    fields = [bj.GaussianField(n, TINY, sd=SD[n], length_scale=2.0) for n in coupling.latents]
    return ModelFunctions(bj.JointProblem(latents=fields, modalities=[], couplings=[coupling]))


@pytest.mark.slow
@pytest.mark.parametrize("name", COUPLINGS)
def test_its_action_is_its_matrix(name, rng):
    functions = functions_of(COUPLINGS[name])
    point, rows = rng.standard_normal(functions.size), rng.standard_normal((3, functions.size))
    expected = rows @ local_information(functions, point).coupling
    np.testing.assert_allclose(LocalActions(functions, point).coupling(rows), expected, rtol=1e-9)


def test_a_weight_of_zero_leaves_the_prior_uncoupled(rng):
    functions = functions_of(COUPLINGS["cross"].replace(weight=0.0))
    point = rng.standard_normal(functions.size)
    assert not np.any(local_information(functions, point).coupling)
    assert cost_of(functions, COUPLINGS["cross"])(point[None])[0] == 0.0


def coupled_draws(functions, coupling, rng):
    """Return the mean log-density of the coupling over the coupled prior, and its error."""
    draws = prior_points(functions, CompiledDensity(functions, "interpreted"), rng, 400)
    costs = cost_of(functions, coupling)(draws.reshape(-1, functions.size))[0]
    return mean_and_error(costs.reshape(draws.shape[:2]))


def cost_of(functions, coupling):
    return functions.over_draws([functions.build.log_priors[coupling.name]])


SLOWLY = [pytest.param(name, marks=pytest.mark.slow) for name in ("cross", "sparsity")]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tv", *SLOWLY])
def test_draws_of_the_prior_contain_it(name, rng):
    """Against draws of the uncoupled prior, weighted; without it they would be six errors lower."""
    functions, coupling = functions_of(COUPLINGS[name]), COUPLINGS[name]
    before = cost_of(functions, coupling)(rng.standard_normal((20_000, functions.size)))[0]
    weights = np.exp(before - before.max())
    weights /= weights.sum()
    assert 1 / np.sum(weights**2) > 200
    expected = np.sum(weights * before)
    after, error = coupled_draws(functions, coupling, rng)
    error = np.hypot(error, np.sqrt(np.sum((weights * (before - expected)) ** 2)))
    assert after == pytest.approx(expected, abs=largest_z() * error)
    assert before.mean() < after - 6 * error


@pytest.mark.slow
def test_draws_with_a_guide_have_the_covariance_of_theory(rng):
    """A guide leaves the prior Gaussian: ``N(0, (I + Gamma)^-1)`` exactly."""
    functions, coupling = functions_of(COUPLINGS["guide"]), COUPLINGS["guide"]
    gamma = local_information(functions, functions.initial).coupling
    after, error = coupled_draws(functions, coupling, rng)
    values = np.linalg.eigvalsh(gamma)
    expected = -0.5 * np.sum(values / (1 + values))
    assert after == pytest.approx(expected, abs=largest_z() * error)


def test_a_truth_gives_all_coupled_fields_or_none():
    coupling = bj.JointTotalVariation("a", "b", "c", weight=1.0, epsilon=1.0)
    fields = [bj.GaussianField(n, TINY, sd=SD[n], length_scale=2.0) for n in "abc"]
    problem = bj.JointProblem(latents=fields, modalities=[], couplings=[coupling])
    truth = {n: np.zeros(TINY.shape) for n in "ab"}
    with pytest.raises(ValueError, match=r"truth leaves out \['c'\] of .*give all or none"):
        bj.simulate(problem, truth=truth)
