"""Observation operators: where and how an instrument samples the output of a forward map."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytensor.sparse as ps
from scipy import sparse

from bayesjoint import arrays
from bayesjoint import units as _units
from bayesjoint._graph.build import ModelBuild
from bayesjoint._graph.outputs import tensor


@dataclass(frozen=True, eq=False)
class ObservationOperator:
    """A chain of matrices and functions applied to the output of a forward map, first to last.

    Parameters
    ----------
    steps : tuple of matrix, sparse matrix or callable
        A matrix acts on the ravelled output, a callable gets and returns a tensor.
    owner : str
        The modality, for messages.
    units : tuple of str or None
        What each step multiplies units by, where it states that.
    columns_axes : Axes or None
        Labels of the columns of the first matrix: the output of the forward map it acts on.
    """

    steps: tuple[Any, ...]
    owner: str
    units: tuple[str | None, ...] = ()
    columns_axes: arrays.Axes | None = None

    @classmethod
    def from_user(
        cls, observe: Any, owner: str, data: arrays.Axes | None = None
    ) -> "ObservationOperator":
        """Return the operator for what a user gave as ``observe``, with rows as the data."""
        if observe is None:
            return cls((), owner)
        given = list(observe) if isinstance(observe, (list, tuple)) else [observe]
        steps: list[Any] = []
        rows = data
        for step in reversed(given):  # labels of the columns of one are those of the rows before it
            steps.append(_step(step, f"modality {owner!r}", rows))
            rows = _columns_axes(step, f"modality {owner!r}", rows)
        return cls(tuple(steps[::-1]), owner, tuple(map(_stated, given)), rows)

    @property
    def states_units(self) -> bool:
        """Whether a step states what it does to units."""
        return any(self.units)

    def output_units(self, units: str | None) -> str | None:
        """Return the units of what is observed, given those of the map's output."""
        for own in self.units:
            units = _units.product(own, units) if own else units
        return units

    def apply(self, build: ModelBuild, output):
        """Return the tensor the instrument sees."""
        for index, step in enumerate(self.steps):
            if callable(step):
                output = tensor(f"modality {self.owner!r}: observe", step, output)
                continue
            self._require_columns(step, output.type.shape)
            if sparse.issparse(step):
                constant = ps.as_sparse_variable(sparse.csr_matrix(step, copy=True))
                output = ps.structured_dot(constant, output.ravel()[:, None])[:, 0]
            else:
                output = build.matrix(f"{self.owner}_observe_{index}", step) @ output.ravel()
        return output

    def _require_columns(self, step: Any, shape: tuple[int | None, ...]) -> None:
        """Raise unless a matrix has a column for each element of what it acts on, if known."""
        known = [size for size in shape if size is not None]
        if len(known) == len(shape) and step.shape[1] != math.prod(known):
            raise ValueError(
                f"a matrix with {step.shape[1]} columns acts on shape {tuple(shape)}; give one "
                "column an element, in C order"
            )

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


def _step(step: Any, owner: str, rows: arrays.Axes | None) -> Callable | np.ndarray | Any:
    if callable(step):
        return step
    if sparse.issparse(step):
        return arrays.keep(arrays.sparse_matrix(owner, "observe", step))
    shape = arrays.read(owner, "observe", step).values.shape
    if len(shape) < 2:
        raise ValueError(
            f"{owner}: observe must be a matrix, a sparse matrix, a function of a tensor or a list "
            f"of these; an array of shape {shape} was given"
        )
    if rows is not None and shape[0] != rows.size and not arrays.is_labelled(step):
        rows = None  # told with the output of the map
    return arrays.keep(arrays.matrix(owner, "observe", step, rows, None))


def _columns_axes(step: Any, owner: str, rows: arrays.Axes | None) -> arrays.Axes | None:
    """Return the labels of the columns of a step, which are those of the output it acts on."""
    if callable(step) or sparse.issparse(step):
        return None
    return arrays.columns_of(owner, "observe", step, rows)


def _stated(step: Any) -> str | None:
    return None if callable(step) or sparse.issparse(step) else _units.stated(step)
