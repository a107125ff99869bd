"""What the data say at a point: Jacobian, information of data and errors, couplings."""

from dataclasses import dataclass

import numpy as np

from bayesjoint._functions import ModelFunctions
from bayesjoint._kernels.errors import ErrorCovariance, covariance_information

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
    total : ndarray, shape (n, n)
        H: information of all data.
    coupling : ndarray, shape (n, n)
        Gamma: Gauss-Newton Hessian of the couplings.
    """

    jacobian: np.ndarray
    whitened: np.ndarray
    total: np.ndarray
    coupling: np.ndarray


def local_information(functions: ModelFunctions, point: np.ndarray) -> LocalInformation:
    """Return the information at a point, as matrices."""
    count = functions.data.size
    full = functions.jacobian(point)
    jacobian, couplings = functions.rotate(full[:count]), full[count:]
    errors = functions.errors(point, power=True)
    whitened = errors.whiten(jacobian)
    total = whitened.T @ whitened
    changes = error_changes(functions, point, errors)
    total[np.ix_(changes.columns, changes.columns)] += changes.information(errors)
    return LocalInformation(jacobian, whitened, total, couplings.T @ couplings)


@dataclass(frozen=True, eq=False)
class ErrorChanges:
    """Derivatives of the error covariance to p of the n coordinates."""

    columns: np.ndarray  # (p,)
    variances: np.ndarray  # (p, data)
    factors: np.ndarray | None  # (p, data, rank)

    def information(self, errors: ErrorCovariance, rows: np.ndarray | None = None) -> np.ndarray:
        """Return the Fisher information of all or some of the data, shape (p, p)."""
        if not self.columns.size or not errors.variance.size:
            return np.zeros((self.columns.size, self.columns.size))
        kept = np.arange(self.variances.shape[1]) if rows is None else rows
        factors = None if self.factors is None else self.factors[:, kept]
        small = covariance_information(errors, self.variances[:, kept], factors)
        return (small + small.T) / 2


def error_changes(functions, point, errors) -> ErrorChanges:
    """Return derivatives of the error covariance, by central differences."""
    columns = _error_columns(functions)
    size = functions.data.size
    if columns.size == 0 or size == 0:
        return ErrorChanges(columns[:0], np.zeros((0, size)), None)
    variances, factors = [], []
    for column in columns:
        up, down = (functions.errors(_moved(point, column, s), power=True) for s in (STEP, -STEP))
        variances.append((up.variance - down.variance) / (2 * STEP) * _scale_weight(functions))
        if errors.factor is not None:
            factors.append((up.factor - down.factor) / (2 * STEP))
    return ErrorChanges(columns, np.stack(variances), np.stack(factors) if factors else None)


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
