"""Whether residuals of two modalities go together otherwise than the model has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import xarray as xr

from bayesjoint.reports import _read
from bayesjoint.reports._pairing import FEWEST, Pairing, paired

EXTREME = 0.025  # p-values nearer to 0 or 1 are told


@dataclass(frozen=True)
class Residuals:
    """Standardised residuals of one modality, shape (draw, dims of the data)."""

    observed: np.ndarray
    replicated: np.ndarray
    data: xr.DataArray


def p_value(observed: np.ndarray, replicated: np.ndarray) -> np.ndarray:
    """Share of draws (last axis) with replicated at least observed; NaN where nothing can vary.

    As the scatter of one datum, which is zero for whatever data.
    """
    share = (replicated >= observed).mean(axis=-1)
    still = np.all((replicated == replicated[..., :1]) & (observed == replicated), axis=-1)
    return np.where(still | np.isnan(observed).any(axis=-1), np.nan, share)


def shared_residuals(dt: xr.DataTree, blocks: Mapping[str, Residuals]) -> xr.Dataset:
    """Return what residuals of each two modalities have in common, and words about it."""
    names, pairings = list(blocks), pairings_of(dt, list(blocks.values()))
    report = xr.merge([_correlations(list(blocks.values()), pairings), _cross_chi2(dt, names)])
    report = report.assign_coords(modality=names, modality_other=names)
    least = 1.0 / max(block.observed.shape[0] for block in blocks.values())
    return report.assign_attrs(words=[_words(report, *pair, least) for pair in pairings])


def pairings_of(dt: xr.DataTree, blocks: list[Residuals]) -> dict[tuple[int, int], Pairing]:
    """Return how the data of each two modalities are paired, by their places in the list."""
    coordinates = _preferred(dt)
    return {
        (i, j): paired(blocks[i].data, blocks[j].data, coordinates)
        for i, j in combinations(range(len(blocks)), 2)
    }


def _preferred(dt: xr.DataTree) -> list[str]:
    """Return the coordinates in which the model has errors."""
    if not _read.has_groups(dt, "linearization"):
        return []
    return [str(name) for name in _read.listed(_read.linearization(dt), "discrepancy_coordinates")]


def _correlations(
    blocks: list[Residuals], pairings: Mapping[tuple[int, int], Pairing]
) -> xr.Dataset:
    words = np.full((len(blocks), len(blocks)), "", dtype=object)
    counts = np.zeros((len(blocks), len(blocks)), dtype=int)
    for (i, j), pairing in pairings.items():
        words[i, j] = words[j, i] = pairing.how
        counts[i, j] = counts[j, i] = pairing.count

    def of_pair(i: int, j: int) -> tuple[np.ndarray, np.ndarray] | None:
        pairing, pair = pairings[i, j], (blocks[i], blocks[j])
        if not pairing.count:
            return None
        sides = [[side.observed for side in pair], [side.replicated for side in pair]]
        observed, replicated = (_correlation(at_pairs(pairing, pair, side)) for side in sides)
        return observed, replicated

    table = _table("residual_correlation", len(blocks), of_pair)
    dims = ("modality", "modality_other")
    return table.assign(residual_pairing=(dims, words.astype(str)), residual_pairs=(dims, counts))


def at_pairs(
    pairing: Pairing, pair: tuple[Residuals, Residuals], values: list[np.ndarray]
) -> list[np.ndarray]:
    """Return the residuals of the pairs, (draw, slice, pair), for each of two modalities."""
    parts = []
    for block, dims, members, drawn in zip(
        pair, pairing.dims, pairing.members, values, strict=True
    ):
        labelled = xr.DataArray(drawn, dims=("draw", *block.data.dims))
        flat = labelled.transpose("draw", ..., *dims).values
        places = int(np.prod([block.data.sizes[dim] for dim in dims]))
        parts.append(flat.reshape(len(drawn), -1, places)[:, :, members])
    return parts


def _correlation(pairs: list[np.ndarray]) -> np.ndarray:
    """Return the correlation over pairs draw by draw, of slices the one farthest from zero."""
    missing = any(np.isnan(part).any() for part in pairs)
    found = _of_slices_with_gaps(*pairs) if missing else _of_slices(*pairs)
    found = found.reshape(len(found), -1)
    largest = np.argmax(np.nan_to_num(np.abs(found)), axis=1)
    return found[np.arange(len(found)), largest]


def _of_slices(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the correlation of each two slices, (draw, slice, slice)."""
    first, second = (part - part.mean(axis=2, keepdims=True) for part in (first, second))
    scale = np.sqrt((first**2).sum(axis=2)[:, :, None] * (second**2).sum(axis=2)[:, None, :])
    product = first @ second.transpose(0, 2, 1)
    return np.divide(product, scale, out=np.full(scale.shape, np.nan), where=scale > 0)


def _of_slices_with_gaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the same over the pairs of which no side is missing; NaN where these are too few."""
    found = np.full((len(first), first.shape[1], second.shape[1]), np.nan)
    for i, j in np.ndindex(found.shape[1:]):
        one, two = first[:, [i]], second[:, [j]]
        both = ~np.isnan(one[0, 0]) & ~np.isnan(two[0, 0])
        if np.sum(both) >= FEWEST:
            found[:, i, j] = _of_slices(one[:, :, both], two[:, :, both])[:, 0, 0]
    return found


def _cross_chi2(dt: xr.DataTree, names: list[str]) -> xr.Dataset:
    """Return by how much chi2 of two modalities together exceeds those of each alone."""
    lengths = dt["mahalanobis"].to_dataset() if _read.has_groups(dt, "mahalanobis") else None

    def of_pair(i: int, j: int) -> tuple[np.ndarray, np.ndarray] | None:
        if lengths is None:
            return None
        sides = []
        for side in (lengths["observed"], lengths["replicated"]):
            side = side.transpose("modality", "modality_other", "chain", "draw")
            both, one, two = (
                side.sel(modality=names[a], modality_other=names[b]).values.ravel()
                for a, b in ((i, j), (i, i), (j, j))
            )
            sides.append(both - one - two)
        return None if np.isnan(sides[0]).all() else (sides[0], sides[1])

    return _table("cross_chi2", len(names), of_pair)


def _table(
    name: str, size: int, of_pair: Callable[[int, int], tuple[np.ndarray, np.ndarray] | None]
) -> xr.Dataset:
    """Return medians, range and p-value of a quantity of each two modalities; NaN without one."""
    columns = ("", "_replicated", "_replicated_lower", "_replicated_upper", "_p_value")
    table = np.full((len(columns), size, size), np.nan)
    for i, j in combinations(range(size), 2):
        found = of_pair(i, j)
        if found is None:
            continue
        middle, lower, upper = np.quantile(found[1], [0.5, 0.05, 0.95])
        numbers = (np.median(found[0]), middle, lower, upper, p_value(*found))
        table[:, i, j] = table[:, j, i] = numbers
    dims = ("modality", "modality_other")
    return xr.Dataset(
        {f"{name}{column}": (dims, rows) for column, rows in zip(columns, table, strict=True)}
    )


def _words(report: xr.Dataset, i: int, j: int, least: float) -> str:
    """Say what the residuals of two modalities have in common; p-values are told from the least."""
    one = report.isel(modality=i, modality_other=j)
    said = [_of_correlation(one, least)]
    p = float(one["cross_chi2_p_value"])
    if np.isfinite(p):
        said.append(
            f"Their errors in common are {_strength(p)} the model has them{_told(p, least)}"
        )
    who = " and ".join(str(report["modality"].values[k]).replace("_", " ") for k in (i, j))
    return f"{who}: {'. '.join(said)}."


def _of_correlation(one: xr.Dataset, least: float) -> str:
    how, count = str(one["residual_pairing"].values), int(one["residual_pairs"])
    if not count:
        return f"correlation of residuals {how}"
    seen, fresh = (
        f"{float(one[name]):.2f}".replace("-", "−")
        for name in ("residual_correlation", "residual_correlation_replicated")
    )
    p = float(one["residual_correlation_p_value"])
    usual = EXTREME < p < 1 - EXTREME
    verdict = "" if usual else "; they may share errors otherwise than the model has it"
    return (
        f"r = {seen} of {count} pairs of residuals {how}, replications have {fresh}"
        f"{_told(p, least)}{verdict}"
    )


def _strength(p: float) -> str:
    if p <= EXTREME:
        return "weaker, or of another sign or pattern, than"
    return "stronger than" if p >= 1 - EXTREME else "as"


def _told(p: float, least: float) -> str:
    """Write a p-value in brackets, no nearer to 0 or 1 than the draws can tell."""
    if p < least:
        return f" (p < {least:.1g})"
    return f" (p > {1 - least:.4g})" if p > 1 - least else f" (p = {p:.2g})"
