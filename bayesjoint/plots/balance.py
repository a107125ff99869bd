"""A figure of the balance: what each modality weighs, and where it leads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from bayesjoint._names import made, with_marks
from bayesjoint.plots._fields import (
    draw_cells,
    draw_profile,
    flat_enough,
    one_point,
    oriented,
    proportion,
)
from bayesjoint.plots._style import (
    INK,
    MUTED,
    WIDTH,
    colours,
    grid_lines,
    new_figure,
    plain,
    readable_on,
    short_labels,
    styled,
    words,
)
from bayesjoint.reports import _read, balance
from bayesjoint.reports._numbers import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHARES = {
    "n_data_share": "data",
    "dofs_share": "degrees of freedom",
    "eig_share": "information",
}
WRITTEN = 0.06  # share of a bar from which it has room for a number


@styled
def plot_balance(dt: xr.DataTree) -> Figure:
    """Draw what each modality weighs, and where each tells most.

    Parameters
    ----------
    dt : xarray.DataTree
        From ``bj.sample`` or ``bj.linearize``.

    Returns
    -------
    matplotlib.figure.Figure
        Above: shares of data, degrees of freedom and information; how far a datum moves over the
        prior, in noise sd; misfit over its expectation. Below, of each field: in the colour of
        the modality that alone removes most of the variance of a cell, the paler the less; of
        profiles and scalars the share that each removes alone, and (dashed, open) the share that
        is lost without it.

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        As ``bj.balance``.

    Examples
    --------
    >>> from bayesjoint.plots import plot_balance
    >>> from bayesjoint.reports.example import example_tree
    >>> figure = plot_balance(example_tree())
    """
    ds, weighed = _read.linearization(dt), with_marks(balance)(dt)
    words_of = [name for name, values in weighed.items() if values.dtype.kind == "U"]
    report = one_point(weighed.drop_vars(words_of))
    names = _read.modalities(ds)
    colour = colours(names)
    latents = {name: _read.template(ds, name).ndim for name in _read.unknowns(ds)}
    fields = [name for name, ndim in latents.items() if ndim > 0]
    scalars = [name for name, ndim in latents.items() if ndim == 0]
    panels: list[Any] = [*fields, scalars] if scalars else [*fields]
    rows = [panels[i : i + 2] for i in range(0, len(panels), 2)]
    heights = [1.65 + 0.24 * len(names), *(_height(report, row) for row in rows)]
    fig = new_figure(sum(heights) + 0.35)
    strips = fig.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    _weights(strips[0], report, colour)
    for strip, row in zip(strips[1:], rows, strict=True):
        for ax, panel in zip(strip.subplots(1, len(row), squeeze=False)[0], row, strict=True):
            if isinstance(panel, str):
                _field(ax, report, panel, colour)
            else:
                _scalars(ax, report, panel, colour)
    handles = [fig.axes[0].plot([], [], "s", color=c, ms=8)[0] for c in colour.values()]
    fig.legend(handles, [words(k) for k in names], loc="outside lower left", ncols=len(names))
    return fig


def _height(report: xr.Dataset, row: list[Any]) -> float:
    """Inches that a row of fields and scalars needs."""
    fields = [name for name in row if isinstance(name, str)]
    images = [flat_enough(report[made(f"{name}_alone")].isel(modality=0))[0] for name in fields]
    ratios = [proportion(image) for image in images if image.ndim == 2]
    tallest = max(ratios, default=0.0 if not fields else 0.45)
    scalars = max((len(panel) for panel in row if not isinstance(panel, str)), default=0)
    tall = tallest * (WIDTH / len(row) - 0.9) + 0.85
    return float(np.clip(max(tall, 0.9 + 0.3 * scalars), 1.2, 5.5))


def _weights(strip, report: xr.Dataset, colour: dict[str, str]) -> None:
    left, middle, right = strip.subplots(1, 3, width_ratios=(1.5, 1, 1))
    for y, key in enumerate(SHARES):
        start = 0.0
        for name, c in colour.items():
            share = max(float(report[key].sel(modality=name)), 0.0)
            left.barh(y, share, left=start, color=c, height=0.62, ec="white", lw=1)
            if share >= WRITTEN:
                text: Any = {"ha": "center", "va": "center", "color": readable_on(_rgb(c))}
                left.text(start + share / 2, y, percent(share), fontsize=8, **text)
            start += share
    short_labels(left, list(SHARES.values()), axis="y")
    left.set(title="Shares", xlim=(0, 1), ylim=(len(SHARES) - 0.5, -0.5), xticks=[])
    plain(left)
    bars = (
        (middle, "sensitivity_per_datum", "A datum over the prior", "noise sd that it moves"),
        (right, "misfit_ratio", "Misfit", "χ² over its expectation"),
    )
    for ax, key, title, label in bars:
        _against_one(ax, report[key], colour)
        ax.set(title=title, xlabel=label)


def _against_one(ax: Axes, values: xr.DataArray, colour: dict[str, str]) -> None:
    """Draw points on a logarithmic axis, joined to 1."""
    numbers = [max(float(values.sel(modality=name)), 1e-6) for name in colour]
    for y, (number, c) in enumerate(zip(numbers, colour.values(), strict=True)):
        ax.plot([1.0, number], [y, y], color=c, lw=2.2, alpha=0.5)
        ax.plot(number, y, "o", color=c, ms=7)
        shown = f"{number:.2g}" if number < 10 else f"{number:.0f}"
        ax.annotate(
            shown, (number, y), xytext=(0, 6), textcoords="offset points",
            ha="center", fontsize=8, color=INK, bbox={"fc": "white", "ec": "none", "pad": 0.5},
        )  # fmt: skip
    ax.axvline(1.0, color=INK, lw=0.9, ls="--", zorder=0)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set(
        xlim=(min(0.08, *numbers) / 1.5, max(12.0, *numbers) * 1.5),
        ylim=(len(numbers) - 0.5, -0.75),
        yticks=[],
    )
    ax.minorticks_off()
    ax.spines["left"].set_visible(False)
    grid_lines(ax, "x")


def _rgb(colour: str) -> np.ndarray:
    from matplotlib.colors import to_rgb

    return np.array(to_rgb(colour))


def _field(ax: Axes, report: xr.Dataset, name: str, colour: dict[str, str]) -> None:
    alone, where = flat_enough_of_all(report[made(f"{name}_alone")])
    title = f"{words(name)}: who tells most"
    if alone.ndim == 2:
        conditional = report.get(made(f"{name}_conditional"))
        for key, c in colour.items():
            draw_profile(ax, alone.sel(modality=key), "share of variance removed", colour=c)
            if conditional is not None:
                style: Any = {"colour": c, "ls": "--", "marker": "", "lw": 1.1}
                draw_profile(
                    ax, conditional.sel(modality=key), "share of variance removed", **style
                )
        ax.set_title(f"{words(name)}: alone, and lost without (dashed)")
        return
    ax.set_title(f"{title}, {where}" if where else title)
    each = [oriented(alone.sel(modality=key)) for key in colour]
    stacked = np.stack([image.values for image in each])
    leading = np.argmax(stacked, axis=0)
    strength = np.clip(stacked.max(axis=0), 0.0, 1.0)[..., None]
    shades = np.stack([_rgb(c) for c in colour.values()])[leading]
    draw_cells(ax, each[0], 1.0 - strength * (1.0 - shades))
    text = f"removed: {percent(strength.min())} (palest) to {percent(strength.max())}"
    ax.annotate(
        text, (1.0, 1.0), xycoords="axes fraction", xytext=(0, 3), textcoords="offset points",
        ha="right", va="bottom", fontsize=8, color=MUTED,
    )  # fmt: skip


def flat_enough_of_all(values: xr.DataArray) -> tuple[xr.DataArray, str]:
    """Cut volumes through their middle, for every modality at the same place."""
    _, where = flat_enough(values.isel(modality=0))
    while values.ndim > 3:
        dim = next(dim for dim in values.dims if dim != "modality")
        values = values.isel({dim: values.sizes[dim] // 2}, drop=True)
    return values, where


def _scalars(ax: Axes, report: xr.Dataset, names: list[str], colour: dict[str, str]) -> None:
    apart = 0.5 / len(colour)
    for y, name in enumerate(names):
        for i, (key, c) in enumerate(colour.items()):
            at = y + (i - (len(colour) - 1) / 2) * apart
            alone = float(report[made(f"{name}_alone")].sel(modality=key))
            ax.plot([0, alone], [at, at], color=c, lw=1.6, alpha=0.5)
            ax.plot(alone, at, "o", color=c, ms=5.5, clip_on=False, zorder=3)
            if made(f"{name}_conditional") in report:
                lost = float(report[made(f"{name}_conditional")].sel(modality=key))
                style: Any = {"mec": c, "mfc": "white", "ms": 5.5, "clip_on": False, "zorder": 4}
                ax.plot(lost, at, "o", **style)
    short_labels(ax, [words(name) for name in names], axis="y")
    ax.set(xlim=(0, 1), ylim=(len(names) - 0.5, -0.5), xlabel="share of the prior variance")
    ax.set_title("Scalars: alone (filled), lost without (open)")
    grid_lines(ax, "x")
