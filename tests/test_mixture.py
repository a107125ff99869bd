"""Mixtures of rock units: the map against independent quantiles, and the coupling in problems."""

import pickle
from functools import cache

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
import xarray as xr
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import entropy, kstest, multivariate_normal, norm

import bayesjoint as bj
from bayesjoint._build import ModelBuild
from bayesjoint._compile import INTERPRETED, NUMBA, flatten, over_rows
from bayesjoint._density import CompiledDensity
from bayesjoint._draws import DrawEvaluator
from bayesjoint._functions import ModelFunctions
from bayesjoint._kernels.mixture import (
    GaussianMixture,
    correlation_factors,
    quantile,
    standardised,
)
from bayesjoint._latent_space import LatentSpace
from bayesjoint._problem_checks import prior_values
from bayesjoint._run import prior_points
from bayesjoint.couplings._common import typical_sd
from bayesjoint.couplings._quantile import MixtureQuantile
from bayesjoint.problem import build
from tests.structural import GRIDS

# ---- the quantile of one mixture ---------------------------------------------------------------

UNITS = {  # weights, means, sds
    "one": ([1.0], [3.0], [2.0]),
    "overlapping": ([0.3, 0.7], [0.0, 2.0], [1.0, 0.7]),
    "far apart": ([0.3, 0.5, 0.2], [0.0, 20.0, 100.0], [1.0, 0.5, 3.0]),
    "a rare one": ([1e-6, 1.0 - 1e-6], [0.0, 5.0], [1.0, 0.1]),
    "one inside another": ([0.9, 0.1], [0.0, 0.5], [10.0, 0.01]),
    "large numbers": ([0.5, 0.5], [2200.0, 2700.0], [60.0, 50.0]),
}
NUMBERS = np.concatenate([np.linspace(-8, 8, 81), [-0.01, 0.01]])


def units(name, count):
    weights, means, sds = (np.array(part) for part in UNITS[name])
    return tuple(np.tile(part, (count, 1)) for part in (np.log(weights), means, sds))


def searched(u, weights, means, sds):
    """Return the quantile by a bracketing search on log-probabilities of the nearer tail."""
    ends, side = means + sds * u, 1.0 if u <= 0 else -1.0
    if np.ptp(ends) == 0:
        return ends[0]

    def excess(y):
        tails = norm.logcdf(side * (y - means) / sds)
        return np.logaddexp.reduce(np.log(weights) + tails) - norm.logcdf(side * u)

    return brentq(excess, ends.min() - 1e-9, ends.max() + 1e-9, xtol=1e-300, rtol=1e-15)


@pytest.mark.parametrize("name", UNITS)
def test_the_quantile_is_that_of_the_distribution_function(name):
    found = quantile(NUMBERS, *units(name, NUMBERS.size))
    for u, x, slope in zip(NUMBERS, found.value, found.by_u, strict=True):
        expected = searched(u, *(np.array(part) for part in UNITS[name]))
        # Where the distribution function is flat, rounding of a probability moves the quantile.
        assert x == pytest.approx(expected, rel=1e-12, abs=1e-13 * (1.0 + slope))


@pytest.mark.parametrize("name", UNITS)
def test_the_quantile_is_undone(name):
    given = units(name, NUMBERS.size)
    np.testing.assert_allclose(
        standardised(quantile(NUMBERS, *given).value, *given), NUMBERS, rtol=1e-11, atol=1e-11
    )


@cache
def compiled(mode):
    u, others = pt.vector("u"), [pt.matrix(name) for name in ("log_weights", "means", "sds")]
    outputs = MixtureQuantile().make_node(u, *others).outputs
    gradient = pt.grad((outputs[0] * np.arange(1.0, NUMBERS.size + 1)).sum(), [u, *others])
    return pytensor.function([u, *others], [*outputs, *gradient], mode=mode)


@pytest.mark.parametrize("name", UNITS)
def test_the_compiled_quantile_is_the_same(name):
    given = units(name, NUMBERS.size)
    plain, fast = (compiled(mode)(NUMBERS, *given) for mode in (INTERPRETED, NUMBA))
    for a, b in zip(plain, fast, strict=True):
        # Derivatives in a gap between units amplify the rounding of the value.
        np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-12 * np.abs(a).max())


def moved_by(parts, index, k, step):
    """Return the quantile after a change of u, or of one log weight, mean or sd."""
    moved = [np.array(part) for part in parts]
    if index == 0:
        moved[0] += step
    else:
        moved[index][:, k] += step
    moved[1] -= np.logaddexp.reduce(moved[1], axis=1)[:, None]  # weights add up to one
    return quantile(*moved).value


@pytest.mark.parametrize("name", [name for name in UNITS if name != "far apart"])
def test_derivatives_are_those_of_the_quantile(name):
    """In the middle of a gap between units differences fail: the curvature is too large."""
    numbers = np.linspace(-5.0, 5.0, 20)
    parts = [numbers, *units(name, numbers.size)]
    found = quantile(*parts)
    weights, scale = np.exp(parts[1]), np.abs(found.value).max()
    by_log_weight = found.by_log_weight - weights * found.by_log_weight.sum(axis=1)[:, None]
    told = [found.by_u[:, None], by_log_weight, found.by_mean, found.by_sd]
    for index, derivative in enumerate(told):
        for k in range(derivative.shape[1]):
            step = 1e-6 * (parts[3][0, k] if index > 1 else 1.0)
            sides = [moved_by(parts, index, k, sign * step) for sign in (1.0, -1.0)]
            expected = (sides[0] - sides[1]) / (2 * step)
            rounding = 1e-15 * scale / step  # of values of that size
            np.testing.assert_allclose(derivative[:, k], expected, rtol=1e-5, atol=rounding)


def test_the_quantile_knows_batches():
    u, given = pt.vector("u", shape=(5,)), [np.array(part[:5]) for part in units("overlapping", 5)]
    value = MixtureQuantile()(u, *(pt.constant(part) for part in given))
    rows = np.random.default_rng(1).standard_normal((7, 5))
    expected = [quantile(row, *given).value for row in rows]
    np.testing.assert_allclose(over_rows([value], u)(rows)[0], expected, rtol=1e-12)


# ---- several properties ------------------------------------------------------------------------

RNG = np.random.default_rng(11)
THREE = GaussianMixture(
    np.array([0.5, 0.3, 0.2]),
    np.array([[0.0, 10.0, -1.0], [3.0, 7.0, 0.0], [1.0, 12.0, 4.0]]),
    np.array([[1.0, 2.0, 0.3], [0.5, 1.0, 1.0], [0.8, 0.5, 0.6]]),
    correlation_factors(
        np.array([
            [[1.0, 0.5, 0.2], [0.5, 1.0, -0.3], [0.2, -0.3, 1.0]],
            [[1.0, -0.7, 0.0], [-0.7, 1.0, 0.0], [0.0, 0.0, 1.0]],
            [[1.0, 0.0, 0.9], [0.0, 1.0, 0.1], [0.9, 0.1, 1.0]],
        ]),
        3, 3,
    ),
)  # fmt: skip


def log_density(mixture, x):
    """Return that of the mixture by scipy, for points (cell, property)."""
    terms = []
    for k, proportion in enumerate(mixture.proportions):
        root = mixture.sds[k][:, None] * mixture.factors[k]
        normal = multivariate_normal(mixture.means[k], root @ root.T)
        terms.append(np.log(proportion) + normal.logpdf(x))
    return np.logaddexp.reduce(terms, axis=0)


def test_the_density_is_that_of_the_mixture():
    x = THREE.means[RNG.integers(0, 3, 50)] + RNG.standard_normal((50, 3))
    np.testing.assert_allclose(THREE.log_density(x), log_density(THREE, x), rtol=1e-10)
    shares = THREE.responsibilities(x)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    first = np.log(THREE.proportions[0]) + multivariate_normal(
        THREE.means[0],
        np.outer(THREE.sds[0], THREE.sds[0]) * (THREE.factors[0] @ THREE.factors[0].T),
    ).logpdf(x)
    np.testing.assert_allclose(np.log(shares[:, 0]), first - log_density(THREE, x), rtol=1e-8)


def test_the_map_gives_the_density_of_the_mixture():
    """By a change of variables: log p(x) = log phi(u) - log |dx / du|, up to the tails."""
    u = np.concatenate([RNG.standard_normal((200, 3)), RNG.uniform(-8, 8, (200, 3))])
    x = THREE.forward(u)
    slopes = np.stack([THREE.local(x[:, : i + 1])[0] for i in range(3)])
    found = norm.logpdf(u).sum(axis=1) - np.log(slopes).sum(axis=0)
    np.testing.assert_allclose(found, log_density(THREE, x), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(THREE.inverse(x), u, atol=1e-8)


def test_local_slopes_are_those_of_the_map():
    u, step = RNG.standard_normal((40, 3)), 1e-6
    x = THREE.forward(u)
    for last in (1, 2):
        _, slopes = THREE.local(x[:, : last + 1])
        for before in range(last):
            sides = []
            for sign in (1.0, -1.0):
                moved = x[:, :last].copy()
                moved[:, before] += sign * step
                sides.append(quantile(u[:, last], *THREE.given(moved)).value)
            expected = (sides[0] - sides[1]) / (2 * step)
            scale = 1e-7 * np.abs(expected).max()
            np.testing.assert_allclose(slopes[before], expected, rtol=1e-5, atol=scale)


def test_the_mixture_is_normalised():
    """The density of the first property by quadrature, and of draws by Kolmogorov and Smirnov."""
    one = GaussianMixture(
        THREE.proportions, THREE.means[:, :1], THREE.sds[:, :1], THREE.factors[:, :1, :1]
    )
    total = quad(lambda a: np.exp(one.log_density(np.array([[a]]))[0]), -10, 12, limit=200)[0]
    assert total == pytest.approx(1.0, abs=1e-9)
    rng = np.random.default_rng(3)
    drawn = THREE.forward(rng.standard_normal((4000, 3)))
    for i in range(3):
        parts = zip(THREE.proportions, THREE.means[:, i], THREE.sds[:, i], strict=True)
        parts = list(parts)
        test = kstest(drawn[:, i], lambda x, p=parts: sum(w * norm.cdf(x, m, s) for w, m, s in p))
        assert test.pvalue > 1e-3  # seed 3: one draw of three tests


# ---- the coupling ------------------------------------------------------------------------------

MEANS = {"a": [-1.0, 2.0], "b": [3.0, 0.0], "c": [0.0, 0.5]}
SDS = {"a": [0.7, 0.5], "b": [0.5, 0.3], "c": 1.0}
LABELS = ["sediment", "basement"]


def rocks(names="ab", **changes):
    settings = {
        "labels": LABELS,
        "proportions": [0.4, 0.6],
        "means": {name: MEANS[name] for name in names},
        "sds": {name: SDS[name] for name in names},
        "correlation": [0.5, -0.3] if len(names) == 2 else 0.2,
    }
    return bj.PropertyMixture("rocks", **{**settings, **changes})


def field(name, grid=GRIDS["2-D"], **settings):
    scale = 0.3 * max(grid.extent)
    return bj.GaussianField(name, grid, **{"sd": 1.0, "length_scale": scale, **settings})


def problem(coupling, *, grid=GRIDS["2-D"], observed="a", names=None, fields=None):
    rng = np.random.default_rng(3)
    matrix = rng.standard_normal((8, grid.size)) / np.sqrt(grid.size)
    data = xr.DataArray(rng.standard_normal(8), dims="station")
    seen = bj.Modality("seen", data, bj.linear_map(matrix, observed), bj.GaussianNoise(sd=0.5))
    latents = fields or [field(name, grid) for name in names or coupling.latents]
    return bj.JointProblem(latents=latents, modalities=[seen], couplings=[coupling])


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


def test_one_unit_is_a_pair_of_correlated_fields():
    one = bj.PropertyMixture(
        "rocks", labels=["all"], proportions=[1.0], means={"a": [1.0], "b": [3.0]},
        sds={"a": 2.0, "b": 0.5}, correlation=-0.8,
    )  # fmt: skip
    fields = [field("a", sd=2.0, mean=1.0), field("b", sd=0.5, mean=3.0)]
    same = problem(bj.CorrelatedFields("a", "b", correlation=-0.8), fields=fields)
    found, expected = (bj.linearize(p)["linearization"] for p in (problem(one), same))
    for name in ("a", "b", "eigenvalues", "prior_sd", "prior_norm", "prior_distance"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-9, atol=1e-9)
    report = bj.membership(xr.DataTree.from_dict({"linearization": found.to_dataset()}))
    assert np.all(report["probability"] == 1.0)


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
        assert kstest(u[:, i], "norm").pvalue > 1e-3  # seed 5
    assert abs(np.corrcoef(u.T)[0, 1]) < 4 / np.sqrt(len(u))


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


WIDE = bj.Prior(pm.Normal, mu=0.0, sigma=3.0)
WRONG = {
    "proportions that do not add up": (lambda: rocks(proportions=[0.5, 0.6]), "add up to 1.1"),
    "a proportion too many": (lambda: rocks(proportions=[0.5, 0.3, 0.2]), "one for each of"),
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


def test_a_report_without_a_mixture_is_told(linear):
    ds = linear[1].assign_attrs(mixtures=[])
    with pytest.raises(ValueError, match="put a bj.PropertyMixture"):
        bj.membership(xr.DataTree.from_dict({"linearization": ds}))
    with pytest.raises(ValueError, match="there is rocks"):
        bj.membership(xr.DataTree.from_dict({"linearization": linear[1]}), mixture="stones")


# ---- calibration -------------------------------------------------------------------------------

PAIR = bj.Grid(x=np.array([0.0, 1.0]))
FREE = {
    "proportions": bj.Prior(pm.Dirichlet, a=[3.0, 2.0]),
    "means": {"a": bj.Prior(pm.Normal, mu=[0.0, 3.0], sigma=0.5), "b": [1.0, -1.0]},
    "sds": {"a": 0.8, "b": 0.6},
    "correlation": [0.5, -0.3],
}
ERROR = 1.0  # sd of data, which are both properties of both cells
SPREAD = 1.15  # of the points


def truth_of(rng):
    """Return unknowns and properties drawn without the package: unit by unit, cell by cell."""
    proportions = rng.dirichlet([3.0, 2.0])
    means = np.stack([rng.normal([0.0, 3.0], 0.5), [1.0, -1.0]], axis=1)
    sds, rho = np.array([0.8, 0.6]), np.array([0.5, -0.3])
    root = field("a", PAIR, length_scale=1.0).factor({}).times(np.eye(2))
    u, x = root @ rng.standard_normal((2, 2)), np.zeros((2, 2))  # (cell, property)
    for cell in range(2):
        x[cell, 0] = searched(u[cell, 0], proportions, means[:, 0], np.full(2, sds[0]))
        shares = proportions * norm.pdf(x[cell, 0], means[:, 0], sds[0])
        given = means[:, 1] + rho * sds[1] / sds[0] * (x[cell, 0] - means[:, 0])
        spread = sds[1] * np.sqrt(1.0 - rho**2)
        x[cell, 1] = searched(u[cell, 1], shares / shares.sum(), given, spread)
    return {"rocks_proportions": proportions[0], "rocks_mean_a": means[1, 0], "x": x}


@cache
def weighted_pool(count=30_000, seed=2):
    """Return unknowns and properties at points of a wide normal distribution, and log weights.

    Weighted by the density of the model, they stand for its prior.
    """
    fields = [field(n, PAIR, length_scale=1.0) for n in "ab"]
    functions = ModelFunctions(problem(rocks(**FREE), grid=PAIR, fields=fields).without_data())
    model, made = functions.build.model, functions.build
    inputs, graphs = flatten([model.logp()], functions.variables, functions.shapes)
    points = SPREAD * np.random.default_rng(seed).standard_normal((count, functions.size))
    told = over_rows(graphs, inputs)(points)[0]
    weights = told - norm.logpdf(points, scale=SPREAD).sum(axis=1)
    names = ["rocks_proportions", "rocks_mean_a", "a", "b"]
    proportions, means, *x = functions.over_draws([made.values[n] for n in names])(points)
    return proportions[:, 0], means[:, 1], np.stack(x, axis=-1), weights


@pytest.mark.slow  # half a minute: many truths, each against the same weighted points
def test_ranks_of_unknown_proportions_and_means_are_uniform():
    """Of truths that are drawn without the package, in the posterior of the model's density."""
    proportions, means, x, prior = weighted_pool()
    rng, ranks = np.random.default_rng(4), []
    for _ in range(300):
        truth = truth_of(rng)
        data = truth["x"] + ERROR * rng.standard_normal((2, 2))
        logs = prior - 0.5 * (((x - data) / ERROR) ** 2).sum(axis=(1, 2))
        weights = np.exp(logs - logs.max())
        weights /= weights.sum()
        assert 1.0 / (weights**2).sum() > 50  # effective points: errors of ranks below 0.08
        below = [
            proportions < truth["rocks_proportions"], means < truth["rocks_mean_a"],
            x[:, 0, 0] < truth["x"][0, 0], x[:, 1, 1] < truth["x"][1, 1],
        ]  # fmt: skip
        ranks.append([weights @ each for each in below])
    for column in np.array(ranks).T:  # 300 replicates, seeds 2 and 4
        assert kstest(column, "uniform").pvalue > 0.01


SECTION = bj.Grid(depth=np.arange(4) + 0.5, x=np.arange(6) + 0.5)


def section():
    """Return two units over two fields, with averages of the first one as data, and a truth."""
    rng = np.random.default_rng(3)
    rays = (rng.random((12, SECTION.size)) < 0.2).astype(float)
    rays /= rays.sum(axis=1, keepdims=True)
    coupling = rocks(
        proportions=bj.Prior(pm.Dirichlet, a=[4.0, 4.0]), correlation=0.3,
        means={"a": [0.0, 4.0], "b": [0.0, 4.0]}, sds={"a": 1.0, "b": 1.0},
    )  # fmt: skip
    seen = bj.Modality(
        "seen", xr.DataArray(np.zeros(12), dims="ray"), bj.linear_map(rays, "a"),
        bj.GaussianNoise(sd=0.2),
    )  # fmt: skip
    made = bj.JointProblem(
        latents=[field(n, SECTION, length_scale=2.0) for n in "ab"],
        modalities=[seen], couplings=[coupling],
    )  # fmt: skip
    drawn = bj.simulate(made, random_seed=8)
    return made.with_data(drawn[["seen"]]), drawn


@pytest.mark.slow  # a minute: sampled, linearised at draws, and drawn as a page
def test_a_sampled_section_finds_its_units(tmp_path):
    made, truth = section()
    posterior = bj.sample(made, draws=1000, chains=2, random_seed=1)
    draws = posterior["posterior"]
    assert draws["rocks_proportions"].dims == ("chain", "draw", "rocks_unit")
    assert list(draws["rocks_unit"].values) == LABELS
    assert not posterior["sample_stats"]["diverging"].any()
    report = bj.membership(posterior)
    np.testing.assert_allclose(report["probability"].sum("unit"), 1.0)
    np.testing.assert_allclose(report["prior_probability"], 0.5, atol=0.06)  # of prior draws
    values = {name: truth[name].values for name in ("rocks_proportions",)}
    x = np.stack([truth[n].values.ravel() for n in "ab"], axis=1)
    units = made.couplings[0].numbers(values).responsibilities(x).T
    found = report["probability"].values.reshape(units.shape)
    assert (found * units).sum(axis=0).mean() > 0.8  # probability of the truth; 0.5 a priori
    covered = []
    for name in "ab":
        low, high = np.quantile(draws[name], [0.05, 0.95], axis=(0, 1))
        covered.append(np.mean((truth[name] > low) & (truth[name] < high)))
    assert min(covered) > 0.7  # of one data set: 24 cells are some ten independent ones
    # The second field is seen through its unit alone.
    spread = draws["b"].std(("chain", "draw")).mean() / posterior["prior"]["b"].std()
    assert 0.3 < float(spread) < 0.9
    points = bj.membership(bj.linearize(made, at=posterior))
    assert np.abs(points["probability"] - report["probability"]).mean() < 0.1  # 20 draws
    bj.report(posterior, tmp_path / "page.html")
    assert "Units of rocks" in (tmp_path / "page.html").read_text()
