"""Kernels against dense linear algebra."""

import numpy as np
import pymc as pm
import pytest
from scipy import stats

import bayesjoint as bj
from bayesjoint._kernels.errors import ErrorCovariance, covariance_information
from bayesjoint._kernels.factors import DenseFactor, DiagonalFactor
from bayesjoint._kernels.spectra import preconditioner

SIZES = (5, 7)


@pytest.fixture(params=["independent", "low rank", "low rank with grams", "full rank"])
def case(request):
    """Return an error covariance and the same as a dense matrix."""
    rng = np.random.default_rng(7)
    n = sum(SIZES)
    variance = rng.uniform(0.5, 2.0, n)
    if request.param == "independent":
        return ErrorCovariance(variance, sizes=SIZES), np.diag(variance)
    rank = n + 3 if request.param == "full rank" else 4
    factor = rng.normal(size=(n, rank))
    blocks = np.split(factor / np.sqrt(variance)[:, None], np.cumsum(SIZES)[:-1])
    grams = tuple(b.T @ b for b in blocks) if "grams" in request.param else None
    dense = np.diag(variance) + factor @ factor.T
    return ErrorCovariance(variance, factor, SIZES, grams), dense


def test_solve_whiten_and_determinant(case):
    errors, dense = case
    columns = np.random.default_rng(1).normal(size=(12, 3))
    np.testing.assert_allclose(errors.solve(columns), np.linalg.solve(dense, columns), atol=1e-10)
    whitened = errors.whiten(columns)
    np.testing.assert_allclose(
        whitened.T @ whitened, columns.T @ np.linalg.solve(dense, columns), atol=1e-10
    )
    assert errors.log_determinant() == pytest.approx(np.linalg.slogdet(dense)[1])
    np.testing.assert_allclose(errors.inverse_diagonal(), np.diag(np.linalg.inv(dense)))


def test_parts_are_blocks_of_the_dense_matrix(case):
    errors, dense = case
    residual = np.random.default_rng(2).normal(size=12)
    for blocks, rows in (([0], np.arange(5)), ([1], np.arange(5, 12)), ([0, 1], np.arange(12))):
        exact = stats.multivariate_normal(cov=dense[np.ix_(rows, rows)]).logpdf(residual[rows])
        assert errors.part(blocks).log_density(residual[rows]) == pytest.approx(exact)
        np.testing.assert_array_equal(errors.rows_of(blocks), rows)


def test_conditional_is_that_of_the_dense_gaussian(case):
    errors, dense = case
    residual = np.random.default_rng(3).normal(size=12)
    mean, variance = errors.conditional(residual)
    others = np.delete(np.arange(12), 4)
    weights = np.linalg.solve(dense[np.ix_(others, others)], dense[others, 4])
    assert mean[4] == pytest.approx(weights @ residual[others])
    assert variance[4] == pytest.approx(dense[4, 4] - weights @ dense[others, 4])


def test_information_on_the_covariance_is_the_trace(case):
    errors, dense = case
    rng = np.random.default_rng(4)
    variances = rng.normal(size=(3, 12))
    variances[2] = 0.0
    factors = None
    changes = [np.diag(v) for v in variances]
    if errors.factor is not None:
        factors = rng.normal(size=(3, *errors.factor.shape))
        factors[1] = 0.0
        changes = [
            c + f @ errors.factor.T + errors.factor @ f.T
            for c, f in zip(changes, factors, strict=True)
        ]
    solved = [np.linalg.solve(dense, change) for change in changes]
    exact = [[0.5 * np.trace(a @ b) for b in solved] for a in solved]
    np.testing.assert_allclose(covariance_information(errors, variances, factors), exact, atol=1e-9)


def test_preconditioner_whitens_the_precision():
    rng = np.random.default_rng(6)
    half = rng.normal(size=(8, 3)) * 30.0
    precision = np.eye(8) + half @ half.T
    vectors, stretch = preconditioner(precision)
    change = np.eye(8) + vectors * stretch @ vectors.T
    np.testing.assert_allclose(change @ precision @ change, np.eye(8), atol=1e-9)


def _factors():
    grid = bj.Grid(depth=np.array([0.0, 1.0, 2.5, 4.5]), x=np.arange(5.0))
    rng = np.random.default_rng(4)
    root = rng.normal(size=(20, 20))
    by_precision = bj.GaussianField("m", grid, precision=root @ root.T + np.eye(20))
    return {
        "Matern": bj.GaussianField("m", grid, sd=2.0, length_scale=1.5).factor({}),
        "Matern, settings at a point": bj.GaussianField(
            "m",
            grid,
            sd=bj.Prior(pm.HalfNormal, sigma=1.0),
            length_scale=bj.Prior(pm.LogNormal, mu=0.0, sigma=0.5),
        ).factor({"m_sd": np.array(3.0), "m_length_scale": np.array(0.8)}),
        "precision": by_precision.factor({}),
        "diagonal": DiagonalFactor(rng.uniform(0.5, 2.0, size=20)),
        "dense": DenseFactor(rng.normal(size=(20, 20))),
        "tall": DenseFactor(rng.normal(size=(21, 20))),
    }


@pytest.mark.parametrize("name", list(_factors()))
def test_factors_of_priors_are_inverted(name):
    factor = _factors()[name]
    matrix = factor.times(np.eye(20))
    inverse = factor.inverse(np.eye(matrix.shape[0]))
    np.testing.assert_allclose(inverse @ matrix, np.eye(20), atol=1e-9)
    np.testing.assert_allclose(factor.inverse_transpose(np.eye(20)), inverse.T, atol=1e-9)
    np.testing.assert_allclose(factor.variance, np.diag(matrix @ matrix.T), rtol=1e-9)


def test_factors_of_fields_have_the_stated_covariance():
    precision = _factors()["precision"].lower @ _factors()["precision"].lower.T
    matrix = _factors()["precision"].times(np.eye(20))
    np.testing.assert_allclose(matrix @ matrix.T @ precision, np.eye(20), atol=1e-9)
    for name, sd in (("Matern", 2.0), ("Matern, settings at a point", 3.0)):
        np.testing.assert_allclose(_factors()[name].variance, sd**2, rtol=1e-12)


def test_a_value_that_does_not_move_has_no_inverse_slope():
    factor = DiagonalFactor(np.array([2.0, 0.0]))
    np.testing.assert_array_equal(factor.inverse(np.ones((2, 1)))[:, 0], [0.5, 0.0])
