"""A figure that questions the fit: the predictive check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from bayesjoint.plots._axes import counted, dress
from bayesjoint.plots._data import Curve, chart_of, curves_of, logarithmic, observations, turned
from bayesjoint.plots._shared_residuals import (
    draw_correlations,
    draw_pairs,
    pairs_by_surprise,
    say_why_none,
)
from bayesjoint.plots._style import (
    DIVERGING,
    FAINT,
    INK,
    MUTED,
    WIDTH,
    colours,
    grid_lines,
    new_figure,
    scaled_units,
    short_labels,
    styled,
    with_units,
    words,
)
from bayesjoint.plots.fit import draw_bands, draw_chart, draw_data, thinned
from bayesjoint.reports import _read, predictive_check
from bayesjoint.reports._shared_residuals import EXTREME, Residuals
from bayesjoint.reports.predictive import QUANTITIES, residuals

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

THIN = 0.1  # bands thinner than this share of the data's range are drawn without their median
QUANTITY_WORDS = {
    "mean": "mean",
    "sd": "sd",
    "largest": "largest |residual|",
    "autocorrelation": "autocorrelation",
    "chi2": "χ²",
}


@styled
def plot_predictive_check(dt: xr.DataTree) -> Figure:
    """Draw data against what the fitted model would produce, residuals, and p-values.

    Parameters
    ----------
    dt : xarray.DataTree
        From ``bj.sample``.

    Returns
    -------
    matplotlib.figure.Figure
        One row per modality. Left: data and central 50 and 90 % of replicated data (noise and
        discrepancy drawn afresh), both without the median replication where bands would be too
        thin to see; many data with positions: a map of standardised residuals.
        Middle: standardised residuals, with lines at plus and minus 2 (their distribution over
        the replicated one in grey when there are many). Right: posterior predictive p-values.
        Two modalities or more, last row. Left: correlation of residuals of each two, data and
        replications. Middle: the paired residuals whose correlation stands out most. Right:
        p-values of all residuals together, of that correlation, and of the errors that two
        modalities have in common (of several pairs the most extreme).

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        As ``bj.predictive_check``.

    Examples
    --------
    >>> from bayesjoint.plots import plot_predictive_check
    >>> from bayesjoint.reports.example import example_tree
    >>> figure = plot_predictive_check(example_tree())
    """
    blocks, report = residuals(dt), predictive_check(dt)
    together = len(blocks) > 1
    observed, predictive = observations(dt), _read.group(dt, "posterior_predictive")
    heights = [2.55 + turned(observed[name], WIDTH / 2) for name in blocks] + [2.55] * together
    fig = new_figure(sum(heights), apart=0.05)
    strips = fig.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)
    colour = colours(blocks)
    for strip, (name, block) in zip(strips.flat[: len(blocks)], blocks.items(), strict=True):
        axes = _panels(strip, words(name))
        _replicated(axes[0], observed[name], predictive[name], block, colour[name])
        _residuals(axes[1], observed[name], block, colour[name])
        _p_values(axes[2], _quantities(report, name), colour[name])
    if together:
        _together(_panels(strips.flat[-1], "all together"), dt, blocks, report)
    return fig


def _panels(strip: SubFigure, title: str) -> Any:
    strip.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    return strip.subplots(1, 3, width_ratios=(1.5, 1.2, 0.75))


def _quantities(report: xr.Dataset, block: str) -> dict[str, float]:
    """Return the p-values of a block by name, without those that do not exist."""
    p_value = report["p_value"].sel(block=block)
    found = {QUANTITY_WORDS[name]: float(p_value.sel(quantity=name)) for name in QUANTITIES}
    joint = block == report["block"].values[-1]
    return {name: value for name, value in found.items() if np.isfinite(value) or not joint}


def _together(axes: Any, dt: xr.DataTree, blocks: dict[str, Residuals], report: xr.Dataset) -> None:
    """Draw what concerns all modalities, and of two of them the pair that stands out most."""
    pairs, p_values = (
        pairs_by_surprise(report),
        _quantities(report, str(report["block"].values[-1])),
    )
    if pairs:
        draw_correlations(axes[0], report, pairs)
        draw_pairs(axes[1], dt, blocks, pairs[0])
        one = report.isel(modality=pairs[0][0], modality_other=pairs[0][1])
        p_values["correlation"] = float(one["residual_correlation_p_value"])
    else:
        say_why_none(axes[0], report)
        axes[1].set_axis_off()
    shared = report["cross_chi2_p_value"].values
    shared = shared[np.isfinite(shared)]
    if shared.size:
        p_values["errors in common"] = float(shared[np.argmin(np.minimum(shared, 1 - shared))])
    _p_values(axes[2], p_values, INK)


def _flat(data: xr.DataArray) -> Curve:
    """All data of a modality in one panel: along their coordinate, or one after another."""
    panels = curves_of(data)
    if len(panels) == 1:
        return panels[0]
    label = f"datum ({', '.join(map(words, data.dims))})"
    return Curve("", counted(label, data.size), np.arange(data.size), continuous=False)


def _replicated(
    ax: Axes, data: xr.DataArray, replicated: xr.DataArray, block: Residuals, colour: str
) -> None:
    chart = chart_of(data)
    if chart:
        middle = np.median(block.observed, axis=0).ravel()
        style = {"cmap": DIVERGING, "vmin": -4, "vmax": 4}
        draw_chart(ax, chart, middle, "standardised residuals", "", **style)
        return
    curve, observed, draws = _flat(data), data.values.ravel(), thinned(replicated, data)
    middle = np.median(draws, axis=0)
    width = float(np.nanmedian(np.ptp(np.quantile(draws, [0.05, 0.95], axis=0), axis=0)))
    thin = width < THIN * (np.nanmax(observed) - np.nanmin(observed))
    if thin:
        observed, draws = observed - middle, draws - middle
    factor, units = scaled_units(observed, str(data.attrs.get("units") or ""))
    draw_bands(ax, draws / factor, curve, colour)
    draw_data(ax, observed / factor, None, curve)
    if not thin and logarithmic(observed):
        ax.set_yscale("log")
    ax.set_title("data and replicated data" + (", minus median" if thin else ""))
    dress(ax.xaxis, curve.axis, log=True)
    ax.set(ylabel=with_units(str(data.attrs.get("long_name", "data")), units))
    grid_lines(ax)


def _residuals(ax: Axes, data: xr.DataArray, block: Residuals, colour: str) -> None:
    middle = np.median(block.observed, axis=0).ravel()
    if chart_of(data):
        _histogram(ax, middle, block.replicated[:200].ravel(), colour)
        return
    curve = _flat(data)
    for level in (-2.0, 2.0):
        ax.axhline(level, color=MUTED, lw=0.8, ls="--")
    ax.axhline(0.0, color=INK, lw=0.7)
    ax.plot(curve.where, middle, "o", ms=3 if middle.size < 200 else 1.5, color=colour)
    reach = max(3.0, 1.1 * float(np.nanmax(np.abs(middle))))
    dress(ax.xaxis, curve.axis, log=True)
    ax.set(ylim=(-reach, reach), title="standardised residuals")
    grid_lines(ax, "x")


def _histogram(ax: Axes, observed: np.ndarray, replicated: np.ndarray, colour: str) -> None:
    observed, replicated = (v[~np.isnan(v)] for v in (observed, replicated))
    reach = max(4.0, float(np.quantile(np.abs(observed), 0.998)))
    bins = list(np.linspace(-reach, reach, 41))
    ax.hist(replicated, bins=bins, density=True, color=FAINT, label="replicated")
    ax.hist(observed, bins=bins, density=True, histtype="step", color=colour, lw=1.4, label="data")
    ax.set(title="standardised residuals", yticks=[], xlim=(-reach, reach))
    ax.set_ylim(top=1.3 * ax.get_ylim()[1])
    ax.spines["left"].set_visible(False)
    ax.legend(loc="upper right", handlelength=1.2)


def _p_values(ax: Axes, p_values: dict[str, float], colour: str) -> None:
    values = np.array(list(p_values.values()))
    where = np.arange(values.size)
    for edge in (0.0, 1 - EXTREME):
        ax.axvspan(edge, edge + EXTREME, color="#d55e00", alpha=0.25, lw=0)
    ax.hlines(where, 0, 1, color=FAINT, lw=0.8)
    ax.plot(values, where, "o", color=colour, ms=5.5, clip_on=False, zorder=3)
    short_labels(ax, list(p_values), axis="y")
    ax.set(xlim=(0, 1), ylim=(values.size - 0.5, -0.5), xlabel="p-value", title="p-values")
    ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    ax.tick_params(axis="y", length=0, pad=7)
    ax.spines["left"].set_visible(False)
