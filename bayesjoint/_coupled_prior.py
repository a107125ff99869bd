"""The coupled prior at a point, locally ``N(0, (I + Gamma)^-1)``, and a map that whitens it."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from scipy.linalg import solve_triangular
from threadpoolctl import threadpool_limits

from bayesjoint import _curvature
from bayesjoint._actions import LocalActions
from bayesjoint._kernels.eigensolver import Action, leading_pairs
from bayesjoint._latent_space import Scaling

THRESHOLD = 0.03  # eigenvalues of Gamma below are left to the series
ACCURACY, TERMS = 1e-11, 60  # of the series, and at most so many terms

Times = Callable[[np.ndarray], np.ndarray]


class CoupledPrior(Protocol):
    """Precision ``I + Gamma`` in white coordinates, with ``T^T (I + Gamma) T = I``."""

    def whitener(self, rows: np.ndarray) -> np.ndarray:
        """Return ``T`` times each row."""

    def whitener_transposed(self, rows: np.ndarray) -> np.ndarray:
        """Return ``T^T`` times each row."""

    def precision(self, rows: np.ndarray) -> np.ndarray:
        """Return ``I + Gamma`` times each row."""

    def precision_diagonal(self) -> np.ndarray:
        """Return the diagonal of ``I + Gamma``."""

    def variance(self, times: Times, uncoupled: np.ndarray) -> np.ndarray:
        """Return the diagonal of ``L (I + Gamma)^-1 L^T``.

        Parameters
        ----------
        times : callable
            ``L`` times columns.
        uncoupled : ndarray, shape (cell,)
            Diagonal of ``L L^T``.
        """


def coupled_prior(actions: LocalActions, scaling: Scaling) -> CoupledPrior:
    """Return the coupled prior at the point of the actions."""

    def coupling(rows: np.ndarray) -> np.ndarray:
        return scaling.to_white(actions.coupling(scaling.to_flat(rows)))

    size = scaling.space.size
    if not actions.functions.build.residuals:
        return Uncoupled(size)
    if size <= _curvature.DENSE_LIMIT:
        return DensePrior(coupling(np.eye(size)))
    return PriorByActions(coupling, size)


class Uncoupled:
    """Without couplings nothing is to be done."""

    def __init__(self, size: int) -> None:
        self.size = size

    def whitener(self, rows: np.ndarray) -> np.ndarray:
        """Return each row."""
        return rows

    whitener_transposed = precision = whitener

    def precision_diagonal(self) -> np.ndarray:
        """Return ones."""
        return np.ones(self.size)

    def variance(self, times: Times, uncoupled: np.ndarray) -> np.ndarray:
        """Return the diagonal of ``L L^T``."""
        return uncoupled


class DensePrior:
    """Precision as a matrix: ``T`` is its inverse transposed Cholesky factor."""

    def __init__(self, coupling: np.ndarray) -> None:
        self.matrix = np.eye(coupling.shape[0]) + (coupling + coupling.T) / 2
        self._lower = np.linalg.cholesky(self.matrix)

    def whitener(self, rows: np.ndarray) -> np.ndarray:
        """Return ``T`` times each row."""
        return solve_triangular(self._lower, rows.T, lower=True, trans=1).T

    def whitener_transposed(self, rows: np.ndarray) -> np.ndarray:
        """Return ``T^T`` times each row."""
        return solve_triangular(self._lower, rows.T, lower=True).T

    def precision(self, rows: np.ndarray) -> np.ndarray:
        """Return ``I + Gamma`` times each row."""
        return rows @ self.matrix

    def precision_diagonal(self) -> np.ndarray:
        """Return the diagonal of ``I + Gamma``."""
        return np.diag(self.matrix)

    def variance(self, times: Times, uncoupled: np.ndarray) -> np.ndarray:
        """Return the diagonal of ``L (I + Gamma)^-1 L^T``."""
        return np.sum(times(self.whitener(np.eye(self.matrix.shape[0])).T) ** 2, axis=1)


class PriorByActions:
    """Precision by its action: ``T = S (S (I + Gamma) S)^-1/2``.

    S takes out the leading eigenpairs of Gamma; what it leaves is near the identity, so that a
    short series gives its inverse root.  ``T^T (I + Gamma) T = I`` holds to the accuracy of the
    series however accurate the pairs.
    """

    def __init__(self, coupling: Action, size: int) -> None:
        self._coupling = coupling
        with threadpool_limits(limits=1):  # blocks are small
            pairs = leading_pairs(coupling, size, THRESHOLD)
        self.values, self.vectors = np.maximum(pairs.values, 0.0), pairs.vectors
        self._stretch = 1.0 / np.sqrt(1.0 + self.values) - 1.0
        self._middle = pairs.largest_left_out / 2

    def _scale(self, rows: np.ndarray) -> np.ndarray:
        return rows + (rows @ self.vectors * self._stretch) @ self.vectors.T

    def _root(self, rows: np.ndarray) -> np.ndarray:
        """Return ``(S (I + Gamma) S)^-1/2`` times each row, by the binomial series."""
        if not rows.size:
            return rows
        centre = 1.0 + self._middle
        term, total, size = rows, rows.copy(), np.linalg.norm(rows)
        for k in range(1, TERMS):
            moved = self._scale(self.precision(self._scale(term))) / centre - term
            term = moved * (0.5 - k) / k
            total += term
            if np.linalg.norm(term) <= ACCURACY * size:
                return total / np.sqrt(centre)
        raise RuntimeError(
            "linearize: the couplings have eigenvalues that the search did not find; please "
            "report it, with the problem"
        )

    def whitener(self, rows: np.ndarray) -> np.ndarray:
        """Return ``T`` times each row."""
        return self._scale(self._root(rows))

    def whitener_transposed(self, rows: np.ndarray) -> np.ndarray:
        """Return ``T^T`` times each row."""
        return self._root(self._scale(rows))

    def precision(self, rows: np.ndarray) -> np.ndarray:
        """Return ``I + Gamma`` times each row."""
        return rows + self._coupling(rows)

    def precision_diagonal(self) -> np.ndarray:
        """Return the diagonal of ``I + Gamma``, but for eigenvalues below the threshold."""
        return 1.0 + self.vectors**2 @ self.values

    def variance(self, times: Times, uncoupled: np.ndarray) -> np.ndarray:
        """Return the diagonal of ``L (I + Gamma)^-1 L^T``, but for those below the threshold."""
        return uncoupled - times(self.vectors) ** 2 @ (self.values / (1.0 + self.values))
