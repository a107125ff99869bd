"""Actions of the local precision of a model on rows of vectors: no matrix of it is formed."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from bayesjoint._compiled.error_functions import Errors
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._compiled.prior import non_white_precision
from bayesjoint._local.information import ErrorChanges, error_changes


class LocalActions:
    """The parts of the precision at a point, each a symmetric action on rows of flat vectors.

    Parameters
    ----------
    functions : ModelFunctions
    point : ndarray, shape (n,)
    sampled : bool
        Of the density that is sampled: a discrepancy in latent form is among the unknowns, which
        see the data through the independent noise alone.  Otherwise it is integrated out.
    """

    def __init__(self, functions: ModelFunctions, point: np.ndarray, sampled: bool = False) -> None:
        self.functions, self.point, self.size = functions, point, functions.size
        self._blocks: dict[slice, np.ndarray] = {}
        self._of_errors_in: dict[tuple[int, ...], np.ndarray] = {}
        if sampled:
            blocks = functions.sampled_factors(point)
            self._blocks = {
                functions.slices[f"{name}_white"]: functions.rotate(block)
                for name, block in blocks.items()
            }
        self.errors = functions.errors(point, power=True, integrated=sampled)

    @cached_property
    def _changes(self) -> tuple[ErrorChanges, Errors]:
        # With the discrepancy integrated out whichever form is sampled.
        errors = self.functions.errors(self.point, power=True)
        return error_changes(self.functions, self.point), errors

    @cached_property
    def of_errors(self) -> tuple[np.ndarray, np.ndarray]:
        """Flat coordinates of unknowns of the errors, and their Fisher information."""
        changes, errors = self._changes
        return changes.columns, changes.information(errors)

    def of_errors_in(self, modalities: Sequence[int]) -> np.ndarray:
        """Return the Fisher information on unknowns of the errors from some modalities."""
        key = tuple(modalities)
        if key not in self._of_errors_in:
            changes, errors = self._changes
            self._of_errors_in[key] = changes.information(errors, key)
        return self._of_errors_in[key]

    @cached_property
    def prior(self) -> tuple[np.ndarray, np.ndarray]:
        """Flat coordinates of variables without white form, and their prior precision less one."""
        columns, block = non_white_precision(self.functions, self.point)
        return columns, block - np.eye(columns.size)

    def push(self, rows: np.ndarray) -> np.ndarray:
        """Return the Jacobian times each row, rotated, shape (row, data)."""
        if self.functions.data.size == 0:
            return np.zeros((rows.shape[0], 0))
        pushed = self.functions.rotate(self.functions.response_actions[0](rows, self.point)[0].T)
        for where, block in self._blocks.items():
            pushed = pushed + block @ rows[:, where].T
        return pushed.T

    def pull(self, rows: np.ndarray) -> np.ndarray:
        """Return rows of data times the rotated Jacobian, shape (row, n)."""
        if self.functions.data.size == 0:
            return np.zeros((rows.shape[0], self.size))
        turned = self.functions.rotate(rows.T, transposed=True).T
        pulled = np.array(self.functions.response_actions[1](turned, self.point)[0])
        for where, block in self._blocks.items():
            pulled[:, where] = rows @ block
        return pulled

    def data(self, rows: np.ndarray) -> np.ndarray:
        """Return the information of the data times each row."""
        result = self.pull(self.errors.solve(self.push(rows).T).T)
        return _add(result, rows, *self.of_errors)

    def data_of(self, modalities: Sequence[int], rows: np.ndarray) -> np.ndarray:
        """Return the information of some modalities, by themselves, times each row."""
        kept = self.errors.rows_of(modalities)
        solved = np.zeros((rows.shape[0], self.functions.data.size))
        solved[:, kept] = self.errors.part(modalities).solve(self.push(rows)[:, kept].T).T
        return _add(self.pull(solved), rows, self.of_errors[0], self.of_errors_in(modalities))

    def coupling(self, rows: np.ndarray) -> np.ndarray:
        """Return the Gauss-Newton Hessian of the couplings times each row."""
        if not self.functions.build.residuals:
            return np.zeros_like(rows)
        push, pull = self.functions.residual_actions
        return np.array(pull(push(rows, self.point)[0], self.point)[0])

    def excess(self, rows: np.ndarray) -> np.ndarray:
        """Return the whole precision less the identity, times each row."""
        return _add(self.data(rows) + self.coupling(rows), rows, *self.prior)


def _add(result: np.ndarray, rows: np.ndarray, columns: np.ndarray, block: np.ndarray):
    if columns.size:
        result[:, columns] += rows[:, columns] @ block
    return result
