"""Figure of the strongest coupling that keeps a bound on leakage, and of its map of weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from bayesjoint import _arguments
from bayesjoint._names import restored
from bayesjoint.plots._fields import draw_image, draw_profile, flat_enough
from bayesjoint.plots._style import (
    FAINT,
    INK,
    PALETTE,
    SEQUENTIAL,
    grid_lines,
    new_figure,
    short_labels,
    styled,
    words,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEEDED = ("weight", "leakage", "leakage_back", "benefit", "ladder_leakage")
CHOSEN = "#d55e00"
DECADES = 4.0  # below the largest weight of a cell: smaller ones are drawn as these


@styled
def plot_design_weight(design: xr.Dataset) -> Figure:
    """Draw how a weight was found under a bound on leakage, and the map of weights.

    Parameters
    ----------
    design : xarray.Dataset
        From ``bj.design_weight``.

    Returns
    -------
    matplotlib.figure.Figure
        Left: leakage against the weight as the search saw it, with the bound and the weight found
        in orange. Middle, where there is one: the weight of each cell, on a logarithmic scale; of a
        volume the slice through its middle. Right: leakage both ways, and benefit in cells, of the
        one weight and of the map.

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        When something of the design is missing.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from bayesjoint.plots import plot_design_weight
    >>> of_design = {"leakage": [0.1, 0.1], "leakage_back": [0.2, 0.3], "benefit": [3.0, 4.0]}
    >>> design = xr.Dataset(
    ...     {name: ("design", values) for name, values in of_design.items()}
    ...     | {"weight": 2.0, "ladder_leakage": ("ladder", [0.0, 0.05, 0.3])}
    ...     | {"weight_map": (("z", "x"), np.ones((4, 5)))},
    ...     {"design": ["scalar", "shaped"], "ladder": [0.0, 1.0, 10.0]},
    ...     {"bound": 0.1, "into": "density", "source": "slowness"},
    ... )
    >>> figure = plot_design_weight(design)
    """
    _arguments.table("plot_design_weight", design, "design_weight", *NEEDED, attrs=["bound"])
    mapped = "weight_map" in design
    fig = new_figure(3.3, apart=0.04)
    axes = fig.subplots(1, 2 + mapped, width_ratios=[1.2, *[1.2] * mapped, 1.0])
    _search(axes[0], design)
    if mapped:
        _map(axes[1], restored(design)["weight_map"])
    _designs(axes[-1], design)
    return fig


def _search(ax: Axes, design: xr.Dataset) -> None:
    ladder, seen = design["ladder"].values, design["ladder_leakage"].values
    above, weight, bound = ladder > 0.0, float(design["weight"]), float(design.attrs["bound"])
    ax.plot(ladder[above], seen[above], "-o", color=PALETTE[0], lw=1.2, ms=3)
    ax.axhline(bound, color=CHOSEN, lw=0.9, ls="--")
    ax.plot(weight, bound, "D", color=CHOSEN, ms=6, zorder=5)
    ax.set(xscale="log", xlabel="weight", ylabel="share of the response", ylim=(0.0, None))
    ax.set_title(f"Leakage: weight {weight:.3g}")
    into, source = (words(design.attrs[name]) for name in ("into", "source"))
    ax.text(0.02, 0.97, f"of {source} into {into}", va="top", transform=ax.transAxes, color=INK)
    ax.set_ylim(top=1.2 * max(float(seen.max()), bound))
    grid_lines(ax)


def _map(ax: Axes, weights: xr.DataArray) -> None:
    values, where = flat_enough(weights)
    largest = max(float(weights.max()), np.finfo(float).tiny)
    logs = np.log10(np.maximum(values, largest * 10.0**-DECADES))
    if values.ndim == 1:
        draw_profile(ax, logs, "log₁₀ weight")
    else:
        draw_image(ax, logs, "log₁₀ weight", cmap=SEQUENTIAL)
        ax.set_aspect("auto")  # as high as the panels beside
    ax.set_title("Weight of each cell" + (f", {where}" if where else ""))


def _designs(ax: Axes, design: xr.Dataset) -> None:
    """Draw leakage both ways as bars, the benefit as words beneath their names."""
    names = [str(name) for name in design["design"].values]
    into, source = (words(design.attrs[name]) for name in ("into", "source"))
    bars = {f"{source} into {into}": "leakage", f"{into} into {source}": "leakage_back"}
    for i, (label, name) in enumerate(bars.items()):
        where = np.arange(len(names)) + 0.36 * (i - 0.5)
        ax.bar(where, design[name].values, 0.32, color=PALETTE[2 * i], label=label)
    ax.axhline(float(design.attrs["bound"]), color=CHOSEN, lw=0.9, ls="--")
    said = {"scalar": "one weight", "shaped": "map"}
    benefit = [f"benefit\n{value:.3g} cells" for value in design["benefit"].values]
    labels = [f"{said.get(n, n)}\n{b}" for n, b in zip(names, benefit, strict=True)]
    short_labels(ax, labels, room=40)
    top = max(float(design["leakage"].max()), float(design["leakage_back"].max()), 1e-6)
    ax.set(title="What it costs and gains", ylabel="leakage", ylim=(0.0, 1.45 * top))
    ax.set_xlim(-0.6, max(len(names), 2) - 0.4 if len(names) > 1 else 0.6)
    ax.axhline(0.0, color=FAINT, lw=0.7)
    ax.legend(loc="upper left", handlelength=1.2)
    grid_lines(ax, "y")
