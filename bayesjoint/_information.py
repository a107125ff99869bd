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


def local_information(
    functions: ModelFunctions, point: np.ndarray, split: bool = True
) -> LocalInformation:
    """Return the information at a point; ``split=False`` leaves the per-modality parts empty."""
    count = functions.data.size
    full = functions.jacobian(point)
    jacobian, couplings = functions.rotate(full[:count]), full[count:]
    response = functions.outputs(point)[:count]
    errors = functions.errors(point, power=True)
    changes = error_changes(functions, point, errors)
    whitened = errors.whiten(jacobian)
    of_errors = changes.information(errors)
    parts: dict[str, dict[str, np.ndarray]] = {"own": {}, "alone": {}, "without": {}}
    if split:
        parts = _split(functions, errors, changes, jacobian, of_errors)
    return LocalInformation(
        whitened,
        whitened.T @ whitened + of_errors,
        parts["own"],
        parts["alone"],
        parts["without"],
        couplings.T @ couplings,
        errors,
        functions.rotate(functions.data - response),
        jacobian,
    )


@dataclass(frozen=True, eq=False)
class ErrorChanges:
    """Derivatives of the error covariance to p of the n coordinates."""

    columns: np.ndarray  # (p,)
    variances: np.ndarray  # (p, data)
    factors: np.ndarray | None  # (p, data, rank)
    size: int

    def small(self, errors: ErrorCovariance, rows: np.ndarray | None = None) -> np.ndarray:
        """Return the Fisher information of all or some of the data, shape (p, p)."""
        if not self.columns.size or not errors.variance.size:
            return np.zeros((self.columns.size, self.columns.size))
        kept = np.arange(self.variances.shape[1]) if rows is None else rows
        factors = None if self.factors is None else self.factors[:, kept]
        small = covariance_information(errors, self.variances[:, kept], factors)
        return (small + small.T) / 2

    def information(self, errors: ErrorCovariance, rows: np.ndarray | None = None) -> np.ndarray:
        """Return the Fisher information of all or some of the data, shape (n, n)."""
        total = np.zeros((self.size, self.size))
        total[np.ix_(self.columns, self.columns)] = self.small(errors, rows)
        return total


def _split(functions, errors, changes, jacobian, of_errors) -> dict[str, dict[str, np.ndarray]]:
    """Return information of each modality: its share of the total, alone, and of all others.

    Shares of the response's information follow the rows of ``J^T C^-1 J``; those of the errors'
    follow what each modality says alone.  Both add up; with independent errors they are the only
    split.
    """
    solved = errors.solve(jacobian)
    count = len(errors.sizes)
    own, alone, without, of_each = {}, {}, {}, {}
    for index, (name, where) in enumerate(functions.data_slices.items()):
        cross = jacobian[where].T @ solved[where]
        own[name] = (cross + cross.T) / 2
        of_each[name], alone[name] = _part(errors, changes, jacobian, [index])
        without[name] = _part(errors, changes, jacobian, [i for i in range(count) if i != index])[1]
    total = sum(np.diag(part) for part in of_each.values()) if of_each else 1.0
    for name, part in of_each.items():
        share = np.divide(np.diag(part), total, out=np.zeros(changes.size), where=total > 0)
        own[name] += (share[:, None] * of_errors + of_errors * share) / 2
    return {"own": own, "alone": alone, "without": without}


def _part(errors, changes, jacobian, blocks: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return information on the errors, and all information, of some modalities on their own."""
    part, rows = errors.part(blocks), errors.rows_of(blocks)
    of_errors = changes.information(part, rows)
    whitened = part.whiten(jacobian[rows])
    return of_errors, whitened.T @ whitened + of_errors


def error_changes(functions, point, errors) -> ErrorChanges:
    """Return derivatives of the error covariance, by central differences."""
    columns = _error_columns(functions)
    size = functions.data.size
    if columns.size == 0 or size == 0:
        return ErrorChanges(columns[:0], np.zeros((0, size)), None, functions.size)
    variances, factors = [], []
    for column in columns:
        up, down = (functions.errors(_moved(point, column, s), power=True) for s in (STEP, -STEP))
        variances.append((up.variance - down.variance) / (2 * STEP) * _scale_weight(functions))
        if errors.factor is not None:
            factors.append((up.factor - down.factor) / (2 * STEP))
    return ErrorChanges(
        columns, np.stack(variances), np.stack(factors) if factors else None, functions.size
    )


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
        [
            np.full(m.data.size, np.sqrt(m.noise.scale_information))
            for m in functions.problem.modalities
        ]
    )
