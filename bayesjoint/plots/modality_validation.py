"""A figure of modalities left out: their data in what all others predict, and how probable."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from bayesjoint import _arguments
from bayesjoint._names import of_user, plain, restored
from bayesjoint.plots._axes import dress
from bayesjoint.plots._data import curves_of
from bayesjoint.plots._style import (
    DATA,
    colours,
    grid_lines,
    new_figure,
    scaled_units,
    styled,
    with_units,
    words,
)
from bayesjoint.plots.fit import draw_bands, draw_data

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


@styled
def plot_leave_modality_out(report: xr.Dataset) -> Figure:
    """Draw how the data of each modality lie in what all others predict.

    Parameters
    ----------
    report : xarray.Dataset
        Of ``bj.leave_modality_out``.

    Returns
    -------
    matplotlib.figure.Figure
        A row for each modality. Left, along a coordinate or an index: data in black and central 50
        and 90 % of predicted data in colour, both without the median prediction, in units of the
        data. Right: log-density of predicted data sets, and of the measured one in black.

    Raises
    ------
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from bayesjoint.plots import plot_leave_modality_out
    >>> rng = np.random.default_rng(1)
    >>> report = xr.Dataset(
    ...     {
    ...         "gravity_predicted": (("sample", "station"), rng.normal(size=(200, 5))),
    ...         "gravity_measured": ("station", np.zeros(5)),
    ...         "log_density_predicted": (("modality", "sample"), rng.normal(-7, 1.6, (1, 200))),
    ...         "log_density": ("modality", [-4.6]),
    ...         "p_value": ("modality", [0.9]),
    ...         "p_value_gain": ("modality", [0.8]),
    ...     },
    ...     {"modality": ["gravity"]},
    ... )
    >>> figure = plot_leave_modality_out(report)
    """
    needed = ("modality", "log_density_predicted", "log_density", "p_value")
    _arguments.table("plot_leave_modality_out", report, "leave_modality_out", *needed)
    report = restored(report)
    names = [str(name) for name in report["modality"].values]
    colour = colours(names)
    fig = new_figure(0.2 + 2.7 * len(names))
    for strip, name in zip(fig.subfigures(len(names), 1, squeeze=False).flat, names, strict=True):
        strip.suptitle(words(name), x=0.01, ha="left", fontsize=10, fontweight="bold")
        left, right = strip.subfigures(1, 2, width_ratios=(2, 1))
        data = of_user(report, f"{name}_measured")
        others = tuple(f"{other}_" for other in names if other != name)
        data = data.drop_vars([c for c in data.coords if plain(c).startswith(others)])
        draw_predicted(left, data, of_user(report, f"{name}_predicted"), colour[name])
        _density(right.subplots(), report.sel(modality=name), colour[name])
    return fig


def draw_predicted(
    strip: SubFigure, data: xr.DataArray, predicted: xr.DataArray, colour: str
) -> None:
    """Draw data and bands of predicted data (dim ``sample``), both without the median of these."""
    panels = curves_of(data)
    draws = predicted.transpose("sample", *data.dims).values.reshape(-1, max(data.size, 1))
    middle = np.median(draws, axis=0)
    apart, draws = data.values.ravel() - middle, draws - middle
    factor, units = scaled_units(np.append(apart, draws), str(data.attrs.get("units") or ""))
    axes = strip.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for ax, curve in zip(axes, panels, strict=True):
        draw_bands(ax, draws[:, curve.members] / factor, curve, colour)
        draw_data(ax, apart[curve.members] / factor, None, curve)
        ax.set_title(curve.title or " ")  # as high as the panel beside
        dress(ax.xaxis, curve.axis, log=True)
        grid_lines(ax)
    axes[0].set_ylabel(with_units("minus median prediction", units))


def _density(ax: Axes, row: xr.Dataset, colour: str) -> None:
    measured = float(row["log_density"])
    ax.hist(row["log_density_predicted"].values, bins=30, color=colour, alpha=0.5)
    ax.axvline(measured, color=DATA, lw=1.5)
    p_values = float(row["p_value"]), float(row["p_value_gain"])
    ax.set_title("p = {:.2g}, of the gain {:.2g}".format(*p_values))
    ax.set(xlabel="log density of all data [nats]", ylabel="predicted data sets")
    grid_lines(ax, "x")
