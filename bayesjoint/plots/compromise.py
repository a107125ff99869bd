"""A figure of the compromise: what each modality gives up, and what averaging would make of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from bayesjoint._names import made, with_marks
from bayesjoint.plots._fields import (
    draw_cells,
    draw_profile,
    flat_enough,
    oriented,
    proportion,
    shade_profile,
)
from bayesjoint.plots._style import (
    INK,
    MUTED,
    SEQUENTIAL,
    WIDTH,
    colours,
    grid_lines,
    new_figure,
    scaled_units,
    short_labels,
    styled,
    with_units,
    words,
)
from bayesjoint.reports import _read, compromise

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_FIELDS, MOST_MAPS = 3, 5
FAR = 30.0  # ratio from which an axis is logarithmic
AVERAGED = "#6b7785"


@styled
def plot_compromise(dt: xr.DataTree, separate: Mapping[str, xr.DataTree]) -> Figure:
    """Draw misfits and models of the joint fit beside separate fits and their average.

    Parameters
    ----------
    dt : xarray.DataTree
        Joint problem, from ``bj.sample`` or ``bj.linearize``.
    separate : mapping of modality to xarray.DataTree
        The same for each modality by itself.

    Returns
    -------
    matplotlib.figure.Figure
        Above left: misfit per datum, open in the separate fit, filled in the joint one, a diamond
        for the average of the separate models. Above right: misfit plus distance from the prior,
        which can only grow from separate to joint. Below: estimates of the first three fields, of
        each modality by itself, averaged where several reach them, and joint; scalars that are
        shared, with their sd, as distance from the joint estimate.

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        As ``bj.compromise``.

    Examples
    --------
    >>> from bayesjoint.plots import plot_compromise
    >>> from bayesjoint.reports.example import example_tree
    >>> alone = {name: example_tree(modalities=[name]) for name in ("gravity", "arrivals")}
    >>> figure = plot_compromise(example_tree(), alone)
    """
    report, ds = with_marks(compromise)(dt, separate), _read.linearization(dt)
    colour = colours(_read.modalities(ds))
    held = [name for name in _read.latents(ds) if made(f"{name}_joint") in report]
    fields = [name for name in held if report[made(f"{name}_joint")].ndim > 0][:MOST_FIELDS]
    averaged = [name for name in held if made(f"{name}_averaged") in report]
    scalars = [name for name in averaged if report[made(f"{name}_joint")].ndim == 0]
    models = {name: _models(report, name) for name in fields}
    heights = [1.5 + 0.4 * report.sizes["modality"]]
    heights += [_height(maps) for maps in models.values()]
    heights += [0.95 + 0.45 * len(scalars)] * bool(scalars)
    fig = new_figure(sum(heights) + 0.3)
    strips = iter(fig.subfigures(len(heights), 1, height_ratios=heights, squeeze=False).flat)
    shared = bool(averaged)
    _misfits(next(strips), report, colour, shared)
    for name, maps in models.items():
        _draw_models(next(strips), report, name, maps, colour)
    if scalars:
        _scalars(next(strips).subplots(), report, ds, scalars, colour)
    _legend(fig, shared)
    return fig


def _legend(fig: Figure, shared: bool) -> None:
    marks = [("o", "white", INK, "separate fit"), ("o", INK, INK, "joint fit")]
    marks += [("D", AVERAGED, AVERAGED, "separate models averaged")] * shared
    handles = [
        fig.axes[0].plot([], [], m, mfc=face, mec=edge, ls="", label=text)[0]
        for m, face, edge, text in marks
    ]
    fig.legend(handles=handles, loc="outside lower left", ncols=3)


def _misfits(strip, report: xr.Dataset, colour: dict[str, str], shared: bool) -> None:
    left, right = strip.subplots(1, 2)
    names = [str(name) for name in report["modality"].values]
    each = report["n"]
    averaged = report["chi2_averaged"].sel(averaging="weighted") / each if shared else None
    ends = (report["chi2_separate"] / each, report["chi2_joint"] / each)
    _dumbbells(left, *ends, names, colour, averaged)
    left.set_xlim(right=max(left.get_xlim()[1], 1.1))
    left.axvline(1.0, color=INK, lw=0.8, ls="--")
    left.set(title="Misfit per datum", xlabel="χ² / n   (1: as large as the noise)")
    _dumbbells(right, report["penalised_separate"], report["penalised_joint"], names, colour)
    right.set(title="Misfit plus distance from the prior", xlabel="χ² + ‖z‖²")


def _dumbbells(
    ax: Axes,
    start: xr.DataArray,
    end: xr.DataArray,
    names: list[str],
    colour: dict[str, str],
    other: xr.DataArray | None = None,
) -> None:
    numbers = []
    for i, name in enumerate(names):
        before, after = float(start.sel(modality=name)), float(end.sel(modality=name))
        ax.plot([before, after], [i, i], color=colour[name], lw=2.2, alpha=0.5)
        if other is not None:
            numbers.append(float(other.sel(modality=name)))
            ax.plot(numbers[-1], i, "D", color=AVERAGED, ms=6)
        ax.plot(before, i, "o", mfc="white", mec=colour[name], mew=1.6, ms=7)
        ax.plot(after, i, "o", color=colour[name], ms=7)
        numbers += [before, after]
    short_labels(ax, [words(name) for name in names], axis="y")
    ax.set_ylim(len(names) - 0.5, -0.5)
    low, high = min(numbers), max(numbers)
    if low > 0 and high > FAR * low:
        ax.set_xscale("log")
        ax.set_xlim(low / 2, 2 * high)
    else:
        ax.set_xlim(min(0.0, 1.1 * low), 1.1 * high)
    grid_lines(ax, "x")


def _models(report: xr.Dataset, name: str) -> dict[str, xr.DataArray]:
    """Return the estimates of a field by the words over them."""
    each = report[made(f"{name}_separate")]
    held = [k for k in each["modality"].values if not each.sel(modality=k).isnull().all()]
    maps = {f"{words(k)} alone": each.sel(modality=k, drop=True) for k in held}
    if made(f"{name}_averaged") in report:
        maps["averaged"] = report[made(f"{name}_averaged")]
    kept = dict(list(maps.items())[-(MOST_MAPS - 1) :])
    return kept | {"joint": report[made(f"{name}_joint")]}


def _height(maps: dict[str, xr.DataArray]) -> float:
    image, _ = flat_enough(next(iter(maps.values())))
    if image.ndim < 2:
        return 2.8
    width = (WIDTH - 1.2) / len(maps) - 0.2
    return float(np.clip(proportion(image) * width + 0.85, 1.6, 4.5))


def _draw_models(
    strip, report: xr.Dataset, name: str, maps: dict[str, xr.DataArray], colour: dict[str, str]
) -> None:
    if report[made(f"{name}_joint")].ndim == 1:
        _draw_profiles(strip.subplots(), report, name, colour)
        return
    units = str(report[made(f"{name}_joint")].attrs.get("units") or "")
    everything = np.concatenate([values.values.ravel() for values in maps.values()])
    factor, units = scaled_units(everything, units)
    limits = {"vmin": np.nanmin(everything) / factor, "vmax": np.nanmax(everything) / factor}
    axes = strip.subplots(1, len(maps), squeeze=False)[0]
    for i, (ax, (title, values)) in enumerate(zip(axes, maps.items(), strict=True)):
        cut, where = flat_enough(values)
        image = oriented(cut) / factor
        drawn = draw_cells(ax, image, image.values, cmap=SEQUENTIAL, **limits)
        start = f"{words(name)}: {title}" if i == 0 else title
        ax.set_title(f"{start}\n{where}" if where else start, fontsize=8.5)
        if i > 0:
            ax.set_ylabel("")
            ax.set_yticklabels([])
    bar = strip.colorbar(drawn, ax=list(axes), fraction=0.03, pad=0.01)
    bar.outline.set_visible(False)
    bar.set_label(with_units(words(name), units))


def _draw_profiles(ax: Axes, report: xr.Dataset, name: str, colour: dict[str, str]) -> None:
    each, sds = report[made(f"{name}_separate")], report[made(f"{name}_separate_sd")]
    joint, sd = report[made(f"{name}_joint")], report[made(f"{name}_joint_sd")]
    factor, units = scaled_units(joint.values, str(joint.attrs.get("units") or ""))
    label = with_units(words(name), units)
    for key in each["modality"].values:
        if each.sel(modality=key).isnull().all():
            continue
        value, width = (part.sel(modality=key) / factor for part in (each, sds))
        shade_profile(ax, value - width, value + width, color=colour[str(key)], alpha=0.15)
        draw_profile(ax, value, label, colour=colour[str(key)], mfc="white")
    if made(f"{name}_averaged") in report:
        average = report[made(f"{name}_averaged")] / factor
        draw_profile(ax, average, label, colour=AVERAGED, marker="D")
    shade_profile(ax, (joint - sd) / factor, (joint + sd) / factor, color=INK, alpha=0.15)
    draw_profile(ax, joint / factor, label, colour=INK)
    ax.set_title(f"{words(name)}: estimates, and one sd")


def _scalars(
    ax: Axes, report: xr.Dataset, ds: xr.Dataset, names: list[str], colour: dict[str, str]
) -> None:
    """Draw shared scalars as distance from the joint estimate in prior sd."""
    for y, name in enumerate(names):
        scale = float(_read.prior_sd_of_cells(ds)[_read.cells_of(ds, name)[0]])
        joint, each = float(report[made(f"{name}_joint")]), report[made(f"{name}_separate")]
        sd = float(report[made(f"{name}_joint_sd")])
        ax.errorbar(0, y - 0.2, xerr=sd / scale, fmt="o", color=INK, ms=6, lw=1.2)
        held = [k for k in each["modality"].values if np.isfinite(each.sel(modality=k))]
        for i, key in enumerate(held):
            at, c = y + 0.12 + 0.16 * i, colour[str(key)]
            where = (float(each.sel(modality=key)) - joint) / scale
            width = float(report[made(f"{name}_separate_sd")].sel(modality=key)) / scale
            ax.errorbar(where, at, xerr=width, fmt="o", mfc="white", mec=c, color=c, ms=6, lw=1.2)
        averaged = (float(report[made(f"{name}_averaged")]) - joint) / scale
        ax.plot(averaged, y - 0.04, "D", color=AVERAGED, ms=5.5)
    ax.axvline(0.0, color=MUTED, lw=0.8)
    short_labels(ax, [words(name) for name in names], axis="y")
    ax.set(ylim=(len(names) - 0.3, -0.5), xlabel="from the joint estimate [prior sd]")
    ax.set_title("Scalars: estimates, and one sd")
    grid_lines(ax, "x")
