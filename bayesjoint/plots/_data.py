"""Where data lie on paper: along a coordinate, one after another, or on a map."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import xarray as xr

from bayesjoint import arrays
from bayesjoint.plots._axes import Axis, along, counted, width_of
from bayesjoint.plots._fields import oriented, points_down
from bayesjoint.plots._style import WIDTH, with_units, words
from bayesjoint.reports import _read

PAIRS = (
    ("easting", "northing"),
    ("east", "north"),
    ("longitude", "latitude"),
    ("lon", "lat"),
    ("x", "y"),
    ("x", "depth"),
    ("x", "z"),
)
FEWEST_ON_A_MAP = 50
FAR = 5000.0  # metres from which a map is drawn in kilometres
MOST_PANELS = 6
TURNED = 0.6  # inches below a row for names that are turned
MOST_EMPTY = 1.5  # cells for each datum, up to which places are a grid
SPREAD = 100.0  # ratio of the largest to the smallest datum from which the axis is logarithmic


@dataclass(frozen=True)
class Curve:
    """Data in one panel, along one axis."""

    title: str
    axis: Axis
    members: np.ndarray  # position in the flat data
    continuous: bool  # neighbours on paper are neighbours in fact

    @property
    def where(self) -> np.ndarray:
        """Position of each datum."""
        return self.axis.at


@dataclass(frozen=True)
class Chart:
    """Data as points on a map, or over any two coordinates."""

    across: Axis
    upright: Axis
    downwards: bool
    to_scale: bool

    def image(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Return values as an image, with its centres; None where the places are no grid."""
        x, column = np.unique(self.across.at, return_inverse=True)
        y, row = np.unique(self.upright.at, return_inverse=True)
        if min(x.size, y.size) < 2 or x.size * y.size > MOST_EMPTY * values.size:
            return None
        cells = np.full((y.size, x.size), np.nan)
        cells[row, column] = values
        counted = np.bincount(row * x.size + column)
        return (x, y, cells) if counted.max() == 1 else None


def observations(dt: xr.DataTree) -> xr.Dataset:
    """Return the observed data that have a response, with the coordinates of the responses."""
    observed = _read.group(dt, "observed_data")
    responses = _read.group(dt, "posterior")
    kept = [name for name in observed.data_vars if f"{name}_response" in responses]
    for name in kept:
        coords = responses[f"{name}_response"].coords
        missing = {k: c for k, c in coords.items() if set(c.dims) <= set(observed[name].dims)}
        observed = observed.assign_coords(
            {k: c for k, c in missing.items() if c.dims and k not in observed.coords}
        )
    return observed[_read.in_order(dt, [str(name) for name in kept])]


def chart_of(data: xr.DataArray) -> Chart | None:
    """Return the map on which the data lie; None when they are few or have no positions."""
    if data.size < FEWEST_ON_A_MAP:
        return None
    for pair in [*PAIRS, *_pair_of_its_own(data)]:
        axes = [axis for axis in (coordinate_of(data, name) for name in pair) if axis is not None]
        dims = {dim for axis in axes for dim in axis.dims}
        if len(axes) == 2 and len(dims) == data.ndim and all(map(_spread_out, axes)):
            return _chart(data, axes, pair)
    return None


def _pair_of_its_own(data: xr.DataArray) -> list[tuple[str, str]]:
    """Return the coordinates (across, upright) of an image, neither of which is short."""
    names = _sides(data)
    if not names or any(name not in data.coords for name in names) or _short(data, names):
        return []
    upright, across = map(str, oriented(xr.DataArray(np.zeros((2, 2)), dims=names)).dims)
    if _is_time(data[upright]) and not _is_time(data[across]):  # time passes to the right
        upright, across = across, upright
    return [(across, upright)]


def _sides(data: xr.DataArray) -> list[str]:
    """Return the two dims of data, or the two levels of their one dim, where there are two."""
    names = [str(dim) for dim in data.dims]
    if data.ndim == 1:  # a stacked dim has no coordinate of its own, or one of tuples
        index = data.indexes.get(names[0])
        if names[0] in data.coords and not isinstance(index, pd.MultiIndex):
            return []
        names = [str(k) for k, c in data.coords.items() if c.dims == data.dims and k != names[0]]
    return names if len(names) == 2 else []


def _short(data: xr.DataArray, names: list[str]) -> str | None:
    """Return the dim or level that has the fewest entries, where these are few."""
    sizes = {name: np.unique(_entries(data, name)).size for name in reversed(names)}
    name = min(sizes, key=lambda name: sizes[name], default=None)
    return name if name is not None and sizes[name] <= MOST_PANELS else None


def _entries(data: xr.DataArray, name: str) -> np.ndarray:
    """Return to which entry of a dim or level each datum belongs, counted as they come."""
    if name in data.dims:
        return _indices(data)[data.dims.index(name)]
    return np.asarray(pd.factorize(data[name].values)[0])


def _indices(data: xr.DataArray) -> tuple[np.ndarray, ...]:
    """Return the index of each datum along each dim."""
    return np.unravel_index(np.arange(data.size), data.shape)


def at_data(data: xr.DataArray, coordinate: xr.DataArray, name: str = "") -> Axis:
    """Return a coordinate, which lies on dims of the data, at each datum."""
    return along(name or str(coordinate.name), variable_at_data(data, coordinate))


def variable_at_data(data: xr.DataArray, coordinate: xr.DataArray) -> xr.Variable:
    """Return the values of a coordinate at each datum."""
    index = dict(zip(data.dims, _indices(data), strict=True))
    return coordinate.variable[tuple(xr.Variable("datum", index[dim]) for dim in coordinate.dims)]


def _is_time(coordinate: xr.DataArray) -> bool:
    return isinstance(coordinate.dtype, pd.DatetimeTZDtype) or coordinate.dtype.kind in "mM"


def coordinate_of(data: xr.DataArray, name: str) -> xr.DataArray | None:
    """Find a coordinate by its name, or by its name after that of the modality or its dim."""
    for key in (name, f"{data.name}_{name}", *(f"{dim}_{name}" for dim in data.dims)):
        if key in data.coords and data[key].ndim > 0:
            return data[key]
    return None


def _spread_out(coordinate: xr.DataArray) -> bool:
    axis = along(str(coordinate.name), coordinate.variable)
    return axis.kind != "names" and bool(np.isfinite(axis.at).all()) and np.ptp(axis.at) > 0


def _chart(data: xr.DataArray, axes: list[xr.DataArray], names: tuple[str, str]) -> Chart:
    both = [at_data(data, axis, name) for axis, name in zip(axes, names, strict=True)]
    stated = [str(axis.attrs.get("units") or "") for axis in axes]
    if stated == ["m", "m"] and max(np.ptp(axis.at) for axis in both) >= FAR:
        both = [
            replace(axis, at=axis.at / 1000, label=with_units(words(name), "km"))
            for axis, name in zip(both, names, strict=True)
        ]
    across, upright = both
    ratio = float(np.ptp(upright.at) / np.ptp(across.at))
    same = stated[0] == stated[1] and across.kind == upright.kind == "numbers"
    return Chart(across, upright, points_down(axes[1], names[1]), to_scale=same and 0.2 < ratio < 5)


def curves_of(data: xr.DataArray) -> list[Curve]:
    """Return the panels of data: one, or one for each entry of a short dim or level."""
    sides, everything = _sides(data), np.arange(data.size)
    if (short := _short(data, sides)) is not None:
        other = next(name for name in sides if name != short)
        return _panels(data, short, other)
    if data.ndim == 1:
        return [_curve(data, str(data.dims[0]), everything)]
    label = f"datum ({', '.join(map(words, data.dims))})" if data.ndim else "datum"
    return [Curve("", counted(label, data.size), everything, continuous=False)]


def turned(data: xr.DataArray, width: float = WIDTH) -> float:
    """Return the inches that names below a row of panels need beyond a line."""
    panels = curves_of(data)
    each = width / len(panels) - 1.0
    return TURNED if any(width_of(curve.axis) > each for curve in panels) else 0.0


def _panels(data: xr.DataArray, short: str, other: str) -> list[Curve]:
    """Return a panel for each entry of a short dim or level, along the other one."""
    entries, label = _entries(data, short), data[short]
    index = _indices(data)[data.dims.index(label.dims[0])]
    panels = []
    for entry in dict.fromkeys(entries.tolist()):
        members = np.flatnonzero(entries == entry)
        value = label.values[index[members[0]]]
        told = f"{words(_own_name(data, short))} {arrays.plain(value)}"
        title = words(value) if isinstance(value, str) else told
        panels.append(_curve(data, other, members, title))
    return panels


def _curve(data: xr.DataArray, name: str, members: np.ndarray, title: str = "") -> Curve:
    """Return a panel along a dim or level."""
    coordinate, continuous = _along(data, name)
    axis = at_data(data, coordinate, _own_name(data, str(coordinate.name))).part(members)
    return Curve(title, axis, members, continuous and np.unique(axis.at).size == axis.at.size)


def _own_name(data: xr.DataArray, name: str) -> str:
    """Return the name of a level without that of its dim, which it may have in front."""
    return name if name in data.dims or data.ndim > 1 else name.removeprefix(f"{data.dims[0]}_")


def _along(data: xr.DataArray, name: str) -> tuple[xr.DataArray, bool]:
    """Return where data are drawn along a dim, and whether neighbours there are neighbours.

    On its own coordinate, or on another one of numbers or times in order where that only counts or
    names the data.
    """
    own, dim = data[name], data[name].dims[0]
    others = [c for c in data.coords.values() if c.dims == (dim,) and name == dim]
    for coordinate in [own] * (name in data.coords) + others:
        if _in_order(coordinate) and not _only_counts(coordinate):
            return coordinate, True
    return own, own.dtype != int and _spread_out(own)


def _in_order(coordinate: xr.DataArray) -> bool:
    axis = along(str(coordinate.name), coordinate.variable)
    steps = np.diff(axis.at)
    return axis.kind != "names" and steps.size > 0 and bool((steps > 0).all() or (steps < 0).all())


def _only_counts(coordinate: xr.DataArray) -> bool:
    """Whether a coordinate only numbers the data."""
    if coordinate.dtype.kind not in "iu" or coordinate.attrs.get("units"):
        return False
    return bool((np.diff(coordinate.values.astype(float)) == 1).all())


def logarithmic(observed: np.ndarray) -> bool:
    """Whether data are positive and span orders of magnitude."""
    least, most = np.nanmin(observed), np.nanmax(observed)  # data may be missing
    return bool(least > 0 and most / least > SPREAD)
