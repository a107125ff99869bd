"""Observation operators: where and how an instrument samples the output of a forward map."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytensor.sparse as ps
import pytensor.tensor as pt
from scipy import sparse

from bayesjoint._graph.build import ModelBuild


@dataclass(frozen=True, eq=False)
class ObservationOperator:
    """A chain of matrices and functions applied to the output of a forward map, first to last.

    Parameters
    ----------
    steps : matrix, sparse matrix, callable, a list of such, or None
        A matrix acts on the ravelled output, a callable gets and returns a tensor.
    owner : str
        The modality, for messages.
    """

    steps: tuple[Any, ...]
    owner: str

    @classmethod
    def from_user(cls, observe: Any, owner: str) -> "ObservationOperator":
        """Return the operator for what a user gave as ``observe``."""
        if observe is None:
            steps: list[Any] = []
        else:
            steps = list(observe) if isinstance(observe, (list, tuple)) else [observe]
        return cls(tuple(_step(step, owner) for step in steps), owner)

    def apply(self, build: ModelBuild, output):
        """Return the tensor the instrument sees."""
        for index, step in enumerate(self.steps):
            if callable(step):
                output = pt.as_tensor(step(output))
            elif sparse.issparse(step):
                constant = ps.as_sparse_variable(sparse.csr_matrix(step))
                output = ps.structured_dot(constant, output.ravel()[:, None])[:, 0]
            else:
                output = build.matrix(f"{self.owner}_observe_{index}", step) @ output.ravel()
        return output

    @property
    def is_linear(self) -> bool:
        """Whether every step is a matrix."""
        return not any(callable(step) for step in self.steps)

    @property
    def columns(self) -> int | None:
        """Number of outputs of the forward map that a linear operator takes, None for any."""
        return self.steps[0].shape[1] if self.steps else None

    def matrix_times(self, columns: np.ndarray) -> np.ndarray:
        """Return the operator applied to columns of model-space vectors; linear operators only."""
        for step in self.steps:
            if step.shape[1] != columns.shape[0]:
                raise ValueError(
                    f"modality {self.owner!r}: observe has {step.shape[1]} columns, the forward "
                    f"map {columns.shape[0]} outputs"
                )
            columns = step @ columns
        return np.asarray(columns)


def _step(step: Any, owner: str) -> Callable | np.ndarray | Any:
    if callable(step):
        return step
    matrix = sparse.csr_array(step) if sparse.issparse(step) else np.asarray(step, dtype=float)
    if matrix.ndim != 2:
        raise ValueError(
            f"modality {owner!r}: observe must be a matrix, a sparse matrix, a function of a "
            f"tensor or a list of these; an array of shape {matrix.shape} was given"
        )
    return matrix
