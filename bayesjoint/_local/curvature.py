"""The precision of the sampled density at a point: dense where it is small, else by its actions."""

from functools import cached_property
from typing import Protocol

import numpy as np
from scipy.linalg import solve_triangular
from scipy.sparse.linalg import LinearOperator, cg
from threadpoolctl import threadpool_limits

from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._compiled.prior import prior_precision
from bayesjoint._kernels.eigensolver import Action, leading_pairs
from bayesjoint._kernels.spectra import solve_posterior
from bayesjoint._kernels.stacked import triangular
from bayesjoint._local.actions import LocalActions
from bayesjoint._local.information import LocalInformation, local_information

DENSE_LIMIT = 2_000  # free variables up to which the precision is a matrix
THRESHOLD = 0.1  # eigenvalues of the precision nearer to one are left alone
SQUARED = 1e8  # of the precision, beyond which a matrix that is a square has lost half its digits
VANISHED = 4.0  # prior standard deviations below the median: a scale that goes to zero
SOLVED, ITERATIONS = 1e-8, 300  # of conjugate gradients: relative residual, at most so many


class NotFinite(ArithmeticError):
    """The precision at a point is not finite: it cannot be used."""


class Curvature(Protocol):
    """The precision P at a point, with a scaling S such that ``S^T P S`` is near the identity."""

    def solve(self, vector: np.ndarray) -> np.ndarray:
        """Return ``P^-1`` times a vector."""

    def scale(self, vector: np.ndarray) -> np.ndarray:
        """Return S times a vector."""

    def scale_transposed(self, vector: np.ndarray) -> np.ndarray:
        """Return ``S^T`` times a vector."""

    @property
    def log_determinant(self) -> float:
        """Log determinant of P."""


def curvature(functions: ModelFunctions, point: np.ndarray) -> Curvature:
    """Return the precision of the density that is sampled, at a point.

    Raises `NotFinite` where some of it is infinite or undefined.
    """
    if functions.size > DENSE_LIMIT:
        return ByActions(functions, point)
    with np.errstate(all="ignore"):
        precision = sampled_precision(functions, point)
    if not np.all(np.isfinite(precision)):
        raise NotFinite
    if np.max(np.diag(precision)) > SQUARED and not vanished(functions, point):
        return _stacked(functions, point)
    return Dense(precision)


def vanished(functions: ModelFunctions, point: np.ndarray) -> list[str]:
    """Return the scales of errors that have all but gone to zero."""
    scales = [u.name for u in functions.build.unknowns if u.of_errors and u.white]
    return [n for n in scales if np.min(point[functions.slices[f"{n}_white"]]) < -VANISHED]


class Dense:
    """The precision as a matrix, scaled by its Cholesky factor."""

    def __init__(self, precision: np.ndarray) -> None:
        self.precision = precision

    @cached_property
    def _lower(self) -> np.ndarray:
        return np.linalg.cholesky(self.precision)

    def solve(self, vector: np.ndarray) -> np.ndarray:
        """Return ``P^-1`` times a vector."""
        return solve_posterior(self.precision, vector)

    def scale(self, vector: np.ndarray) -> np.ndarray:
        """Return ``L^-T`` times a vector, ``P = L L^T``."""
        return solve_triangular(self._lower, vector, lower=True, trans=1)

    def scale_transposed(self, vector: np.ndarray) -> np.ndarray:
        """Return ``L^-1`` times a vector."""
        return solve_triangular(self._lower, vector, lower=True)

    @property
    def log_determinant(self) -> float:
        """Log determinant of P."""
        return 2.0 * float(np.sum(np.log(np.diag(self._lower))))


class Stacked:
    """The precision by rows of which it is the square, scaled by their triangular factor."""

    def __init__(self, rows: np.ndarray) -> None:
        self._upper, self._pivots = triangular(rows)

    def solve(self, vector: np.ndarray) -> np.ndarray:
        """Return ``P^-1`` times a vector."""
        return self.scale(self.scale_transposed(vector))

    def scale(self, vector: np.ndarray) -> np.ndarray:
        """Return ``R^-1`` times a vector, ``P = R^T R``, pivots undone."""
        scaled = np.empty_like(vector)
        scaled[self._pivots] = solve_triangular(self._upper, vector)
        return scaled

    def scale_transposed(self, vector: np.ndarray) -> np.ndarray:
        """Return ``R^-T`` times a vector."""
        return solve_triangular(self._upper, vector[self._pivots], trans=1)

    @property
    def log_determinant(self) -> float:
        """Log determinant of P."""
        return 2.0 * float(np.sum(np.log(np.abs(np.diag(self._upper)))))


class ByActions:
    """The precision by its actions, scaled along its leading eigenvectors."""

    def __init__(self, functions: ModelFunctions, point: np.ndarray) -> None:
        self.actions = LocalActions(functions, point, sampled=True)
        self.vectors, self.stretch = stretched_directions(self._excess, functions.size)

    def _excess(self, rows: np.ndarray) -> np.ndarray:
        moved = self.actions.excess(rows)
        if not np.all(np.isfinite(moved)):
            raise NotFinite
        return moved

    def solve(self, vector: np.ndarray) -> np.ndarray:
        """Return ``P^-1`` times a vector, by preconditioned conjugate gradients."""
        shape = (vector.size, vector.size)
        precision = LinearOperator(
            shape, matvec=lambda x: x + self._excess(x.reshape(1, -1))[0], dtype=float
        )
        preconditioner = LinearOperator(
            shape, matvec=lambda x: self.scale(self.scale(x)), dtype=float
        )
        return cg(precision, vector, rtol=SOLVED, maxiter=ITERATIONS, M=preconditioner)[0]

    def scale(self, vector: np.ndarray) -> np.ndarray:
        """Return ``(I + V diag(stretch) V^T)`` times a vector: about ``P^-1/2``."""
        return vector + self.vectors @ (self.stretch * (self.vectors.T @ vector))

    scale_transposed = scale

    @property
    def log_determinant(self) -> float:
        """Log determinant of P, by its leading eigenvalues."""
        return -2.0 * float(np.sum(np.log1p(self.stretch)))


def stretched_directions(excess: Action, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return directions and stretches from the action of a precision less the identity.

    As `preconditioner` does from a matrix.  On one thread: blocks of vectors are small, and where
    cores are shared threads mostly wait for each other.
    """
    with threadpool_limits(limits=1):
        pairs = leading_pairs(excess, size, THRESHOLD)
    return pairs.vectors, 1.0 / np.sqrt(np.maximum(1.0 + pairs.values, 1e-6)) - 1.0


def sampled_precision(functions: ModelFunctions, point: np.ndarray) -> np.ndarray:
    """Return the local precision of the density that is sampled, in flat coordinates.

    Prior, data and couplings; where the discrepancy is sampled, its white variables see the data
    through the independent noise alone, and the other unknowns through it too.
    """
    local = local_information(functions, point)
    whitened = _sampled_rows(functions, point, local)
    precision = prior_precision(functions, point) + local.coupling
    return local.with_errors(precision + whitened.T @ whitened)


def _sampled_rows(
    functions: ModelFunctions, point: np.ndarray, local: LocalInformation
) -> np.ndarray:
    """Return the whitened rows of the data in the density that is sampled.

    Unknown scales of the errors keep the information they have with the discrepancy integrated out.
    """
    if all(f.marginal for f in functions.build.factors.values()):
        return local.whitened
    columns = np.array(local.jacobian)
    errors = functions.errors(point, power=True, integrated=True)
    for name, block in functions.sampled_factors(point).items():
        columns[:, functions.slices[f"{name}_white"]] = functions.rotate(block)
    return errors.whiten(columns)


def _stacked(functions: ModelFunctions, point: np.ndarray) -> "Stacked":
    """Return the precision from its rows, of which it is the square."""
    local = local_information(functions, point)
    small = local.with_errors(prior_precision(functions, point))
    values, vectors = np.linalg.eigh(small)
    root = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    return Stacked(
        np.concatenate([_sampled_rows(functions, point, local), local.coupling_rows, root])
    )
