"""Kernels against dense linear algebra."""

import numpy as np
import pytest
from scipy import stats

from bayesjoint._kernels.errors import ErrorCovariance, covariance_information
from bayesjoint._kernels.spectra import generalised_pairs, information_gain, preconditioner

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


def test_generalised_pairs():
    rng = np.random.default_rng(5)
    information = rng.normal(size=(6, 4))
    information = information @ information.T
    precision = np.eye(6) + 0.1 * np.ones((6, 6))
    eigenvalues, vectors = generalised_pairs(information, precision)
    np.testing.assert_allclose(information @ vectors, precision @ vectors * eigenvalues, atol=1e-10)
    np.testing.assert_allclose(vectors.T @ precision @ vectors, np.eye(6), atol=1e-12)
    assert np.all(np.diff(eigenvalues) <= 1e-12)
    gain = 0.5 * np.sum(np.log1p(eigenvalues))
    assert information_gain(information, precision) == pytest.approx(gain)


def test_preconditioner_whitens_the_precision():
    rng = np.random.default_rng(6)
    half = rng.normal(size=(8, 3)) * 30.0
    precision = np.eye(8) + half @ half.T
    vectors, stretch = preconditioner(precision)
    change = np.eye(8) + vectors * stretch @ vectors.T
    np.testing.assert_allclose(change @ precision @ change, np.eye(8), atol=1e-9)
