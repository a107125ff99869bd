"""Figure of the suspiciousness that consistent data would show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from bayesjoint import _arguments
from bayesjoint.plots._style import INK, MUTED, PALETTE, PRIOR, new_figure, styled
from bayesjoint.plots.tension import CONTRADICT, WORST, expected

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@styled
def plot_tension_null(null: xr.Dataset, report: xr.Dataset | None = None) -> Figure:
    """Draw the suspiciousness of simulated consistent data, and where the data lie in it.

    Parameters
    ----------
    null : xarray.Dataset
        From ``bj.tension_null``.
    report : xarray.Dataset, optional
        From ``bj.tension``, of the same problem.

    Returns
    -------
    matplotlib.figure.Figure
        Histogram of ln S of the simulated data, and the lowest 5 %; with a report that of the data,
        with two Monte Carlo errors, how many of the simulated are as low, and, as a line, the
        chi-squared that would hold if the prior did not inform.

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        When there is no finite ln S to draw.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from bayesjoint.plots import plot_tension_null
    >>> drawn = 1.0 - 0.5 * np.random.default_rng(1).chisquare(2, 500)
    >>> figure = plot_tension_null(xr.Dataset({"ln_suspiciousness": ("replicate", drawn)}))
    """
    _arguments.table("plot_tension_null", null, "tension_null", "ln_suspiciousness")
    if report is not None:
        needed = ("ln_suspiciousness", "ln_suspiciousness_mcse", "d")
        _arguments.table("plot_tension_null", report, "tension", *needed)
    simulated = null["ln_suspiciousness"].values.ravel()
    simulated = simulated[np.isfinite(simulated)]
    if not simulated.size:
        raise ValueError("plot_tension_null: all replicates failed, there is nothing to draw")
    fig = new_figure(3.2)
    ax = fig.subplots()
    bins = int(np.clip(np.sqrt(simulated.size), 8, 60))
    label = f"{simulated.size:,} consistent data sets"
    ax.hist(simulated, bins=bins, density=True, color=PRIOR, label=label)
    low = float(np.quantile(simulated, 0.05))
    ax.axvline(low, ymax=0.75, color=MUTED, lw=0.9, ls="--", label="5 % are lower")
    if report is not None:
        _measured(ax, simulated, report)
    kind = "all fitted anew to each" if null.attrs.get("refitted", 0) else "linear at the fit"
    if null.attrs.get("exact", 0):
        kind = "exact"
    ax.set(title=f"ln S of simulated consistent data ({kind})", yticks=[])
    ax.set_ylim(0, 1.35 * ax.get_ylim()[1])
    ax.set_xlabel("ln S   (nats; the further to the left, the more they contradict each other)")
    ax.spines["left"].set_visible(False)
    ax.legend(loc="upper left", ncols=2)
    return fig


def _measured(ax: Axes, simulated: np.ndarray, report: xr.Dataset) -> None:
    """Draw ln S of the data, and the chi-squared of its d."""
    value, error = float(report["ln_suspiciousness"]), float(report["ln_suspiciousness_mcse"])
    if float(report["d"]) > 0:
        where, density = expected(float(report["d"]))
        inside = where > min(simulated.min(), value) - 1.0
        ax.plot(where[inside], density[inside], color=PALETTE[0], lw=1.2, label="chi-squared")
    lower = int(np.sum(simulated <= value))
    contradict = (1 + lower) / (1 + simulated.size) <= CONTRADICT
    colour, shown = WORST if contradict else INK, f"{value:.1f}".replace("-", "−")
    label = f"data: ln S = {shown}; {lower:,} are as low"
    ax.axvspan(value - 2 * error, value + 2 * error, ymax=0.75, color=colour, alpha=0.15, lw=0)
    ax.axvline(value, ymax=0.75, color=colour, lw=1.6, label=label)
