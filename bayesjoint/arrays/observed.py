"""Data of users, new ones and those that take their place."""

from typing import Any

import numpy as np
import xarray as xr

from bayesjoint import units as _units
from bayesjoint.arrays.places import Axes, aligned
from bayesjoint.arrays.reading import read, unwrapped


def data(owner: str, value: xr.DataArray) -> xr.DataArray:
    """Return data as plain real numbers that nobody else can change, with their own labels.

    Time spans become seconds, quantities numbers with ``attrs["units"]``; masked entries and NaT
    become NaN.

    Raises
    ------
    ValueError
        When they hold no real numbers, or a dim has no name.
    """
    if strange := [dim for dim in value.dims if not isinstance(dim, str)]:
        raise ValueError(
            f"{owner}: the dim {strange[0]!r} is no text; rename it, as in "
            f'data.rename({{{strange[0]!r}: "station"}})'
        )
    given = read(owner, "the data", value, missing=True)
    whole = np.asarray(unwrapped(value.data)).dtype.kind in "iu"
    numbers = np.array(unwrapped(value.data)) if whole else given.values
    numbers = numbers.astype(numbers.dtype.newbyteorder("="), copy=False)
    numbers.setflags(write=False)
    coords = {
        name: coord if _units.of_quantity(coord.data) is None else _plain(coord)
        for name, coord in value.coords.items()
    }
    attrs = dict(value.attrs) | ({"units": given.units} if given.units else {})
    kept = xr.DataArray(numbers, coords, value.dims, value.name, attrs)
    return kept.copy(deep=True, data=numbers)


def _plain(coord: xr.DataArray) -> xr.DataArray:
    """Return a coordinate of quantities as numbers that state their units."""
    attrs = dict(coord.attrs) | {"units": _units.of_quantity(coord.data)}
    return xr.DataArray(coord.data.magnitude, dims=coord.dims, attrs=attrs)


def observations(owner: str, value: Any, old: xr.DataArray) -> xr.DataArray:
    """Return other data in the place of old ones: in their order, units and shape.

    Raises
    ------
    ValueError
        When they have other labels, another shape, or units that cannot be converted.
    """
    if not isinstance(value, xr.DataArray):
        value = xr.DataArray(value, dims=old.dims) if np.shape(value) == old.shape else value
    if not isinstance(value, xr.DataArray):
        raise ValueError(
            f"{owner}: {type(value).__name__} of shape {np.shape(value)} given for data of shape "
            f"{old.shape}; give a DataArray with the dims {old.dims}"
        )
    new, units = data(owner, value), _units.stated(old)
    axes = Axes.of(old, "the old ones")
    numbers = aligned(
        owner, "the new data", new, axes, units=units, missing=True, exact=True, broadcast=False
    )
    if new.dtype.kind in "iu" and np.array_equal(numbers, np.round(numbers)):
        numbers = numbers.astype(new.dtype)
    attrs = {**old.attrs, **{k: v for k, v in new.attrs.items() if k != "units" or not units}}
    numbers.setflags(write=False)
    return old.copy(data=numbers).assign_attrs(attrs)
