"""Actions of the local precision of a model on rows of vectors: no matrix of it is formed."""

from functools import cached_property

import numpy as np

from bayesjoint._functions import ModelFunctions
from bayesjoint._information import error_changes
from bayesjoint._prior import non_white_precision


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
        if sampled:
            blocks = functions.sampled_factors(point)
            self._blocks = {
                functions.slices[f"{name}_white"]: functions.rotate(block)
                for name, block in blocks.items()
            }
        self.errors = functions.errors(point, power=True, integrated=sampled)

    @cached_property
    def of_errors(self) -> tuple[np.ndarray, np.ndarray]:
        """Flat coordinates of unknowns of the errors, and their Fisher information."""
        # With the discrepancy integrated out whichever form is sampled.
        errors = self.functions.errors(self.point, power=True)
        changes = error_changes(self.functions, self.point, errors)
        return changes.columns, changes.small(errors)

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
