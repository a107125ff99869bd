"""Figures of the posterior itself: densities of scalars, maps of fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from bayesjoint import arrays
from bayesjoint.plots._fields import (
    draw_image,
    draw_profile,
    flat_enough,
    note,
    one_point,
    shade_profile,
)
from bayesjoint.plots._style import (
    MUTED,
    POSTERIOR,
    PRIOR,
    SEQUENTIAL,
    WIDTHS,
    new_figure,
    pretty_units,
    scaled_units,
    styled,
    with_units,
    words,
)
from bayesjoint.plots.resolution import panel_height
from bayesjoint.reports import _read
from bayesjoint.reports._rows import Row, flat_draws, rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 4
MOST_SCALARS = 40

# where, density there, ends of the central 90 %
Density = tuple[np.ndarray, np.ndarray, tuple[float, float]]


@styled
def plot_posterior(dt: xr.DataTree, latents: Sequence[str] | None = None) -> Figure:
    """Draw the posterior: a density for each scalar, mean and width of each field.

    Parameters
    ----------
    dt : xarray.DataTree
        From ``bj.sample``, or from ``bj.linearize`` for the Gaussian near the point.
    latents : sequence of str, optional
        Latents and hyperparameters to draw; default: all of them.

    Returns
    -------
    matplotlib.figure.Figure
        Scalars, and elements of latents of up to 50: density in blue over the prior in grey, with
        the central 90 % interval as a bar below. Fields: mean and standard deviation, in their
        units; profiles with their central 50 and 90 % bands. Volumes are cut through the middle.

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        When a name does not exist, or the tree has no group ``linearization``.

    Examples
    --------
    >>> from bayesjoint.plots import plot_posterior
    >>> from bayesjoint.reports.example import example_tree
    >>> figure = plot_posterior(example_tree(), ["gain"])
    """
    ds = _read.linearization(dt)
    names = _read.unknowns(ds) if latents is None else _read.require_known(ds, latents)
    table = [row for row in rows(ds) if row.latent in names]
    fields = [name for name in names if drawn_as_field(ds, name)]
    scalars = [row for row in table if row.latent not in fields][:MOST_SCALARS]
    heights = [1.75] * -(-len(scalars) // COLUMNS) + [_height(ds, name) for name in fields]
    fig = new_figure(max(sum(heights), 1.0))
    layout = fig.add_gridspec(max(len(heights), 1), 2 * COLUMNS, height_ratios=heights or None)
    draws = _draws(dt, "posterior", ds), _draws(dt, "prior", ds)
    for i, row in enumerate(scalars):
        column = 2 * (i % COLUMNS)
        ax = fig.add_subplot(layout[i // COLUMNS, column : column + 2])
        _density(ax, row, ds, *draws)
    for i, name in enumerate(fields, start=len(heights) - len(fields)):
        halves = [fig.add_subplot(layout[i, :COLUMNS]), fig.add_subplot(layout[i, COLUMNS:])]
        _field(halves, name, ds, draws[0])
    return fig


def drawn_as_field(ds: xr.Dataset, name: str) -> bool:
    """Whether a latent is drawn as a map or profile: on numbers or times, or of many elements."""
    grid = _read.template(ds, name)
    numeric = all(arrays.is_measured(grid[dim]) for dim in grid.dims)
    return grid.ndim > 0 and (grid.size > 50 or (numeric and grid.size > 3))


def _height(ds: xr.Dataset, name: str) -> float:
    return panel_height([flat_enough(_read.template(ds, name))[0]], 2)


def _draws(dt: xr.DataTree, group: str, ds: xr.Dataset) -> xr.DataArray | None:
    return flat_draws(dt[group].to_dataset(), ds) if _read.has_groups(dt, group) else None


def _density(
    ax: Axes, row: Row, ds: xr.Dataset, posterior: xr.DataArray | None, prior: xr.DataArray | None
) -> None:
    cell = int(row.cells[0])
    ax.set_title(words(row.label), fontsize=8.5)
    curve = _gaussian(ds, cell) if posterior is None else _smooth(posterior.isel(cell=cell).values)
    if curve is None:
        note(ax, "constant")
        return
    where, density, (low, high) = curve
    factor, units = scaled_units(where, _read.units(ds, row.latent))
    ax.set_xlabel(pretty_units(units), fontsize=8)
    if prior is not None:
        _prior(ax, where, factor, prior.isel(cell=cell).values.ravel())
    ax.fill_between(where / factor, density, color=POSTERIOR, alpha=0.3, lw=0)
    ax.plot(where / factor, density, color=POSTERIOR, lw=1.4)
    ax.plot(
        [low / factor, high / factor],
        [-0.05 * density.max()] * 2,
        color=POSTERIOR,
        lw=3,
        solid_capstyle="butt",
    )
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.set_ylim(-0.1 * density.max(), None)
    ax.locator_params(axis="x", nbins=3)
    ax.ticklabel_format(axis="x", style="plain", useOffset=False)


def _gaussian(ds: xr.Dataset, cell: int) -> Density:
    from scipy.stats import norm

    known = _read.marginals(ds).isel(cell=cell)
    ends = float(known["lower"]), float(known["upper"])
    cells, nodes, values = _read.mapped(ds)
    if cell in cells:
        row, kept = values[list(cells).index(cell)], np.abs(nodes) <= 4
        slope = np.maximum(np.gradient(row, nodes), np.finfo(float).tiny)
        return row[kept], (norm.pdf(nodes) / slope)[kept], ends
    mean, sd = float(known["mean"]), float(known["sd"])
    where = mean + sd * np.linspace(-4, 4, 161)
    return where, norm.pdf(where, mean, sd), ends


def _smooth(draws: np.ndarray) -> Density | None:
    """Smooth density over a window somewhat wider than the draws; None when all are equal."""
    from scipy.stats import gaussian_kde

    values = draws.ravel()
    low, high = np.quantile(values, [0.002, 0.998])
    if high - low <= 1e-12 * max(abs(high), abs(low)):
        return None
    margin = 0.25 * (high - low)
    where = np.linspace(low - margin, high + margin, 240)
    ends = np.quantile(values, [0.05, 0.95])
    return where, _within(where, values, gaussian_kde(values)(where)), (ends[0], ends[1])


def _within(where: np.ndarray, values: np.ndarray, density: np.ndarray) -> np.ndarray:
    """No density on the far side of zero when no draw is there: smoothing spills over bounds."""
    if values.min() >= 0:
        return np.where(where < 0, 0.0, density)
    return density


def _prior(ax: Axes, where: np.ndarray, factor: float, values: np.ndarray) -> None:
    from scipy.stats import gaussian_kde

    if np.ptp(values) == 0:
        return
    density = _within(where, values, gaussian_kde(values)(where))
    ax.fill_between(where / factor, density, color=PRIOR, alpha=0.55, lw=0)


def _field(axes: list[Axes], name: str, ds: xr.Dataset, draws: xr.DataArray | None) -> None:
    if draws is None:
        mean, sd = _read.value_of_cells(ds), _read.variance_of_cells(ds) ** 0.5
    else:
        mean, sd = draws.mean(("chain", "draw")), draws.std(("chain", "draw"))
    centre, where = flat_enough(_read.on_grid(mean, ds, name))
    kind = "best fit" if draws is None else "posterior mean"
    axes[0].set_title(f"{words(name)}: {kind}{', ' + where if where else ''}")
    axes[1].set_title(f"{words(name)}: posterior sd")
    if centre.ndim == 2:
        width, _ = flat_enough(_read.on_grid(sd, ds, name))
        draw_image(axes[0], centre, "", _read.units(ds, name), cmap=SEQUENTIAL)
        draw_image(axes[1], width, "", _read.units(ds, name), cmap=WIDTHS, vmin=0)
        return
    _profile(axes, name, ds, mean, sd, draws)


def _profile(
    axes: list[Axes],
    name: str,
    ds: xr.Dataset,
    mean: xr.DataArray,
    sd: xr.DataArray,
    draws: xr.DataArray | None,
) -> None:
    cells = _read.cells_of(ds, name)
    factor, units = scaled_units(mean.values[cells], _read.units(ds, name))
    for low, high in _bands(mean, sd, draws):
        ends = [_read.on_grid(end / factor, ds, name) for end in (low, high)]
        shade_profile(axes[0], *ends, color=POSTERIOR, alpha=0.2)
    draw_profile(axes[0], _read.on_grid(mean / factor, ds, name), with_units(words(name), units))
    factor, units = scaled_units(ds["prior_sd"].values[..., cells], _read.units(ds, name))
    prior_sd = _read.on_grid(one_point(ds["prior_sd"]) / factor, ds, name)
    axes[1].set_title(f"{words(name)}: sd, posterior (blue) and prior (grey)")
    draw_profile(axes[1], prior_sd, "", colour=MUTED)
    draw_profile(axes[1], _read.on_grid(sd / factor, ds, name), with_units("sd", units))


def _bands(
    mean: xr.DataArray, sd: xr.DataArray, draws: xr.DataArray | None
) -> list[tuple[xr.DataArray, xr.DataArray]]:
    """Return the ends (cell) of the central 90 and 50 %."""
    if draws is None:
        return [(mean - reach * sd, mean + reach * sd) for reach in (1.645, 0.674)]
    limits = draws.quantile([0.05, 0.25, 0.75, 0.95], ("chain", "draw"))
    low90, low50, high50, high90 = (limits.isel(quantile=i, drop=True) for i in range(4))
    return [(low90, high90), (low50, high50)]
