"""A figure of leave-one-out predictions: their calibration, and data that cannot be left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from bayesjoint import _arguments
from bayesjoint._names import restored
from bayesjoint.plots._style import (
    FAINT,
    INK,
    MUTED,
    colours,
    grid_lines,
    new_figure,
    styled,
    words,
)
from bayesjoint.reports import leave_one_out
from bayesjoint.reports.leave_one_out import TOO_FAR

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAND = 1.358  # over sqrt(n): 95 % of uniform samples stay within (Kolmogorov 1933)
WORST = "#d55e00"


@styled
def plot_leave_one_out(dt: xr.DataTree | xr.Dataset) -> Figure:
    """Draw how each modality's data lie in what all other data predict.

    Parameters
    ----------
    dt : xarray.DataTree or xarray.Dataset
        From ``bj.sample``; or the report of ``bj.leave_one_out``.

    Returns
    -------
    matplotlib.figure.Figure
        A row for each modality. Left: share of data below a predicted probability, less that
        probability; flat when predictions are right, falling then rising to the right of zero when
        intervals are too wide; the grey band holds 95 % of independent samples. Right: Pareto's k
        of each datum in the order of the data; above 0.7 the datum cannot be left out this way.

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        As ``bj.leave_one_out``.

    Examples
    --------
    >>> from bayesjoint.plots import plot_leave_one_out
    >>> from bayesjoint.reports.example import example_tree
    >>> figure = plot_leave_one_out(example_tree())
    """
    if isinstance(dt, xr.Dataset):
        _arguments.table("plot_leave_one_out", dt, "leave_one_out", "modality", "elpd", "p_value")
    report = restored(dt if isinstance(dt, xr.Dataset) else leave_one_out(dt))
    names = [str(name) for name in report["modality"].values]
    colour = colours(names)
    fig = new_figure(0.4 + 2.3 * len(names), apart=0.04)
    axes = fig.subplots(len(names), 2, width_ratios=[3, 2], squeeze=False)
    for (left, right), name in zip(axes, names, strict=True):
        draw_calibration(left, report[f"{name}_pit"].values.ravel(), colour[name])
        row = report.sel(modality=name)
        p_value, elpd = float(row["p_value"]), float(row["elpd"])
        shown = f"{elpd:.1f}".replace("-", "−")
        told = f"p = {p_value:.2g}, " if np.isfinite(p_value) else ""  # of several data
        left.set_title(f"{words(name)}: {told}log predictive density {shown}")
        draw_pareto(right, report[f"{name}_pareto_k"].values.ravel(), colour[name])
    axes[-1, 0].set_xlabel("predicted probability of a smaller datum")
    axes[-1, 1].set_xlabel("datum")
    return fig


def draw_calibration(ax: Axes, pit: np.ndarray, colour: str) -> None:
    """Draw by how much the share of smaller probabilities exceeds each, with its 95 % band."""
    ordered, n = np.sort(pit), pit.size
    where = np.concatenate([[0.0], np.repeat(ordered, 2), [1.0]])
    share = np.concatenate([[0.0], np.repeat(np.arange(n + 1) / n, 2)[1:-1], [1.0]])
    reach = BAND / np.sqrt(n)
    ax.axhspan(-reach, reach, color=FAINT, lw=0)
    ax.axhline(0.0, color=MUTED, lw=0.8)
    difference = share - where
    worst = max(float(np.abs(difference).max()), reach)
    ax.plot(where, difference, color=colour, lw=1.5)
    ax.set(xlim=(0, 1), ylim=(-1.15 * worst, 1.15 * worst), ylabel="share − probability")


def draw_pareto(ax: Axes, pareto_k: np.ndarray, colour: str) -> None:
    """Draw Pareto's k one after another, and from where it is too large; infinite ones on top."""
    far, index = pareto_k > TOO_FAR, np.arange(pareto_k.size)
    finite = pareto_k[np.isfinite(pareto_k)]
    top = max(0.8, 1.1 * finite.max(initial=0.0))
    pareto_k = np.minimum(pareto_k, top)
    ax.plot(index[~far], pareto_k[~far], "o", color=colour, ms=3.5, alpha=0.7, mew=0)
    ax.plot(index[far], pareto_k[far], "o", color=WORST, ms=4.5)
    ax.axhline(TOO_FAR, color=INK, lw=0.8, ls="--")
    ax.set_ylim(min(0.0, finite.min(initial=0.0)) - 0.05, 1.04 * top)
    ax.set(title="Pareto's k")
    ax.locator_params(axis="x", integer=True)
    grid_lines(ax, "y")
