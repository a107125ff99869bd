"""Which data of two modalities belong together: by labels, by nearest places, or by index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from scipy.spatial import KDTree

from bayesjoint import arrays, units
from bayesjoint.reports._numbers import data as number_of_data

FEWEST = 3  # pairs from which a correlation has a meaning
NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True)
class Pairing:
    """Pairs of data of two modalities.

    Attributes
    ----------
    how : str
        In words: ``"by label of station"``, ``"nearest in x, y"``, ``"by index"``, or
        ``"not applicable"`` with the reason.
    dims : tuple of tuple of str
        Of each modality, those along which pairs are made; its other dims are left as they are.
    members : tuple of ndarray
        Of each modality, the places of the pairs along these dims, flat in their order.
    """

    how: str
    dims: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    members: tuple[np.ndarray, np.ndarray] = (np.zeros(0, int), np.zeros(0, int))

    @property
    def count(self) -> int:
        """Number of pairs."""
        return self.members[0].size


def paired(first: xr.DataArray, second: xr.DataArray, prefer: Sequence[str] = ()) -> Pairing:
    """Return how the data of two modalities are paired.

    By the labels of the dims that they share, where these are all dims of one of them; else by
    nearest places in numeric coordinates of both, those preferred alone where both have any of
    them; else by the labels of any dims they share; else by index where their numbers are equal.
    Nearest to each datum of the smaller modality is one of the other, unless that is farther away
    than places of the coarser modality are, in the median, from each other.
    """
    shared = tuple(str(dim) for dim in first.dims if dim in second.dims)
    whole = bool(shared) and len(shared) == min(first.ndim, second.ndim)
    found = _by_label(first, shared) if whole else None
    found = found or _by_place(first, second, prefer)
    if found is None and shared:
        found = _by_label(first, shared)
    if found is None and first.size == second.size:
        found = _by_index(first, second)
    against = f"{first.size} against {number_of_data(second.size)}"
    found = found or Pairing(f"{NOT_APPLICABLE}: no coordinate in common, and {against}")
    found = _where_both_are(found, first, second)
    if found.count < FEWEST and not found.how.startswith(NOT_APPLICABLE):
        return Pairing(f"{NOT_APPLICABLE}: {found.count} pairs {found.how}, {FEWEST} are needed")
    return found


def _where_both_are(pairing: Pairing, first: xr.DataArray, second: xr.DataArray) -> Pairing:
    """Return the pairs of which no side is missing."""
    there = [
        _there(data, dims)[members]
        for data, dims, members in zip((first, second), pairing.dims, pairing.members, strict=True)
    ]
    both = np.logical_and(*there)
    if both.all():
        return pairing
    return replace(pairing, members=(pairing.members[0][both], pairing.members[1][both]))


def _there(data: xr.DataArray, dims: Sequence[str]) -> np.ndarray:
    """Return at which places along dims, flat in their order, there are data."""
    size = int(np.prod([data.sizes[dim] for dim in dims]))
    return data.notnull().transpose(..., *dims).values.reshape(-1, size).any(axis=0)


def _by_index(first: xr.DataArray, second: xr.DataArray) -> Pairing:
    every = np.arange(first.size)
    return Pairing("by index", (_dims(first), _dims(second)), (every, every))


def _dims(data: xr.DataArray) -> tuple[str, ...]:
    return tuple(map(str, data.dims))


def _by_label(first: xr.DataArray, dims: tuple[str, ...]) -> Pairing:
    """Pair along dims of both: in one problem a dim has the same labels everywhere."""
    every = np.arange(int(np.prod([first.sizes[dim] for dim in dims])))
    return Pairing(f"by label of {', '.join(dims)}", (dims, dims), (every, every))


def _by_place(first: xr.DataArray, second: xr.DataArray, prefer: Sequence[str]) -> Pairing | None:
    """Pair by nearest places; several coordinates are measured in their ranges."""
    names = _in_common(first, second, prefer)
    if not names:
        return None
    dims = tuple(_carrying(data, names) for data in (first, second))
    frames = {name: _frame(_coordinates(first)[name]) for name in names}
    places = [_places(data, frames, of) for data, of in zip((first, second), dims, strict=True)]
    there = [np.flatnonzero(_there(*side)) for side in zip((first, second), dims, strict=True)]
    places = [place[where] for place, where in zip(places, there, strict=True)]
    span = np.ptp(np.concatenate(places), axis=0)
    places = [place / np.where(span > 0, span, 1.0) for place in places]
    few, many = sorted((0, 1), key=lambda side: len(places[side]))
    distance, nearest = KDTree(places[many]).query(places[few])
    near = np.flatnonzero(distance <= max(map(_spacing, places)) * (1 + 1e-9))
    members = {few: there[few][near], many: there[many][nearest[near]]}
    return Pairing(f"nearest in {', '.join(names)}", (dims[0], dims[1]), (members[0], members[1]))


def _spacing(places: np.ndarray) -> float:
    """Return the median distance of each place to the next; 0 of a single one."""
    places = np.unique(places, axis=0)
    if len(places) < 2:
        return 0.0
    return float(np.median(KDTree(places).query(places, k=2)[0][:, 1]))


def _in_common(first: xr.DataArray, second: xr.DataArray, prefer: Sequence[str]) -> list[str]:
    one, other = _coordinates(first), _coordinates(second)
    names = [name for name in one if name in other and _comparable(one[name], other[name])]
    return [name for name in names if name in prefer] or names


def _coordinates(data: xr.DataArray) -> dict[str, xr.DataArray]:
    """Return coordinates of numbers or times by the name that the user gave them, not `m_time`."""
    found = {}
    for key, values in data.coords.items():
        if values.ndim and arrays.is_measured(values):
            found[str(key).removeprefix(f"{data.name}_")] = values
    return found


def _carrying(data: xr.DataArray, names: list[str]) -> tuple[str, ...]:
    """Return the dims along which coordinates vary, in the order of the data."""
    coords = _coordinates(data)
    of = {dim for name in names for dim in coords[name].dims}
    return tuple(str(dim) for dim in data.dims if dim in of)


def _frame(coordinate: xr.DataArray) -> arrays.Frame:
    return arrays.frame_of("a coordinate", coordinate)


def _comparable(first: xr.DataArray, second: xr.DataArray) -> bool:
    """Tell whether two coordinates are both dates, or numbers in units that can be converted."""
    one, other = _frame(first), _frame(second)
    return one.is_time == other.is_time and units.compatible(one.units, other.units)


def _places(
    data: xr.DataArray, frames: Mapping[str, arrays.Frame], dims: tuple[str, ...]
) -> np.ndarray:
    """Return the coordinates along dims, flat, in one frame each, shape (place, name)."""
    template = data.isel({dim: 0 for dim in data.dims if dim not in dims}, drop=True)
    coords = _coordinates(data)
    columns = []
    for name, frame in frames.items():
        numbers = arrays.coordinate(name, coords[name], frame)
        place = xr.DataArray(numbers, dims=coords[name].dims).broadcast_like(template)
        columns.append(place.transpose(*dims).values.ravel())
    return np.stack(columns, axis=1)
