"""Where numbers belong: axes with labels, and arrays brought into their order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from bayesjoint import units as _units
from bayesjoint.arrays.labels import _matched, in_units_of, shown
from bayesjoint.arrays.reading import (
    Given,
    as_array,
    converted,
    in_levels_of,
    index_of,
    read,
    unwrapped,
)


@dataclass(frozen=True, eq=False)
class Axes:
    """The dimensions of a place where numbers belong, with their labels.

    Attributes
    ----------
    owner : str
        Whose they are, for messages, as ``"the data"``.
    dims : tuple of str
    labels : list
        Labels along each dimension, None where it has none.
    sizes : tuple of int
    label_units : list
        Units of the labels, where they are stated.
    """

    owner: str
    dims: tuple[str, ...]
    labels: tuple[pd.Index | None, ...]
    sizes: tuple[int, ...]
    label_units: tuple[str | None, ...]

    @classmethod
    def of(cls, data: xr.DataArray, owner: str = "the data") -> "Axes":
        """Return the axes of labelled data."""
        dims = tuple(str(dim) for dim in data.dims)
        labels = tuple(index_of(data, dim) for dim in data.dims)
        units = tuple(_units.stated(data[d]) if d in data.coords else None for d in data.dims)
        return cls(owner, dims, labels, data.shape, units)

    @classmethod
    def named(cls, dim: str, labels: Sequence[Any], owner: str) -> "Axes":
        """Return one axis with labels."""
        return cls(owner, (dim,), (pd.Index(labels),), (len(labels),), (None,))

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of labels along each dimension."""
        return self.sizes

    @property
    def size(self) -> int:
        """Number of places."""
        return int(np.prod(self.sizes))

    def part(self, dims: Sequence[str]) -> "Axes":
        """Return some of the axes, in the order asked for."""
        at = [self.dims.index(dim) for dim in dims]
        return Axes(
            self.owner, tuple(dims),
            tuple(self.labels[i] for i in at), tuple(self.sizes[i] for i in at),
            tuple(self.label_units[i] for i in at),
        )  # fmt: skip


def aligned(
    owner: str,
    what: str,
    value: Any,
    axes: Axes,
    *,
    units: str | None = None,
    differences: bool = False,
    missing: bool = False,
    exact: bool = False,
    broadcast: bool = True,
    trailing: bool = False,
) -> np.ndarray:
    """Return an array in the shape, order and units of the place where it belongs.

    Labels decide where both sides have them, else the position.

    Parameters
    ----------
    owner, what : str
        The object and its setting, for messages.
    value : array_like
        Of the shape of the axes, or of some of them where its dims are named or it broadcasts.
    axes : Axes
    units : str, optional
        Wanted; nothing is converted where they are not stated on either side.
    differences : bool
        Whether the numbers are differences or standard deviations, which an offset between units
        leaves as they are.
    missing : bool
        Whether NaN is allowed.
    exact : bool
        Whether labels that the axes do not have raise; by default they are left out.
    broadcast : bool
        Whether a number, or fewer dims that are named, will do.
    trailing : bool
        Whether a bare array of the last dims will do, as NumPy has it.

    Raises
    ------
    ValueError
        When dims, labels, the shape or units do not fit, naming them.
    """
    given = read(owner, what, value, missing=missing)
    given = converted(owner, what, given, units, differences=differences)
    dims = _dims_of(owner, what, given, axes, broadcast, trailing)
    array = given.values
    for axis, dim in enumerate(dims):
        target = axes.dims.index(dim)
        array = taken(
            f"{owner}: {what}", array, axis, given.labels[axis], given.label_units[axis],
            axes, target, exact,
        )  # fmt: skip
    order = [dims.index(dim) for dim in axes.dims if dim in dims]
    array = np.transpose(array, order)
    shape = [size if dim in dims else 1 for dim, size in zip(axes.dims, axes.sizes, strict=True)]
    return np.array(np.broadcast_to(array.reshape(shape), axes.sizes))


def mask(owner: str, what: str, value: Any, axes: Axes) -> np.ndarray:
    """Return True or False for each place, in the shape and order of the axes.

    Raises
    ------
    ValueError
        When it is not of True and False, or does not fit.
    """
    bare = as_array(f"{owner}: the {what}", unwrapped(
        value.data if isinstance(value, xr.DataArray) else value
    ))  # fmt: skip
    if bare.dtype.kind != "b":
        raise ValueError(
            f"{owner}: the {what} must be True or False, {bare.dtype} given; numbers go into weight"
        )
    return aligned(owner, f"the {what}", value, axes, broadcast=False) > 0.5


def _dims_of(
    owner: str, what: str, given: Given, axes: Axes, broadcast: bool, trailing: bool
) -> tuple[str, ...]:
    """Return the dim of the axes that each dimension of an array belongs to."""
    shape, count = given.values.shape, given.values.ndim
    if given.dims is not None:
        strange = [dim for dim in given.dims if dim not in axes.dims]
        lacking = [] if broadcast else [dim for dim in axes.dims if dim not in given.dims]
        if strange or lacking:
            raise ValueError(
                f"{owner}: {what}: an array with the dims {given.dims} given for {axes.owner} with "
                f"the dims {axes.dims}; rename, select or average them so that they agree"
            )
        return given.dims
    if count == 0 and broadcast:
        return ()
    fits = shape == axes.sizes or (
        trailing and count < len(axes.dims) and shape == axes.sizes[len(axes.dims) - count :]
    )
    has_labels = any(label is not None for label in given.labels)
    if count == len(axes.dims) and has_labels:
        return axes.dims
    if not fits:
        raise ValueError(
            f"{owner}: {what}: an array of shape {shape} given for {axes.owner} of shape "
            f"{axes.sizes}"
            + (f" and dims {axes.dims}" if axes.dims else "")
            + ("; give one number, or one for each" if broadcast else "; they must agree")
        )
    return axes.dims[len(axes.dims) - count :]


def taken(
    subject: str,
    array: np.ndarray,
    axis: int,
    labels: pd.Index | None,
    label_units: str | None,
    axes: Axes,
    target: int,
    exact: bool,
) -> np.ndarray:
    """Return an array with one axis in the order of the labels of its place."""
    dim, wanted, size = axes.dims[target], axes.labels[target], axes.sizes[target]
    if labels is None or wanted is None:
        if array.shape[axis] != size:
            raise ValueError(
                f"{subject}: an array of shape {array.shape} given, {array.shape[axis]} along "
                f"{dim!r} for {size} of {axes.owner}; give one for each, or label both"
            )
        return array
    where = positions(f"{subject} along {dim!r}", labels, label_units, axes, target, exact)
    return array if where is None else np.take(array, where, axis=axis)


def positions(
    subject: str,
    labels: pd.Index,
    label_units: str | None,
    axes: Axes,
    target: int,
    exact: bool = False,
) -> np.ndarray | None:
    """Return where the labels of a place stand among those given; None where all are in place."""
    wanted = axes.labels[target]
    assert wanted is not None
    labels = in_units_of(subject, labels, label_units, axes.label_units[target])
    labels = in_levels_of(labels, wanted)
    if len(labels) == len(wanted) and labels.equals(wanted):
        return None
    for index, whose in ((labels, "its"), (wanted, f"{axes.owner}'s")):
        if not index.is_unique:
            raise ValueError(
                f"{subject}: {whose} label {shown(index[index.duplicated()][0])} occurs twice, so "
                "that labels cannot be matched; make them unique, or give bare arrays in one order"
            )
    where = _matched(labels, wanted)
    if (lost := where < 0).any():
        raise ValueError(
            f"{subject}: {lost.sum()} of {len(wanted)} labels of {axes.owner} are not there, the "
            f"first is {shown(wanted[int(np.argmax(lost))])}; give it the labels of {axes.owner}"
        )
    if exact and len(labels) > len(wanted):
        others = np.setdiff1d(np.arange(len(labels)), where)
        raise ValueError(
            f"{subject}: it has {len(others)} labels that {axes.owner} lacks, the first is "
            f"{shown(labels[int(others[0])])}; select those of {axes.owner}"
        )
    return where
