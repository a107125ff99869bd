"""The map behind a mixture of rock units, against independent quantiles and densities."""

from functools import cache

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from scipy.integrate import quad
from scipy.stats import kstest, multivariate_normal, norm

from bayesjoint._graph.compile import INTERPRETED, NUMBA, over_rows
from bayesjoint._kernels.mixture import (
    GaussianMixture,
    correlation_factors,
    quantile,
    standardised,
)
from bayesjoint.couplings._quantile import MixtureQuantile
from tests.chance import CHANCE
from tests.mixtures import searched

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
        assert test.pvalue > CHANCE / 3  # seed 3: one draw of three tests
