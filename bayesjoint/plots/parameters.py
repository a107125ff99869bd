"""Figure of identifiability: contraction by parameter, and what trades off with what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from bayesjoint import _arguments
from bayesjoint._names import restored
from bayesjoint.plots._fields import draw_image, draw_profile, flat_enough, one_point
from bayesjoint.plots._style import (
    DIVERGING,
    INK,
    SEQUENTIAL,
    colours,
    grid_lines,
    new_figure,
    plain,
    readable_on,
    short_labels,
    styled,
    words,
)
from bayesjoint.plots.resolution import panel_height
from bayesjoint.reports import identifiability

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ROWS = 36  # rows of bars that stay readable
MOST_PAIRS = 24  # parameters in the correlation matrix
MAP = "_contraction"  # ending of the names of maps in the report
FEW = 10  # up to this many, correlations are written out


@styled
def plot_identifiability(dt: xr.DataTree | xr.Dataset) -> Figure:
    """Draw how much the data narrowed each parameter, who did it, and the trade-offs.

    Parameters
    ----------
    dt : xarray.DataTree or xarray.Dataset
        From ``bj.sample`` or ``bj.linearize``; or the report of ``bj.identifiability``.

    Returns
    -------
    matplotlib.figure.Figure
        Left: contraction; bars, one for each modality, are what is lost without it, linearised,
        their outlines what it would give alone; dots are from draws, ticks linearised, diamonds the
        identifiability index, crosses the share of the posterior variance that is due to the
        discrepancy that takes most. With more than 36 parameters only the least contracted
        are drawn. Right: correlation of the posterior between parameters, of at most 24. Below:
        contraction of fields, cell by cell.

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        When the tree has no group ``linearization``.

    Examples
    --------
    >>> from bayesjoint.plots import plot_identifiability
    >>> from bayesjoint.reports.example import example_tree
    >>> figure = plot_identifiability(example_tree())
    """
    if isinstance(dt, xr.Dataset):
        needed = ("parameter", "contraction", "correlation")
        _arguments.table("plot_identifiability", dt, "identifiability", *needed)
    report = one_point(restored(dt if isinstance(dt, xr.Dataset) else identifiability(dt)))
    whole = report.sizes["parameter"]
    if whole > MOST_ROWS:
        least = np.sort(np.argsort(report["contraction"].values)[:MOST_ROWS])
        report = report.isel(parameter=least)
    paired = _paired(report)
    rows = report.sizes["parameter"]
    maps = {str(k)[: -len(MAP)]: v for k, v in report.data_vars.items() if str(k).endswith(MAP)}
    fig = _with_maps(max(1.5 + 0.24 * rows, 4.6 if paired.size else 0.0), maps)
    top = fig.subfigs[0]
    axes = top.subplots(1, 2, width_ratios=(1.05, 1)) if paired.size else [top.subplots()]
    left = rows < whole
    axes[0].set_title(f"Contraction{f' ({rows} least known of {whole})' if left else ''}")
    _contraction(axes[0], report)
    if paired.size:
        _correlation(axes[1], report, paired)
    return fig


def _with_maps(height: float, maps: dict[str, xr.DataArray]) -> Figure:
    """Figure with room of some inches above, and the contraction of fields below."""
    cut = {name: flat_enough(values) for name, values in maps.items()}
    lines = [list(cut.items())[i : i + 2] for i in range(0, len(cut), 2)]
    heights = [height] + [panel_height([field for _, (field, _) in line], 2) for line in lines]
    fig = new_figure(sum(heights))
    strips = fig.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)
    for strip, line in zip(strips[1:, 0], lines, strict=True):
        axes = strip.subplots(1, 2, squeeze=False)[0]
        for ax in axes[len(line) :]:
            ax.set_axis_off()
        for ax, (name, (field, where)) in zip(axes, line, strict=False):
            ax.set_title(f"{words(name)}: contraction{', ' + where if where else ''}")
            low = min(0.0, float(field.min()))
            if field.ndim == 2:
                draw_image(ax, field, "contraction", cmap=SEQUENTIAL, vmin=low, vmax=1.0)
            else:
                draw_profile(ax, field, "contraction")
    return fig


def _paired(report: xr.Dataset) -> np.ndarray:
    """Names that enter the correlation matrix: those that trade off most, when they are many."""
    matrix = report["correlation"].sel(parameter_other=report["parameter"].values)
    known = np.flatnonzero(matrix.notnull().any("parameter_other"))
    if known.size < 2:
        return np.array([])
    off = np.abs(matrix.values[np.ix_(known, known)]) - np.eye(known.size)
    strongest = np.sort(np.argsort(-off.max(axis=1), kind="stable")[:MOST_PAIRS])
    return report["parameter"].values[known[strongest]]


def _contraction(ax: Axes, report: xr.Dataset) -> None:
    names = [str(name) for name in report["modality"].values]
    where = np.arange(report.sizes["parameter"])
    height = 0.7 / len(names)
    for i, (name, colour) in enumerate(colours(names).items()):
        lost, alone = (
            report[f"contraction_{kind}"].sel(modality=name).values
            for kind in ("by_modality", "alone")
        )
        place: Any = {"y": where + (i + 0.5) * height - 0.35, "height": 0.85 * height}
        ax.barh(width=alone, fill=False, edgecolor=colour, lw=1.0, **place)
        ax.barh(width=lost, color=colour, label=words(name), **place)
    style: Any = {"ms": 16, "mew": 1.5, "color": INK, "ls": ""}
    ax.plot(report["contraction_linearised"], where, "|", label="all together", **style)
    ax.plot(report["index"], where, "D", ms=5, mfc="white", mec=INK, ls="", label="index")
    if "confounding" in report:
        worst = report["confounding"].max("discrepancy")
        style = {"ms": 6, "mew": 1.8, "color": INK, "ls": "", "clip_on": False}
        ax.plot(worst, where, "x", label="posterior variance due to a discrepancy", **style)
    if report.attrs.get("contraction_from") == "draws":
        ax.plot(report["contraction"], where, "o", ms=4.5, color=INK, ls="", label="from draws")
    short_labels(ax, [words(name) for name in report["parameter"].values], axis="y")
    ax.set_ylim(where.size - 0.4, -0.6)
    low = min(0.0, float(report["contraction"].min()))
    ax.set_xlim(1.1 * low - 0.02 * (low < 0), 1.03)
    ax.set_xlabel("contraction  (0: prior unchanged, 1: fixed by the data)")
    grid_lines(ax, "x")
    ax.figure.legend(  # of the strip, below its panels
        *ax.get_legend_handles_labels(), loc="outside lower left", ncols=min(len(names) + 3, 5)
    )


def _correlation(ax: Axes, report: xr.Dataset, names: np.ndarray) -> None:
    matrix = report["correlation"].sel(parameter=names, parameter_other=names).values
    shown = np.where(np.triu(np.ones_like(matrix)) > 0, np.nan, matrix)
    image = ax.imshow(shown, cmap=DIVERGING, vmin=-1, vmax=1)
    if len(names) <= FEW:
        for (i, j), value in np.ndenumerate(shown):
            if i > j:
                colour = readable_on(image.cmap((value + 1) / 2))
                ax.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7.5, color=colour)
    labels = [words(name) for name in names]
    turn = 40 if len(names) <= FEW else 90
    turned: Any = {"rotation": turn, "ha": "right", "va": "center", "rotation_mode": "anchor"}
    ax.set_xticks(np.arange(len(names)), labels, **turned)
    short_labels(ax, labels, axis="y")
    plain(ax)
    ax.set_title("Posterior correlation")
    if len(names) > FEW:
        bar = ax.figure.colorbar(image, ax=ax, fraction=0.04, pad=0.02)
        bar.outline.set_visible(False)
