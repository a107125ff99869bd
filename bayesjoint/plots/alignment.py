"""A figure of alignment: where two fields change together, and how alike they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from bayesjoint._names import made, with_marks
from bayesjoint.plots._fields import draw_image, draw_profile, flat_enough, note, proportion
from bayesjoint.plots._style import (
    DIVERGING,
    INK,
    MUTED,
    POSTERIOR,
    PRIOR,
    SEQUENTIAL,
    WIDTH,
    WIDTHS,
    new_figure,
    short_labels,
    styled,
    words,
)
from bayesjoint.reports import alignment

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REFERENCE = "#d55e00"
MOST_PAIRS = 4
PART_WORDS = {
    "alignment": "aligned\nstructure",
    "flattening": "flatter\nfields",
    "separation": "edges\napart",
}
DRAWN = (
    ("similarity", "Structural similarity", (0.0, 1.0)),
    ("flat_share", "Flat share", (0.0, 1.0)),
    ("correlation", "Correlation of the fields", (-1.0, 1.0)),
)


@styled
def plot_alignment(
    dt: xr.DataTree, reference: xr.DataTree | Mapping[str, xr.DataTree] | None = None
) -> Figure:
    """Draw where two fields change together, and whether they are aligned or flat.

    Parameters
    ----------
    dt : xarray.DataTree
        From ``bj.sample``, with two fields on one grid.
    reference : xarray.DataTree or mapping of str to xarray.DataTree, optional
        The run without coupling, or the separate runs.

    Returns
    -------
    matplotlib.figure.Figure
        For each pair (four at most), maps: edges that both fields have, relative to the prior;
        angle between the gradients, which means nothing where there are no edges; correlation
        over draws. Histograms over draws: similarity, flat share, correlation; grey the prior,
        red the reference. With a reference, what lowered the squared cross-gradient.

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        As ``bj.alignment``.

    Examples
    --------
    >>> from bayesjoint.plots import plot_alignment
    >>> from bayesjoint.reports.example import example_fields
    >>> figure = plot_alignment(example_fields())
    """
    report = with_marks(alignment)(dt, reference)
    rows = [report.isel(pair=i) for i in range(report.sizes["pair"])][:MOST_PAIRS]
    heights = [height for row in rows for height in (_height(row), 1.95)]
    fig = new_figure(sum(heights) + 0.3)
    strips = fig.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    for i, row in enumerate(rows):
        title = f"{words(row['first'].item())} and {words(row['second'].item())}"
        strips[2 * i].suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
        _maps(strips[2 * i], row)
        _histograms(strips[2 * i + 1], row)
    return fig


def _height(row: xr.Dataset) -> float:
    image, _ = flat_enough(_map(row, "correlation"))
    if image.ndim < 2:
        return 2.4
    return float(np.clip(proportion(image) * (WIDTH / 3 - 1.15) + 1.05, 1.9, 4.5))


def _map(row: xr.Dataset, what: str) -> xr.DataArray:
    return row[made(f"{row['pair'].item()}_{what}")]


def _maps(strip, row: xr.Dataset) -> None:
    axes = strip.subplots(1, 3)
    kinds: Any = (
        ("edges", "Edges of both", "over the prior's", {"cmap": WIDTHS, "vmin": 0}),
        ("angle", "Angle of the gradients", "degrees", {"cmap": SEQUENTIAL, "vmin": 0, "vmax": 90}),
        ("correlation", "Correlation in each cell", "", {"cmap": DIVERGING, "vmin": -1, "vmax": 1}),
    )
    for ax, (what, title, label, style) in zip(axes, kinds, strict=True):
        values, where = flat_enough(_map(row, what))
        ax.set_title(f"{title}\n{where}" if where else title)
        if values.isnull().all():
            note(ax, "not defined\nin one dimension")
        elif values.ndim == 2:
            draw_image(ax, values, label, **style)
        else:
            draw_profile(ax, values, label or "correlation")
        if ax is not axes[0]:
            ax.set_ylabel("")


def _histograms(strip, row: xr.Dataset) -> None:
    axes = strip.subplots(1, 3 + ("log_drop" in row))
    for ax, (name, title, limits) in zip(axes, DRAWN, strict=False):
        _histogram(ax, row, name, limits)
        ax.set_title(title)
    _legend(axes[0], row)
    if "log_drop" in row:
        _parts(axes[3], row)


def _histogram(ax: Axes, row: xr.Dataset, name: str, limits: tuple[float, float]) -> None:
    kinds = {"prior_": PRIOR, "reference_": REFERENCE, "": POSTERIOR}
    shown = {}
    for prefix in kinds:
        if (values := row.get(f"{prefix}{name}")) is not None:
            if (numbers := values.values[np.isfinite(values.values)]).size:
                shown[prefix] = numbers
    if not shown:
        note(ax, "not defined\nin one dimension")
        return
    ends = [np.quantile(numbers, [0.002, 0.998]) for numbers in shown.values()]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    margin = max(0.04 * (high - low), 1e-3)
    bins = list(np.linspace(max(low - margin, limits[0]), min(high + margin, limits[1]), 26))
    for prefix, numbers in shown.items():
        filled: Any = "stepfilled" if prefix == "prior_" else "step"
        ax.hist(numbers, bins, density=True, histtype=filled, lw=1.5, color=kinds[prefix])
    ax.set(xlim=(bins[0], bins[-1]), yticks=[])
    ax.spines["left"].set_visible(False)


def _legend(ax: Axes, row: xr.Dataset) -> None:
    shown = [("prior", PRIOR), ("posterior", POSTERIOR)]
    if "reference_similarity" in row:
        shown.insert(1, ("reference", REFERENCE))
    handles = [ax.plot([], [], "s", color=colour, ms=7)[0] for _, colour in shown]
    ax.figure.legend(
        handles, [label for label, _ in shown], loc="outside lower left", ncols=len(shown)
    )


def _parts(ax: Axes, row: xr.Dataset) -> None:
    """Draw by which factors the squared cross-gradient fell."""
    names = [str(name) for name in row["part"].values]
    values = row["log_drop_part"].values / np.log(10.0)
    if not np.isfinite(values).all():
        note(ax, "not defined")
        return
    ax.barh(np.arange(3), values, color=[POSTERIOR, PRIOR, PRIOR], height=0.6)
    reach = max(0.05, float(np.abs(values).max()))
    for y, value in enumerate(values):
        ax.annotate(
            f"÷ {10**value:.2g}", (max(value, 0.0), y), xytext=(3, 0),
            textcoords="offset points", va="center", fontsize=8, color=INK,
        )  # fmt: skip
    ax.axvline(0.0, color=MUTED, lw=0.8)
    short_labels(ax, [PART_WORDS[name] for name in names], axis="y")
    ax.set(ylim=(2.5, -0.5), xlim=(min(0.0, float(values.min())) - 0.1 * reach, 1.45 * reach))
    ax.set_title(f"|∇a × ∇b|²: ÷ {float(np.exp(row['log_drop'])):.2g}")
    ax.set_xlabel("fall in powers of ten")
