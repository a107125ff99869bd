"""Figures of the resolution matrix: its diagonal and its columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from bayesjoint import arrays
from bayesjoint._names import plain, user, with_marks
from bayesjoint.plots._fields import (
    draw_image,
    draw_profile,
    flat_enough,
    one_point,
    oriented,
    points_down,
    positions,
    proportion,
)
from bayesjoint.plots._style import (
    DIVERGING,
    INK,
    POSTERIOR,
    SEQUENTIAL,
    WIDTH,
    grid_lines,
    new_figure,
    scaled_units,
    short_labels,
    styled,
    with_units,
    words,
)
from bayesjoint.reports import _read, point_spread, resolution
from bayesjoint.reports.resolution import as_attribute

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def panel_height(fields: list[xr.DataArray], columns: int) -> float:
    """Inches that a row of panels needs so that the tallest image keeps its proportions."""
    images = [proportion(field) for field in fields if field.ndim == 2]
    width = WIDTH / columns - 1.6  # labels and colour bar
    return float(np.clip(max(images, default=0.5) * width + 0.95, 2.3, 6.0))


def split_by_shape(
    values: dict[str, xr.DataArray],
) -> tuple[dict[str, float], dict[str, xr.DataArray]]:
    """Scalars as numbers, and fields."""
    scalars = {name: float(value) for name, value in values.items() if value.ndim == 0}
    return scalars, {name: value for name, value in values.items() if value.ndim > 0}


def panels(
    count: int, scalars: int, fields: list[xr.DataArray]
) -> tuple[Figure, list[Axes], Axes | None]:
    """Make panels for the fields, two in a row, and a wide one for bars of scalars below."""
    columns = min(2, max(count, 1))
    rows = -(-count // columns)
    heights = [panel_height(fields, columns)] * rows + [0.75 + 0.24 * scalars] * (scalars > 0)
    fig = new_figure(sum(heights) + 0.1)
    layout = fig.add_gridspec(len(heights), columns, height_ratios=heights)
    axes = [fig.add_subplot(layout[i // columns, i % columns]) for i in range(count)]
    return fig, axes, fig.add_subplot(layout[-1, :]) if scalars else None


@styled
def plot_resolution(dt: xr.DataTree) -> Figure:
    """Draw the diagonal of the resolution matrix: maps and profiles of fields, bars of scalars.

    Parameters
    ----------
    dt : xarray.DataTree
        From ``bj.sample`` or ``bj.linearize``.

    Returns
    -------
    matplotlib.figure.Figure
        Dimensionless; 1 where the data determine a cell by itself. Volumes are cut through the
        middle; several points are averaged.

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        When the tree has no group ``linearization``.

    Examples
    --------
    >>> from bayesjoint.plots import plot_resolution
    >>> from bayesjoint.reports.example import example_tree
    >>> figure = plot_resolution(example_tree())
    """
    ds = _read.linearization(dt)
    report = one_point(with_marks(resolution)(dt))
    scalars, fields = split_by_shape({name: report[user(name)] for name in _read.unknowns(ds)})
    cut = {name: flat_enough(field) for name, field in fields.items()}
    fig, axes, bars = panels(len(fields), len(scalars), [field for field, _ in cut.values()])
    low = min([0.0, *(float(field.min()) for field in fields.values())])
    high = max([0.01, *(float(field.max()) for field in fields.values())])
    for ax, (name, (field, where)) in zip(axes, cut.items(), strict=True):
        share = float(report["dofs_latent"].sel(latent=name))
        title = f"{words(name)}: {share:.1f} degrees of freedom of {fields[name].size}"
        ax.set_title(f"{title}\n{where}" if where else title)
        if field.ndim == 2:
            draw_image(ax, field, "resolution", cmap=SEQUENTIAL, vmin=low, vmax=high)
        else:
            draw_profile(ax, field, "resolution")
    if bars is not None:
        _bars(bars, scalars, "resolution")
        bars.set_xlim(min(0.0, *scalars.values()), 1.02)
    return fig


def _bars(ax: Axes, values: dict[str, float], label: str) -> None:
    ax.barh(np.arange(len(values)), list(values.values()), color=POSTERIOR, height=0.62)
    short_labels(ax, [words(name) for name in values], axis="y")
    ax.invert_yaxis()
    ax.set_xlabel(label)
    ax.axvline(0.0, color=INK, lw=0.8)
    grid_lines(ax, "x")


@styled
def plot_point_spread(dt: xr.DataTree, latent: str, /, **coords: Any) -> Figure:
    """Draw how every latent responds to a unit change in one cell of one latent.

    Parameters
    ----------
    dt : xarray.DataTree
        From ``bj.sample`` or ``bj.linearize``.
    latent : str
        Latent that truly changes.
    **coords
        One value per dim of the latent; the nearest cell is taken and marked.

    Returns
    -------
    matplotlib.figure.Figure
        Fields in their units per unit of the source; scalars in prior standard deviations per
        prior standard deviation of the source.

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        As ``bj.point_spread``.

    Examples
    --------
    >>> from bayesjoint.plots import plot_point_spread
    >>> from bayesjoint.reports.example import example_tree
    >>> figure = plot_point_spread(example_tree(), "density", depth=200.0, x=300.0)
    """
    report = one_point(with_marks(point_spread)(dt, latent, **coords))
    ds = _read.linearization(dt)
    kept = {name: report[user(name)] for name in _read.latents(ds)}
    _, fields = split_by_shape(kept)
    scalars = {name: _scaled(ds, report, name) for name in kept if name not in fields}
    cut = {name: _through(field, report, name) for name, field in fields.items()}
    fig, axes, bars = panels(len(fields), len(scalars), [field for field, _ in cut.values()])
    fig.suptitle(f"Response to a unit change of {words(report.attrs['cell'])}", fontsize=9.5)
    for ax, (name, (field, where)) in zip(axes, cut.items(), strict=True):
        _response(ax, field, f"{words(name)}{', ' + where if where else ''}")
        if name == latent:
            _mark(ax, field, report)
    if bars is not None:
        _bars(bars, scalars, "response [prior sd per prior sd]")
    return fig


def _scaled(ds: xr.Dataset, report: xr.Dataset, name: str) -> float:
    """Response of a scalar in prior sd, to a change of one prior sd of the source."""
    sd = one_point(ds["prior_sd"])
    source = report.attrs["source"]
    grid = _read.on_grid(sd, ds, source)
    there = grid.isel(_chosen(report, grid))
    return float(report[user(name)] * there / sd[_read.cells_of(ds, name)[0]])


def _through(field: xr.DataArray, report: xr.Dataset, name: str) -> tuple[xr.DataArray, str]:
    """Cut a volume through the source cell, another latent's volume through its middle."""
    if name != report.attrs["source"] or field.ndim < 3:
        return flat_enough(field)
    chosen = {dim: i for dim, i in _chosen(report, field).items() if dim in field.dims[:-2]}
    labels = {dim: arrays.plain(field[dim].values[i]) for dim, i in chosen.items()}
    where = ", ".join(f"{words(dim)} = {label}" for dim, label in labels.items())
    return field.isel(chosen, drop=True), where


def _chosen(report: xr.Dataset, grid: xr.DataArray) -> dict[str, int]:
    """Return the position of the source cell along each dim."""
    found = {}
    for dim in map(str, grid.dims):
        labels = [as_attribute(label) for label in grid[dim].values]
        found[dim] = labels.index(report.attrs[f"chosen_{plain(dim)}"])
    return found


def _response(ax: Axes, field: xr.DataArray, title: str) -> None:
    ax.set_title(title)
    units = str(field.attrs.get("units", ""))
    if field.ndim == 1:
        factor, units = scaled_units(field.values, units)
        draw_profile(ax, field / factor, with_units("response", units))
        return
    reach = float(abs(field).max()) or 1.0
    draw_image(ax, field, "response", units, reach, cmap=DIVERGING)


def _mark(ax: Axes, field: xr.DataArray, report: xr.Dataset) -> None:
    dims = [str(dim) for dim in (oriented(field) if field.ndim == 2 else field).dims]
    chosen = _chosen(report, field)
    where = [positions(field, dim)[chosen[dim]] for dim in dims]
    if field.ndim == 2:
        ax.plot(where[1], where[0], marker="x", color="white", ms=9, mew=3.6)
        ax.plot(where[1], where[0], marker="x", color=INK, ms=8, mew=1.8)
    elif points_down(field[dims[0]], dims[0]):
        ax.axhline(where[0], color=INK, lw=0.8, ls=":")
    else:
        ax.axvline(where[0], color=INK, lw=0.8, ls=":")
