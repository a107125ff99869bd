"""The covariance of all errors, ``D + B B^T``: independent variances and a shared factor."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import cho_solve, eigh, qr, solve_triangular

from bayesjoint._kernels.singular import CLOSE, SINGULAR, SingularErrors, noiseless, singular


@dataclass(frozen=True, eq=False)
class ErrorCovariance:
    """Total covariance of the errors of all data.

    Parameters
    ----------
    variance : ndarray, shape (n,)
        Independent variances, all positive.
    factor : ndarray, shape (n, r), optional
        Of the discrepancy.
    sizes : tuple of int
        Number of data in each block; one block by default.
    grams : tuple of ndarray, shape (r, r), optional
        ``B_k^T D_k^-1 B_k`` of each block, where they are known already.
    names : tuple of str, optional
        Of the blocks, for messages.

    Raises
    ------
    SingularErrors
        When used, where a combination of the data is free of error to working precision.

    Notes
    -----
    With ``r < n`` only matrices of size r are factorised (Woodbury's identity), else one of size n,
    which keeps the digits when the independent variances are tiny.
    """

    variance: np.ndarray
    factor: np.ndarray | None = None
    sizes: tuple[int, ...] = ()
    grams: tuple[np.ndarray, ...] | None = None
    names: tuple[str, ...] = ()

    @cached_property
    def is_independent(self) -> bool:
        """Whether there is no discrepancy."""
        return self.factor is None or not np.any(self.factor)

    @cached_property
    def scaled(self) -> np.ndarray:
        """The factor in units of the independent sd; without columns when there is none."""
        if self.factor is None:
            return np.zeros((self.variance.size, 0))
        return self.factor / np.sqrt(self.variance)[:, None]

    @cached_property
    def is_dense(self) -> bool:
        """Whether the covariance itself is factorised: its rank is not below its size."""
        return not self.is_independent and self.scaled.shape[1] >= self.scaled.shape[0]

    @cached_property
    def gram(self) -> np.ndarray:
        """``B^T D^-1 B``, shape (r, r)."""
        if self.grams is not None:
            return np.sum(self.grams, axis=0)
        return self.scaled.T @ self.scaled

    @cached_property
    def _lower(self) -> np.ndarray:
        """Cholesky factor of ``I + D^-1/2 B B^T D^-1/2`` when dense, else of ``I + B^T D^-1 B``."""
        matrix = self.scaled @ self.scaled.T if self.is_dense else self.gram
        matrix = matrix + np.eye(matrix.shape[0])
        if self.is_dense:
            return self._dense_lower(matrix)
        self._require_noise(np.sum(self.scaled**2, axis=1))
        return np.linalg.cholesky(matrix)

    def _dense_lower(self, matrix: np.ndarray) -> np.ndarray:
        """Return the Cholesky factor of a matrix; from its own factor where digits would be lost.

        The square of a diagonal element over the variance of the datum is what the data before
        leave of that variance.
        """
        own = np.diag(matrix)
        try:
            lower = np.linalg.cholesky(matrix)
        except np.linalg.LinAlgError:
            lower = np.zeros_like(matrix)
        if np.min(np.diag(lower) ** 2 / own) > CLOSE:
            return lower
        upper = qr(np.concatenate([self.scaled.T, np.eye(own.size)]), mode="economic")[1]
        lower = upper.T * np.sign(np.diag(upper))
        left = np.abs(np.diag(lower)) / np.sqrt(own)
        if np.min(left) < SINGULAR:
            raise self._of_combination(lower, int(np.argmin(left)))
        return lower

    def _of_combination(self, lower: np.ndarray, datum: int) -> SingularErrors:
        """Return the error for a datum that those before it determine."""
        weights = np.zeros(self.variance.size)
        weights[: datum + 1] = solve_triangular(
            lower[: datum + 1, : datum + 1], np.eye(datum + 1)[datum], lower=True, trans=1
        )
        weights *= np.sqrt(1.0 + np.sum(self.scaled**2, axis=1))
        ends = np.cumsum([0, *(self.sizes or (self.variance.size,))])
        share = np.add.reduceat(weights**2, ends[:-1]) / np.sum(weights**2)
        ratio = np.sqrt(np.min(1.0 / (1.0 + np.sum(self.scaled**2, axis=1))))
        names = [self.names[block] for block in np.flatnonzero(share > 0.01)] if self.names else []
        return singular(names, ratio)

    def _require_noise(self, strength: np.ndarray) -> None:
        """Raise where Woodbury's identity would lose all digits."""
        worst = int(np.argmax(strength))
        if strength[worst] * SINGULAR > 1.0:
            ends = np.cumsum(self.sizes or (strength.size,))
            block = int(np.searchsorted(ends, worst, side="right"))
            raise noiseless(self.names[block : block + 1], 1.0 / np.sqrt(strength[worst]))

    @cached_property
    def _spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        """Orthonormal columns Q and squared singular values of the scaled factor."""
        self._require_noise(np.sum(self.scaled**2, axis=1))
        if self.scaled.size < 1e6:
            left, singular, _ = np.linalg.svd(self.scaled, full_matrices=False)
            return left, singular**2
        strength, right = eigh(self.gram)
        kept = strength > 1e-12 * strength[-1]
        return self.scaled @ (right[:, kept] / np.sqrt(strength[kept])), strength[kept]

    def whiten(self, array: np.ndarray) -> np.ndarray:
        """Return ``W array`` with ``W^T W`` the inverse covariance, for a vector or columns."""
        scaled = self._scale(array)
        if self.is_independent:
            return scaled
        if self.is_dense:
            return solve_triangular(self._lower, scaled, lower=True)
        left, strength = self._spectrum
        shrink = 1.0 / np.sqrt(1.0 + strength) - 1.0
        return scaled + left @ (shrink * (left.T @ scaled).T).T

    def solve(self, array: np.ndarray) -> np.ndarray:
        """Return the inverse covariance times a vector or columns."""
        scaled = self._scale(array)
        if self.is_dense:
            scaled = cho_solve((self._lower, True), scaled)
        elif not self.is_independent:
            scaled = scaled - self.scaled @ cho_solve((self._lower, True), self.scaled.T @ scaled)
        return self._scale(scaled)

    def log_determinant(self) -> float:
        """Return the log-determinant of the covariance."""
        result = float(np.log(self.variance).sum())
        if self.is_independent:
            return result
        return result + 2.0 * float(np.log(np.diag(self._lower)).sum())

    def inverse_diagonal(self) -> np.ndarray:
        """Return the diagonal of the inverse covariance."""
        if self.is_independent:
            return 1.0 / self.variance
        right = np.eye(self.variance.size) if self.is_dense else self.scaled.T
        half = (solve_triangular(self._lower, right, lower=True) ** 2).sum(axis=0)
        return (half if self.is_dense else 1.0 - half) / self.variance

    def part(self, blocks: Sequence[int]) -> "ErrorCovariance":
        """Return the covariance of some of the blocks."""
        rows = self.rows_of(blocks)
        grams = None if self.grams is None else tuple(self.grams[i] for i in blocks)
        factor = None if self.factor is None else self.factor[rows]
        sizes = tuple(self.sizes[i] for i in blocks)
        names = tuple(self.names[i] for i in blocks) if self.names else ()
        return ErrorCovariance(self.variance[rows], factor, sizes, grams, names)

    def rows_of(self, blocks: Sequence[int]) -> np.ndarray:
        """Return the indices of the data of some of the blocks."""
        ends = np.cumsum([0, *self.sizes])
        rows = [np.arange(ends[i], ends[i + 1]) for i in blocks]
        return np.concatenate([*rows, np.zeros(0, dtype=int)]).astype(int)

    def log_density(self, residual: np.ndarray) -> float:
        """Return the joint Gaussian log-density of the residuals."""
        quadratic = float(residual @ self.solve(residual))
        return -0.5 * (quadratic + self.log_determinant() + residual.size * np.log(2 * np.pi))

    def conditional(self, residual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance of every residual given all others.

        ``mean_i = r_i - g_i / c_i`` and ``variance_i = 1 / c_i`` with ``g = C^-1 r``,
        ``c = diag C^-1`` (Bürkner, Gabry & Vehtari 2021, doi 10.1007/s00180-020-01045-4).
        """
        diagonal = self.inverse_diagonal()
        return residual - self.solve(residual) / diagonal, 1.0 / diagonal

    def difference(
        self, other: "ErrorCovariance", step: float, weight: np.ndarray
    ) -> "ErrorCovariance":
        """Return the derivative of the parts of the covariance, from two that are ``step`` apart.

        ``weight`` multiplies the derivative of the independent variance of each datum.
        """
        factor = None
        if self.factor is not None and other.factor is not None:
            factor = (self.factor - other.factor) / step
        variance = (self.variance - other.variance) / step * weight
        return ErrorCovariance(variance, factor, self.sizes)

    def information(self, changes: Sequence["ErrorCovariance"]) -> np.ndarray:
        """Return ``(1/2) tr(C^-1 dC_i C^-1 dC_j)``, shape (p, p), for p derivatives."""
        factors = [change.factor for change in changes if change.factor is not None]
        return covariance_information(
            self,
            np.stack([change.variance for change in changes]),
            np.stack(factors) if factors else None,
        )

    def draw_discrepancy(self, rng: np.random.Generator) -> np.ndarray:
        """Return a prior draw of the discrepancy."""
        if self.factor is None:
            return np.zeros(self.variance.size)
        return self.factor @ rng.standard_normal(self.factor.shape[1])

    def discrepancy_given(self, residual: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a draw of the discrepancy given the residuals.

        Matheron's rule: a joint prior draw of (white, data), corrected by their covariance.
        """
        if self.factor is None:
            return np.zeros(self.variance.size)
        white = rng.standard_normal(self.factor.shape[1])
        noise = np.sqrt(self.variance) * rng.standard_normal(residual.size)
        white = white + self.factor.T @ self.solve(residual - self.factor @ white - noise)
        return self.factor @ white

    def _scale(self, array: np.ndarray) -> np.ndarray:
        return (array.T / np.sqrt(self.variance)).T


def covariance_information(
    errors: ErrorCovariance,
    variance_changes: np.ndarray,
    factor_changes: np.ndarray | None = None,
) -> np.ndarray:
    """Return the Fisher information ``(1/2) tr(C^-1 dC_i C^-1 dC_j)`` of parameters of the errors.

    Parameters
    ----------
    errors : ErrorCovariance
    variance_changes : ndarray, shape (p, n)
        Derivative of the independent variances to each of p parameters.
    factor_changes : ndarray, shape (p, n, r), optional
        Derivative of the factor to each parameter.

    Returns
    -------
    ndarray, shape (p, p)

    Notes
    -----
    With ``dC_i = diag(d_i) + E_i B^T + B E_i^T`` and ``P = C^-1`` the trace is
    ``d_i^T (P * P) d_j + 2 d_i . rows(P E_j * P B) + 2 d_j . rows(P E_i * P B)
    + 2 <B^T P E_i, (B^T P E_j)^T> + 2 <B^T P B, E_i^T P E_j>``; no product of size data by data is
    formed when the rank is smaller, and none of rank by rank when it is not.
    """
    if factor_changes is None or errors.factor is None:
        return 0.5 * _squared_products(errors, variance_changes)
    if errors.is_dense:
        return _dense_information(errors, errors.factor, variance_changes, factor_changes)
    result = _squared_products(errors, variance_changes)
    solved = errors.solve(errors.factor)  # P B
    moved = {i: errors.solve(change) for i, change in enumerate(factor_changes) if np.any(change)}
    inner = errors.factor.T @ solved
    mixed = {i: errors.factor.T @ change for i, change in moved.items()}
    for j, change in moved.items():
        crossed = 2.0 * variance_changes @ np.sum(change * solved, axis=1)
        result[:, j] += crossed
        result[j, :] += crossed
        for i in moved:
            result[i, j] += 2.0 * np.sum(mixed[i] * mixed[j].T)
            result[i, j] += 2.0 * np.sum(inner * (factor_changes[i].T @ change))
    return 0.5 * result


def _dense_information(
    errors: ErrorCovariance,
    factor: np.ndarray,
    variance_changes: np.ndarray,
    factor_changes: np.ndarray,
) -> np.ndarray:
    changes = []
    for variance, change in zip(variance_changes, factor_changes, strict=True):
        crossed = change @ factor.T if np.any(change) else np.zeros((variance.size,) * 2)
        changes.append(errors.solve(np.diag(variance) + crossed + crossed.T))
    flat = np.stack(changes).reshape(len(changes), -1)
    turned = np.stack([change.T for change in changes]).reshape(len(changes), -1)
    return 0.5 * flat @ turned.T


def _squared_products(errors: ErrorCovariance, changes: np.ndarray) -> np.ndarray:
    """Return ``d_i^T (P * P) d_j`` with the elementwise square of the inverse covariance."""
    if errors.is_independent:
        relative = changes / errors.variance
        return relative @ relative.T
    if errors.is_dense:
        return changes @ errors.solve(np.eye(errors.variance.size)) ** 2 @ changes.T
    # P = D^-1 - U U^T
    lower = solve_triangular(errors._lower, errors.scaled.T, lower=True)
    factor = (lower / np.sqrt(errors.variance)).T
    relative = changes / errors.variance
    crossed = (changes * np.sum(factor**2, axis=1)) @ relative.T
    grams = [
        factor.T @ (change[:, None] * factor) if np.any(change) else None for change in changes
    ]
    result = relative @ relative.T - crossed - crossed.T
    for i, first in enumerate(grams):
        for j, second in enumerate(grams):
            if first is not None and second is not None:
                result[i, j] += np.sum(first * second)
    return result
