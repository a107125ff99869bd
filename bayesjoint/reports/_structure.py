"""Draws of pairs of fields on one grid, and what is measured on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import xarray as xr

from bayesjoint import _arguments, arrays
from bayesjoint import units as _units
from bayesjoint._kernels.differences import cell_widths
from bayesjoint._kernels.structure import Gradients, gradients_of, similarity
from bayesjoint._names import free, plain
from bayesjoint.reports import _read

MOST = 1000  # draws, evenly spread
AT_ONCE = 50  # draws whose gradients are in memory together
FLAT = 0.1  # of the root mean square gradient of the prior: below, a cell is flat


@dataclass(frozen=True)
class Pair:
    """Two fields on one grid."""

    first: str
    second: str
    name: str  # of the pair, in variables
    grid: xr.DataArray  # one draw of the first, for its dims and coordinates
    inside: np.ndarray | None = None  # cells that count, all by default

    @property
    def axes(self) -> list[np.ndarray]:
        """Cell centres along each dim, all in one unit where they are stated."""
        frames = _frames(self.grid)
        units = _common_units(frames)
        centres = []
        for dim, frame in zip(self.grid.dims, frames, strict=True):
            numbers = arrays.coordinate(f"the grid: {dim!r}", self.grid[dim], frame)
            change = _units.conversion("the grid: {}, {}", frame.units, units, "")
            centres.append(np.asarray(change.of_differences(numbers)))
        return centres

    @property
    def volumes(self) -> np.ndarray:
        """Volumes of the cells, in the shape of the grid; zero where they do not count."""
        volumes = np.ones(())
        for axis in self.axes:
            volumes = np.multiply.outer(volumes, cell_widths(axis))
        return volumes if self.inside is None else volumes * self.inside

    @property
    def has_structure(self) -> bool:
        """Whether directions can differ: two dims or more with two cells or more."""
        return sum(size > 1 for size in self.grid.shape) > 1


def _frames(grid: xr.DataArray) -> list[arrays.Frame]:
    return [arrays.frame_of(f"the grid: {dim!r}", grid[dim]) for dim in grid.dims]


def _common_units(frames: list[arrays.Frame]) -> str | None:
    """Return the units of the first axis that states some."""
    return next((frame.units for frame in frames if frame.units), None)


def masked(pair: Pair, mask: xr.DataArray | np.ndarray | None) -> Pair:
    """Return the pair with the cells of a mask alone."""
    if mask is None:
        return pair
    owner = f"alignment: '{pair.first}' and '{pair.second}'"
    axes = arrays.Axes.of(_read.as_given(pair.grid), "their grid")
    inside = arrays.mask(owner, "mask", mask, axes)
    if not inside.any():
        raise ValueError(f"{owner}: the mask is False in all cells; pairs= names those it fits")
    return replace(pair, inside=inside)


def comparable(dt: xr.DataTree) -> bool:
    """Tell whether the tree has draws, of posterior and prior, of two fields on one grid."""
    if not _read.has_groups(dt, "posterior", "prior"):
        return False
    posterior = dt["posterior"].to_dataset()
    fields = [_one_draw(posterior[name]) for name in _field_names(dt, posterior)]
    return any(_same_grid(a, b) and _has_gradients(a) for a, b in combinations(fields, 2))


def pairs_of(dt: xr.DataTree, chosen: Sequence[tuple[str, str]] | None) -> list[Pair]:
    """Return the pairs of fields that share a grid, or those asked for."""
    posterior = _read.group(dt, "posterior")
    fields = {name: _one_draw(posterior[name]) for name in _field_names(dt, posterior)}
    if chosen is None:
        asked = list(combinations(fields, 2))
        kept = [(a, b) for a, b in asked if _same_grid(fields[a], fields[b])]
        kept = [pair for pair in kept if _has_gradients(fields[pair[0]])] or kept[:1]
    else:
        kept = _as_pairs(chosen)
        _require_pairs(kept, fields)
    if not kept:
        there = [f"{name} ({', '.join(map(plain, v.dims))})" for name, v in fields.items()]
        raise ValueError(
            f"alignment needs two fields on one grid; there are {', '.join(there) or 'none'}"
        )
    for a, b in kept:
        _require_gradients(a, b, fields[a])
    names: list[str] = []
    for a, b in kept:  # ("a", "b_c") and ("a_b", "c") have one name
        names.append(free(f"{a}_{b}", names))
    return [Pair(a, b, name, fields[a]) for (a, b), name in zip(kept, names, strict=True)]


def _as_pairs(chosen: Any) -> list[tuple[str, str]]:
    """Return pairs of names."""
    listed: list[Any] = list(chosen) if isinstance(chosen, list | tuple) else [None]
    if not all(isinstance(pair, list | tuple) for pair in listed):
        raise ValueError(
            f"alignment: pairs= is {_arguments.kind(chosen)}; give a list of pairs of names, as "
            '[("density", "velocity")]'
        )
    for pair in listed:
        _arguments.check("alignment: pairs=", pair=pair)
    return [tuple(pair) for pair in listed]


def _field_names(dt: xr.DataTree, posterior: xr.Dataset) -> list[str]:
    """Names of the latents with numbers or times as coordinates."""
    names = [str(name) for name in posterior.data_vars]
    if _read.has_groups(dt, "linearization"):
        names = [name for name in _read.latents(_read.linearization(dt)) if name in posterior]
    else:
        names = [k for k in names if not k.endswith(("_response", "_discrepancy", "_white"))]
    return [name for name in names if _is_field(_one_draw(posterior[name]))]


def _one_draw(draws: xr.DataArray) -> xr.DataArray:
    return _read.of_user(draws.isel(chain=0, draw=0, drop=True))


def _is_field(values: xr.DataArray) -> bool:
    if not values.ndim or any(dim not in values.coords for dim in values.dims):
        return False
    return all(arrays.is_measured(values[dim]) for dim in values.dims)


def _require_gradients(first: str, second: str, grid: xr.DataArray) -> None:
    if not _has_gradients(grid):
        units = {plain(d): f.units for d, f in zip(grid.dims, _frames(grid), strict=True)}
        raise ValueError(
            f"alignment: the axes of {first!r} and {second!r} are in {units}, so that gradients "
            "along them cannot be compared; give pairs= of fields whose axes are in one unit"
        )


def _has_gradients(grid: xr.DataArray) -> bool:
    """Whether gradients along the axes can be compared: these are in units of one kind."""
    frames = _frames(grid)
    return all(_units.compatible(frame.units, _common_units(frames)) for frame in frames)


def _same_grid(first: xr.DataArray, second: xr.DataArray) -> bool:
    return first.dims == second.dims and all(
        np.array_equal(first[dim].values, second[dim].values) for dim in first.dims
    )


def _require_pairs(pairs: list[tuple[str, str]], fields: dict[str, xr.DataArray]) -> None:
    for first, second in pairs:
        for name in (first, second):
            if name not in fields:
                raise ValueError(f"there is no field '{name}'; there are {', '.join(fields)}")
        if first == second or not _same_grid(fields[first], fields[second]):
            raise ValueError(
                f"'{first}' and '{second}' are not two fields on one grid; alignment compares "
                "gradients cell by cell"
            )


def draws_of(group: xr.Dataset, pair: Pair, name: str) -> np.ndarray:
    """Return draws of one field, (draw, *grid), evenly thinned."""
    values = group[name].transpose("chain", "draw", *map(plain, pair.grid.dims)).values
    flat = values.reshape(-1, *values.shape[2:])
    return flat[:: -(-len(flat) // MOST)]


def both(group: xr.Dataset, pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Return draws of both fields of a group."""
    return draws_of(group, pair, pair.first), draws_of(group, pair, pair.second)


def of_reference(reference: Any, pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Return draws of both fields of another run, or of the separate runs that hold them."""
    trees = list(reference.values()) if isinstance(reference, Mapping) else [reference]
    trees = trees if not isinstance(reference, xr.DataTree) else [reference]
    found = []
    for name in (pair.first, pair.second):
        groups = [_read.group(tree, "posterior") for tree in trees]
        held = [group for group in groups if name in group]
        if not held:
            raise ValueError(f"reference has no field '{name}'; give a tree, or trees, with it")
        if not _same_grid(_one_draw(held[0][name]), pair.grid):
            raise ValueError(f"reference: '{name}' is on another grid; sample it on the same one")
        found.append(draws_of(held[0], pair, name))
    count = min(len(draws) for draws in found)
    return found[0][:count], found[1][:count]


@dataclass(frozen=True)
class Measured:
    """What is measured on draws of a pair: one number a draw, one a cell, or one in all."""

    similarity: np.ndarray
    flat_share: np.ndarray
    correlation: np.ndarray
    cross: np.ndarray  # mean over draws, in each cell
    product: np.ndarray
    squares: tuple[np.ndarray, np.ndarray]


def prior_squares(draws: tuple[np.ndarray, np.ndarray], pair: Pair) -> tuple[float, float]:
    """Return the mean squared gradient of each field over draws and volume."""
    parts = list(_in_parts(draws, pair))
    share = pair.volumes / pair.volumes.sum()
    weights = np.array([len(found.first) for found in parts], dtype=float)
    means = [
        [float((share * part).sum(axis=tuple(range(1, part.ndim))).mean()) for part in kind]
        for kind in zip(*((found.first, found.second) for found in parts), strict=True)
    ]
    first, second = (float(np.average(mean, weights=weights)) for mean in means)
    return first, second


def measure(
    draws: tuple[np.ndarray, np.ndarray], pair: Pair, prior: tuple[float, float]
) -> Measured:
    """Measure draws of a pair against the mean squared gradients of the prior."""
    least = (FLAT**2 * prior[0], FLAT**2 * prior[1])
    alike, flat, sums = [], [], np.zeros((4, *pair.grid.shape))
    for found in _in_parts(draws, pair):
        kind, share = similarity(found, pair.volumes, least)
        alike.append(kind)
        flat.append(share)
        parts = (found.cross, found.product, found.first, found.second)
        sums += np.stack([part.sum(axis=0) for part in parts])
    means = sums / len(draws[0])
    alike_all = np.concatenate(alike)
    if not pair.has_structure:
        alike_all = np.full(alike_all.shape, np.nan)
    return Measured(
        alike_all, np.concatenate(flat), _correlations(draws, pair), means[0], means[1],
        (means[2], means[3]),
    )  # fmt: skip


def _in_parts(draws: tuple[np.ndarray, np.ndarray], pair: Pair) -> Iterator[Gradients]:
    for start in range(0, len(draws[0]), AT_ONCE):
        first, second = (field[start : start + AT_ONCE] for field in draws)
        yield gradients_of(first, second, pair.axes, pair.inside)


def _correlations(draws: tuple[np.ndarray, np.ndarray], pair: Pair) -> np.ndarray:
    """Return the correlation of the two fields over the volume, of each draw."""
    share = (pair.volumes / pair.volumes.sum()).ravel()
    flat = [field.reshape(len(field), -1) for field in draws]
    a, b = (field - (field @ share)[:, None] for field in flat)
    scale = np.sqrt((a**2 @ share) * (b**2 @ share))
    return np.divide((a * b) @ share, scale, out=np.full(len(a), np.nan), where=scale > 0)


def cell_correlation(draws: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the correlation of the two fields over draws, in each cell."""
    a, b = (field - field.mean(axis=0) for field in draws)
    scale = np.sqrt((a**2).mean(axis=0) * (b**2).mean(axis=0))
    return np.divide((a * b).mean(axis=0), scale, out=np.full(scale.shape, np.nan), where=scale > 0)
