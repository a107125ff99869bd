"""Errors of several modalities at the same places: mode by mode, against dense covariances."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from bayesjoint._kernels.correlations import Term, product
from bayesjoint._kernels.density_error import log_density_error
from bayesjoint._kernels.errors import ErrorCovariance
from bayesjoint._kernels.joined_errors import JoinedErrors
from bayesjoint._kernels.modal_errors import ModalErrors
from bayesjoint._kernels.modes import modes_of

RNG = np.random.default_rng(20261126)
TIMES = np.sort(RNG.uniform(0, 10, 12))[:, None]
PLACES = np.arange(3.0)[:, None]
MATERN, ALONG = Term((0,)), Term((0,), kind="periodic", period=5.0)
MIXING = np.array([[0.5, 0.3, -0.2], [0.3, 0.8, 0.1], [-0.2, 0.1, 0.4]])
NOISE = np.array([0.3, 0.1, 0.6])


def lattice_points():
    grid = np.meshgrid(TIMES[:, 0], PLACES[:, 0], indexing="ij")
    return np.stack([part.ravel() for part in grid], axis=1)


def kernel_of_lattice():
    points = lattice_points()
    terms = (MATERN, Term((1,), kind="periodic", period=5.0))
    return product(terms, points, (2.0, 1.3))


CASES = {
    "one axis": (
        modes_of([((MATERN,), (2.0,), TIMES)]),
        product((MATERN,), TIMES, (2.0,)),
        np.repeat(NOISE[:, None], 12, 1),
    ),
    "lattice": (
        modes_of([((MATERN,), (2.0,), TIMES), ((ALONG,), (1.3,), PLACES)]),
        kernel_of_lattice(),
        np.repeat(NOISE[:, None], 36, 1),
    ),
    "every datum a mode": (modes_of([12]), np.eye(12), RNG.uniform(0.1, 1.0, (3, 12))),
}  # fmt: skip


@pytest.fixture(params=CASES)
def case(request):
    modes, kernel, noise = CASES[request.param]
    dense = np.kron(MIXING, kernel) + np.diag(noise.ravel())
    return ModalErrors(modes, MIXING, noise), dense


def truncated(noise=1.0):
    modes = modes_of([((MATERN,), (2.0,), TIMES)], rank=5)
    kept = (modes.matrices[0] * modes.variances) @ modes.matrices[0].T
    noise = noise * np.repeat(NOISE[:, None], 12, 1)
    return ModalErrors(modes, MIXING, noise), np.kron(MIXING, kept) + np.diag(noise.ravel())


@pytest.fixture(params=[*CASES, "truncated"])
def any_case(request):
    if request.param == "truncated":
        return truncated()
    modes, kernel, noise = CASES[request.param]
    return ModalErrors(modes, MIXING, noise), np.kron(MIXING, kernel) + np.diag(noise.ravel())


def test_algebra_is_that_of_the_dense_covariance(any_case):
    errors, dense = any_case
    inverse, columns = np.linalg.inv(dense), RNG.normal(size=(dense.shape[0], 4))
    residual = columns[:, 0]
    np.testing.assert_allclose(errors.solve(columns), inverse @ columns, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(errors.solve(residual), inverse @ residual, rtol=1e-9, atol=1e-9)
    assert errors.solve(columns[:, :0]).shape == (dense.shape[0], 0)
    whitener = errors.whiten(np.eye(dense.shape[0]))
    np.testing.assert_allclose(whitener.T @ whitener, inverse, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(errors.inverse_diagonal(), np.diag(inverse), rtol=1e-9)
    expected = stats.multivariate_normal(cov=dense).logpdf(residual)
    assert errors.log_density(residual) == pytest.approx(expected, rel=1e-10)
    mean, variance = errors.conditional(residual)
    others = ErrorCovariance(np.full(len(dense), 1e-9), np.linalg.cholesky(dense))
    np.testing.assert_allclose(mean, others.conditional(residual)[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(variance, 1.0 / np.diag(inverse), rtol=1e-9)


def test_parts_are_marginal_covariances(any_case):
    errors, dense = any_case
    size = dense.shape[0] // 3
    rows = np.concatenate([np.arange(2 * size, 3 * size), np.arange(size)])
    residual = RNG.normal(size=2 * size)
    expected = stats.multivariate_normal(cov=dense[np.ix_(rows, rows)]).logpdf(residual)
    assert errors.part([2, 0]).log_density(residual) == pytest.approx(expected, rel=1e-10)


def test_information_is_the_trace(any_case):
    """Against ``(1/2) tr(C^-1 dC_i C^-1 dC_j)`` with dense derivatives, by differences."""
    errors, dense = any_case
    modes, step = errors.modes, 1e-4
    moves = [(RNG.normal(size=(3, 3)), 0.0), (0.0, 1.0), (np.eye(3), 0.5)]
    changes, moved = [], []
    for mixing, noise in moves:
        symmetric = (mixing + np.transpose(mixing)) / 2
        up, down = (
            replace(
                errors,
                mixing=MIXING + sign * symmetric,
                noise=errors.noise * (1 + sign * noise),
            )
            for sign in (step, -step)
        )
        changes.append(up.difference(down, 2 * step, np.ones(dense.shape[0])))
        kernel = modes.expand(
            modes.variances.ravel()[:, None] * modes.project(np.eye(dense.shape[0] // 3))
        )
        moved.append(
            np.kron(symmetric * np.ones((3, 3)), kernel) + np.diag(noise * errors.noise.ravel())
        )
    solved = [np.linalg.solve(dense, part) for part in moved]
    expected = [[0.5 * np.trace(a @ b) for b in solved] for a in solved]
    np.testing.assert_allclose(errors.information(changes), expected, rtol=1e-6)


def test_draws_given_residuals_have_mean_and_covariance(case):
    """2,000 draws: means within 5 Monte Carlo standard errors, sd within 5 / sqrt(4,000)."""
    errors, dense = case
    discrepancy = dense - np.diag(errors.noise.ravel())
    residual = RNG.normal(size=len(dense))
    gain = discrepancy @ np.linalg.inv(dense)
    spread = np.sqrt(np.diag(discrepancy - gain @ discrepancy))
    rng = np.random.default_rng(1)
    draws = np.stack([errors.discrepancy_given(residual, rng) for _ in range(2_000)])
    z = (draws.mean(axis=0) - gain @ residual) / (spread / np.sqrt(2_000))
    assert np.abs(z).max() < 5
    np.testing.assert_allclose(draws.std(axis=0) / spread, 1.0, atol=5 / np.sqrt(4_000))


def test_joined_errors_are_block_diagonal():
    errors, dense = truncated()
    factor = RNG.normal(size=(7, 3))
    beside = ErrorCovariance(np.full(7, 0.2), factor, sizes=(4, 3))
    joined = JoinedErrors((((0, 2, 4), errors), ((1, 3), beside)), (12, 4, 12, 3, 12))
    own = joined.rows_of((0, 2, 4))
    total = np.zeros((43, 43))
    total[np.ix_(own, own)] = dense
    other = joined.rows_of((1, 3))
    total[np.ix_(other, other)] = factor @ factor.T + 0.2 * np.eye(7)
    residual = RNG.normal(size=43)
    expected = stats.multivariate_normal(cov=total).logpdf(residual)
    assert joined.log_density(residual) == pytest.approx(expected, rel=1e-10)
    assert joined.log_determinant() == pytest.approx(np.linalg.slogdet(total)[1], rel=1e-10)
    np.testing.assert_allclose(joined.inverse_diagonal(), np.diag(np.linalg.inv(total)), rtol=1e-9)
    rows = np.concatenate([np.arange(28, 31), np.arange(12)])
    expected = stats.multivariate_normal(cov=total[np.ix_(rows, rows)]).logpdf(residual[rows])
    assert joined.part([3, 0]).log_density(residual[rows]) == pytest.approx(expected, rel=1e-10)


def test_modes_left_out_are_counted():
    errors, _ = truncated()
    kernel = product((MATERN,), TIMES, (2.0,))
    assert errors.modes.variances.sum() + errors.modes.left_out.sum() == pytest.approx(12.0)
    np.testing.assert_allclose(errors.modes.left_out, np.linalg.eigvalsh(kernel)[:7][::-1])


@pytest.mark.parametrize("size", [0.0, 30.0, 500.0])
def test_the_change_for_modes_left_out_is_that_of_the_log_density(size):
    """To first order in what is left out, 1e-4 of the noise, whatever the misfit."""
    errors, _ = truncated(noise=3_000.0)
    kernel = product((MATERN,), TIMES, (2.0,))
    noise = np.diag(errors.noise.ravel())
    whole = np.kron(MIXING, kernel) + noise
    residual = size * np.random.default_rng(3).normal(size=len(whole))
    approximate = errors.factor @ errors.factor.T + noise
    exact = np.subtract(*(
        stats.multivariate_normal(cov=c).logpdf(residual) for c in (whole, approximate)
    ))  # fmt: skip
    found = errors.change_for_modes_left_out(residual, lambda columns: kernel @ columns)
    assert found == pytest.approx(exact, rel=2e-3)


def test_truncation_error_is_that_of_the_log_density():
    """The root mean square over 200,000 data of the whole covariance, and the dense closed form."""
    errors, dense = truncated()
    kernel = product((MATERN,), TIMES, (2.0,))
    whole = np.kron(MIXING, kernel) + np.diag(errors.noise.ravel())
    draws = stats.multivariate_normal(cov=whole, seed=1).rvs(200_000)
    off = np.subtract(*(stats.multivariate_normal(cov=c).logpdf(draws) for c in (whole, dense)))
    found = errors.truncation_error()
    mcse = np.std(off**2) / np.sqrt(off.size) / (2.0 * found)
    assert abs(np.sqrt(np.mean(off**2)) - found) < 4 * mcse
    noise = errors.noise.ravel()
    exact = ErrorCovariance(noise, np.kron(np.linalg.cholesky(MIXING), np.linalg.cholesky(kernel)))
    modal = ErrorCovariance(noise, errors.factor)
    assert log_density_error(exact, modal) == pytest.approx(found, rel=1e-8)
