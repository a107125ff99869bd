"""Figure of the weight of a coupling that was calibrated to a similarity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from bayesjoint import _arguments
from bayesjoint.plots._style import INK, MUTED, PALETTE, grid_lines, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEEDED = ("similarity", "similarity_error", "flat_share", "size", "calibrated")
CHOSEN = "#d55e00"


@styled
def plot_coupling_calibration(table: xr.Dataset) -> Figure:
    """Draw what the weight of a coupling does to the prior, and the weight that was chosen.

    Parameters
    ----------
    table : xarray.Dataset
        From ``bj.calibrate_coupling``.

    Returns
    -------
    matplotlib.figure.Figure
        Left: mean structural similarity of the coupled prior against the weight, with a band of
        two Monte Carlo standard errors; the similarity asked for and the weight found for it in
        orange. Right: share of the grid that is flat, and root mean square gradient over that of
        the uncoupled prior, which fall below one where the coupling is met by flat fields. Open
        circles at the left edges: without the coupling.

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        When something of the table is missing.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from bayesjoint.plots import plot_coupling_calibration
    >>> columns = {
    ...     "similarity": [0.5, 0.6, 0.8], "similarity_error": [0.01, 0.01, 0.02],
    ...     "flat_share": [0.1, 0.1, 0.2], "size": [1.0, 0.9, 0.7],
    ... }
    >>> table = xr.Dataset(
    ...     {name: ("weight", values) for name, values in columns.items()} | {"calibrated": 3.0},
    ...     {"weight": [0.0, 1.0, 10.0]}, {"wanted": 0.7, "coupling": "cross_gradient"},
    ... )
    >>> figure = plot_coupling_calibration(table)
    """
    _arguments.table(
        "plot_coupling_calibration", table, "calibrate_coupling", *NEEDED, attrs=["wanted"]
    )
    fig = new_figure(3.3, apart=0.06)
    left, right = fig.subplots(1, 2)
    error = 2.0 * table["similarity_error"]
    _line(left, table["similarity"], PALETTE[0], "mean, ± 2 Monte Carlo errors", error)
    found, wanted = float(table["calibrated"]), float(table.attrs["wanted"])
    left.axhline(wanted, color=CHOSEN, lw=0.9, ls="--")
    left.plot(found, wanted, "D", color=CHOSEN, ms=6, zorder=6, label=f"weight {found:.3g}")
    left.set(title=f"Similarity: {wanted:g} asked for", ylabel="structural similarity")
    _line(right, table["flat_share"], PALETTE[2], "flat share of the grid")
    _line(right, table["size"], PALETTE[3], "gradients, over uncoupled ones")
    right.axvline(found, color=CHOSEN, lw=0.9, ls="--")
    right.set(title="At what cost", ylabel="share")
    right.set_ylim(bottom=0.0, top=1.3 * max(float(table["size"].max()), 1.0))
    for ax in (left, right):
        _finish(ax, np.append(table["weight"].values, found))
    return fig


def _line(
    ax: Axes, values: xr.DataArray, colour: str, label: str, error: xr.DataArray | None = None
) -> None:
    """Draw a line over weights above zero, and a circle at the left edge for weight zero."""
    values, weight = values.sortby("weight"), np.sort(values["weight"].values)
    above = weight > 0.0
    ax.plot(weight[above], values.values[above], "-o", color=colour, lw=1.5, ms=3.5, label=label)
    if error is not None:
        reach = error.sortby("weight").values
        low, high = (values.values + sign * reach for sign in (-1.0, 1.0))
        ax.fill_between(weight[above], low[above], high[above], color=colour, alpha=0.25, lw=0)
    for value in values.values[~above]:
        ax.plot(
            [0.0], [value], "o", ms=5, mfc="white", color=colour, clip_on=False, zorder=5,
            transform=ax.get_yaxis_transform(),
        )  # fmt: skip


def _finish(ax: Axes, weight: np.ndarray) -> None:
    above = weight[weight > 0.0]
    reach = max(above.max() / above.min(), 10.0)
    ax.set_xscale("log")
    ax.set_xlim(above.min() / reach**0.1, above.max() * reach**0.05)
    ax.set_xlabel("weight   (open circles: without coupling)", color=INK)
    ax.legend(loc="best", handlelength=1.4)
    ax.tick_params(which="minor", color=MUTED)
    grid_lines(ax)
