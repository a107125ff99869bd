"""Tensor grids: the coordinates of a field."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from bayesjoint import _validate, arrays
from bayesjoint._kernels.differences import cell_widths
from bayesjoint._replace import Replaceable


@dataclass(frozen=True, eq=False, init=False)
class Grid(Replaceable):
    """Cell centres of a tensor grid in one to three dimensions.

    Parameters
    ----------
    **centres : array_like, DataArray, quantity, dates or time spans, shape (n,)
        Cell centres along each dimension, strictly increasing, spacing may vary.  The order of the
        keywords is the order of the axes of every field on the grid.

    Attributes
    ----------
    centres : mapping of dim to array of float
        As numbers; times are counted in seconds, dates since the first.
    labels : mapping of dim to array
        As they were given, for the coordinates of fields.
    units : mapping of dim to str
        Of the numbers, where they are stated.

    Raises
    ------
    ValueError
        When there are no or more than three dimensions, or centres are not strictly increasing.

    Examples
    --------
    >>> import numpy as np
    >>> import bayesjoint as bj
    >>> grid = bj.Grid(depth=np.array([5.0, 15.0, 40.0]), x=np.arange(0.0, 50.0, 10.0))
    >>> grid.dims, grid.shape, grid.size
    (('depth', 'x'), (3, 5), 15)
    """

    centres: Mapping[str, np.ndarray]
    labels: Mapping[str, np.ndarray]
    units: Mapping[str, str]
    frames: Mapping[str, arrays.Frame]

    def __init__(self, **centres: Any) -> None:
        if not 1 <= len(centres) <= 3:
            raise ValueError(f"Grid: one to three dimensions are needed, {len(centres)} given")
        frames = {name: arrays.frame_of(_subject(name), axis) for name, axis in centres.items()}
        numbers = {name: _axis(name, axis, frames[name]) for name, axis in centres.items()}
        labels = {name: _labels(axis, numbers[name]) for name, axis in centres.items()}
        units = {name: frame.units for name, frame in frames.items() if frame.units}
        for name, value in (
            ("centres", numbers), ("labels", labels), ("units", units), ("frames", frames)
        ):  # fmt: skip
            object.__setattr__(self, name, MappingProxyType(value))

    def _settings_given(self) -> dict[str, Any]:
        """Return the centres along each dimension, with their units where these are stated."""
        return {
            name: axis
            if self.frames[name].is_time or axis.dtype.kind == "m"
            else xr.DataArray(axis, dims=name, attrs={"units": self.units[name]})
            if name in self.units
            else axis
            for name, axis in self.labels.items()
        }

    def __reduce__(self):
        return (_make_grid, (self._settings_given(),))

    def axes(self, owner: str = "the grid") -> arrays.Axes:
        """Return the axes to which arrays on the grid are aligned."""
        labels = tuple(pd.Index(axis) for axis in self.labels.values())
        units = tuple(None if f.is_time else f.units for f in self.frames.values())
        return arrays.Axes(owner, self.dims, labels, self.shape, units)

    def coordinates(self) -> dict[str, xr.DataArray]:
        """Return the coordinates of fields on the grid, with their units where these are stated."""
        return {
            name: xr.DataArray(
                axis,
                dims=name,
                attrs={"units": self.units[name]} if axis.dtype.kind == "f" and name in self.units
                else {},
            )
            for name, axis in self.labels.items()
        }  # fmt: skip

    def in_frames(self, frames: Mapping[str, arrays.Frame]) -> "Grid":
        """Return the grid with its centres counted in other frames."""
        return Grid(**{
            name: xr.DataArray(
                arrays.coordinate(_subject(name), axis, frames[name]),
                dims=name, attrs={"units": frames[name].units} if frames[name].units else {},
            )
            for name, axis in self._settings_given().items()
        })  # fmt: skip

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the dimensions, in array order."""
        return tuple(self.centres)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of cells along each dimension."""
        return tuple(axis.size for axis in self.centres.values())

    @property
    def size(self) -> int:
        """Number of cells."""
        return int(np.prod(self.shape))

    @cached_property
    def widths(self) -> tuple[np.ndarray, ...]:
        """Cell widths along each dimension: cells meet midway between centres."""
        return tuple(cell_widths(axis) for axis in self.centres.values())

    @cached_property
    def extent(self) -> tuple[float, ...]:
        """Length of the grid along each dimension."""
        return tuple(float(width.sum()) for width in self.widths)

    @property
    def long_axes(self) -> tuple[int, ...]:
        """Axes along which there are two cells or more, so that a field has a gradient."""
        return tuple(axis for axis, size in enumerate(self.shape) if size > 1)

    @cached_property
    def volumes(self) -> np.ndarray:
        """Cell volumes (areas, lengths), in the shape of the grid."""
        return np.array(_outer(self.widths))


def _make_grid(centres: dict[str, Any]) -> Grid:
    return Grid(**centres)


def _subject(name: str) -> str:
    return f"Grid: {name!r}"


def _outer(widths: tuple[np.ndarray, ...]) -> np.ndarray:
    product = np.ones(())
    for width in widths:
        product = np.multiply.outer(product, width)
    return product


def _axis(name: str, axis: Any, frame: arrays.Frame) -> np.ndarray:
    _validate.require_name("Grid dimension", name)
    array = np.array(arrays.coordinate(_subject(name), axis, frame))
    if array.ndim != 1 or array.size == 0:
        raise ValueError(
            f"Grid: {name!r} must be a one-dimensional array of cell centres, shape {array.shape} "
            "given"
        )
    if not np.all(np.isfinite(array)) or not np.all(np.diff(array) > 0):
        raise ValueError(
            f"Grid: the cell centres {name!r} must be finite and strictly increasing; sort them"
        )
    array.setflags(write=False)
    return array


def _labels(axis: Any, numbers: np.ndarray) -> np.ndarray:
    """Return the labels of an axis: dates and time spans as they are, else its numbers."""
    raw = arrays.bare_coordinate("Grid", axis)
    return arrays.keep(np.array(raw)) if raw.dtype.kind in "mM" else numbers
