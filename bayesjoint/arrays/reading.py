"""What holds numbers, taken apart: the numbers, their labels and their units."""

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy import sparse

from bayesjoint import units as _units


@dataclass(frozen=True, eq=False)
class Given:
    """Plain numbers as a user gave them, with the labels and the units that came with them.

    Attributes
    ----------
    values : array of float
    dims : tuple of str, or None
        Names of the dimensions, where they have any.
    labels : list
        The labels along each dimension, None where it has none.
    label_units : list
        Their units.
    units : str or None
    """

    values: np.ndarray
    dims: tuple[str, ...] | None
    labels: tuple[pd.Index | None, ...]
    label_units: tuple[str | None, ...]
    units: str | None


def read(owner: str, what: str, value: Any, *, missing: bool = False) -> Given:
    """Return the numbers in what a user gave, with their labels and units.

    Parameters
    ----------
    owner, what : str
        The object and its setting, for messages, as ``"modality 'm'"`` and ``"sd"``.
    value : number, array, list, masked array, Series, DataFrame, DataArray, quantity or time
        A time span is counted in seconds.
    missing : bool
        Whether NaN and masked entries are told by NaN; refused by default.

    Raises
    ------
    ValueError
        When it holds no real numbers.
    """
    subject = f"{owner}: {what}"
    units = _units.stated(value)
    dims, labels, label_units, raw = _taken_apart(subject, value)
    numbers, counted = as_numbers(subject, raw, missing)
    if counted and units and not _units.compatible(units, counted):
        raise ValueError(
            f"{subject} holds time spans but states units {units!r}; drop the attribute"
        )
    return Given(numbers, dims, labels, label_units, counted or units)


def number(owner: str, what: str, value: Any, units: str | None = None) -> float:
    """Return one number in the wanted units.

    Raises
    ------
    ValueError
        When it is no real number, or its units cannot be converted.
    """
    if type(value) is float:
        return value
    given = read(owner, what, value)
    if given.values.ndim:
        raise ValueError(
            f"{owner}: {what} must be one number or a prior, an array of shape "
            f"{given.values.shape} given"
        )
    return float(converted(owner, what, given, units, differences=True).values)


def numbers(owner: str, what: str, values: Any, units: str | None = None) -> list[float]:
    """Return a list of numbers in the wanted units.

    Raises
    ------
    ValueError
        When they are no list of real numbers, or their units cannot be converted.
    """
    if isinstance(values, np.ndarray) or is_labelled(values):
        given = converted(owner, what, read(owner, what, values), units, differences=True)
        if given.values.ndim == 1:
            return [float(value) for value in given.values]
    elif isinstance(values, Iterable) and not isinstance(values, str | bytes | Mapping):
        try:
            each = list(values)
        except TypeError:  # a tensor
            each = [values]
        return [number(owner, what, value, units) for value in each]
    raise ValueError(f"{owner}: {what} must be a list of numbers, as [0.1, 0.2]")


def is_labelled(value: Any) -> bool:
    """Return whether an array comes with labels, names of dims or units."""
    kinds = (xr.DataArray, pd.Series, pd.DataFrame)
    return isinstance(value, kinds) or _units.of_quantity(value) is not None


def is_tensor(value: Any) -> bool:
    """Return whether it is a tensor of PyTensor, asked without importing that."""
    kinds = type(value).__mro__
    return any(k.__module__ == "pytensor.graph.basic" and k.__name__ == "Variable" for k in kinds)


def _taken_apart(subject: str, value: Any) -> tuple:
    """Return dims, labels, units of labels and the bare array."""
    if isinstance(value, xr.DataArray):
        dims = tuple(str(dim) for dim in value.dims)
        labels = tuple(index_of(value, dim) for dim in value.dims)
        stated = tuple(_units.stated(value[d]) if d in value.coords else None for d in value.dims)
        return dims, labels, stated, unwrapped(value.data)
    if isinstance(value, pd.Series):
        return None, (_meant(value.index),), (None,), value.to_numpy()
    if isinstance(value, pd.DataFrame):
        indexes = (_meant(value.index), _meant(value.columns))
        return None, indexes, (None, None), value.to_numpy()
    if isinstance(value, (xr.Dataset, xr.DataTree, Mapping)):
        raise ValueError(
            f"{subject} is a {type(value).__name__}; give numbers, an array or an xarray.DataArray"
        )
    if sparse.issparse(value):
        value = value.toarray()
    raw = unwrapped(value)
    raw = raw if isinstance(raw, np.ma.MaskedArray) else as_array(subject, raw)
    count = raw.ndim
    return None, (None,) * count, (None,) * count, raw


def as_array(subject: str, value: Any) -> np.ndarray:
    """Return an array of anything that NumPy can read as one.

    Raises
    ------
    ValueError
        When it cannot: for ragged lists, datasets, tensors, and what fails in a way of its own.
    """
    if isinstance(value, np.ndarray):
        return value.data if isinstance(value, np.ma.MaskedArray) else np.asarray(value)
    if is_tensor(value):  # it would be read without end
        raise ValueError(f"{subject} is a tensor of PyTensor; give numbers")
    try:
        return np.asarray(value)
    except Exception as error:  # whatever the conversion of another library raises
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "inhomogeneous" in told:  # NumPy's word for it
            told = "its rows have different lengths"
        raise ValueError(
            f"{subject} is a {type(value).__name__}, no array of numbers: {told}; give numbers"
        ) from None


def unwrapped(value: Any) -> Any:
    """Return the array inside a quantity or a lazy array; a time span as NumPy has it."""
    if _units.of_quantity(value) is not None:
        value = value.magnitude
    if hasattr(type(value), "compute") and hasattr(type(value), "dask"):
        value = value.compute()
    if value is pd.NaT:
        return np.datetime64("NaT", "s")
    if isinstance(value, datetime.timedelta):
        return pd.Timedelta(value).to_timedelta64()
    if isinstance(value, (datetime.datetime, pd.Timestamp)):
        return np.datetime64(naive(pd.Timestamp(value)))
    return value


def as_numbers(subject: str, raw: Any, missing: bool) -> tuple[np.ndarray, str | None]:
    """Return a new array of double precision, and the units in which time spans were counted."""
    mask = np.ma.getmaskarray(raw) if isinstance(raw, np.ma.MaskedArray) else None
    if mask is not None and mask.any() and not missing:
        raise ValueError(f"{subject} is masked in {mask.sum()} of {mask.size} places; fill them")
    array = as_array(subject, raw)
    counted = None
    if array.dtype.kind == "m":
        array, counted = _in_seconds(subject, array), _units.SECONDS
    elif array.dtype.kind == "M":
        raise ValueError(
            f"{subject} holds dates, which are no numbers; subtract a date: times - times[0]"
        )
    elif array.dtype.kind == "c":
        raise ValueError(
            f"{subject}: these are complex numbers, whose imaginary part would be lost; stack both "
            "parts with bj.real_and_imaginary(...), or give the modulus or the real part"
        )
    elif array.dtype.kind not in "fiub":
        array = _of_objects(subject, array)
    numbers = np.array(array, dtype=float)
    if mask is not None:
        numbers[mask] = np.nan
    return numbers, counted


def _of_objects(subject: str, array: np.ndarray) -> np.ndarray:
    """Return numbers that came as Python objects; text and other things raise."""
    kinds = {type(x) for x in array.ravel().tolist()}
    wrong = [k.__name__ for k in kinds if issubclass(k, (str, bytes, complex, dict))]
    try:
        if wrong:
            raise TypeError
        if kinds and all(issubclass(k, datetime.timedelta) for k in kinds):
            return _in_seconds(subject, array.astype("timedelta64[ns]"))
        return array.astype(float)
    except (TypeError, ValueError, OverflowError):
        found = ", ".join(sorted(wrong or [k.__name__ for k in kinds]))
        shown = f" ({array.item()!r})" if array.ndim == 0 else ""
        shown = shown if len(shown) < 80 else ""
        raise ValueError(f"{subject} is {found}{shown}; give real numbers") from None


def _in_seconds(subject: str, array: np.ndarray) -> np.ndarray:
    """Return time spans in seconds, NaN where there is none."""
    try:
        return array / np.timedelta64(1, "s")
    except TypeError:
        raise ValueError(
            f"{subject}: months, years and time spans without a unit have no length in seconds; "
            "give days or seconds"
        ) from None


def _meant(index: pd.Index) -> pd.Index | None:
    """Return the labels of a pandas axis; the default numbering of rows is no label."""
    default = isinstance(index, pd.RangeIndex) and index.start == 0 and index.step == 1
    return None if default and index.name is None else index


def index_of(data: xr.DataArray, dim: Any) -> pd.Index | None:
    """Return the labels along a dim, None where it has none."""
    return data.indexes[dim] if dim in data.indexes else None


def in_levels_of(index: pd.Index, wanted: pd.Index) -> pd.Index:
    """Return labels of several levels with these in the order of another place, by their names."""
    if not (isinstance(index, pd.MultiIndex) and isinstance(wanted, pd.MultiIndex)):
        return index
    names = list(wanted.names)
    known = None not in names and len(set(names)) == len(names)
    if known and names != list(index.names) and set(names) == set(index.names):
        return index.reorder_levels(names)
    return index


def comparable(index: pd.Index) -> pd.Index:
    """Return labels that can be compared: dates with a time zone as those of Greenwich."""
    if isinstance(index, pd.DatetimeIndex) and index.tz is not None:
        return index.tz_convert("UTC").tz_localize(None)
    if index.dtype == object and len(index) and isinstance(index[0], pd.Timestamp):
        return comparable(pd.DatetimeIndex(index))
    return index


def naive(stamp: pd.Timestamp) -> pd.Timestamp:
    """Return a date without a time zone: that of Greenwich."""
    return stamp if stamp.tz is None else stamp.tz_convert("UTC").tz_localize(None)


def converted(
    owner: str, what: str, given: Given, units: str | None, differences: bool = False
) -> Given:
    """Return numbers in the wanted units."""
    change = _units.conversion(
        f"{owner}: {what} is in {{}}, but {{}} is needed", given.units, units,
        "convert it, or leave its units out",
    )  # fmt: skip
    if change.is_identity:
        return given
    values = change.of_differences(given.values) if differences else change(given.values)
    return Given(values, given.dims, given.labels, given.label_units, units)
