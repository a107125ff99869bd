"""Where data lie on paper: along a coordinate, one after another, or on a map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from bayesjoint.plots._style import with_units, words
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
SPREAD = 100.0  # ratio of the largest to the smallest datum from which the axis is logarithmic


@dataclass(frozen=True)
class Curve:
    """Data in one panel, along one axis."""

    title: str
    where: np.ndarray  # position of each datum
    label: str
    members: np.ndarray  # position in the flat data
    continuous: bool  # neighbours on paper are neighbours in fact


@dataclass(frozen=True)
class Chart:
    """Data as points on a map."""

    across: np.ndarray
    upright: np.ndarray
    labels: tuple[str, str]
    downwards: bool
    to_scale: bool


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
    for pair in PAIRS:
        axes = [axis for axis in (coordinate_of(data, name) for name in pair) if axis is not None]
        dims = {dim for axis in axes for dim in axis.dims}
        if len(axes) == 2 and len(dims) == data.ndim and _spread_out(axes):
            return _chart(data, axes, pair)
    return None


def coordinate_of(data: xr.DataArray, name: str) -> xr.DataArray | None:
    """Find a coordinate by its name, or by its name after that of the modality."""
    for key in (name, f"{data.name}_{name}"):
        if key in data.coords and data[key].ndim > 0:
            return data[key]
    return None


def _spread_out(axes: list[xr.DataArray]) -> bool:
    numbers = all(np.issubdtype(axis.dtype, np.number) for axis in axes)
    return numbers and all(float(np.ptp(axis.values)) > 0 for axis in axes)


def _chart(data: xr.DataArray, axes: list[xr.DataArray], names: tuple[str, str]) -> Chart:
    across, upright = (axis.broadcast_like(data).transpose(*data.dims) for axis in axes)
    stated = [str(axis.attrs.get("units") or "") for axis in axes]
    if stated == ["m", "m"] and max(np.ptp(across.values), np.ptp(upright.values)) >= FAR:
        across, upright, stated = across / 1000, upright / 1000, ["km", "km"]
    labels = [with_units(name, unit) for name, unit in zip(names, stated, strict=True)]
    ratio = float(np.ptp(upright.values) / np.ptp(across.values))
    return Chart(
        across.values.ravel(),
        upright.values.ravel(),
        (labels[0], labels[1]),
        downwards=names[1] == "depth",
        to_scale=stated[0] == stated[1] and 0.2 < ratio < 5,
    )


def curves_of(data: xr.DataArray) -> list[Curve]:
    """Return the panels of data: one, or one for each entry of a short last dim."""
    if data.ndim == 0:
        return [Curve("", np.zeros(1), "datum", np.zeros(1, dtype=int), continuous=False)]
    if data.ndim == 1:
        where, label, continuous = _along(data, str(data.dims[0]))
        return [Curve("", where, label, np.arange(data.size), continuous)]
    last = str(data.dims[-1])
    if data.ndim == 2 and data.sizes[last] <= MOST_PANELS:
        return [_column(data, last, i) for i in range(data.sizes[last])]
    label = f"datum ({', '.join(map(words, data.dims))})"
    return [Curve("", np.arange(data.size), label, np.arange(data.size), continuous=False)]


def _column(data: xr.DataArray, last: str, i: int) -> Curve:
    where, label, continuous = _along(data, str(data.dims[0]))
    members = np.arange(data.sizes[last] * where.size).reshape(-1, data.sizes[last])[:, i]
    name = data[last].values[i]
    title = words(name) if isinstance(name, str) else f"{words(last)} {name:g}"
    return Curve(title, where, label, members, continuous)


def _along(data: xr.DataArray, dim: str) -> tuple[np.ndarray, str, bool]:
    """Positions along a dim: its own coordinate, else the only other one with numbers in order."""
    candidates = [data[dim]] if dim in data.coords else []
    candidates += [coord for coord in data.coords.values() if coord.dims == (dim,)]
    for coordinate in candidates:
        if _in_order(coordinate) and not _only_counts(coordinate):
            units = str(coordinate.attrs.get("units") or "")
            return coordinate.values, with_units(words(coordinate.name), units), True
    return np.arange(data.sizes[dim]), words(dim), False


def _in_order(coordinate: xr.DataArray) -> bool:
    values = coordinate.values
    if not np.issubdtype(values.dtype, np.number) or values.size < 2:
        return False
    steps = np.diff(values)
    return bool((steps > 0).all() or (steps < 0).all())


def _only_counts(coordinate: xr.DataArray) -> bool:
    """Whether a coordinate only numbers the data."""
    values = coordinate.values
    return np.issubdtype(values.dtype, np.integer) and bool((np.diff(values) == 1).all())


def logarithmic(observed: np.ndarray) -> bool:
    """Whether data are positive and span orders of magnitude."""
    least, most = np.nanmin(observed), np.nanmax(observed)  # data may be missing
    return bool(least > 0 and most / least > SPREAD)
