"""The covariance of all errors, ``D + B B^T``: independent variances and a shared factor."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import solve_triangular


@dataclass(frozen=True, eq=False)
class ErrorCovariance:
    """Total covariance of the errors of all data.

    Parameters
    ----------
    variance : ndarray, shape (n,)
        Independent variances, all positive.
    factor : ndarray, shape (n, r), optional
        Of the discrepancy.
    """

    variance: np.ndarray
    factor: np.ndarray | None = None

    @cached_property
    def _scaled(self) -> np.ndarray | None:
        """Return the factor in units of the independent sd, None when there is none."""
        if self.factor is None or self.factor.shape[1] == 0 or not np.any(self.factor):
            return None
        return self.factor / np.sqrt(self.variance)[:, None]

    @cached_property
    def _dense(self) -> np.ndarray | None:
        """Return the Cholesky factor of the scaled covariance where the rank is not below n."""
        scaled = self._scaled
        if scaled is None or scaled.shape[1] < scaled.shape[0]:
            return None
        return np.linalg.cholesky(scaled @ scaled.T + np.eye(scaled.shape[0]))

    @cached_property
    def _low_rank(self) -> tuple[np.ndarray, np.ndarray]:
        """Return orthonormal columns Q and squared singular values of the scaled factor."""
        left, singular, _ = np.linalg.svd(np.asarray(self._scaled), full_matrices=False)
        return left, singular**2

    def whiten(self, array: np.ndarray) -> np.ndarray:
        """Return ``W array`` with ``W^T W`` the inverse covariance, for a vector or columns."""
        scaled = (array.T / np.sqrt(self.variance)).T
        if self._scaled is None:
            return scaled
        if self._dense is not None:
            return solve_triangular(self._dense, scaled, lower=True)
        left, strength = self._low_rank
        projected = left.T @ scaled
        return scaled + left @ ((1.0 / np.sqrt(1.0 + strength) - 1.0) * projected.T).T

    def solve(self, array: np.ndarray) -> np.ndarray:
        """Return the inverse covariance times a vector or columns."""
        scaled = (array.T / np.sqrt(self.variance)).T
        if self._scaled is not None:
            if self._dense is not None:
                half = solve_triangular(self._dense, scaled, lower=True)
                scaled = solve_triangular(self._dense, half, lower=True, trans=1)
            else:
                left, strength = self._low_rank
                scaled = scaled - left @ ((strength / (1.0 + strength)) * (left.T @ scaled).T).T
        return (scaled.T / np.sqrt(self.variance)).T

    def log_determinant(self) -> float:
        """Return the log-determinant of the covariance."""
        result = float(np.log(self.variance).sum())
        if self._scaled is None:
            return result
        if self._dense is not None:
            return result + 2.0 * float(np.log(np.diag(self._dense)).sum())
        return result + float(np.log1p(self._low_rank[1]).sum())

    def inverse_diagonal(self) -> np.ndarray:
        """Return the diagonal of the inverse covariance."""
        if self._scaled is None:
            return 1.0 / self.variance
        if self._dense is not None:
            inverse = solve_triangular(self._dense, np.eye(self.variance.size), lower=True)
            return (inverse**2).sum(axis=0) / self.variance
        left, strength = self._low_rank
        return (1.0 - (left**2 * (strength / (1.0 + strength))).sum(axis=1)) / self.variance

    def rows(self, index: np.ndarray) -> "ErrorCovariance":
        """Return the covariance of some of the data."""
        factor = None if self.factor is None else self.factor[index]
        return ErrorCovariance(self.variance[index], factor)

    def log_density(self, residual: np.ndarray) -> float:
        """Return the joint Gaussian log-density of the residuals."""
        quadratic = float(np.sum(self.whiten(residual) ** 2))
        return -0.5 * (quadratic + self.log_determinant() + residual.size * np.log(2 * np.pi))

    def conditional(self, residual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance of every residual given all others.

        ``mean_i = r_i - g_i / c_i`` and ``variance_i = 1 / c_i`` with ``g = C^-1 r``,
        ``c = diag C^-1`` (Bürkner, Gabry & Vehtari 2021, doi 10.1007/s00180-020-01045-4).
        """
        diagonal = self.inverse_diagonal()
        return residual - self.solve(residual) / diagonal, 1.0 / diagonal


def covariance_information(
    errors: ErrorCovariance,
    variance_changes: np.ndarray,
    factor_changes: np.ndarray | None,
) -> np.ndarray:
    """Return ``(1/2) tr(C^-1 dC_i C^-1 dC_j)`` split over the data it comes from.

    Parameters
    ----------
    errors : ErrorCovariance
    variance_changes : ndarray, shape (p, n)
        Derivative of the independent variances to each of p parameters.
    factor_changes : ndarray, shape (p, n, r), optional
        Derivative of the factor to each parameter.

    Returns
    -------
    ndarray, shape (n, p, p)
        Sums over data to the Fisher information of the p parameters.
    """
    count, size = variance_changes.shape
    if errors._scaled is None and factor_changes is None:
        relative = variance_changes / errors.variance
        return 0.5 * np.einsum("in,jn->nij", relative, relative)
    # C^-1 dC_i = diag(v_i) C^-1-weighted + (C^-1 P_i) Q_i^T with dC = diag + E B^T + B E^T
    inverse = errors.solve(np.eye(size)) if size <= 2_000 else None
    if inverse is None:
        return _structured_information(errors, variance_changes, factor_changes)
    products = []
    for i in range(count):
        change = np.diag(variance_changes[i])
        if factor_changes is not None:
            outer = factor_changes[i] @ np.asarray(errors.factor).T
            change = change + outer + outer.T
        products.append(inverse @ change)
    return 0.5 * np.stack(
        [[np.sum(a * b.T, axis=1) for b in products] for a in products]
    ).transpose(2, 0, 1)


def _structured_information(errors, variance_changes, factor_changes) -> np.ndarray:
    """Return the same without any matrix of data by data.

    Every ``C^-1 dC_i`` is ``diag(d_i) + A_i E_i^T`` of rank three times that of the factor.
    """
    count, size = variance_changes.shape
    root = np.sqrt(errors.variance)[:, None]
    left, strength = errors._low_rank
    shrink = left * np.sqrt(strength / (1.0 + strength)) / root  # C^-1 = 1/D - shrink shrink^T
    diagonals, lefts, rights = [], [], []
    for i in range(count):
        change = variance_changes[i]
        parts_left, parts_right = [-shrink], [change[:, None] * shrink]
        if factor_changes is not None and np.any(factor_changes[i]):
            pair = np.concatenate([factor_changes[i], errors.factor], axis=1)
            swapped = np.concatenate([errors.factor, factor_changes[i]], axis=1)
            parts_left.append(errors.solve(pair))
            parts_right.append(swapped)
        diagonals.append(change / errors.variance)
        lefts.append(np.concatenate(parts_left, axis=1))
        rights.append(np.concatenate(parts_right, axis=1))
    result = np.empty((size, count, count))
    for i in range(count):
        for j in range(count):
            inner = rights[i].T @ lefts[j]
            row = diagonals[i] * diagonals[j] + diagonals[i] * np.sum(lefts[j] * rights[j], axis=1)
            row += diagonals[j] * np.sum(lefts[i] * rights[i], axis=1)
            row += np.sum((lefts[i] @ inner) * rights[j], axis=1)
            result[:, i, j] = 0.5 * row
    return result
