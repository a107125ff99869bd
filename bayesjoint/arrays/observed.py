"""Data of users, new ones and those that take their place."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy import sparse

from bayesjoint import units as _units
from bayesjoint.arrays.places import Axes, aligned
from bayesjoint.arrays.reading import as_array, read, unwrapped


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
    bare = unwrapped(value.data)
    whole = np.asarray(bare).dtype.kind in "iu" and not np.any(np.isnan(given.values))  # unmasked
    numbers = np.array(bare) if whole else given.values
    numbers = numbers.astype(numbers.dtype.newbyteorder("="), copy=False)
    numbers.setflags(write=False)
    coords = {
        name: coord if _units.of_quantity(coord.data) is None else _plain(coord)
        for name, coord in value.coords.items()
    }
    attrs = dict(value.attrs) | ({"units": given.units} if given.units else {})
    kept = xr.DataArray(numbers, coords, value.dims, value.name, attrs)
    kept = kept.copy(deep=True, data=numbers)
    for coord in kept.coords.values():
        if type(coord.variable.data) is np.ndarray and coord.variable.data.flags.owndata:
            coord.variable.data.setflags(write=False)
    return kept


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
        shape = read(owner, "the new data", value, missing=True).values.shape
        if shape != old.shape:
            raise ValueError(
                f"{owner}: {type(value).__name__} of shape {shape} given for data of shape "
                f"{old.shape}; give a DataArray with the dims {old.dims}"
            )
        value = xr.DataArray(value, dims=old.dims)
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


def real_and_imaginary(values: Any) -> Any:
    """Return the real and the imaginary parts of complex numbers, one after the other.

    Complex data become one modality with a dim ``part`` in front; a complex matrix that predicts
    them from real latents gets its imaginary rows below its real ones, in the same order.

    Parameters
    ----------
    values : DataArray, array or sparse matrix
        Complex.

    Returns
    -------
    DataArray, ndarray or sparse array
        Real.  Of a DataArray one with the dim ``part`` in front, labelled ``real`` and
        ``imaginary``, its own coordinates, name and attributes kept; of an array of shape (n, ...)
        one of shape (2 n, ...).

    Notes
    -----
    Circular complex noise of variance ``s^2 = E|e|^2`` has the sd ``s / sqrt(2)`` in each part,
    independent of each other.  Noise that is not circular is a `CorrelatedNoise` of the stacked
    data: the covariance of ``(Re e, Im e)`` is ``[[Re(C + P), Im(P - C)], [Im(C + P), Re(C - P)]]
    / 2`` with ``C = E e e^H`` and ``P = E e e^T`` (Schreier & Scharf 2010, Statistical Signal
    Processing of Complex-Valued Data, ch. 2).

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> import bayesjoint as bj
    >>> spectrum = xr.DataArray([1 + 2j, 3 - 1j], {"frequency": [0.1, 0.2]}, "frequency")
    >>> bj.real_and_imaginary(spectrum).values.tolist()
    [[1.0, 3.0], [2.0, -1.0]]
    >>> bj.real_and_imaginary(np.array([[1j], [2.0]])).tolist()
    [[0.0], [2.0], [1.0], [0.0]]
    """
    owner = "real_and_imaginary"
    if isinstance(values, xr.DataArray):
        bare, units = unwrapped(values.data), _units.stated(values)
        _require_numbers(owner, bare)
        values = values.copy(data=bare).assign_attrs({"units": units} if units else {})
        parts = [values.copy(data=part) for part in (values.data.real, values.data.imag)]
        dim = pd.Index(["real", "imaginary"], name="part")
        return xr.concat(parts, dim, combine_attrs="identical").astype(float)
    if isinstance(values, (pd.Series, pd.DataFrame)):
        return real_and_imaginary(xr.DataArray(values))
    if sparse.issparse(values):
        return sparse.csr_array(sparse.vstack([values.real, values.imag]))
    if _units.of_quantity(values) is not None:
        raise ValueError(
            f"{owner}: {type(values).__name__} given; give a DataArray of it, which keeps its units"
        )
    array = unwrapped(values)
    _require_numbers(owner, array)
    array = np.atleast_1d(array)
    return np.concatenate([array.real, array.imag]).astype(float)


def _require_numbers(owner: str, array: Any) -> None:
    """Raise unless an array holds numbers, complex or not, none of them masked."""
    kind = as_array(f"{owner}: what is given", array).dtype
    if kind.kind not in "cfiub":
        raise ValueError(
            f"{owner}: {type(array).__name__} of {kind} given; give an array of complex numbers"
        )
    if np.ma.is_masked(array):
        raise ValueError(f"{owner}: the array is masked in places; fill them with NaN")
