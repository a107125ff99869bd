"""A figure of memberships: the probability of each rock unit in each cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from bayesjoint._names import with_marks
from bayesjoint.plots._fields import (
    draw_cells,
    draw_image,
    draw_profile,
    flat_enough,
    oriented,
    points_down,
    proportion,
)
from bayesjoint.plots._style import SEQUENTIAL, WIDTH, colours, new_figure, styled, words
from bayesjoint.reports import membership

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACROSS = 3  # panels in a row
FAINTEST = 0.15  # strength of the colour where all units are as likely


@styled
def plot_membership(dt: xr.DataTree, mixture: str | None = None) -> Figure:
    """Draw the probability of each rock unit, and the most likely one.

    Parameters
    ----------
    dt : xarray.DataTree
        From ``bj.sample`` or ``bj.linearize``, of a problem with a `bj.PropertyMixture`.
    mixture : str, optional
        Name of the mixture; needed where there are several.

    Returns
    -------
    matplotlib.figure.Figure
        A map of the probability of each unit, and one of the most likely unit, the paler the less
        sure; of a volume, a slice through its middle.  In one dimension a line for each unit, its
        probability before the data dashed.

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        As ``bj.membership``.

    Examples
    --------
    >>> from bayesjoint.plots import plot_membership
    >>> from bayesjoint.reports.example_units import example_units
    >>> figure = plot_membership(example_units())
    """
    report = with_marks(membership)(dt, mixture)
    if report["most_likely"].ndim == 1:
        return _profile(report)
    maps = [flat_enough(report["probability"].sel(unit=u)) for u in report["unit"].values]
    columns = min(len(maps) + 1, ACROSS)
    rows = -(-(len(maps) + 1) // columns)
    height = proportion(maps[0][0]) * (WIDTH / columns - 1.0) + 0.97
    fig = new_figure(rows * float(np.clip(height, 1.8, 4.5)) + 0.25)
    axes = fig.subplots(rows, columns, squeeze=False).ravel()
    for ax, (values, where) in zip(axes, maps, strict=False):
        name = str(values["unit"].item())
        before, now = (float(report[v].sel(unit=name)) for v in ("prior_probability", "share"))
        share = f"volume {now:.2f}, prior {before:.2f}"
        ax.set_title(f"{words(name)}{', ' + where if where else ''}\n{share}")
        draw_image(ax, values, "probability", cmap=SEQUENTIAL, vmin=0.0, vmax=1.0)
    _most_likely(axes[len(maps)], report)
    for ax in axes[len(maps) + 1 :]:
        ax.set_axis_off()
    return fig


def _title(report: xr.Dataset) -> str:
    return "Most likely unit" + (" at the mode" if report.attrs["local"] else "")


def _most_likely(ax: Axes, report: xr.Dataset) -> None:
    """Draw the most likely unit of each cell, mixed with white where it is not sure."""
    units = [str(name) for name in report["unit"].values]
    shown, _ = flat_enough(report["probability"].transpose(..., "unit").isel(unit=0, drop=True))
    whole = report["probability"].max("unit")
    chance, likely = (oriented(flat_enough(v)[0]) for v in (whole, report["most_likely"]))
    ax.set_title(f"{_title(report)}\npale where it is not sure")
    palette = colours(units)
    inks = np.array([_rgb(palette[name]) for name in units])
    index = np.searchsorted(np.sort(units), likely.values)
    ink = inks[np.argsort(units)[index]]
    least = 1.0 / max(len(units), 2)
    strength = FAINTEST + (1 - FAINTEST) * np.clip((chance.values - least) / (1 - least), 0, 1)
    strength = strength[..., None]
    draw_cells(ax, oriented(shown), strength * ink + (1 - strength))
    handles = [ax.plot([], [], "s", color=palette[name], ms=7)[0] for name in units]
    ax.figure.legend(
        handles, [words(name) for name in units], loc="outside lower right",
        ncols=min(len(units), 5),
    )  # fmt: skip


def _rgb(colour: str) -> tuple[float, float, float]:
    from matplotlib.colors import to_rgb

    return to_rgb(colour)


def _profile(report: xr.Dataset) -> Figure:
    units = [str(name) for name in report["unit"].values]
    palette, values = colours(units), report["probability"]
    (dim,) = (str(d) for d in report["most_likely"].dims)
    upright = points_down(values[dim], dim)
    fig = new_figure(4.2 if upright else 3.0, 4.5 if upright else WIDTH)
    ax = fig.subplots()
    for name in units:
        draw_profile(ax, values.sel(unit=name), "probability", colour=palette[name])
        line = ax.axvline if upright else ax.axhline
        line(float(report["prior_probability"].sel(unit=name)), ls="--", color=palette[name], lw=1)
    (ax.set_xlim if upright else ax.set_ylim)(-0.03, 1.03)
    ax.set_title("Probability of each unit" + (" at the mode" if report.attrs["local"] else ""))
    handles = [ax.plot([], [], "-", color=palette[name])[0] for name in units]
    handles.append(ax.plot([], [], "--", color="0.5", lw=1)[0])
    labels = [*map(words, units), "before the data"]
    ax.figure.legend(handles, labels, loc="outside lower left", ncols=min(len(labels), 4))
    return fig
