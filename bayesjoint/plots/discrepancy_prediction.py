"""Figure of the discrepancy that is predicted between and beyond the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from bayesjoint import _arguments
from bayesjoint._names import restored
from bayesjoint.plots._axes import dress, on_axis
from bayesjoint.plots._data import (
    Curve,
    chart_of,
    coordinate_of,
    curves_of,
    observations,
    variable_at_data,
)
from bayesjoint.plots._fields import axis_of, draw_image, flat_enough, oriented
from bayesjoint.plots._style import (
    DATA,
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
from bayesjoint.plots.fit import draw_bands, draw_chart
from bayesjoint.reports import _read

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

ENDING = "_discrepancy"


@styled
def plot_predicted_discrepancy(predicted: xr.Dataset, dt: xr.DataTree | None = None) -> Figure:
    """Draw the discrepancy at new places, and where the data are.

    Parameters
    ----------
    predicted : xarray.Dataset
        From ``bj.predict_discrepancy``.
    dt : xarray.DataTree, optional
        The posterior it was predicted from: its data are drawn where they have the coordinates.

    Returns
    -------
    matplotlib.figure.Figure
        A row for each modality, in the units of its data. Along one coordinate: central 50 and
        90 %, and as dots the data minus the posterior mean of the response. On two coordinates, or
        at many sites: maps of mean and sd, the places of the data as dots. Of more dims the slice
        through the middle of the first ones.

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        When there is no discrepancy to draw.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from bayesjoint.plots import plot_predicted_discrepancy
    >>> drawn = np.random.default_rng(1).normal(size=(200, 30))
    >>> predicted = xr.Dataset(
    ...     {"gauge_discrepancy": (("sample", "time"), drawn, {"units": "mm"})},
    ...     {"time": np.linspace(0.0, 3.0, 30)},
    ... )
    >>> figure = plot_predicted_discrepancy(predicted)
    """
    _arguments.table("plot_predicted_discrepancy", predicted, "predict_discrepancy")
    _arguments.check_given("plot_predicted_discrepancy", dt=dt)
    predicted = restored(predicted)
    names = [str(n).removesuffix(ENDING) for n in predicted if str(n).endswith(ENDING)]
    if not names:
        raise ValueError(
            "plot_predicted_discrepancy: no discrepancy; give what bj.predict_discrepancy returns"
        )
    arrays = {name: predicted[f"{name}{ENDING}"].transpose("sample", ...) for name in names}
    lines = [_is_line(arrays[name]) for name in names]
    heights = [2.4 if line else 3.0 for line in lines]
    fig = new_figure(sum(heights))
    strips = fig.subfigures(len(names), 1, squeeze=False, height_ratios=heights)
    for strip, name, line in zip(strips.flat, names, lines, strict=True):
        strip.suptitle(words(name), x=0.01, ha="left", fontsize=10, fontweight="bold")
        data = _residual(dt, name)
        if line:
            _line(strip, arrays[name], data, colours(names)[name])
        else:
            _maps(strip, arrays[name], data)
    return fig


def _is_line(values: xr.DataArray) -> bool:
    return values.ndim == 2 and chart_of(values.isel(sample=0, drop=True)) is None


def _residual(dt: xr.DataTree | None, name: str) -> xr.DataArray | None:
    """Return data minus the mean response, what the discrepancy and noise have to explain."""
    if dt is None:
        return None
    observed = observations(dt)
    if name not in observed:
        return None
    response = _read.group(dt, "posterior")[f"{name}_response"].mean(("chain", "draw"))
    data = observed[name]
    return data.copy(data=data.values - response.transpose(*data.dims).values)


def _line(strip: SubFigure, values: xr.DataArray, data: xr.DataArray | None, colour: str) -> None:
    curves = curves_of(values.isel(sample=0, drop=True))
    factor, units = scaled_units(values.values, str(values.attrs.get("units") or ""))
    axes = strip.subplots(1, len(curves), squeeze=False, sharey=True)[0]
    for ax, curve in zip(axes, curves, strict=True):
        draw_bands(ax, values.values[:, curve.members] / factor, curve, colour)
        ax.axhline(0.0, color=INK, lw=0.7)
        where = None if data is None or len(curves) > 1 else _of_data(values, data, curve)
        if data is not None and where is not None:
            ax.plot(where, data.values.ravel() / factor, "o", color=DATA, ms=3.2, zorder=3)
        dress(ax.xaxis, curve.axis, log=True)
        ax.set_title(curve.title if where is None else "dots: data minus mean response")
        grid_lines(ax)
    axes[0].set_ylabel(with_units("discrepancy", units))


def _of_data(values: xr.DataArray, data: xr.DataArray, curve: Curve) -> np.ndarray | None:
    """Return where data lie along the one dim of predicted values; None if that is not known."""
    coordinate = coordinate_of(data, str(values.dims[1]))
    if coordinate is None or not curve.continuous:
        return None
    return on_axis(curve.axis, variable_at_data(data, coordinate))


def _maps(strip: SubFigure, values: xr.DataArray, data: xr.DataArray | None) -> None:
    mean, sd = values.mean("sample"), values.std("sample")
    factor, units = scaled_units(mean.values, str(values.attrs.get("units") or ""))
    mean, sd, label = mean / factor, sd / factor, pretty_units(units)
    signed, spread = around_zero(mean.values), {"cmap": WIDTHS, "vmin": 0.0}
    left, right = strip.subplots(1, 2)
    for ax, part, title, style in ((left, mean, "mean", signed), (right, sd, "sd", spread)):
        chart = chart_of(part) if part.ndim == 1 else None
        if chart is not None:
            draw_chart(ax, chart, part.values, title, label, **style)
            continue
        whole, where = flat_enough(part)
        draw_image(ax, whole, "", units, **style)
        ax.set_title(f"{title}, {where}" if where else title)
        if data is not None and not where:
            _places(ax, whole, data)


def _places(ax: Axes, values: xr.DataArray, data: xr.DataArray) -> None:
    """Draw the places of data as dots on a map, without changing its limits."""
    dims = [str(dim) for dim in oriented(values).dims]
    found = [(dim, coordinate_of(data, dim)) for dim in dims]
    y, x = (
        None if c is None else on_axis(axis_of(values, dim), variable_at_data(data, c))
        for dim, c in found
    )
    if x is None or y is None:
        return
    limits = ax.get_xlim(), ax.get_ylim()
    ax.plot(x, y, "o", ms=2.5, mfc="none", mec=INK, mew=0.6)
    ax.set(xlim=limits[0], ylim=limits[1])
