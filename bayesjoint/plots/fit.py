"""Figure of the fit: data, and the responses that the posterior predicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from bayesjoint._names import plain, restored
from bayesjoint.plots._axes import dress
from bayesjoint.plots._data import (
    Chart,
    Curve,
    chart_of,
    curves_of,
    logarithmic,
    observations,
    turned,
)
from bayesjoint.plots._fields import cell_edges, colour_bar
from bayesjoint.plots._style import (
    DATA,
    POSTERIOR,
    SEQUENTIAL,
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
from bayesjoint.reports import _read

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

MOST_DRAWS = 500  # enough for the ends of a 90 % band
MOST_BARS = 150  # intervals of single data that stay readable
BANDS = ((0.05, 0.95, 0.22), (0.25, 0.75, 0.34))


def thinned(draws: xr.DataArray, data: xr.DataArray, most: int = MOST_DRAWS) -> np.ndarray:
    """Evenly spaced draws, (draw, datum)."""
    values = draws.transpose("chain", "draw", *data.dims).values.reshape(-1, max(data.size, 1))
    return values[:: -(-values.shape[0] // most)]


@styled
def plot_fit(dt: xr.DataTree) -> Figure:
    """Draw the data of every modality with the responses of the posterior.

    Parameters
    ----------
    dt : xarray.DataTree
        From ``bj.sample``.

    Returns
    -------
    matplotlib.figure.Figure
        Along a coordinate, names or an index: data in black with their noise sd where it is known,
        central 50 and 90 % of the responses in colour (without noise); below, both without the
        median response. A panel for each entry of a short dim. Many data with positions, or on
        two coordinates: maps of the data, of the mean response and of the difference. Units of the
        data.

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        When the tree lacks ``posterior`` or ``observed_data``.

    Examples
    --------
    >>> from bayesjoint.plots import plot_fit
    >>> from bayesjoint.reports.example import example_tree
    >>> figure = plot_fit(example_tree())
    """
    posterior, observed = _read.group(dt, "posterior"), observations(dt)
    names = [str(name) for name in observed.data_vars]
    heights = [3.1 if chart_of(observed[name]) else 3.4 + turned(observed[name]) for name in names]
    fig = new_figure(max(sum(heights), 1.0))
    strips = fig.subfigures(max(len(names), 1), 1, squeeze=False, height_ratios=heights or None)
    colour = colours(names)
    for strip, name in zip(strips.flat, names, strict=False):
        responses = thinned(posterior[f"{name}_response"], observed[name])
        chart = chart_of(observed[name])
        strip.suptitle(words(name), x=0.01, ha="left", fontsize=10, fontweight="bold")
        if chart:
            _maps(strip, observed[name], responses, chart)
        else:
            _curves(strip, observed[name], responses, noise_sd(dt, name), colour[name])
    return fig


def noise_sd(dt: xr.DataTree, name: str) -> np.ndarray | None:
    """Noise sd of a modality, flat; an unknown factor at its posterior median; None without."""
    if not _read.has_groups(dt, "constant_data"):
        return None
    stored = restored(dt["constant_data"].to_dataset())
    key = f"{name}_noise_sd"
    if key not in stored:
        return None
    like = dt["observed_data"].to_dataset()[name]
    dims = {dim: plain(dim) for dim in stored[key].dims}
    known = stored[key].rename({dim: own for dim, own in dims.items() if dim != own})
    stated = np.asarray(known.broadcast_like(like).transpose(*like.dims).values, float)
    posterior = _read.group(dt, "posterior")
    factors = [posterior[k] for k in _scales(dt, name) if k in posterior]
    return stated.ravel() * float(np.prod([factor.median() for factor in factors]))


def _scales(dt: xr.DataTree, name: str) -> list[str]:
    """Return names of an unknown scale of the noise; a latent of such a name is none."""
    names = [f"{name}_sd", f"{name}_scale"]
    if not _read.has_groups(dt, "linearization"):
        return names
    hyper = _read.listed(_read.linearization(dt), "hyperparameters")
    return [name for name in names if name in hyper]


def _curves(
    strip: SubFigure, data: xr.DataArray, responses: np.ndarray, sd: np.ndarray | None, colour: str
) -> None:
    """Draw data with responses, and below both without the median response."""
    panels = curves_of(data)
    factor, units = scaled_units(data.values, str(data.attrs.get("units") or ""))
    axes = strip.subplots(2, len(panels), squeeze=False, sharex="col", height_ratios=(1.7, 1))
    for pair, curve in zip(axes.T, panels, strict=True):
        observed = data.values.ravel()[curve.members] / factor
        draws = responses[:, curve.members] / factor
        error = None if sd is None else sd[curve.members] / factor
        pair[0].set_title(curve.title)
        middle = np.median(draws, axis=0)
        _with_bands(pair[0], observed, draws, error, curve, colour)
        _with_bands(pair[1], observed - middle, draws - middle, error, curve, colour)
        if logarithmic(observed):
            pair[0].set_yscale("log")
        pair[1].axhline(0.0, color=colour, lw=0.8)
        dress(pair[1].xaxis, curve.axis, log=True)
    axes[0, 0].set_ylabel(with_units(str(data.attrs.get("long_name", "data")), units))
    axes[1, 0].set_ylabel("minus median\nresponse")
    strip.align_ylabels(axes[:, 0])


def _with_bands(
    ax: Axes,
    observed: np.ndarray,
    draws: np.ndarray,
    error: np.ndarray | None,
    curve: Curve,
    colour: str,
) -> None:
    draw_bands(ax, draws, curve, colour)
    draw_data(ax, observed, error, curve)
    grid_lines(ax)


def draw_bands(ax: Axes, draws: np.ndarray, curve: Curve, colour: str = POSTERIOR) -> None:
    """Shade central 50 and 90 % of draws (draw, datum); as bars where neighbours are unrelated."""
    levels = np.quantile(draws, [end for low, high, _ in BANDS for end in (low, high)], axis=0)
    order = np.argsort(curve.where)
    for i, (_, _, alpha) in enumerate(BANDS):
        where, low, high = curve.where[order], levels[2 * i, order], levels[2 * i + 1, order]
        if curve.continuous:
            ax.fill_between(where, low, high, color=colour, alpha=alpha, lw=0)
        elif where.size <= MOST_BARS:
            thick = float(np.clip(160 / where.size, 1.2, 4.0))
            ax.vlines(where, low, high, color=colour, alpha=2 * alpha, lw=thick)
        else:
            ax.fill_between(where, low, high, color=colour, alpha=alpha, lw=0, step="mid")
    if curve.continuous:
        ax.plot(curve.where[order], np.median(draws, axis=0)[order], color=colour, lw=1.1)


def draw_data(ax: Axes, data: np.ndarray, error: np.ndarray | None, curve: Curve) -> None:
    """Draw data as points, with their noise sd where it is known."""
    if data.size > MOST_BARS:
        ax.plot(curve.where, data, ".", ms=2, color=DATA, alpha=0.5, mew=0, zorder=3)
    else:
        style: Any = {"fmt": "o", "ms": 3.2, "color": DATA, "elinewidth": 0.7, "zorder": 3}
        ax.errorbar(curve.where, data, yerr=error, **style)


def _maps(strip: SubFigure, data: xr.DataArray, responses: np.ndarray, chart: Chart) -> None:
    factor, units = scaled_units(data.values, str(data.attrs.get("units") or ""))
    observed, mean = data.values.ravel() / factor, responses.mean(axis=0) / factor
    low, high = np.nanquantile(np.concatenate([observed, mean]), [0.005, 0.995])
    units = pretty_units(units)
    axes = strip.subplots(1, 3)
    same = {"cmap": SEQUENTIAL, "vmin": low, "vmax": high}
    draw_chart(axes[0], chart, observed, "data", units, **same)
    draw_chart(axes[1], chart, mean, "mean response", units, **same)
    apart = observed - mean
    draw_chart(axes[2], chart, apart, "data minus response", units, **around_zero(apart))
    for ax in axes[1:]:
        ax.set_ylabel("")
        ax.tick_params(labelleft=False)


def draw_chart(
    ax: Axes, chart: Chart, values: np.ndarray, title: str, label: str, **style: Any
) -> None:
    """Draw data on their map: as an image where their places are a grid, else as points."""
    style = {"rasterized": True, **style}
    if (image := chart.image(values)) is not None:
        x, y, cells = image
        points: Any = ax.pcolormesh(cell_edges(x), cell_edges(y), cells, **style)
    else:
        size = float(np.clip(9000 / values.size, 1.5, 30))
        place = chart.across.at, chart.upright.at
        points = ax.scatter(*place, c=values, s=size, marker="s", lw=0, **style)
    ax.set_title(title)
    ax.set_aspect("equal" if chart.to_scale else "auto")
    dress(ax.xaxis, chart.across, most=4)
    dress(ax.yaxis, chart.upright, most=5)
    if chart.downwards:
        ax.yaxis.set_inverted(True)
    colour_bar(ax, points, label)
