"""What the data say at a point: Jacobian, information of data and errors, couplings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayesjoint._compiled.error_functions import Errors
from bayesjoint._compiled.functions import ModelFunctions

STEP = 1e-5  # of central differences in white coordinates; covariances are smooth in them


@dataclass(frozen=True, eq=False)
class LocalInformation:
    """Gauss-Newton and Fisher information in the flat coordinates of a model.

    Attributes
    ----------
    jacobian : ndarray, shape (data, n)
        Rotated, not whitened.
    whitened : ndarray, shape (data, n)
        ``W J`` with ``W^T W`` the inverse covariance of all errors, discrepancy included.
    of_errors : tuple of ndarray
        Coordinates of the unknowns of the errors, and their Fisher information.
    coupling_rows : ndarray, shape (residual, n)
        Their square is the Gauss-Newton Hessian of the couplings.
    """

    jacobian: np.ndarray
    whitened: np.ndarray
    of_errors: tuple[np.ndarray, np.ndarray]
    coupling_rows: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """H: information of all data, shape (n, n)."""
        return self.with_errors(self.whitened.T @ self.whitened)

    @property
    def coupling(self) -> np.ndarray:
        """Gamma: Gauss-Newton Hessian of the couplings, shape (n, n)."""
        return self.coupling_rows.T @ self.coupling_rows

    def with_errors(self, matrix: np.ndarray) -> np.ndarray:
        """Add the information on the unknowns of the errors to a matrix, in place."""
        columns, information = self.of_errors
        matrix[np.ix_(columns, columns)] += information
        return matrix


def local_information(functions: ModelFunctions, point: np.ndarray) -> LocalInformation:
    """Return the information at a point, as matrices."""
    count = functions.data.size
    full = functions.jacobian(point)
    jacobian, couplings = functions.rotate(full[:count]), full[count:]
    errors = functions.errors(point, power=True)
    whitened = errors.whiten(jacobian)
    changes = error_changes(functions, point)
    of_errors = changes.columns, changes.information(errors)
    return LocalInformation(jacobian, whitened, of_errors, couplings)


@dataclass(frozen=True, eq=False)
class ErrorChanges:
    """Derivatives of the error covariance to p of the n coordinates."""

    columns: np.ndarray  # (p,)
    derivatives: Sequence[Any]  # one a column, of the form of the covariance

    def information(self, errors: Errors, modalities: Sequence[int] | None = None) -> np.ndarray:
        """Return the Fisher information of all or some of the modalities, shape (p, p)."""
        if not self.columns.size or not errors.variance.size:
            return np.zeros((self.columns.size, self.columns.size))
        derivatives = self.derivatives
        if modalities is not None:
            errors = errors.part(modalities)
            derivatives = [derivative.part(modalities) for derivative in derivatives]
        small = errors.information(derivatives)
        return (small + small.T) / 2


def error_changes(functions: ModelFunctions, point: np.ndarray) -> ErrorChanges:
    """Return derivatives of the error covariance, by central differences."""
    columns = _error_columns(functions)
    if columns.size == 0 or functions.data.size == 0:
        return ErrorChanges(columns[:0], [])
    weight = _scale_weight(functions)
    derivatives: list[Any] = []
    up: Any
    for column in columns:
        up, down = (functions.errors(_moved(point, column, s), power=True) for s in (STEP, -STEP))
        derivatives.append(up.difference(down, 2 * STEP, weight))
    return ErrorChanges(columns, derivatives)


def _error_columns(functions: ModelFunctions) -> np.ndarray:
    names = [u.variable for u in functions.build.unknowns if u.of_errors]
    columns = [np.arange(functions.slices[n].start, functions.slices[n].stop) for n in names]
    return np.concatenate([*columns, np.zeros(0, dtype=int)]).astype(int)


def _moved(point: np.ndarray, column: int, step: float) -> np.ndarray:
    moved = point.copy()
    moved[column] += step
    return moved


def _scale_weight(functions: ModelFunctions) -> np.ndarray:
    """Return the root of each noise's information on its log scale relative to the Gaussian's.

    A likelihood to a power tells that much less.
    """
    return np.concatenate(
        [
            np.full(m.data.size, np.sqrt(m.noise.scale_information * m.power))
            for m in functions.problem.modalities
        ]
    )
