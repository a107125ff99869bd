"""The coupled prior at a point, locally ``N(0, (I + Gamma)^-1)``, and a map that whitens it."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from scipy.linalg import solve_triangular
from threadpoolctl import threadpool_limits

from bayesjoint._compiled.latent_space import Scaling
from bayesjoint._compiled.mixing import Mixing
from bayesjoint._kernels.eigensolver import Action, leading_pairs
from bayesjoint._local import curvature as _curvature
from bayesjoint._local.actions import LocalActions

THRESHOLD = 0.03  # eigenvalues of Gamma below are left to the series
BLOCK = 500  # rows that are worked on together
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
    independent = scaling.unmixed

    def coupling(rows: np.ndarray) -> np.ndarray:
        return independent.to_white(actions.coupling(independent.to_flat(rows)))

    prior = _of_potentials(actions, coupling, scaling.space.size)
    return prior if scaling.mixing is None else Mixed(prior, scaling.mixing)


def _of_potentials(actions: LocalActions, coupling: Action, size: int) -> CoupledPrior:
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


class Mixed:
    """The prior in coordinates that generative couplings mix: precision ``M^-T P M^-1``."""

    def __init__(self, independent: CoupledPrior, mixing: Mixing) -> None:
        self._independent, self._mixing = independent, mixing

    def whitener(self, rows: np.ndarray) -> np.ndarray:
        """Return ``T`` times each row."""
        return self._mixing.forward(self._independent.whitener(rows))

    def whitener_transposed(self, rows: np.ndarray) -> np.ndarray:
        """Return ``T^T`` times each row."""
        return self._independent.whitener_transposed(self._mixing.forward_transposed(rows))

    def precision(self, rows: np.ndarray) -> np.ndarray:
        """Return the precision times each row."""
        inner = self._independent.precision(self._mixing.inverse(rows))
        return self._mixing.inverse_transposed(inner)

    def precision_diagonal(self) -> np.ndarray:
        """Return the diagonal of the precision, in blocks of rows."""
        size, diagonal = self._mixing.size, []
        for start in range(0, size, BLOCK):
            units = np.eye(min(BLOCK, size - start), size, start)
            diagonal.append(np.sum(self.precision(units) * units, axis=1))
        return np.concatenate(diagonal)

    def variance(self, times: Times, uncoupled: np.ndarray) -> np.ndarray:
        """Return the variance of each cell; ``uncoupled`` is that of its property by itself."""
        return self._independent.variance(
            lambda columns: times(self._mixing.forward(columns.T).T), uncoupled
        )
