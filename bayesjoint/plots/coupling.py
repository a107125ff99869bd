"""Figure of a sweep over the weight of a coupling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from bayesjoint import _arguments
from bayesjoint.plots._style import INK, colours, grid_lines, new_figure, styled, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEEDED = ("leakage", "resolution", "posterior_sd", "chi2", "n_data")


@styled
def plot_coupling_sweep(sweep: xr.Dataset) -> Figure:
    """Draw leakage, resolution and misfit against the weight of a coupling.

    Parameters
    ----------
    sweep : xarray.Dataset
        From ``bj.coupling_sweep``, with two or more weights above zero.

    Returns
    -------
    matplotlib.figure.Figure
        Left: leakage of each latent into each other. Middle: resolution (full lines) and posterior
        sd over uncoupled prior sd (dashed) of each latent. Right: chi-squared of each modality over
        its number of data. The values of weight zero, where it was swept, are drawn as dots at the
        left edge.

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        When something of the sweep is missing, or fewer than two weights are above zero.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from bayesjoint.plots import plot_coupling_sweep
    >>> weight, of_latent = np.array([0.0, 1.0, 10.0]), ("weight", "latent")
    >>> names = ["density", "slowness"]
    >>> sweep = xr.Dataset(
    ...     {
    ...         "leakage": (("weight", "into", "source"), np.full((3, 2, 2), 0.1)),
    ...         "resolution": (of_latent, np.full((3, 2), 0.4)),
    ...         "posterior_sd": (of_latent, np.full((3, 2), 0.6)),
    ...         "chi2": (("weight", "modality"), np.full((3, 1), 55.0)),
    ...         "n_data": (("weight", "modality"), np.full((3, 1), 60)),
    ...     },
    ...     {"weight": weight, "into": names, "source": names, "latent": names,
    ...      "modality": ["gravity"]},
    ... )
    >>> figure = plot_coupling_sweep(sweep)
    """
    _check(sweep)
    sweep = sweep.sortby("weight")
    latents, modalities = sweep["latent"].values, sweep["modality"].values
    fig = new_figure(3.5, apart=0.06)
    left, middle, right = fig.subplots(1, 3)
    pairs = [(a, b) for a in latents for b in latents if a != b]
    _lines(left, {f"{words(b)} into {words(a)}": sweep["leakage"].sel(into=a, source=b)
                  for a, b in pairs})  # fmt: skip
    left.set(title="Leakage", ylabel="share of the response")
    _lines(middle, {words(n): sweep["resolution"].sel(latent=n) for n in latents})
    _lines(middle, {words(n): sweep["posterior_sd"].sel(latent=n) for n in latents}, "--")
    middle.set_ylabel("per cell; over uncoupled prior sd")
    middle.set_title("Resolution; sd (dashed)")
    misfit = sweep["chi2"] / sweep["n_data"]
    _lines(right, {words(n): misfit.sel(modality=n) for n in modalities})
    right.set(title="Misfit", ylabel="chi-squared per datum")
    for ax in (left, middle, right):
        _finish(ax, sweep["weight"].values)
    return fig


def _check(sweep: xr.Dataset) -> None:
    _arguments.table("plot_coupling_sweep", sweep, "coupling_sweep", *NEEDED)
    if np.count_nonzero(sweep["weight"].values > 0.0) < 2:
        raise ValueError("plot_coupling_sweep: two or more weights above zero are needed")


def _lines(ax: Axes, values: Mapping[str, xr.DataArray], style: str = "-") -> None:
    """Draw a line a name, those of a second call without a name, and dots for weight zero."""
    look: dict[str, Any] = {"lw": 1.5} | ({"marker": "o", "ms": 3} if style == "-" else {})
    for (name, line), colour in zip(values.items(), colours(values).values(), strict=True):
        weight = line["weight"].values
        above = weight > 0.0
        label = name if style == "-" else "_unnamed"
        ax.plot(weight[above], line.values[above], style, color=colour, label=label, **look)
        for value in line.values[~above]:
            ax.plot(
                [0.0], [value], "o", ms=5, mfc="white", color=colour, clip_on=False, zorder=5,
                transform=ax.get_yaxis_transform(),
            )  # fmt: skip


def _finish(ax: Axes, weight: np.ndarray) -> None:
    ax.set_xscale("log")
    above = weight[weight > 0.0]
    reach = above.max() / above.min()
    ax.set_xlim(above.min() / reach**0.06, above.max() * reach**0.02)
    low, high = ax.dataLim.y0, ax.dataLim.y1
    ax.set_ylim(min(0.0, low), 1.3 * max(high, 1e-3))
    ax.set_xlabel("weight" + (" (open circles: none)" if (weight == 0.0).any() else ""), color=INK)
    ax.legend(loc="upper left", borderaxespad=0.2, handlelength=1.4)
    grid_lines(ax)
