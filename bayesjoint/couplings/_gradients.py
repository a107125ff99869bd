"""Gradients of fields on a tensor grid, as tensors or as arrays."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytensor.tensor as pt

from bayesjoint._kernels.differences import mixtures, neighbours, one_sided_slopes
from bayesjoint._kernels.matern import MaternFactor
from bayesjoint.grids import Grid

Constant = Callable[[str, np.ndarray], Any]
Part = tuple[np.ndarray, np.ndarray | None]  # matrix along the axis, weights of the cells


def global_length(grid: Grid) -> float:
    """Return the geometric mean extent of the grid, which makes gradients dimensionless.

    Over dimensions of two cells or more; along others there is no gradient.
    """
    extent = [grid.extent[axis] for axis in grid.long_axes]
    return float(np.prod(extent) ** (1.0 / len(extent)))


class Slopes:
    """Components of the gradient in every cell, times the global length.

    Squares of all components add up to the squared gradient of the cell in the form asked for:
    one component a dimension of two cells or more, or in the face form two.

    Parameters
    ----------
    grid : Grid
    form : {"forward", "central", "face", "ahead"}
    inside : ndarray of bool, shape of the grid, optional
        Cells that take part; a difference that reaches another one is not formed.
    """

    def __init__(self, grid: Grid, form: str, inside: np.ndarray | None = None) -> None:
        self._shape = grid.shape
        self._terms = [
            (axis, grid.dims[axis], component)
            for axis in grid.long_axes
            for component in (
                _whole(grid, form, axis) if inside is None else _within(grid, form, axis, inside)
            )
        ]

    def tensors(self, constant: Constant, values: Any) -> list[Any]:
        """Return the components of a tensor; ``constant`` puts named arrays into the graph."""
        return self._components(values, constant, pt)

    def arrays(self, values: np.ndarray) -> list[np.ndarray]:
        """Return the components of an array."""
        return self._components(values, lambda name, array: array, np)

    @property
    def formed(self) -> np.ndarray:
        """How many components each cell has, in the shape of the grid."""
        total = np.zeros(self._shape, dtype=int)
        for axis, _, component in self._terms:
            total += np.any([_formed(part, axis, self._shape) for part in component], axis=0)
        return total

    def _components(self, values: Any, constant: Constant, xp: Any) -> list[Any]:
        return [
            sum(_slope(part, axis, dim, values, constant, xp) for part in component)
            for axis, dim, component in self._terms
        ]


def _slope(part: Part, axis: int, dim: str, values: Any, constant: Constant, xp: Any):
    matrix, weight = part
    product = xp.tensordot(constant(f"slope_{dim}", matrix), values, [[1], [axis]])
    slope = xp.moveaxis(product, 0, axis)
    return slope if weight is None else constant(f"slope_weight_{dim}", weight) * slope


def _formed(part: Part, axis: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return the cells in which a part is not zero whatever the field."""
    matrix, weight = part
    along = matrix.any(axis=1).reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return np.broadcast_to(along if weight is None else along & (weight != 0), shape)


def _whole(grid: Grid, form: str, axis: int) -> list[list[Part]]:
    """Return components along an axis where every cell takes part: one matrix each."""
    centres = grid.centres[grid.dims[axis]]
    sides = neighbours(np.ones(centres.size, dtype=bool), 0)
    pairs = mixtures(form, *sides, _steps(centres))
    return [
        [(sum(w[:, None] * m for w, m in zip(pair, _sides(grid, axis), strict=True)), None)]
        for pair in pairs
    ]


def _within(grid: Grid, form: str, axis: int, inside: np.ndarray) -> list[list[Part]]:
    """Return components along an axis within some cells: matrices, and weights of the cells."""
    shape = [-1 if i == axis else 1 for i in range(inside.ndim)]
    before, after = (step.reshape(shape) for step in _steps(grid.centres[grid.dims[axis]]))
    pairs = mixtures(form, *neighbours(inside, axis), (before, after))
    return [
        [(m, w) for w, m in zip(pair, _sides(grid, axis), strict=True) if np.any(w)]
        or [(_sides(grid, axis)[0], pair[0])]
        for pair in pairs
    ]


def _sides(grid: Grid, axis: int) -> list[np.ndarray]:
    length = global_length(grid)
    return [length * side for side in one_sided_slopes(grid.centres[grid.dims[axis]])]


def _steps(centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.diff(centres, prepend=np.nan), np.diff(centres, append=np.nan)


def prior_slope_rms(field: Any) -> float:
    """Return the prior root mean square of a field's gradient times the global length.

    Forward differences, over all cells that have them; in units of the field.
    """
    factor, grid = field.factor({}), field.grid
    total = 0.0
    for axis in grid.long_axes:
        shape = [-1 if i == axis else 1 for i in range(len(grid.dims))]
        steps = np.diff(grid.centres[grid.dims[axis]]).reshape(shape)
        total += float(np.mean(_step_variance(factor, grid.shape, axis) / steps**2))
    return global_length(grid) * float(np.sqrt(total))


def _step_variance(factor: Any, shape: tuple[int, ...], axis: int) -> np.ndarray:
    """Return prior variances of the differences between neighbours along an axis."""
    if isinstance(factor, MaternFactor):
        return 2.0 * (factor.sd**2 - factor.next_covariance(axis))
    rows = factor.times(np.eye(int(np.prod(shape)))).reshape(*shape, -1)
    return np.sum(np.diff(rows, axis=axis) ** 2, axis=-1)
