"""Coordinates as numbers, dates and time spans among them."""

import datetime
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from bayesjoint import units as _units
from bayesjoint.arrays.reading import as_array, as_numbers, comparable, naive, unwrapped


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


def frame_of(subject: str, value: Any, *, dated: bool = False) -> Frame:
    """Return the frame in which a coordinate is stated: dates in seconds since the first.

    Where dates are needed (``dated``), they may be written as text.
    """
    raw = bare_coordinate(subject, _dates_of_text(subject, value) if dated else value)
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
    if frame is not None and frame.is_time:
        value = _dates_of_text(subject, value)
    raw = bare_coordinate(subject, value)
    frame = frame_of(subject, value) if frame is None else frame
    if (raw.dtype.kind == "M") != frame.is_time:
        here, there = ("dates", "numbers") if raw.dtype.kind == "M" else ("numbers", "dates")
        raise ValueError(f"{subject} holds {here}, where {there} are needed; give all alike")
    units: str | None = _units.SECONDS
    if raw.dtype.kind == "M":
        numbers = (raw - frame.since) / np.timedelta64(1, "s")
    else:
        numbers, counted = as_numbers(subject, raw, True)
        units = counted or _units.stated(value)
    change = _units.conversion(
        f"{subject} is in {{}}, but {{}} is needed", units, frame.units, "convert it"
    )
    return np.asarray(change(numbers), dtype=float)


def is_measured(value: xr.DataArray) -> bool:
    """Return whether a coordinate holds numbers or times, and not names."""
    if isinstance(value.dtype, np.dtype):
        return value.dtype.kind in "iufmM"
    return isinstance(value.dtype, pd.DatetimeTZDtype)


def _dates_of_text(subject: str, value: Any) -> Any:
    """Return dates where they are written as text, as "2020-01-31"; all else as it is."""
    labelled = isinstance(value, xr.DataArray | xr.Variable)
    raw = as_array(subject, unwrapped(value.data if labelled else value))
    written = raw.dtype.kind in "UT" or (
        raw.dtype.kind == "O" and raw.size and all(isinstance(x, str) for x in raw.ravel())
    )
    if not written:
        return value
    try:
        stamps = [naive(pd.Timestamp(str(x))) for x in raw.ravel()]
    except ValueError:
        raise ValueError(
            f"{subject} holds text that is no date; give dates, as '2020-01-31'"
        ) from None
    return np.array(stamps, dtype="datetime64[ns]").reshape(raw.shape)


def bare_coordinate(subject: str, value: Any) -> np.ndarray:
    """Return the bare array of a coordinate; dates with a time zone are those of Greenwich."""
    if isinstance(value, (xr.DataArray, xr.Variable)):
        value = value.data
    if isinstance(value, pd.Series):
        value = value.array if value.dtype == object else pd.Index(value)
    if isinstance(value, pd.DatetimeIndex):
        value = comparable(value).to_numpy()
    bare = unwrapped(value)
    if isinstance(bare, np.ma.MaskedArray) and np.ma.is_masked(bare):
        raise ValueError(f"{subject} is masked in places; give a number or time for each")
    raw = as_array(subject, bare)
    if raw.dtype.kind in "mM":
        raw = _of_known_unit(subject, raw)
    if raw.dtype.kind == "O" and raw.size:
        first = raw.ravel()[0]
        if isinstance(first, (datetime.datetime, pd.Timestamp)):
            stamps = [naive(pd.Timestamp(x)) for x in raw.ravel()]
            return np.array(stamps, dtype="datetime64[ns]").reshape(raw.shape)
        if isinstance(first, datetime.timedelta):
            return raw.astype("timedelta64[ns]")
        if hasattr(first, "calendar"):  # dates of another calendar, which cftime subtracts
            raise ValueError(
                f"{subject} holds dates of the calendar {first.calendar!r}; convert them, as with "
                "data.convert_calendar('standard', use_cftime=False)"
            )
    if raw.dtype.kind not in "fiubmM":
        kind = "complex" if raw.dtype.kind == "c" else "not numeric"
        raise ValueError(f"{subject} is {kind}; give numbers or times")
    return raw


def _of_known_unit(subject: str, raw: np.ndarray) -> np.ndarray:
    """Return dates or time spans to the nanosecond or coarser, that can be counted in seconds."""
    unit, _ = np.datetime_data(raw.dtype)
    if raw.dtype.kind == "m" and unit in ("Y", "M", "generic"):
        raise ValueError(
            f"{subject}: months, years and time spans without a unit have no length in seconds; "
            "give days or seconds"
        )
    return raw.astype("datetime64[s]") if raw.dtype.kind == "M" and unit in "YM" else raw
