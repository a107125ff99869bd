"""Coordinates on paper: numbers, dates, time spans in a unit one reads, names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from bayesjoint import arrays, units
from bayesjoint.plots._style import with_units, words

SPANS = {
    "days": np.timedelta64(1, "D"),
    "h": np.timedelta64(1, "h"),
    "min": np.timedelta64(1, "m"),
    "s": np.timedelta64(1, "s"),
    "ms": np.timedelta64(1, "ms"),
    "µs": np.timedelta64(1, "us"),
    "ns": np.timedelta64(1, "ns"),
}
FEWEST = 2  # of a unit of time, in which spans are counted
MOST_NAMES = 24  # on an axis; of more every second, third ... is written
LETTER = 0.08  # inches that a letter of a name takes
LONGEST_NAME = 20  # letters
WRITTEN_OUT = 1e8  # largest number whose digits are all written on an axis, as of map coordinates
DECADES = 1.5  # powers of ten from which an evenly multiplied coordinate is drawn on a log axis


@dataclass(frozen=True)
class Axis:
    """A coordinate that can be drawn.

    Attributes
    ----------
    at : ndarray of float
        Positions: the numbers, days since 1970 of dates, time spans in the unit of the label, and
        0, 1, 2 ... for names.
    label : str
        Name with units.
    kind : {"numbers", "spans", "dates", "names"}
    names : tuple of str
        Of the positions, where these are names.
    units : str
        Of the positions; empty where there are none.
    zone : tzinfo or None
        Time zone in which dates are written.
    """

    at: np.ndarray
    label: str
    kind: str = "numbers"
    names: tuple[str, ...] = ()
    units: str = ""
    zone: Any = None

    @property
    def logarithmic(self) -> bool:
        """Whether positive numbers grow by a factor rather than by a step."""
        at = np.sort(self.at)
        if self.kind != "numbers" or at.size < 4 or not (at > 0).all():
            return False
        if at[-1] < 10**DECADES * at[0]:
            return False
        steps, factors = np.diff(at), np.diff(np.log(at))
        return bool(factors.min() > 0) and steps.max() / steps.min() > factors.max() / factors.min()

    def part(self, members: np.ndarray) -> Axis:
        """Return the axis at some of its positions."""
        if self.kind != "names":
            return replace(self, at=self.at[members])
        return _named(self.label, [self.names[i] for i in members])


def along(name: str, coordinate: xr.Variable) -> Axis:
    """Return the axis of a coordinate, under a name."""
    name, stated = words(name), str(coordinate.attrs.get("units") or "")
    dtype = coordinate.dtype
    if isinstance(dtype, pd.DatetimeTZDtype):
        dates = pd.DatetimeIndex(np.asarray(coordinate), tz="UTC")
        label = f"{name} [{dtype.tz}]"
        return Axis(_days(dates.tz_convert(None).to_numpy()), label, "dates", zone=dtype.tz)
    kind = dtype.kind if isinstance(dtype, np.dtype) else "O"
    if kind == "M":
        return Axis(_days(coordinate.values), name, "dates")
    if kind == "m":
        at, unit = in_readable_unit(coordinate.values)
        return Axis(at, with_units(name, unit), "spans", units=unit)
    if kind in "iuf":
        return Axis(coordinate.values.astype(float), with_units(name, stated), units=stated)
    return _named(name, [_name(label) for label in np.ravel(coordinate.values)])


def _named(label: str, names: list[str]) -> Axis:
    return Axis(np.arange(float(len(names))), label, "names", tuple(names))


def on_axis(axis: Axis, coordinate: xr.Variable) -> np.ndarray | None:
    """Return the positions of another coordinate on an axis; None where it has none there."""
    other = along("", coordinate)
    if axis.kind == "names" or other.kind != axis.kind or other.at.size == 0:
        return None
    if not units.compatible(other.units, axis.units):
        return None
    return np.asarray(units.conversion("", other.units, axis.units, "")(other.at), dtype=float)


def counted(name: str, size: int) -> Axis:
    """Return the axis of things that are counted one after another."""
    return Axis(np.arange(float(size)), name)


def _days(dates: np.ndarray) -> np.ndarray:
    from matplotlib.dates import date2num

    return np.asarray(date2num(dates), dtype=float)


def in_readable_unit(spans: np.ndarray) -> tuple[np.ndarray, str]:
    """Return time spans as numbers in the largest unit of which there are some."""
    known = spans[~np.isnat(spans)]
    fitting = [
        unit for unit, span in SPANS.items() if np.abs(known / span).max(initial=0.0) >= FEWEST
    ]
    unit = fitting[0] if fitting else "s"
    return spans / SPANS[unit], unit


def _name(label: Any) -> str:
    parts = label if isinstance(label, tuple) else (label,)
    text = ", ".join(arrays.plain(part) for part in parts)
    if len(text) <= LONGEST_NAME:
        return text
    kept = LONGEST_NAME // 2  # at both ends: names often differ in the last letters
    return f"{text[: kept - 1]}…{text[-kept:]}"


def dress(axis: Any, of: Axis, most: int | None = None, log: bool = False) -> None:
    """Write the label and the ticks of an axis of matplotlib, ``most`` numbers or dates at most."""
    axis.set_label_text(of.label)
    if of.kind == "dates":
        _dates(axis, of, most or 7)
    elif of.kind == "names":
        _names(axis, of)
    elif log and of.logarithmic:
        getattr(axis.axes, f"set_{axis.axis_name}scale")("log")
    else:
        _numbers(axis, of, most)


def _numbers(axis: Any, of: Axis, most: int | None) -> None:
    known = of.at[np.isfinite(of.at)]
    if known.size == 1:
        axis.set_ticks(known)
        return
    axis.get_major_locator().set_params(integer=bool((known == np.round(known)).all()))
    if most is not None:
        axis.get_major_locator().set_params(nbins=most)
    if 1e4 <= np.abs(known).max(initial=0.0) < WRITTEN_OUT:
        axis.get_major_formatter().set_scientific(False)
        axis.get_major_formatter().set_useOffset(False)


def _dates(axis: Any, of: Axis, most: int) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(tz=of.zone, minticks=3, maxticks=most)
    axis.set_major_locator(locator)
    axis.set_major_formatter(ConciseDateFormatter(locator, tz=of.zone))


def _names(axis: Any, of: Axis) -> None:
    step = _every(of)
    turned = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
    flat = axis.axis_name == "y" or width_of(of) <= _inches(axis)
    axis.set_ticks(of.at[::step], of.names[::step], **({} if flat else turned))


def _every(axis: Axis) -> int:
    """Return every how many names are written."""
    return max(1, -(-len(axis.names) // MOST_NAMES))


def width_of(axis: Axis) -> float:
    """Return the inches that names beside each other need."""
    shown = axis.names[:: _every(axis)]
    return LETTER * len(shown) * (max(map(len, shown), default=0) + 1)


def _inches(axis: Any) -> float:
    """Return about how wide an axis is."""
    figure, place = axis.axes.figure, axis.axes.get_subplotspec()
    width = figure.bbox.width / axis.axes.get_figure(root=True).dpi
    if place is None:
        return float(width)
    columns = place.get_gridspec().ncols
    return float(width) * len(place.colspan) / columns - 0.3
