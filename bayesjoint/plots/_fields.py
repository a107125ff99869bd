"""Drawing a latent on its own dims: profile, image, slice of a volume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from bayesjoint import arrays
from bayesjoint._names import plain
from bayesjoint.plots._axes import Axis, along, dress
from bayesjoint.plots._style import (
    MUTED,
    POSTERIOR,
    grid_lines,
    pretty_units,
    scaled_units,
    with_units,
    words,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UPRIGHT = ("depth", "z", "elevation", "altitude", "height", "northing", "north", "y", "lat")
MOST_STRETCHED = 5.0  # true proportions only up to this ratio of the sides


def one_point[T: (xr.Dataset, xr.DataArray)](values: T) -> T:
    """Average over the points of a tree linearized at draws."""
    return values.mean("point", keep_attrs=True) if "point" in values.dims else values


def points_down(coordinate: xr.DataArray, name: str) -> bool:
    """Whether an axis is drawn downwards: named depth, or stated so (CF convention)."""
    return plain(name).startswith("depth") or str(coordinate.attrs.get("positive", "")) == "down"


def oriented(values: xr.DataArray) -> xr.DataArray:
    """Transpose a 2-D array to (upright, across)."""
    dims = [str(dim) for dim in values.dims]
    for dim in dims:
        if points_down(values[dim], dim):
            return values.transpose(dim, ...)
    for name in UPRIGHT:
        for dim in dims:
            if plain(dim).lower().startswith(name) and (len(name) > 1 or len(plain(dim)) == 1):
                return values.transpose(dim, ...)
    return values


def flat_enough(values: xr.DataArray) -> tuple[xr.DataArray, str]:
    """Cut a volume through the middle of its first dim, and say where; others stay whole."""
    cuts = []
    while values.ndim > 2:
        dim = str(values.dims[0])
        middle = values.sizes[dim] // 2
        cuts.append(f"{words(dim)} = {arrays.plain(values[dim].values[middle])}")
        values = values.isel({dim: middle}, drop=True)
    return values, ", ".join(cuts)


def axis_of(values: xr.DataArray, dim: str) -> Axis:
    """Return the axis along a dim."""
    return along(dim, values[dim].variable)


def positions(values: xr.DataArray, dim: str) -> np.ndarray:
    """Return numbers along a dim; labels become 0, 1, 2 …."""
    return axis_of(values, dim).at


def cell_edges(centres: np.ndarray) -> np.ndarray:
    """Edges of cells around centres that may be unevenly spaced."""
    if centres.size == 1:
        return centres[0] + np.array([-0.5, 0.5])
    middles = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middles[0]], middles, [2 * centres[-1] - middles[-1]]])


def proportion(values: xr.DataArray) -> float:
    """Height over width at which an image is drawn: true to scale where that is readable."""
    upright, across = oriented(values).dims
    if not _same_measure(values, str(upright), str(across)):
        return 0.62
    ratio = float(np.ptp(cell_edges(positions(values, str(upright)))))
    ratio /= float(np.ptp(cell_edges(positions(values, str(across)))))
    return ratio if 1 / MOST_STRETCHED <= ratio <= MOST_STRETCHED else 0.62


def _same_measure(values: xr.DataArray, first: str, second: str) -> bool:
    stated = [str(values[dim].attrs.get("units") or "") for dim in (first, second)]
    numeric = all(axis_of(values, dim).kind == "numbers" for dim in (first, second))
    return numeric and stated[0] == stated[1] and "time" not in (plain(first), plain(second))


def draw_image(
    ax: Axes, values: xr.DataArray, label: str, units: str = "", reach: float = 0.0, **style: Any
) -> None:
    """Draw a 2-D array as cells with a colour bar; depth points down.

    ``reach`` above 0 sets a symmetric colour scale.
    """
    factor, units = scaled_units(values.values, units)
    values = oriented(values) / factor
    if reach > 0:
        style = {"vmin": -reach / factor, "vmax": reach / factor, **style}
    image = draw_cells(ax, values, values.values, **style)
    colour_bar(ax, image, with_units(label, units) if label else pretty_units(units))


def colour_bar(ax: Axes, image: Any, label: str) -> None:
    """Draw a colour bar beside an image, as high as it is."""
    bar = ax.figure.colorbar(image, cax=ax.inset_axes((1.02, 0.0, 0.045, 1.0)))
    bar.outline.set_visible(False)
    bar.set_label(label)


def draw_cells(ax: Axes, values: xr.DataArray, colours: np.ndarray, **style: Any) -> Any:
    """Draw the cells of an oriented 2-D array in numbers to be mapped, or in colours (…, 3)."""
    upright, across = (str(dim) for dim in values.dims)
    x, y = axis_of(values, across), axis_of(values, upright)
    image = ax.pcolormesh(cell_edges(x.at), cell_edges(y.at), colours, **style)
    ratio = proportion(values)
    true_scale = _same_measure(values, upright, across) and ratio != 0.62
    ax.set_aspect("equal" if true_scale else "auto")
    dress(ax.xaxis, x)
    dress(ax.yaxis, y)
    if points_down(values[upright], upright):
        ax.invert_yaxis()
    ax.spines[:].set_visible(False)
    return image


def draw_profile(
    ax: Axes, values: xr.DataArray, label: str, *, colour: str = POSTERIOR, **style: Any
) -> None:
    """Draw a 1-D array as a line; a depth axis stands upright and points down."""
    dim = str(values.dims[0])
    axis = axis_of(values, dim)
    style = {"color": colour, "lw": 1.6, "marker": "o", "ms": 3, **style}
    if points_down(values[dim], dim):
        ax.plot(values.values, axis.at, **style)
        ax.set_xlabel(label)
        dress(ax.yaxis, axis)
        ax.yaxis.set_inverted(True)
    else:
        ax.plot(axis.at, values.values, **style)
        ax.set_ylabel(label)
        dress(ax.xaxis, axis)
    grid_lines(ax)


def shade_profile(ax: Axes, low: xr.DataArray, high: xr.DataArray, **style: Any) -> None:
    """Shade between two 1-D arrays, along the same axes as ``draw_profile``."""
    dim = str(low.dims[0])
    fill = ax.fill_betweenx if points_down(low[dim], dim) else ax.fill_between
    fill(positions(low, dim), low.values, high.values, lw=0, **style)


def note(ax: Axes, text: str) -> None:
    """Write a remark into an empty axes."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, ha="center", va="center", color=MUTED, transform=ax.transAxes)
