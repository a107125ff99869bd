"""Panels of the predictive check about all modalities together, and two by two."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from bayesjoint.plots._style import DATA, FAINT, INK, MUTED, grid_lines, short_labels, words
from bayesjoint.reports._shared_residuals import Residuals, at_pairs, pairings_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_PAIRS = 6  # of modalities that are listed


def pairs_by_surprise(report: xr.Dataset) -> list[tuple[int, int]]:
    """Return pairs of modalities with paired residuals, the most extreme p-value first."""
    p_value = report["residual_correlation_p_value"].values
    pairs = [pair for pair in combinations(range(len(p_value)), 2) if np.isfinite(p_value[pair])]
    return sorted(pairs, key=lambda pair: min(p_value[pair], 1 - p_value[pair]))[:MOST_PAIRS]


def draw_correlations(ax: Axes, report: xr.Dataset, pairs: list[tuple[int, int]]) -> None:
    """Draw the correlation of residuals of pairs of modalities, and its range in replications."""
    names = [words(name) for name in report["modality"].values]
    ax.axvline(0.0, color=INK, lw=0.7)
    for row, (i, j) in enumerate(pairs):
        one = report.isel(modality=i, modality_other=j)
        low, high = (one[f"residual_correlation_replicated_{end}"] for end in ("lower", "upper"))
        ax.hlines(row, float(low), float(high), color=FAINT, lw=9)
        ax.plot(float(one["residual_correlation"]), row, "o", color=DATA, ms=5.5)
    short_labels(ax, [f"{names[i]}\n{names[j]}" for i, j in pairs], axis="y")
    ax.set(xlim=(-1.02, 1.02), ylim=(max(len(pairs), 2) - 0.5, -0.5))
    ax.set(xlabel="r: data (dots), 90 % of replications", title="correlation of residuals")
    grid_lines(ax, "x")


def draw_pairs(
    ax: Axes, dt: xr.DataTree, blocks: Mapping[str, Residuals], pair: tuple[int, int]
) -> None:
    """Draw the residuals of one modality against those of another with which they are paired."""
    names, both = list(blocks), (list(blocks.values())[pair[0]], list(blocks.values())[pair[1]])
    pairing = pairings_of(dt, list(blocks.values()))[pair]
    first, second = (
        np.median(part, axis=0) for part in at_pairs(pairing, both, [b.observed for b in both])
    )  # (slice, pair) each
    i, j = _most_correlated(first, second)
    for level in (-2.0, 2.0):
        ax.axhline(level, color=MUTED, lw=0.8, ls="--")
        ax.axvline(level, color=MUTED, lw=0.8, ls="--")
    ax.plot(first[i], second[j], "o", color=DATA, ms=3 if pairing.count < 200 else 1.5)
    reach = max(3.0, 1.1 * float(np.nanmax(np.abs([first[i], second[j]]))))
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", title=pairing.how)
    ax.set(xlabel=words(names[pair[0]]), ylabel=words(names[pair[1]]))
    grid_lines(ax)


def _most_correlated(first: np.ndarray, second: np.ndarray) -> tuple[int, int]:
    found = np.corrcoef(first, second)[: len(first), len(first) :]
    i, j = np.unravel_index(np.argmax(np.nan_to_num(np.abs(found))), found.shape)
    return int(i), int(j)


def say_why_none(ax: Axes, report: xr.Dataset) -> None:
    """Write why no residuals of two modalities are paired."""
    lines = [fill(text, 44) for text in report.attrs["words"][:3]]
    text = ax.text(0.0, 0.95, "\n\n".join(lines), va="top", transform=ax.transAxes)
    text.set_in_layout(False)
    ax.set_axis_off()
