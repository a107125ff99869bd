"""Mixtures of rock units as couplings of problems."""

import pickle

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
import xarray as xr
from scipy.stats import entropy, kstest, norm

import bayesjoint as bj
from bayesjoint._compiled.density import CompiledDensity
from bayesjoint._compiled.draws import DrawEvaluator
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._compiled.latent_space import LatentSpace
from bayesjoint._graph.build import ModelBuild
from bayesjoint._graph.compile import INTERPRETED, UNOPTIMISED
from bayesjoint._problem.checks import prior_values
from bayesjoint._sampler.run import prior_points
from bayesjoint.couplings._common import typical_sd
from bayesjoint.problem import build
from tests.chance import CHANCE, largest_z
from tests.mixtures import LABELS, MEANS, SDS, field, problem, rocks
from tests.structural import GRIDS


def tensors(coupling, grid):
    """Return standard fields as inputs, and the properties that they become."""
    made = ModelBuild(pm.Model())
    standard = {name: pt.tensor(name, shape=grid.shape) for name in coupling.latents}
    with made.model:
        for name in coupling.latents:
            made.values[name] = coupling.from_standard(made, field(name, grid), standard[name])
    return list(standard.values()), [made.values[name] for name in coupling.latents]


@pytest.mark.parametrize("names", ["a", "ab", "abc"])
@pytest.mark.parametrize("dims", GRIDS)
def test_the_graph_is_the_map(names, dims):
    coupling, grid = rocks(names), GRIDS[dims]
    inputs, outputs = tensors(coupling, grid)
    u = np.random.default_rng(5).uniform(-6, 6, (len(names), *grid.shape))
    found = pytensor.function(inputs, outputs, mode=INTERPRETED)(*u)
    expected = coupling.numbers({}).forward(u.reshape(len(names), -1).T).T.reshape(u.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_the_gradient_agrees_with_finite_differences():
    coupling, grid = rocks("abc"), GRIDS["1-D"]
    inputs, outputs = tensors(coupling, grid)
    weights = np.random.default_rng(1).standard_normal((3, *grid.shape))
    total = sum((w * x).sum() for w, x in zip(weights, outputs, strict=True))
    function = pytensor.function(inputs, [total, *pt.grad(total, inputs)], mode=INTERPRETED)
    u, step = np.random.default_rng(2).standard_normal((3, *grid.shape)), 1e-6
    _, *gradient = function(*u)
    for k in range(3):
        for cell in range(grid.size):
            moved = np.zeros_like(u)
            moved[k].ravel()[cell] = step
            expected = (function(*(u + moved))[0] - function(*(u - moved))[0]) / (2 * step)
            assert gradient[k].ravel()[cell] == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_the_order_of_the_dimensions_does_not_matter():
    coupling, grid = rocks(), GRIDS["2-D"]
    turned = bj.Grid(**dict(reversed(grid.centres.items())))
    u = np.random.default_rng(5).standard_normal((2, *grid.shape))
    found = pytensor.function(*tensors(coupling, turned), mode=INTERPRETED)(*(v.T for v in u))
    expected = pytensor.function(*tensors(coupling, grid), mode=INTERPRETED)(*u)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.T, b, rtol=1e-12)


def test_the_order_of_units_and_properties_does_not_matter():
    """Of units for the map, of properties for the density in a cell."""
    coupling = rocks()
    turned = rocks(
        labels=LABELS[::-1], proportions=[0.6, 0.4], correlation=[-0.3, 0.5],
        means={n: MEANS[n][::-1] for n in "ab"}, sds={n: SDS[n][::-1] for n in "ab"},
    )  # fmt: skip
    u = np.random.default_rng(5).uniform(-8, 8, (50, 2))
    x = coupling.numbers({}).forward(u)
    np.testing.assert_allclose(turned.numbers({}).forward(u), x, rtol=1e-10)
    swapped = rocks("ba").numbers({})
    np.testing.assert_allclose(
        swapped.log_density(x[:, ::-1]), coupling.numbers({}).log_density(x), rtol=1e-10
    )


@pytest.fixture(scope="module")
def linear():
    made = problem(rocks())
    return made, bj.linearize(made, starts=1)["linearization"].to_dataset()


@pytest.mark.slow
def test_the_local_prior_is_that_of_the_map(linear):
    """Its covariance is ``G G^T``, with G the Jacobian of both fields in the white variables."""
    made, ds = linear
    functions = ModelFunctions(made)
    space = LatentSpace(functions)
    point = space.point_of_values({name: ds[name] for name in "ab"})
    for name, value in zip("ab", space.values(point), strict=True):
        np.testing.assert_allclose(value, ds[name], rtol=1e-9)
    step, columns = 1e-6, []
    for unit in np.eye(functions.size):
        sides = [np.concatenate([v.ravel() for v in space.values(point + s * step * unit)])
                 for s in (1, -1)]  # fmt: skip
        columns.append((sides[0] - sides[1]) / (2 * step))
    root = np.stack(columns, axis=1)
    covariance = root @ root.T
    np.testing.assert_allclose(ds["prior_sd"] ** 2, np.diag(covariance), rtol=1e-5)
    matrix = np.zeros((8, covariance.shape[0]))
    matrix[:, : GRIDS["2-D"].size] = made.modality["seen"].forward.matrices[0]
    gain = np.linalg.solve(matrix @ covariance @ matrix.T + 0.25 * np.eye(8), matrix @ covariance)
    after = covariance - covariance @ matrix.T @ gain
    shrunk = ds["eigenvalues"] / (1 + ds["eigenvalues"])
    found = ds["prior_sd"] ** 2 - (ds["physical_vectors"] ** 2 * shrunk).sum("mode")
    np.testing.assert_allclose(found, np.diag(after), rtol=1e-4, atol=1e-6)
    values, duals = ds["physical_vectors"].values * shrunk.values, ds["physical_duals"].values
    resolution = (
        covariance
        @ matrix.T
        @ np.linalg.solve(matrix @ covariance @ matrix.T + 0.25 * np.eye(8), matrix)
    )
    np.testing.assert_allclose(values @ duals.T, resolution, atol=1e-4)


def test_memberships_at_the_mode_are_those_of_its_properties(linear):
    made, ds = linear
    report = bj.membership(xr.DataTree.from_dict({"linearization": ds}))
    x = np.stack([ds[name].values.ravel() for name in "ab"], axis=1)
    expected = made.couplings[0].numbers({}).responsibilities(x).T
    np.testing.assert_allclose(report["probability"].values.reshape(2, -1), expected, atol=1e-12)
    assert report.attrs["local"] == 1
    np.testing.assert_allclose(report["prior_probability"], [0.4, 0.6])
    first = expected[0].reshape(GRIDS["2-D"].shape)
    assert np.all(report["most_likely"] == np.where(first > 0.5, *LABELS))
    found = report["entropy"].values.ravel()
    np.testing.assert_allclose(found, entropy(expected, axis=0), atol=1e-12)
    volumes = GRIDS["2-D"].volumes
    np.testing.assert_allclose(report["share"][0], (first * volumes).sum() / volumes.sum())


def test_it_survives_pickling():
    made = problem(rocks())
    again = pickle.loads(pickle.dumps(made))
    for found, expected in zip(prior_values(again, 2), prior_values(made, 2), strict=True):
        np.testing.assert_array_equal(found["b"], expected["b"])


@pytest.mark.filterwarnings("ignore:no modality reaches")
def test_separate_problems_keep_what_a_modality_needs():
    """The fields before; those after leave no trace, which is exact."""
    first, later = (problem(rocks("abc"), observed=name).separate()["seen"] for name in "ab")
    assert list(first.latent) == ["a"]
    assert list(later.latent) == ["a", "b"]
    matrices = rocks("abc", correlation=np.eye(3) * 0.4 + 0.6).restricted({"a", "b"})
    np.testing.assert_array_equal(matrices.correlation, [[1.0, 0.6], [0.6, 1.0]])
    assert rocks("ab").restricted({"c"}) is None
    whole, part = (c.numbers({}) for c in (rocks("abc"), later.couplings[0]))
    u = np.random.default_rng(0).standard_normal((20, 3))
    np.testing.assert_allclose(part.forward(u[:, :2]), whole.forward(u)[:, :2], rtol=1e-12)
    assert problem(rocks()).without("seen").couplings[0].latents == ("a", "b")


def test_the_model_draws_from_the_mixture():
    """Cells of fields without correlation in space, 1,000 in all, seen as standard numbers."""
    grid = bj.Grid(x=np.arange(50.0))
    fields = [field(n, grid, length_scale=0.05) for n in "ab"]
    made = problem(rocks(), grid=grid, fields=fields).without_data()
    functions = ModelFunctions(made)
    density = CompiledDensity(functions, "interpreted")
    points = prior_points(functions, density, np.random.default_rng(5), 20)
    drawn = DrawEvaluator(functions).table(points).values
    u = rocks().numbers({}).inverse(np.stack([drawn[n].ravel() for n in "ab"], axis=1))
    for i in range(2):
        assert kstest(u[:, i], "norm").pvalue > CHANCE / 3  # seed 5
    assert abs(np.corrcoef(u.T)[0, 1]) < largest_z(3) / np.sqrt(len(u))


def test_a_truth_may_give_the_first_field():
    made, given = problem(rocks()), np.full(GRIDS["2-D"].shape, 2.0)
    drawn = bj.simulate(made, truth={"a": given}, random_seed=1)
    np.testing.assert_allclose(drawn["a"], given, rtol=1e-9)
    assert abs(drawn["b"].mean()) < 1.0  # basement, by its a
    with pytest.raises(ValueError, match="give all or none"):
        bj.simulate(made, truth={"b": given})


def test_bounds_hold_most_of_each_unit():
    bounds = {"salt": {"a": (4.3, 4.7)}, "sediment": {"a": (1.8, 4.0)}}
    made = bj.PropertyMixture.from_bounds("rocks", bounds, proportions=[0.2, 0.8], inside=0.9)
    for k, given in enumerate(bounds.values()):
        low, high = given["a"]
        unit = norm(made.means["a"][k], made.sds["a"][k])
        assert unit.cdf(high) - unit.cdf(low) == pytest.approx(0.9, abs=1e-12)
        assert unit.mean() == pytest.approx((low + high) / 2)


def test_other_couplings_see_the_spread_over_all_units():
    """They divide by the sd of the whole mixture, not by that of the field."""
    made = build(problem(rocks()))
    draws = rocks().numbers({}).forward(np.random.default_rng(0).standard_normal((40_000, 2)))
    for i, name in enumerate("ab"):
        # The error of an sd over so many draws is 0.4 %.
        assert typical_sd(made, field(name)) == pytest.approx(draws[:, i].std(), rel=0.02)


UNKNOWN = {
    "proportions": bj.Prior(pm.Dirichlet, a=[2.0, 3.0]),
    "means": {"a": bj.Prior(pm.Normal, mu=[-1.0, 2.0], sigma=0.3), "b": [3.0, 0.0]},
    "sds": {"a": bj.Prior(pm.LogNormal, mu=-0.5, sigma=0.2), "b": [0.5, 0.3]},
    "correlation": bj.Prior(pm.Uniform, lower=[-1.0, -1.0], upper=1.0),
}
NAMES = ["rocks_proportions", "rocks_mean_a", "rocks_sd_a", "rocks_correlation"]


@pytest.mark.slow
def test_unknown_settings_shape_the_fields():
    coupling = rocks(**UNKNOWN)
    assert coupling.unknowns() == NAMES
    made = problem(coupling)
    functions = ModelFunctions(made)
    space = LatentSpace(functions)
    truth = {
        "rocks_proportions": [0.3, 0.7], "rocks_mean_a": [-0.5, 2.2], "rocks_sd_a": [0.6, 0.9],
        "rocks_correlation": [0.4, -0.6],
    }  # fmt: skip
    x = np.random.default_rng(0).uniform(0.0, 2.0, (2, *GRIDS["2-D"].shape))
    point = space.point_of_values({**truth, "a": x[0], "b": x[1]})
    values = dict(zip(space.names, space.values(point), strict=True))
    for name, expected in {**truth, "a": x[0], "b": x[1]}.items():
        np.testing.assert_allclose(values[name], expected, rtol=1e-7, atol=1e-9)
    u = coupling.numbers(values).inverse(x.reshape(2, -1).T)
    for i, name in enumerate("ab"):
        white = point[functions.slices[f"{name}_white"]]
        standard = field(name).factor({}).times(white[:, None])[:, 0]
        np.testing.assert_allclose(standard, u[:, i], atol=1e-8)
    value, gradient = functions.density(point)
    step = 1e-5
    for index in np.flatnonzero(np.arange(functions.size) % 7 == 0):
        moved = step * (np.arange(functions.size) == index)
        sides = [functions.density(point + s * moved)[0] for s in (1, -1)]
        assert gradient[index] == pytest.approx(
            (sides[0] - sides[1]) / (2 * step), rel=1e-4, abs=1e-4
        )
    assert np.isfinite(value)


def test_a_correlation_matrix_may_be_unknown():
    names, matrix = "abc", np.array([[1.0, 0.3, -0.2], [0.3, 1.0, 0.5], [-0.2, 0.5, 1.0]])
    coupling = rocks(names, correlation=bj.Prior(pm.LKJCorr, eta=2.0, n=3))
    grid = GRIDS["1-D"]
    made = build(problem(coupling, grid=grid))
    u = np.random.default_rng(0).standard_normal((3, grid.size))
    white = {
        n: field(n, grid).factor({}).inverse(v[:, None]) for n, v in zip(names, u, strict=True)
    }
    pairs = matrix[np.triu_indices(3, 1)]
    inputs = [made.model["rocks_correlation_factor"], *(made.whites[n] for n in names)]
    x = pytensor.function(inputs, [made.values[n] for n in names], mode=UNOPTIMISED)(
        np.linalg.cholesky(matrix), *(white[n].reshape(grid.shape) for n in names)
    )
    expected = coupling.numbers({"rocks_correlation": pairs}).forward(u.T).T
    np.testing.assert_allclose(x, expected, rtol=1e-9, atol=1e-9)
    two = coupling.restricted({"a", "b"}).numbers({"rocks_correlation": pairs[:1]})
    np.testing.assert_allclose(two.forward(u[:2].T).T, expected[:2], rtol=1e-9, atol=1e-9)


WIDE = bj.Prior(pm.Normal, mu=0.0, sigma=3.0)
WRONG = {
    "proportions that do not add up": (lambda: rocks(proportions=[0.5, 0.6]), "add up to 1.1"),
    "a proportion too many": (lambda: rocks(proportions=[0.5, 0.3, 0.2]), "have shape .3,"),
    "a proportion of zero": (lambda: rocks(proportions=[1.0, 0.0]), "must be positive"),
    "proportions of another size": (
        lambda: rocks(proportions=bj.Prior(pm.Dirichlet, a=[1.0, 1.0, 1.0])), "2 numbers",
    ),
    "no simplex": (lambda: rocks(proportions=WIDE), "pm.Dirichlet"),
    "one mean for all": (lambda: rocks(means={"a": 1.0, "b": [0.0, 1.0]}), "one for each of"),
    "means that are infinite": (
        lambda: rocks(means={"a": [0.0, np.inf], "b": [0.0, 1.0]}), "not finite",
    ),
    "no sds": (lambda: rocks(sds={"a": 1.0}), "give both for each field"),
    "a negative sd": (lambda: rocks(sds={"a": -1.0, "b": 1.0}), "must be positive"),
    "no correlation": (lambda: rocks(correlation=None), "correlation is not given"),
    "no matrix": (lambda: rocks(correlation=[1.5, 0.0]), "not positive definite"),
    "another matrix": (lambda: rocks(correlation=np.eye(3)), "has shape"),
    "one unknown number of three": (
        lambda: rocks("abc", correlation=bj.Prior(pm.Uniform, lower=-1, upper=1)), "LKJCorr",
    ),
    "the same label twice": (lambda: rocks(labels=["rock", "rock"]), "used twice"),
    "exchangeable units": (
        lambda: rocks(
            "a", means={"a": WIDE}, sds={"a": 1.0}, proportions=bj.Prior(pm.Dirichlet, a=[1.0, 1.0])
        ),
        "nothing tells 'sediment' and 'basement' apart",
    ),
    "a field that is not standard": (
        lambda: problem(rocks(), fields=[field("a", sd=2.0), field("b")]), "sd=1, no mean",
    ),
    "a mean of the field": (
        lambda: problem(rocks(), fields=[field("a", mean=2.0), field("b")]), "sd=1, no mean",
    ),
    "shaped twice": (
        lambda: problem(rocks()).replace(
            couplings=[rocks(), bj.CorrelatedFields("a", "b", correlation=0.1)]
        ),
        "already shaped",
    ),
    "bounds upside down": (
        lambda: bj.PropertyMixture.from_bounds("rocks", {"salt": {"a": (2, 1)}}, proportions=[1.0]),
        "the lower one first",
    ),
    "bounds of other fields": (
        lambda: bj.PropertyMixture.from_bounds(
            "rocks", {"salt": {"a": (1, 2)}, "clay": {"b": (1, 2)}}, proportions=[0.5, 0.5]
        ),
        "give those of each field",
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_bad_input_is_told(wrong):
    make, message = WRONG[wrong]
    with pytest.raises(ValueError, match=message):
        make()


def test_the_mixture_of_copies_is_the_same_under_another_name():
    coupling = rocks("ab")
    copy = coupling.renamed({"a": "a__first", "b": "b__first"})
    assert copy.name == "rocks__first"
    assert copy.latents == ("a__first", "b__first")
    x = np.array([[0.3, -0.2], [2.0, 1.0]])
    np.testing.assert_allclose(copy.numbers({}).standard(x), coupling.numbers({}).standard(x))
