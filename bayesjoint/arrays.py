"""The door through which every array of a user enters: by its labels, in the wanted units.

`read` takes whatever holds numbers (numbers, lists, NumPy, masked, pandas, xarray, pint, dask,
times) and returns plain numbers with the labels and units that came with them, or says why it
cannot.  `aligned` and `matrix` bring them into the order and units of the place where they belong.
What a user gave is copied, so that changing it afterwards changes nothing.
"""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy import sparse

from bayesjoint import units as _units

SAME_PLACE = 1e-6  # of the distance to the next label: two coordinates that are nearer are one
PACKAGE = (str(Path(__file__).parent),)  # warnings point at the caller's line, not at one in here
LARGEST_INTEGER = 2**53  # beyond, not every whole number is a floating-point number


# ---- what a user gives -------------------------------------------------------------------------


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
        labels = tuple(_index(data, dim) for dim in data.dims)
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
    numbers, counted = _numbers(subject, raw, missing)
    if counted and units and not _units.compatible(units, counted):
        raise ValueError(
            f"{subject} holds time spans but states units {units!r}; drop the attribute"
        )
    return Given(numbers, dims, labels, label_units, counted or units)


def _taken_apart(subject: str, value: Any) -> tuple:
    """Return dims, labels, units of labels and the bare array."""
    if isinstance(value, xr.DataArray):
        dims = tuple(str(dim) for dim in value.dims)
        labels = tuple(_index(value, dim) for dim in value.dims)
        stated = tuple(_units.stated(value[d]) if d in value.coords else None for d in value.dims)
        return dims, labels, stated, _bare(value.data)
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
    raw = _bare(value)
    count = np.ndim(raw)
    return None, (None,) * count, (None,) * count, raw


def _bare(value: Any) -> Any:
    """Return the array inside a quantity or a lazy array; a time span as NumPy has it."""
    if _units.of_quantity(value) is not None:
        value = value.magnitude
    if hasattr(value, "compute") and hasattr(value, "dask"):
        value = value.compute()
    if isinstance(value, datetime.timedelta):
        return pd.Timedelta(value).to_timedelta64()
    if isinstance(value, (datetime.datetime, pd.Timestamp)):
        return np.datetime64(_naive(pd.Timestamp(value)))
    return value


def _numbers(subject: str, raw: Any, missing: bool) -> tuple[np.ndarray, str | None]:
    """Return a new array of double precision, and the units in which time spans were counted."""
    mask = np.ma.getmaskarray(raw) if isinstance(raw, np.ma.MaskedArray) else None
    if mask is not None and mask.any() and not missing:
        raise ValueError(f"{subject} is masked in {mask.sum()} of {mask.size} places; fill them")
    try:
        array = np.asarray(raw.data if mask is not None else raw)
    except ValueError as error:
        raise ValueError(f"{subject} is no array of numbers: {error}") from None
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
    except (TypeError, ValueError):
        found = ", ".join(sorted(wrong or [k.__name__ for k in kinds]))
        shown = f" ({array.item()!r})" if array.ndim == 0 else ""
        raise ValueError(f"{subject} is {found}{shown}; give real numbers") from None


def _in_seconds(subject: str, array: np.ndarray) -> np.ndarray:
    """Return time spans in seconds, NaN where there is none."""
    try:
        return array / np.timedelta64(1, "s")
    except TypeError:
        raise ValueError(
            f"{subject}: months and years have no fixed length; give days or seconds"
        ) from None


# ---- coordinates -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Frame:
    """In which numbers a coordinate is counted.

    Attributes
    ----------
    units : str or None
    since : numpy.datetime64 or None
        From which date on, where the coordinate is one of dates.
    """

    units: str | None = None
    since: Any = None

    @property
    def is_time(self) -> bool:
        """Whether it counts dates."""
        return self.since is not None


def frame_of(subject: str, value: Any) -> Frame:
    """Return the frame in which a coordinate is stated: dates in seconds since the first."""
    raw = bare_coordinate(subject, value)
    if raw.dtype.kind == "M":
        known = raw[~np.isnat(raw)]
        return Frame(_units.SECONDS, known.min() if known.size else np.datetime64(0, "s"))
    if raw.dtype.kind == "m":
        return Frame(_units.SECONDS)
    return Frame(_units.stated(value))


def coordinate(subject: str, value: Any, frame: Frame | None = None) -> np.ndarray:
    """Return a coordinate as numbers in a frame; its own where none is given.

    Raises
    ------
    ValueError
        When it is neither numbers nor times, or its units cannot be converted.
    """
    raw = bare_coordinate(subject, value)
    frame = frame_of(subject, value) if frame is None else frame
    if (raw.dtype.kind == "M") != frame.is_time:
        here, there = ("dates", "numbers") if raw.dtype.kind == "M" else ("numbers", "dates")
        raise ValueError(f"{subject} holds {here}, where {there} are needed; give all alike")
    units: str | None = _units.SECONDS
    if raw.dtype.kind == "M":
        numbers = (raw - frame.since) / np.timedelta64(1, "s")
    else:
        numbers, counted = _numbers(subject, raw, True)
        units = counted or _units.stated(value)
    change = _units.conversion(
        f"{subject} is in {{}}, but {{}} is needed", units, frame.units, "convert it"
    )
    return np.asarray(change(numbers), dtype=float)


def bare_coordinate(subject: str, value: Any) -> np.ndarray:
    """Return the bare array of a coordinate; dates with a time zone are those of Greenwich."""
    if isinstance(value, (xr.DataArray, xr.Variable)):
        value = value.data
    if isinstance(value, pd.Series):
        value = value.array if value.dtype == object else pd.Index(value)
    if isinstance(value, pd.DatetimeIndex):
        value = _comparable(value).to_numpy()
    raw = np.asarray(_bare(value))
    if raw.dtype.kind == "O" and raw.size:
        first = raw.ravel()[0]
        if isinstance(first, (datetime.datetime, pd.Timestamp)):
            stamps = [_naive(pd.Timestamp(x)) for x in raw.ravel()]
            return np.array(stamps, dtype="datetime64[ns]").reshape(raw.shape)
        if isinstance(first, datetime.timedelta):
            return raw.astype("timedelta64[ns]")
        if hasattr(first, "calendar"):  # dates of another calendar, which cftime subtracts
            raise ValueError(
                f"{subject} holds dates of the calendar {first.calendar!r}; convert them, as with "
                "data.convert_calendar('standard', use_cftime=False)"
            )
    if raw.dtype.kind in "USO" or raw.dtype.kind == "c":
        kind = "complex" if raw.dtype.kind == "c" else "not numeric"
        raise ValueError(f"{subject} is {kind}; give numbers or times")
    return raw


def _index(data: xr.DataArray, dim: Any) -> pd.Index | None:
    """Return the labels along a dim, None where it has none."""
    return data.indexes[dim] if dim in data.indexes else None


def _meant(index: pd.Index) -> pd.Index | None:
    """Return the labels of a pandas axis; the default numbering of rows is no label."""
    default = isinstance(index, pd.RangeIndex) and index.start == 0 and index.step == 1
    return None if default and index.name is None else index


# ---- where it belongs --------------------------------------------------------------------------


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
    return float(_converted(owner, what, given, units, differences=True).values)


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
    given = _converted(owner, what, given, units, differences=differences)
    dims = _dims_of(owner, what, given, axes, broadcast, trailing)
    array = given.values
    for axis, dim in enumerate(dims):
        target = axes.dims.index(dim)
        array = _taken(
            f"{owner}: {what}", array, axis, given.labels[axis], given.label_units[axis],
            axes, target, exact,
        )  # fmt: skip
    order = [dims.index(dim) for dim in axes.dims if dim in dims]
    array = np.transpose(array, order)
    shape = [size if dim in dims else 1 for dim, size in zip(axes.dims, axes.sizes, strict=True)]
    return np.array(np.broadcast_to(array.reshape(shape), axes.sizes))


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
            f"{owner}: {what}: an array of shape {shape} given for {axes.owner} of shape {axes.sizes}"
            + (f" and dims {axes.dims}" if axes.dims else "")
            + ("; give one number, or one for each" if broadcast else "; they must agree")
        )
    return axes.dims[len(axes.dims) - count :]


def _taken(
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
    labels = _in_units_of(subject, labels, label_units, axes.label_units[target])
    if len(labels) == len(wanted) and labels.equals(wanted):
        return None
    for index, whose in ((labels, "its"), (wanted, f"{axes.owner}'s")):
        if not index.is_unique:
            raise ValueError(
                f"{subject}: {whose} label {_shown(index[index.duplicated()][0])} occurs twice, so that "
                "labels cannot be matched; make them unique, or give bare arrays in one order"
            )
    where = _matched(labels, wanted)
    if (lost := where < 0).any():
        raise ValueError(
            f"{subject}: {lost.sum()} of {len(wanted)} labels of {axes.owner} are not there, the "
            f"first is {_shown(wanted[int(np.argmax(lost))])}; give it the labels of {axes.owner}"
        )
    if exact and len(labels) > len(wanted):
        others = np.setdiff1d(np.arange(len(labels)), where)
        raise ValueError(
            f"{subject}: it has {len(others)} labels that {axes.owner} lacks, the first is "
            f"{_shown(labels[int(others[0])])}; select those of {axes.owner}"
        )
    return where


def _shown(label: Any) -> str:
    return repr(label.item() if isinstance(label, np.generic) else label)


def matched(
    subject: str, labels: pd.Index, given: str | None, wanted: pd.Index, units: str | None
) -> np.ndarray:
    """Return the position of each wanted label among those given, -1 where it is missing."""
    return _matched(_in_units_of(subject, labels, given, units), wanted)


def _in_units_of(subject: str, labels: pd.Index, given: str | None, wanted: str | None) -> pd.Index:
    if not pd.api.types.is_numeric_dtype(labels.dtype):
        return labels
    change = _units.conversion(
        f"{subject}: its labels are in {{}}, those of its place in {{}}", given, wanted,
        "convert one of them",
    )  # fmt: skip
    return labels if change.is_identity else pd.Index(change(labels.to_numpy(dtype=float)))


def _matched(labels: pd.Index, wanted: pd.Index) -> np.ndarray:
    """Return the position of each wanted label, -1 where it is missing.

    Numbers that are nearer than a millionth of the distance between labels are one.
    """
    numeric = all(pd.api.types.is_float_dtype(i.dtype) for i in (labels, wanted)) or (
        all(pd.api.types.is_numeric_dtype(i.dtype) for i in (labels, wanted))
        and any(pd.api.types.is_float_dtype(i.dtype) for i in (labels, wanted))
    )
    if not numeric:
        return np.asarray(_comparable(labels).get_indexer(_comparable(wanted)))
    there, sought = (i.to_numpy(dtype=float) for i in (labels, wanted))
    order = np.argsort(there)
    ranked = there[order]
    after = np.clip(np.searchsorted(ranked, sought), 0, len(ranked) - 1)
    before = np.maximum(after - 1, 0)
    nearer = np.abs(ranked[before] - sought) < np.abs(ranked[after] - sought)
    nearest = np.where(nearer, before, after)
    spacing = min((np.diff(np.sort(x)).min() for x in (there, sought) if len(x) > 1), default=0.0)
    within = np.maximum(SAME_PLACE * spacing, 4.0 * np.spacing(np.abs(sought)))
    return np.where(np.abs(ranked[nearest] - sought) <= within, order[nearest], -1)


def _comparable(index: pd.Index) -> pd.Index:
    """Return labels that can be compared: dates with a time zone as those of Greenwich."""
    if isinstance(index, pd.DatetimeIndex) and index.tz is not None:
        return index.tz_convert("UTC").tz_localize(None)
    if index.dtype == object and len(index) and isinstance(index[0], pd.Timestamp):
        return _comparable(pd.DatetimeIndex(index))
    return index


def _naive(stamp: pd.Timestamp) -> pd.Timestamp:
    return stamp if stamp.tz is None else stamp.tz_convert("UTC").tz_localize(None)


def matrix(
    owner: str,
    what: str,
    value: Any,
    rows: Axes | None,
    columns: Axes | None,
    *,
    units: str | None = None,
) -> np.ndarray:
    """Return a matrix with rows and columns in the order of the labels they belong to.

    Parameters
    ----------
    owner, what : str
        The object and its setting, for messages.
    value : array_like
        A matrix, or an array whose dims are those of the rows, then those of the columns.
    rows, columns : Axes or None
        None where any will do.
    units : str, optional
        Wanted.

    Returns
    -------
    ndarray, shape (size of ``rows``, size of ``columns``)
        Both in C order.

    Raises
    ------
    ValueError
        When labels, the shape or units do not fit, or an entry is not finite.
    """
    given = _converted(owner, what, read(owner, what, value), units)
    sides = matrix_sides(f"{owner}: {what}", given, rows, columns)
    array = np.transpose(given.values, [axis for side in sides for axis in side])
    axis, shape = 0, []
    for side, axes in zip(sides, (rows, columns), strict=True):
        for target, source in enumerate(side):
            if axes is not None and len(axes.dims) == len(side):
                array = _taken(
                    f"{owner}: {what}", array, axis, given.labels[source],
                    given.label_units[source], axes, target, False,
                )  # fmt: skip
            axis += 1
        shape.append(int(np.prod(array.shape[axis - len(side) : axis])))
    array = array.reshape(shape)
    wanted = tuple(n if a is None else a.size for n, a in zip(shape, (rows, columns), strict=True))
    if array.shape != wanted:
        raise ValueError(
            f"{owner}: {what}: a matrix of shape {array.shape} given where {wanted} is needed"
        )
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{owner}: {what} is not finite; look for NaN or infinity in it")
    return np.ascontiguousarray(array)


def matrix_sides(
    subject: str, given: Given, rows: Axes | None, columns: Axes | None
) -> tuple[list[int], list[int]]:
    """Return which dimensions of an array are its rows and which its columns.

    Named dims decide where they are those of the rows or the columns, else the order does: as many
    dimensions as the rows have, where the rest are the columns', or one of each.
    """
    count, dims = given.values.ndim, given.dims
    for axes, is_rows in ((columns, False), (rows, True)):
        if dims is None or axes is None or not axes.dims or not set(axes.dims) <= set(dims):
            continue
        own = [dims.index(dim) for dim in axes.dims]
        rest = [i for i in range(count) if i not in own]
        if rest:
            return (own, rest) if is_rows else (rest, own)
    if count == 2:
        return [0], [1]
    first = len(rows.dims) if rows is not None else count - len(columns.dims if columns else (0,))
    if not 0 < first < count or (columns is not None and count - first != len(columns.dims)):
        raise ValueError(
            f"{subject}: an array of shape {given.values.shape}"
            + (f" and dims {dims}" if dims else "")
            + " given"
            + "; a matrix is needed, one row a datum and one column an element in C order"
        )
    return list(range(first)), list(range(first, count))


def columns_of(owner: str, what: str, value: Any, rows: Axes | None) -> Axes | None:
    """Return the axes of the columns of a matrix with labels; None where it has none."""
    given = read(owner, what, value)
    _, side = matrix_sides(f"{owner}: {what}", given, rows, None)
    return _axes_of_side(f"{what} of {owner}", given, side)


def rows_of(owner: str, what: str, value: Any, columns: Axes) -> Axes | None:
    """Return the axes of the rows of a matrix with labels; None where it has none."""
    given = read(owner, what, value)
    side, _ = matrix_sides(f"{owner}: {what}", given, None, columns)
    return _axes_of_side(f"{what} of {owner}", given, side)


def _axes_of_side(owner: str, given: Given, side: list[int]) -> Axes | None:
    if all(given.labels[i] is None for i in side):
        return None
    dims = tuple(given.dims[i] if given.dims else f"axis {i}" for i in side)
    return Axes(
        owner, dims, tuple(given.labels[i] for i in side),
        tuple(given.values.shape[i] for i in side), tuple(given.label_units[i] for i in side),
    )  # fmt: skip


def sparse_matrix(owner: str, what: str, value: Any) -> Any:
    """Return a sparse matrix of real, finite numbers, by rows; it has no labels."""
    if value.dtype.kind not in "fiub":
        hint = "; stack its parts with bj.real_and_imaginary" if value.dtype.kind == "c" else ""
        raise ValueError(f"{owner}: {what} holds {value.dtype}; give real numbers{hint}")
    kept = sparse.csr_array(value, dtype=float, copy=True)
    if not np.all(np.isfinite(kept.data)):
        raise ValueError(f"{owner}: {what} is not finite; look for NaN or infinity in it")
    return kept


def is_labelled(value: Any) -> bool:
    """Return whether an array comes with labels, names of dims or units."""
    kinds = (xr.DataArray, pd.Series, pd.DataFrame)
    return isinstance(value, kinds) or _units.of_quantity(value) is not None


def _converted(
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
    whole = np.asarray(_bare(value.data)).dtype.kind in "iu"
    numbers = np.array(_bare(value.data)) if whole else given.values
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


def mask(owner: str, what: str, value: Any, axes: Axes) -> np.ndarray:
    """Return True or False for each place, in the shape and order of the axes.

    Raises
    ------
    ValueError
        When it is not of True and False, or does not fit.
    """
    bare = np.asarray(_bare(value.data if isinstance(value, xr.DataArray) else value))
    if bare.dtype.kind != "b":
        raise ValueError(
            f"{owner}: the {what} must be True or False, {bare.dtype} given; numbers go into weight"
        )
    return aligned(owner, f"the {what}", value, axes, broadcast=False) > 0.5


# ---- keeping -----------------------------------------------------------------------------------


def keep(value: Any) -> Any:
    """Return a copy of the arrays in a setting that nobody else can change; the rest as it is."""
    if isinstance(value, np.ma.MaskedArray):
        return value.copy()
    if isinstance(value, np.ndarray):
        if value.flags.owndata and not value.flags.writeable:
            return value
        kept = np.array(value)  # a plain array, also of a subclass as np.matrix
        kept.setflags(write=False)
        return kept
    if isinstance(value, xr.DataArray):
        return _kept_labelled(value)
    if isinstance(value, (pd.Series, pd.DataFrame)):
        return value.copy(deep=True)
    if sparse.issparse(value):
        return value.copy()
    if isinstance(value, list):
        return [keep(item) for item in value]
    if type(value) is tuple:
        return tuple(keep(item) for item in value)
    if isinstance(value, dict):
        return {key: keep(item) for key, item in value.items()}
    return value


def _kept_labelled(value: xr.DataArray) -> xr.DataArray:
    data = value.data
    if isinstance(data, np.ndarray) and not data.flags.writeable and data.flags.owndata:
        return value
    kept = value.copy(deep=True)
    if type(kept.data) is np.ndarray:
        fixed = np.array(kept.data)
        fixed.setflags(write=False)
        kept = kept.copy(data=fixed)
    return kept


def keep_settings(spec: Any) -> None:
    """Replace the arrays of a frozen specification by copies that nobody else can change."""
    for setting in fields(spec):
        if setting.init:
            value = getattr(spec, setting.name)
            kept = keep(value)
            if kept is not value:
                object.__setattr__(spec, setting.name, kept)
