"""The smoothed density of predicted data, against dense Gaussian densities."""

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from bayesjoint._kernels.prediction import Misfit, Spread, kernel_width

DRAWS, SIZE, RANK = 30, 5, 2


class Draws:
    """Expected data in a plane, with errors of one covariance, and two data sets."""

    def __init__(self):
        rng = np.random.default_rng(4)
        plane = rng.standard_normal((RANK, SIZE))
        self.means = rng.standard_normal((DRAWS, RANK)) @ plane + 1.0
        root = np.eye(SIZE) + 0.3 * np.tri(SIZE)
        self.errors = 0.2 * root @ root.T
        self.values = np.stack([self.means[3] + 0.1, np.full(SIZE, 2.0)])
        self.spread = Spread.of(self.means)
        self.misfits = [self.misfit(mean) for mean in self.means]

    def misfit(self, mean):
        precision, directions = np.linalg.inv(self.errors), self.spread.directions
        return Misfit(
            multivariate_normal.logpdf(self.values, mean, self.errors),
            directions.T @ precision @ (self.values - mean).T,
            directions.T @ precision @ directions,
        )


@pytest.fixture(scope="module")
def case():
    return Draws()


def test_the_spread_has_the_mean_and_covariance_of_the_draws(case):
    directions, places = case.spread.directions, case.spread.places
    assert directions.shape == (SIZE, RANK)
    np.testing.assert_allclose(
        case.means.mean(axis=0) + places @ directions.T, case.means, atol=1e-12
    )
    np.testing.assert_allclose(directions @ directions.T, np.cov(case.means.T), atol=1e-12)


def test_draws_that_agree_have_no_spread():
    spread = Spread.of(np.ones((DRAWS, SIZE)))
    misfit = Misfit(np.zeros(3), np.zeros((0, 3)), np.zeros((0, 0)))
    assert spread.directions.shape == (SIZE, 0)
    np.testing.assert_array_equal(misfit.smoothed(spread.places[0], DRAWS), np.zeros(3))
    np.testing.assert_array_equal(misfit.learned(spread.places[0])[0], np.zeros(3))


def test_a_kernel_is_the_gaussian_it_stands_for(case):
    """Shrunk towards the mean and widened, so that mean and covariance of all stay."""
    dofs = np.trace(np.linalg.solve(case.errors + np.cov(case.means.T), np.cov(case.means.T)))
    assert case.misfits[0].dofs == pytest.approx(dofs, rel=1e-10)
    width = kernel_width(dofs, DRAWS)
    centre = case.means.mean(axis=0)
    for mean, misfit, place in zip(case.means, case.misfits, case.spread.places, strict=True):
        shrunk = centre + np.sqrt(1 - width**2) * (mean - centre)
        covariance = case.errors + width**2 * np.cov(case.means.T)
        expected = multivariate_normal.logpdf(case.values, shrunk, covariance)
        np.testing.assert_allclose(misfit.smoothed(place, DRAWS), expected, rtol=1e-10)


def test_kernels_narrow_with_the_number_of_draws_and_widen_with_dimensions():
    assert kernel_width(1.0, 10**9) < 0.05 < kernel_width(1.0, 400) < 0.5
    widths = [kernel_width(dofs, 400) for dofs in (0.0, 1.0, 4.0, 16.0, 64.0)]
    assert np.all(np.diff(widths) > 0)
    assert 0.99 < widths[-1] <= 1.0


@pytest.mark.parametrize("dimensions", [1, 4, 12])
def test_the_smoothed_density_is_right_where_draws_are_sparse(dimensions):
    """Data five times as sharp as the draws: within half a nat of the exact density."""
    rng, draws, count = np.random.default_rng(dimensions), 1_000, 20
    plane = 5.0 * np.linalg.qr(rng.standard_normal((count, dimensions)))[0]
    means = rng.standard_normal((draws, dimensions)) @ plane.T
    law = multivariate_normal(cov=plane @ plane.T + np.eye(count))
    values, spread = law.rvs(30, random_state=rng), Spread.of(means)
    each = []
    for mean, place in zip(means, spread.places, strict=True):
        misfit = Misfit(
            multivariate_normal.logpdf(values, mean), spread.directions.T @ (values - mean).T,
            spread.directions.T @ spread.directions,
        )  # fmt: skip
        each.append(misfit.smoothed(place, draws))
    error = logsumexp(each, axis=0) - np.log(draws) - law.logpdf(values)
    assert np.sqrt(np.mean(error**2)) < 0.5


def test_few_draws_in_many_directions_are_one_gaussian(case):
    """Where the rule asks for more than the whole width."""
    wide = multivariate_normal.logpdf(
        case.values, case.means.mean(axis=0), case.errors + np.cov(case.means.T)
    )
    each = [m.smoothed(p, 1) for m, p in zip(case.misfits, case.spread.places, strict=True)]
    np.testing.assert_allclose(logsumexp(each, axis=0) - np.log(DRAWS), wide, rtol=1e-10)


def test_the_gain_is_a_divergence_of_gaussians(case):
    directions, precision = case.spread.directions, np.linalg.inv(case.errors)
    after = np.linalg.inv(np.eye(RANK) + directions.T @ precision @ directions)
    means = after @ directions.T @ precision @ (case.values - case.means.mean(axis=0)).T
    expected = 0.5 * (
        np.trace(after) - RANK + np.sum(means**2, axis=0) - np.linalg.slogdet(after)[1]
    )
    for misfit, place in zip(case.misfits, case.spread.places, strict=True):
        np.testing.assert_allclose(misfit.learned(place)[0], expected, rtol=1e-10)


def test_the_influence_of_a_draw_is_a_derivative_in_its_weight(case):
    """Of the Gaussian with the weighted mean and covariance."""
    step, whole = 1e-5, np.cov(case.means.T)
    left = whole / DRAWS  # of a covariance divided by one less than the draws, not weighted

    def density(which, change):
        weights = np.ones(DRAWS) / DRAWS
        weights[which] += change / DRAWS
        weights /= weights.sum()
        mean = weights @ case.means
        apart = case.means - mean
        covariance = apart.T @ (weights[:, None] * apart) + left
        return multivariate_normal.logpdf(case.values, mean, case.errors + covariance)

    influences = np.array(
        [m.learned(p)[1] for m, p in zip(case.misfits, case.spread.places, strict=True)]
    )
    expected = np.array([density(s, step) - density(s, -step) for s in range(DRAWS)])
    expected *= DRAWS / (2 * step)
    np.testing.assert_allclose(
        influences - influences.mean(axis=0), expected - expected.mean(axis=0), atol=1e-5
    )
