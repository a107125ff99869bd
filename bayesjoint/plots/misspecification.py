"""Figure of what it costs to take the errors' correlation for what it is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from bayesjoint import _arguments
from bayesjoint.plots._style import (
    FAINT,
    MUTED,
    PALETTE,
    grid_lines,
    new_figure,
    styled,
    with_units,
    words,
)
from bayesjoint.plots.discrepancy_sweep import SETTINGS, chosen

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CASES: dict[str, tuple[str, str, Any]] = {
    "joint": ("correlated errors, known", PALETTE[0], "-"),
    "independent": ("correlated errors, taken for independent", PALETTE[1], "-"),
    "none": ("correlated errors, left out", PALETTE[3], "--"),
    "reversed": ("independent errors, taken for correlated", MUTED, (0, (1, 1.2))),
}
MOST = 4  # parameters, a row each


@styled
def plot_discrepancy_cost(cost: xr.Dataset, parameters: Sequence[str] | None = None) -> Figure:
    """Draw what it costs to take the errors' correlation for what it is not.

    Parameters
    ----------
    cost : xarray.Dataset
        From ``bj.discrepancy_cost``.
    parameters : sequence of str, optional
        Which, at most four, a row each.  Default: the first four.

    Returns
    -------
    matplotlib.figure.Figure
        Left: coverage of the intervals, replicates as dots with their 95 % intervals, expected as
        lines; the nominal one is grey, with the 95 % range of as many replicates. Middle: width of
        the intervals. Right: root mean square error of the estimates.

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        When the dataset is another one, or a parameter is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from bayesjoint.plots import plot_discrepancy_cost
    >>> dims = ("correlation", "case", "parameter")
    >>> part = (dims, np.full((2, 1, 1), 0.9))
    >>> names = ["coverage", "coverage_lower", "coverage_upper", "coverage_expected", "width"]
    >>> cost = xr.Dataset(
    ...     {name: part for name in [*names, "rmse"]} | {"units": ("parameter", ["m"])},
    ...     {"correlation": [0.0, 0.5], "case": ["joint"], "parameter": ["depth"]},
    ...     {"probability": 0.9, "replicates": 200},
    ... )
    >>> figure = plot_discrepancy_cost(cost)
    """
    needed = ("coverage", "coverage_expected", "width", "rmse", "correlation", "parameter")
    attrs = ("probability", "replicates")
    _arguments.table("plot_discrepancy_cost", cost, "discrepancy_cost", *needed, attrs=attrs)
    cost = chosen("plot_discrepancy_cost", cost, parameters, MOST).sortby("correlation")
    cases = {case: CASES[case] for case in map(str, cost["case"].values)}
    rows = cost.sizes["parameter"]
    fig = new_figure(0.9 + 2.5 * rows, apart=0.05)
    for axes, name in zip(
        fig.subplots(rows, 3, squeeze=False), cost["parameter"].values, strict=True
    ):
        one = cost.sel(parameter=name)
        _nominal(axes[0], cost.attrs)
        for i, (case, (label, colour, style)) in enumerate(cases.items()):
            look: dict[str, Any] = {"color": colour, "ls": style, "lw": 2.6 if i == 0 else 1.6}
            _coverage(axes[0], one.sel(case=case), label, look, i - (len(cases) - 1) / 2)
            for ax, key in zip(axes[1:], ("width", "rmse"), strict=True):
                ax.plot(one["correlation"], one[key].sel(case=case), **look)
        percent, units = 100.0 * float(cost.attrs["probability"]), str(one["units"].item())
        axes[0].set(title=f"{words(name)}: {percent:g} % coverage", ylim=(0.0, 1.03))
        axes[1].set(title="Width of the intervals", ylabel=with_units("", units).strip())
        axes[2].set(title="Error of the estimates, rms")
        for ax in axes:
            ax.set_xlabel(SETTINGS["correlation"])
            grid_lines(ax)
        for ax, key in zip(axes[1:], ("width", "rmse"), strict=True):
            ax.set_ylim(0.0, 1.1 * float(one[key].max()))
    handles, labels = fig.axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=2)
    return fig


def _nominal(ax: Axes, attrs: dict) -> None:
    probability, count = float(attrs["probability"]), int(attrs["replicates"])
    reach = 1.96 * np.sqrt(probability * (1.0 - probability) / count)
    ax.axhspan(probability - reach, min(probability + reach, 1.0), color=FAINT, lw=0, zorder=0)
    ax.axhline(probability, color=MUTED, lw=0.8, zorder=0.5)


def _coverage(ax: Axes, one: xr.Dataset, label: str, look: dict, place: float) -> None:
    rho, seen = one["correlation"].values, one["coverage"].values
    shift = 0.012 * place * float(np.ptp(rho) or 1.0)
    ends = np.stack([seen - one["coverage_lower"], one["coverage_upper"] - seen])
    ax.plot(rho, one["coverage_expected"], label=label, **look)
    ax.errorbar(
        rho + shift, seen, np.maximum(ends, 0.0), fmt="o", ms=3.2, color=look["color"],
        elinewidth=0.9,
    )  # fmt: skip
