"""What the data say at a point: whitened Jacobian, information of each modality, couplings."""

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
    whitened : ndarray, shape (data, n)
        ``W J`` with ``W^T W`` the inverse covariance of all errors, discrepancy included.
    total : ndarray, shape (n, n)
        H: information of all data.
    per_modality : dict of str to ndarray, shape (n, n)
        Splits of H that add up; unique only with independent errors.
    alone : dict of str to ndarray, shape (n, n)
        Information of each modality when it is the only one.
    without : dict of str to ndarray, shape (n, n)
        Information of all but one modality.
    coupling : ndarray, shape (n, n)
        Gamma: Gauss-Newton Hessian of the couplings.
    errors : ErrorCovariance
        At the point, power included.
    residual : ndarray, shape (data,)
        Rotated data minus response.
    jacobian : ndarray, shape (data, n)
        Rotated, not whitened.
    """

    whitened: np.ndarray
    total: np.ndarray
    per_modality: dict[str, np.ndarray]
    alone: dict[str, np.ndarray]
    without: dict[str, np.ndarray]
    coupling: np.ndarray
    errors: ErrorCovariance
    residual: np.ndarray
    jacobian: np.ndarray


def local_information(functions: ModelFunctions, point: np.ndarray, split: bool = True) -> LocalInformation:
    """Return the information at a point; ``split=False`` leaves the per-modality parts empty."""
    count = functions.data.size
    full = functions.jacobian(point)
    jacobian, couplings = functions.rotate(full[:count]), full[count:]
    response = functions.outputs(point)[:count]
    errors = functions.errors(point, power=True)
    whitened = errors.whiten(jacobian)
    of_errors = _error_information(functions, point, errors)
    total = whitened.T @ whitened + of_errors.summed()
    parts: dict[str, dict[str, np.ndarray]] = {"own": {}, "alone": {}, "without": {}}
    if split:
        parts = _split(functions, point, errors, jacobian, of_errors)
    return LocalInformation(
        whitened, total, parts["own"], parts["alone"], parts["without"], couplings.T @ couplings,
        errors, functions.rotate(functions.data - response), jacobian,
    )  # fmt: skip


def _split(functions, point, errors, jacobian, of_errors) -> dict[str, dict[str, np.ndarray]]:
    solved = errors.solve(jacobian)
    rows = np.arange(jacobian.shape[0])
    own, alone, without = {}, {}, {}
    for name, where in functions.data_slices.items():
        cross = jacobian[where].T @ solved[where]
        own[name] = (cross + cross.T) / 2 + of_errors.summed(where)
        alone[name] = _subset(functions, point, errors, jacobian, rows[where])
        without[name] = _subset(functions, point, errors, jacobian, np.delete(rows, rows[where]))
    return {"own": own, "alone": alone, "without": without}


def _subset(functions, point, errors, jacobian, rows) -> np.ndarray:
    """Return the information of some of the data, the errors of the others integrated out."""
    if rows.size == 0:
        return np.zeros((jacobian.shape[1],) * 2)
    whitened = errors.rows(rows).whiten(jacobian[rows])
    return whitened.T @ whitened + _error_information(functions, point, errors, rows).summed()


def _error_information(functions, point, errors, rows=None) -> "_ErrorInformation":
    """Return the Fisher information on unknown scales of the errors, by datum."""
    columns = _error_columns(functions)
    rows = np.arange(functions.data.size) if rows is None else rows
    if columns.size == 0 or rows.size == 0:
        return _ErrorInformation(np.zeros((rows.size, 0, 0)), columns[:0], functions.size)
    variances, factors = [], []
    weight = _scale_weight(functions)[rows]
    for column in columns:
        up, down = (functions.errors(_moved(point, column, s), power=True) for s in (STEP, -STEP))
        variances.append((up.variance - down.variance)[rows] / (2 * STEP) * weight)
        if errors.factor is not None:
            factors.append((up.factor - down.factor)[rows] / (2 * STEP))
    changes = np.stack(factors) if factors else None
    by_datum = covariance_information(errors.rows(rows), np.stack(variances), changes)
    return _ErrorInformation(by_datum, columns, functions.size)


@dataclass(frozen=True, eq=False)
class _ErrorInformation:
    """Information of each datum, shape (data, p, p), on p of the n coordinates."""

    by_datum: np.ndarray
    columns: np.ndarray
    size: int

    def summed(self, where: slice = slice(None)) -> np.ndarray:
        """Return the sum over some of the data, shape (n, n)."""
        total = np.zeros((self.size, self.size))
        part = self.by_datum[where].sum(axis=0)
        total[np.ix_(self.columns, self.columns)] = (part + part.T) / 2
        return total


def _error_columns(functions: ModelFunctions) -> np.ndarray:
    names = [u.variable for u in functions.build.unknowns if u.of_errors]
    columns = [np.arange(functions.slices[n].start, functions.slices[n].stop) for n in names]
    return np.concatenate([*columns, np.zeros(0, dtype=int)]).astype(int)


def _moved(point: np.ndarray, column: int, step: float) -> np.ndarray:
    moved = point.copy()
    moved[column] += step
    return moved


def _scale_weight(functions: ModelFunctions) -> np.ndarray:
    """Return the root of each noise's information on its log scale relative to the Gaussian's."""
    return np.concatenate(
        [np.full(m.data.size, np.sqrt(m.noise.scale_information)) for m in functions.problem.modalities]
    )

