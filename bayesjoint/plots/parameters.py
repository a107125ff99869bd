"""Figure of identifiability: contraction by parameter, and what trades off with what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from bayesjoint.plots._fields import one_point
from bayesjoint.plots._style import (
    DIVERGING,
    INK,
    colours,
    grid_lines,
    new_figure,
    plain,
    readable_on,
    short_labels,
    styled,
    words,
)
from bayesjoint.reports import identifiability

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ROWS = 36  # rows of bars that stay readable
MOST_PAIRS = 24  # parameters in the correlation matrix
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
        Left: contraction; bars are linearised and coloured by modality, dots are from draws,
        diamonds the identifiability index. With more than 36 parameters only the least contracted
        are drawn. Right: correlation of the posterior between parameters, of at most 24.

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
    report = one_point(dt if isinstance(dt, xr.Dataset) else identifiability(dt))
    whole = report.sizes["parameter"]
    if whole > MOST_ROWS:
        least = np.sort(np.argsort(report["contraction"].values)[:MOST_ROWS])
        report = report.isel(parameter=least)
    paired = _paired(report)
    rows = report.sizes["parameter"]
    fig = new_figure(max(1.5 + 0.24 * rows, 4.6 if paired.size else 0.0))
    axes = fig.subplots(1, 2, width_ratios=(1.05, 1)) if paired.size else [fig.add_subplot()]
    left = rows < whole
    axes[0].set_title(f"Contraction{f' ({rows} least known of {whole})' if left else ''}")
    _contraction(axes[0], report)
    if paired.size:
        _correlation(axes[1], report, paired)
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
    start = np.zeros(where.size)
    for name, colour in colours(names).items():
        share = report["contraction_by_modality"].sel(modality=name).values
        ax.barh(where, share, left=start, color=colour, height=0.62, label=words(name))
        start = start + share
    ax.plot(report["index"], where, "D", ms=5, mfc="white", mec=INK, ls="", label="index")
    if report.attrs.get("contraction_from") == "draws":
        ax.plot(report["contraction"], where, "o", ms=4.5, color=INK, ls="", label="from draws")
    short_labels(ax, [words(name) for name in report["parameter"].values], axis="y")
    ax.set_ylim(where.size - 0.4, -0.6)
    low = min(0.0, float(report["contraction"].min()))
    ax.set_xlim(1.1 * low - 0.02 * (low < 0), 1.03)
    ax.set_xlabel("contraction  (0: prior unchanged, 1: fixed by the data)")
    grid_lines(ax, "x")
    ax.figure.legend(
        *ax.get_legend_handles_labels(), loc="outside lower left", ncols=min(len(names) + 2, 5)
    )


def _correlation(ax: Axes, report: xr.Dataset, names: np.ndarray) -> None:
    matrix = report["correlation"].sel(parameter=names, parameter_other=names).values
    shown = np.where(np.triu(np.ones_like(matrix), 1) > 0, np.nan, matrix)
    image = ax.imshow(shown, cmap=DIVERGING, vmin=-1, vmax=1)
    if len(names) <= FEW:
        for (i, j), value in np.ndenumerate(shown):
            if i > j:
                colour = readable_on(image.cmap((value + 1) / 2))
                ax.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7.5, color=colour)
    labels = [words(name) for name in names]
    ax.set_xticks(np.arange(len(names)), labels, rotation=40, ha="right", rotation_mode="anchor")
    short_labels(ax, labels, axis="y")
    plain(ax)
    ax.set_title("Posterior correlation")
    if len(names) > FEW:
        bar = ax.figure.colorbar(image, ax=ax, fraction=0.04, pad=0.02)
        bar.outline.set_visible(False)
