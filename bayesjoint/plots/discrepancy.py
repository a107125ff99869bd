"""A figure of the posterior discrepancy, in the units and at the places of the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from bayesjoint.plots._axes import dress
from bayesjoint.plots._data import Chart, chart_of, curves_of, observations, turned
from bayesjoint.plots._style import (
    INK,
    WIDTHS,
    around_zero,
    colours,
    grid_lines,
    new_figure,
    pretty_units,
    scaled_units,
    styled,
    with_units,
    words,
)
from bayesjoint.plots.fit import draw_bands, draw_chart, thinned
from bayesjoint.reports import _read

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure


@styled
def plot_discrepancy(dt: xr.DataTree) -> Figure:
    """Draw what the posterior takes for errors of the physics, by modality.

    Parameters
    ----------
    dt : xarray.DataTree
        From ``bj.sample`` of a problem with a discrepancy.

    Returns
    -------
    matplotlib.figure.Figure
        Many data with positions: maps of the posterior mean and sd of the discrepancy. Else central
        50 and 90 % along a coordinate or an index, one panel for each entry of a short last dim.
        Units of the data.

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        When the tree has no draws of a discrepancy.

    Examples
    --------
    >>> from bayesjoint.plots import plot_discrepancy
    >>> from bayesjoint.reports.example import example_tree
    >>> figure = plot_discrepancy(example_tree(discrepancy=0.4))
    """
    draws, observed = _read.group(dt, "posterior"), observations(dt)
    names = with_discrepancy(dt)
    if not names:
        raise ValueError(
            "the posterior has no discrepancy to draw; give the problem one "
            "(bj.JointDiscrepancy) and sample it"
        )
    maps = {name: chart_of(observed[name]) for name in names}
    heights = [3.0 if maps[name] else 2.2 + turned(observed[name]) for name in names]
    fig = new_figure(sum(heights))
    strips = fig.subfigures(len(names), 1, squeeze=False, height_ratios=heights)
    colour = colours(map(str, observed.data_vars))
    for strip, name in zip(strips.flat, names, strict=True):
        strip.suptitle(words(name), x=0.01, ha="left", fontsize=10, fontweight="bold")
        values, chart = thinned(draws[f"{name}_discrepancy"], observed[name]), maps[name]
        if chart is not None:
            _maps(strip, observed[name], values, chart)
        else:
            _curves(strip, observed[name], values, colour[name])
    return fig


def with_discrepancy(dt: xr.DataTree) -> list[str]:
    """Return the modalities whose discrepancy was drawn."""
    draws = _read.group(dt, "posterior")
    return [str(k) for k in observations(dt).data_vars if f"{k}_discrepancy" in draws]


def _maps(strip: SubFigure, data: xr.DataArray, draws: np.ndarray, chart: Chart) -> None:
    mean, sd = draws.mean(axis=0), draws.std(axis=0)
    factor, units = scaled_units(mean, str(data.attrs.get("units") or ""))
    mean, sd = mean / factor, sd / factor
    left, right = strip.subplots(1, 2)
    label = pretty_units(units)
    draw_chart(left, chart, mean, "posterior mean", label, **around_zero(mean))
    draw_chart(right, chart, sd, "posterior sd", label, cmap=WIDTHS, vmin=0.0)
    right.set_ylabel("")
    right.tick_params(labelleft=False)


def _curves(strip: SubFigure, data: xr.DataArray, draws: np.ndarray, colour: str) -> None:
    panels = curves_of(data)
    factor, units = scaled_units(draws, str(data.attrs.get("units") or ""))
    axes = strip.subplots(1, len(panels), squeeze=False, sharey=True)
    for ax, curve in zip(axes.flat, panels, strict=True):
        draw_bands(ax, draws[:, curve.members] / factor, curve, colour)
        ax.axhline(0.0, color=INK, lw=0.7)
        dress(ax.xaxis, curve.axis, log=True)
        ax.set_title(curve.title)
        grid_lines(ax)
    axes[0, 0].set_ylabel(with_units("discrepancy", units))
