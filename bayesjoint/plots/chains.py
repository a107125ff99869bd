"""Figure of the chains: whether they agree, how far they moved, and where they failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from bayesjoint import arrays
from bayesjoint.plots._fields import note
from bayesjoint.plots._style import (
    MUTED,
    POSTERIOR,
    PRIOR,
    grid_lines,
    new_figure,
    scaled_units,
    short_labels,
    styled,
    with_units,
    words,
)
from bayesjoint.reports import _read
from bayesjoint.reports.diagnostics import (
    ENOUGH,
    LARGE_R_HAT,
    LOW_ENERGY,
    R_HAT,
    TOO_FEW,
    Judged,
    ebfmi,
    judged,
    report_on,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ROWS = 24  # latents that stay readable
MOST_SHOWN = 500  # draws of a chain in its trace
FAULT = "#d55e00"
KOLMOGOROV = 1.358  # 95 % of the largest gap of a distribution, times the root of its size
FEWEST_BINS = 4  # of gradients, so that one bar does not fill its panel


@styled
def plot_diagnostics(dt: xr.DataTree) -> Figure:
    """Draw whether the chains can be trusted.

    Parameters
    ----------
    dt : xarray.DataTree
        From ``bj.sample``, or a posterior of plain PyMC with the group ``sample_stats``.

    Returns
    -------
    matplotlib.figure.Figure
        Above: r-hat, and effective sample size in the bulk (filled) and tail (open), of every
        quantity, sorted within its latent, with the limits of the verdict; of a field, 200 cells;
        of more than 24 latents, those with the largest r-hat. Middle: of the worst quantity, the
        ranks of each chain (flat at zero where chains agree; in grey what chance allows 95 % of
        chains that agree) and its draws, with divergences marked. Below: energy, which should move
        from draw to draw (line) as widely as it varies (filled), and the gradients that draws took.
        A single chain is compared half by half.

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        As ``bj.diagnose``.

    Examples
    --------
    >>> from bayesjoint.plots import plot_diagnostics
    >>> from bayesjoint.reports.example import example_tree
    >>> figure = plot_diagnostics(example_tree())
    """
    quantities = judged(dt)
    report, names = report_on(dt, quantities), _shown(quantities)
    heights = [0.95 + 0.24 * len(names), 4.6]
    fig = new_figure(sum(heights) + 0.3, apart=0.05)
    fig.suptitle(_headline(report), x=0.01, ha="left", fontsize=10, fontweight="bold")
    above, below = fig.subfigures(2, 1, squeeze=False, height_ratios=heights)[:, 0]
    left, right = above.subplots(1, 2)
    _r_hat(left, quantities, names)
    _ess(right, quantities, names, labelled=not left.axison)
    axes = below.subplots(2, 2)
    worst, units = _worst(dt, quantities)
    stored = _read.has_groups(dt, "sample_stats")
    stats = dt["sample_stats"].to_dataset() if stored else xr.Dataset()
    _ranks(axes[0, 0], quantities, worst)
    _trace(axes[0, 1], quantities, worst, units, stats)
    _energy(axes[1, 0], stats)
    _steps(axes[1, 1], stats)
    return fig


def _headline(report: xr.Dataset) -> str:
    """Return the verdict and the numbers behind it."""
    parts = []
    if np.isfinite(report["r_hat"]):
        parts.append(f"largest r-hat {float(report['r_hat']):.3f}")
    if np.isfinite(report["ess_bulk"]):
        parts.append(f"smallest effective sample size {float(report['ess_bulk']):,.0f}")
    if np.isfinite(report["divergences"]):
        count = int(report["divergences"])
        parts.append(f"{count or 'no'} divergence{'s' if count != 1 else ''}")
    return f"Chains: {report.attrs['verdict']}. {', '.join(parts).capitalize()}"


def _shown(quantities: Judged) -> list[str]:
    """Return the latents that have a row: all, or those with the largest r-hat, in order."""
    names = list(dict.fromkeys(quantities.names.tolist()))
    if len(names) <= MOST_ROWS:
        return names
    largest = np.nan_to_num(quantities.scores["r_hat"].values)
    height = {name: largest[quantities.names == name].max() for name in names}
    kept = sorted(names, key=lambda name: -height[name])[:MOST_ROWS]
    return [name for name in names if name in kept]


def _worst(dt: xr.DataTree, quantities: Judged) -> tuple[str, str]:
    """Name the worst quantity, with its position in a field, and its units."""
    name, cell = str(quantities.names[quantities.worst]), quantities.cells[quantities.worst]
    values = dt["posterior"].to_dataset()[name]
    units = str(values.attrs.get("units") or "")
    inner = [str(dim) for dim in values.dims if dim not in ("chain", "draw")]
    if not inner:
        return words(name), units
    at = np.unravel_index(cell, [values.sizes[dim] for dim in inner])
    where = ", ".join(_position(values, dim, int(i)) for dim, i in zip(inner, at, strict=True))
    return f"{words(name)} at {where}", units


def _position(values: xr.DataArray, dim: str, i: int) -> str:
    label = arrays.plain(values[dim].values[i])
    return f"{words(dim)} {label}" if arrays.is_measured(values[dim]) else label


def _dots(ax: Axes, quantities: Judged, names: list[str], score: str, filled: bool) -> None:
    """Draw a score of every quantity, sorted within the row of its latent."""
    values = quantities.scores[score].values
    for row, name in enumerate(names):
        own = np.sort(values[quantities.names == name])
        spread = 0.36 * np.linspace(-1, 1, own.size) if own.size > 1 else np.zeros(1)
        size = 4.5 if own.size < 20 else 2.2
        face = POSTERIOR if filled else "none"
        ax.plot(own, row + spread, "o", ms=size, mfc=face, mec=POSTERIOR, mew=0.6, clip_on=False)


def _rows(ax: Axes, names: list[str], limits: tuple[float, float], labelled: bool) -> None:
    """Name the rows, and draw the limits between good, fair and bad."""
    short_labels(ax, [words(name) if labelled else "" for name in names], axis="y")
    ax.set_ylim(len(names) - 0.45, -0.55)
    ax.tick_params(axis="y", length=0)
    grid_lines(ax, "x")
    for limit, colour in zip(limits, (MUTED, FAULT), strict=True):
        ax.axvline(limit, color=colour, lw=1.1, ls="--", zorder=1)


def _r_hat(ax: Axes, quantities: Judged, names: list[str]) -> None:
    r_hat = quantities.scores["r_hat"].values
    if not np.isfinite(r_hat).any():
        single = quantities.draws.sizes["chain"] == 1
        note(ax, "r-hat compares chains: there is one" if single else "too few draws for r-hat")
        return
    _dots(ax, quantities, names, "r_hat", filled=True)
    _rows(ax, names, (R_HAT, LARGE_R_HAT), labelled=True)
    low, high = float(np.nanmin(r_hat)), float(np.nanmax(r_hat))
    ax.set_xlim(min(0.998, low - 0.001), max(1.055, 1.0 + 1.05 * (high - 1.0)))
    ax.set(title="r-hat", xlabel=f"good up to {R_HAT}, bad above {LARGE_R_HAT}")


def _ess(ax: Axes, quantities: Judged, names: list[str], labelled: bool) -> None:
    if not np.isfinite(quantities.scores["ess_bulk"].values).any():
        note(ax, "too few draws for an effective sample size")
        return
    _dots(ax, quantities, names, "ess_tail", filled=False)
    _dots(ax, quantities, names, "ess_bulk", filled=True)
    ax.set_xscale("log")
    _rows(ax, names, (ENOUGH, TOO_FEW), labelled)
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.set_title("Effective draws: bulk (filled) and tail (open)")
    ax.set_xlabel(f"bulk: good from {ENOUGH}, bad below {TOO_FEW}")


def _parts(quantities: Judged) -> dict[str, np.ndarray]:
    """Draws of the worst quantity by chain, or by half of a single chain."""
    values = quantities.draws.isel(quantity=quantities.worst).values
    if len(values) > 1 or values.shape[1] < 2:
        return {f"chain {i}": chain for i, chain in enumerate(values)}
    half = values.shape[1] // 2
    return {"first half": values[0, :half], "second half": values[0, -half:]}


def _ranks(ax: Axes, quantities: Judged, worst: str) -> None:
    """Draw how many draws of a chain lie below each rank, less what there would be if all agree."""
    named = _parts(quantities)
    parts = np.stack(list(named.values()))
    count, size = parts.shape
    ranks = parts.ravel().argsort(kind="stable").argsort(kind="stable").reshape(parts.shape)
    ranks = np.sort((ranks + 0.5) / parts.size, axis=1)
    below = (np.arange(size) + 0.5) / size
    reach = 100 * KOLMOGOROV * np.sqrt((1 - 1 / max(count, 2)) / _own_ess(parts))
    ax.axhspan(-reach, reach, color=PRIOR, alpha=0.35, lw=0)
    ax.axhline(0.0, color=MUTED, lw=0.8)
    for name, own, colour in zip(named, ranks, _shades(count), strict=True):
        ax.plot(own, 100 * (below - own), color=colour, lw=1.2, label=name)
    if count <= 4:
        ax.legend(loc="upper left", ncols=4, handlelength=1.0, columnspacing=1.0)
    largest = max(float(np.abs(100 * (below - ranks)).max()), reach, 1.0)
    ax.set(xlim=(0, 1), ylim=(-1.15 * largest, 1.6 * largest), title=f"Ranks: {worst}")
    ax.set(xlabel="rank among all draws", ylabel="surplus below [%]")


def _own_ess(parts: np.ndarray) -> float:
    """Return the effective draws of one part by itself, the mean over parts."""
    import arviz_stats

    if parts.shape[1] < 4:
        return float(parts.shape[1])
    each = [arviz_stats.ess(part, method="bulk") for part in parts[:, None]]
    return max(float(np.nanmean(each)) if np.isfinite(each).any() else 1.0, 1.0)


def _trace(ax: Axes, quantities: Judged, worst: str, units: str, stats: xr.Dataset) -> None:
    values = quantities.draws.isel(quantity=quantities.worst).values
    factor, units = scaled_units(values, units)
    step = -(-values.shape[1] // MOST_SHOWN)
    draws = np.arange(values.shape[1])
    for chain, colour in zip(values / factor, _shades(len(values)), strict=True):
        ax.plot(draws[::step], chain[::step], color=colour, lw=0.7, alpha=0.85)
    ax.set(xlabel="draw", ylabel=with_units("value", units), title=f"Draws: {worst}")
    ax.margins(x=0)
    if "diverging" in stats and bool(stats["diverging"].any()):
        _divergences(ax, stats["diverging"].any("chain").values)


def _divergences(ax: Axes, diverging: np.ndarray) -> None:
    """Mark the draws at which a chain diverged along the foot of the axes."""
    at = np.flatnonzero(diverging)
    low, high = ax.get_ylim()
    ax.plot(at, np.full(at.size, low), "|", color=FAULT, ms=9, mew=1.1, clip_on=False)
    ax.set_ylim(low, high + 0.25 * (high - low))
    text = "| divergence of a chain"
    ax.text(0.01, 0.97, text, color=FAULT, fontsize=8, va="top", transform=ax.transAxes)


def _energy(ax: Axes, stats: xr.Dataset) -> None:
    if "energy" not in stats or stats.sizes["draw"] < 4:
        note(ax, "no energy was stored")
        return
    energy = stats["energy"].transpose("chain", "draw")
    varies = (energy - energy.mean("draw")).values.ravel()
    moves = energy.diff("draw").values.ravel()
    reach = max(float(np.quantile(np.abs(part), 0.995)) for part in (varies, moves)) or 1.0
    bins = list(np.linspace(-reach, reach, 41))
    ax.hist(varies, bins=bins, density=True, color=PRIOR, alpha=0.6, label="energy, less its mean")
    lines: Any = {"histtype": "step", "color": POSTERIOR, "lw": 1.4}
    ax.hist(moves, bins=bins, density=True, label="change between draws", **lines)
    ax.set(xlabel="energy [nats]", yticks=[], xlim=(-reach, reach))
    ax.set_ylim(top=1.35 * ax.get_ylim()[1])
    ax.spines["left"].set_visible(False)
    ax.set_title(
        f"Energy: smallest E-BFMI {float(ebfmi(energy).min()):.2f}  (low below {LOW_ENERGY})"
    )
    ax.legend(loc="upper left", ncols=2, handlelength=1.2)


def _steps(ax: Axes, stats: xr.Dataset) -> None:
    """Draw the share of draws at each depth of tree, chain by chain."""
    if "n_steps" not in stats:
        note(ax, "no steps were stored")
        return
    steps = stats["n_steps"].transpose("chain", "draw").values.astype(float)
    depth = np.floor(np.log2(np.maximum(steps, 1.0))).astype(int)
    where = np.arange(depth.min(), depth.max() + 1)
    shares = [100 * (chain[:, None] == where).mean(axis=0) for chain in depth]
    width = 0.8 / len(shares)
    for i, (share, colour) in enumerate(zip(shares, _shades(len(shares)), strict=True)):
        ax.bar(where - 0.4 + (i + 0.5) * width, share, width, color=colour)
    middle, wide = where.mean(), max(where.size, FEWEST_BINS)
    ax.set_xticks(where, [str(2 ** (d + 1) - 1) for d in where])
    ax.set(xlabel="gradients of a draw, up to", xlim=(middle - wide / 2, middle + wide / 2))
    ax.set_ylabel("draws [%]")
    saturated = float(stats["maxdepth_reached"].mean()) if "maxdepth_reached" in stats else 0.0
    full = f", {saturated:.0%} at full depth" if saturated > 0 else ""
    ax.set_title(f"Gradients: {steps.mean():.0f} a draw{full}")
    grid_lines(ax, "y")


def _shades(count: int) -> list:
    """Return a colour for each chain: shades, so that none looks like a data set."""
    from matplotlib import colormaps

    return list(colormaps["viridis"](np.linspace(0.08, 0.82, count)))
