"""A figure of tension: the suspiciousness among consistent data, and where modalities differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import scipy.stats
import xarray as xr

from bayesjoint import _arguments
from bayesjoint.plots._style import (
    FAINT,
    INK,
    MUTED,
    PRIOR,
    colours,
    grid_lines,
    new_figure,
    short_labels,
    styled,
    words,
)
from bayesjoint.reports import tension

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ROWS = 14  # parameters, those that differ most
WORST = "#d55e00"
CONTRADICT = 0.0027  # p-value of three sigma


@styled
def plot_tension(
    dt: xr.DataTree | xr.Dataset,
    separate: Mapping[str, xr.DataTree] | xr.DataTree | None = None,
    null: xr.Dataset | None = None,
) -> Figure:
    """Draw whether modalities agree: suspiciousness, and the parameters they share.

    Parameters
    ----------
    dt, separate, null
        As for ``bj.tension``; or its report as ``dt``, and ``null`` to be drawn.

    Returns
    -------
    matplotlib.figure.Figure
        Above: ln S of the data, with its Monte Carlo error, on the distribution that consistent
        data have: simulated where ``null`` is given, else the chi-squared's. Below: each shared
        parameter as each modality by itself has it (open) and the joint fit (filled), with one sd,
        from the joint estimate in units of the smallest sd of a modality; at the right, the largest
        difference of two modalities in its sd. Of many parameters the 14 that differ most.

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        As ``bj.tension``.

    Examples
    --------
    >>> from bayesjoint.plots import plot_tension
    >>> from bayesjoint.reports.example import example_tree
    >>> alone = {name: example_tree(modalities=[name]) for name in ("gravity", "arrivals")}
    >>> figure = plot_tension(example_tree(), alone)
    """
    if null is not None:
        _arguments.table("plot_tension", null, "tension_null", "ln_suspiciousness")
    if isinstance(dt, xr.Dataset):
        needed = ("ln_suspiciousness", "ln_suspiciousness_mcse", "d", "difference", "parameter")
        _arguments.table("plot_tension", dt, "tension", *needed)
        report = dt
    elif separate is None:
        raise ValueError("plot_tension: give the fits apart as well, as in bj.tension")
    else:
        report = tension(dt, separate, null)
    rows = _largest(report)
    heights = [2.5] + [0.9 + 0.42 * rows.sizes["parameter"]] * bool(rows.sizes["parameter"])
    fig = new_figure(sum(heights))
    axes = fig.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    _suspiciousness(axes[0], report, null)
    if len(heights) > 1:
        _parameters(axes[1], rows)
    return fig


def _largest(report: xr.Dataset) -> xr.Dataset:
    """Return the report of the parameters that differ most, these first."""
    report = report.assign(apart=abs(report["difference"]).max(["modality", "modality_other"]))
    return report.isel(parameter=np.argsort(-report["apart"].values)[:MOST_ROWS])


def _suspiciousness(ax: Axes, report: xr.Dataset, null: xr.Dataset | None) -> None:
    value, error = float(report["ln_suspiciousness"]), float(report["ln_suspiciousness_mcse"])
    if null is not None:
        simulated = null["ln_suspiciousness"].dropna("replicate").values
        bins = int(np.clip(np.sqrt(simulated.size), 8, 60))
        ax.hist(simulated, bins=bins, density=True, color=PRIOR, label="simulated consistent data")
    elif float(report["d"]) > 0:
        where, density = expected(float(report["d"]))
        ax.fill_between(where, density, color=PRIOR, lw=0, label="consistent data (chi-squared)")
    else:
        ax.text(0.01, 0.6, report.attrs["reason"], transform=ax.transAxes, color=MUTED, wrap=True)
    sigma = float(report["sigma"])
    colour = WORST if sigma >= 3.0 else INK
    ax.axvspan(value - 2 * error, value + 2 * error, ymax=0.8, color=colour, alpha=0.15, lw=0)
    least = "> " if float(report["p_value"]) <= report.attrs["p_value_smallest"] else ""
    told = f", {least}{sigma:.1f} sigma" if np.isfinite(sigma) else ""
    number = f"{value:.1f}".replace("-", "−")
    ax.axvline(value, ymax=0.8, color=colour, lw=1.6, label=f"data: ln S = {number}{told}")
    ax.axvline(0.0, ymax=0.8, color=MUTED, lw=0.8, ls=":")
    ax.set(title="Are they better explained together or apart?", yticks=[])
    ax.set_ylim(0, 1.25 * ax.get_ylim()[1])
    ax.set_xlabel("ln S   (nats; the further to the left, the more they contradict each other)")
    ax.spines["left"].set_visible(False)
    ax.margins(x=0.08)
    ax.legend(loc="upper left", ncols=2)


def expected(d: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the density of ``ln S = (d - chi^2_d) / 2``."""
    chi2 = np.linspace(1e-3 if d > 2 else 0.05, scipy.stats.chi2.isf(2e-4, d), 400)
    return (d - chi2) / 2.0, 2.0 * scipy.stats.chi2.pdf(chi2, d)


def _parameters(ax: Axes, rows: xr.Dataset) -> None:
    names = [str(name) for name in rows["modality"].values]
    colour, step = colours(names), 0.5 / max(len(names), 2)
    for y in range(rows.sizes["parameter"]):
        one = rows.isel(parameter=y)
        held = [i for i in range(len(names)) if np.isfinite(one["value"][i])]
        scale = float(one["sd"].min())
        ax.axhline(y + 0.5, color=FAINT, lw=0.7)
        sd = float(one["sd_joint"]) / scale
        ax.errorbar(0.0, y - 0.27, xerr=sd, fmt="o", color=INK, ms=5.5, lw=1.4)
        for i in held:
            c, at = colour[names[i]], y - 0.27 + step * (i + 1)
            where = (float(one["value"][i]) - float(one["value_joint"])) / scale
            width = float(one["sd"][i]) / scale
            ax.errorbar(where, at, xerr=width, fmt="o", mfc="white", mec=c, color=c, ms=5.5, lw=1.4)
        apart = float(one["apart"])
        ax.text(
            1.01, y, f"{apart:.1f} sd", transform=ax.get_yaxis_transform(), va="center",
            color=WORST if apart > 3.0 else MUTED, fontsize=8,
        )  # fmt: skip
    ax.axvline(0.0, color=MUTED, lw=0.8)
    short_labels(ax, [words(label) for label in rows["parameter"].values], axis="y")
    ax.set_ylim(rows.sizes["parameter"] - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.set_title("What they share: each by itself, and jointly")
    ax.set_xlabel("from the joint estimate   [smallest sd of a modality]")
    grid_lines(ax, "x")
    _legend(ax, names, colour)


def _legend(ax: Axes, names: list[str], colour: dict[str, str]) -> None:
    handles = [ax.plot([], [], "o", color=INK, ms=5.5)[0]]
    handles += [
        ax.plot([], [], "o", mfc="white", mec=colour[n], color=colour[n], ms=5.5)[0] for n in names
    ]
    labels = ["joint", *(f"{words(name)} alone" for name in names)]
    ax.figure.legend(handles, labels, loc="outside lower left", ncols=len(labels))
