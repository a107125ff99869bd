"""Figure of data left out group by group: in what all others predict, and how probable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from bayesjoint import _arguments
from bayesjoint._names import restored
from bayesjoint.plots._style import (
    colours,
    new_figure,
    styled,
    words,
)
from bayesjoint.plots.leave_one_out import draw_calibration, draw_pareto
from bayesjoint.plots.modality_validation import draw_predicted

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

NEEDED = ("predicted", "measured", "region_probability", "pareto_k")
LEVELS = (0.5, 0.9)  # of the regions whose coverage is told


@styled
def plot_leave_out(report: xr.Dataset) -> Figure:
    """Draw how groups of data lie in what all other data predict for them.

    Parameters
    ----------
    report : xarray.Dataset
        From ``bj.leave_out``.

    Returns
    -------
    matplotlib.figure.Figure
        Above, a row for each modality: data in black and central 50 and 90 % of predicted data in
        colour, both without the median prediction, in units of the data. Below, of the groups left
        out together: whether the regions that just hold the data of a group have uniform
        probabilities (difference of shares, with the 95 % band of as many independent groups), how
        many lie in the 50 and 90 % region, and Pareto's k, orange from 0.7, where the group must be
        refitted (none where it was).

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        When the report is another one.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from bayesjoint.plots import plot_leave_out
    >>> rng = np.random.default_rng(1)
    >>> report = xr.Dataset(
    ...     {
    ...         "predicted": (("sample", "station"), rng.normal(size=(300, 6))),
    ...         "measured": ("station", rng.normal(size=6)),
    ...         "log_density": ("station", np.full(6, -1.4)),
    ...         "region_probability": ("station", rng.uniform(size=6)),
    ...         "pareto_k": ("station", np.full(6, 0.2)),
    ...     }
    ... )
    >>> figure = plot_leave_out(report)
    """
    _arguments.table("plot_leave_out", report, "leave_out", *NEEDED)
    report = restored(report)
    measured, predicted = report["measured"], report["predicted"]
    if "modality" not in measured.dims:
        measured, predicted = (values.expand_dims("modality") for values in (measured, predicted))
    names = [str(name) for name in measured["modality"].values]
    colour = colours(names)
    fig = new_figure(2.5 * len(names) + 2.6)
    strips: Any = fig.subfigures(len(names) + 1, 1, height_ratios=[2.5] * len(names) + [2.6])
    for i, (strip, name) in enumerate(zip(strips[:-1], names, strict=True)):
        if "modality" in report["measured"].dims:
            strip.suptitle(words(name), x=0.01, ha="left", fontsize=10, fontweight="bold")
        data = measured.isel(modality=i, drop=True)
        draw_predicted(strip, data, predicted.isel(modality=i, drop=True), colour[name])
    _groups(strips[-1], report, colour[names[0]])
    return fig


def _groups(strip: SubFigure, report: xr.Dataset, colour: str) -> None:
    probability = report["region_probability"].values
    probability = probability[np.isfinite(probability)]  # a group may have no data
    left, right = strip.subplots(1, 2, width_ratios=(3, 2))
    draw_calibration(left, probability, colour)
    half, most = (int(np.sum(probability <= level)) for level in LEVELS)
    left.set_title(f"{probability.size} groups: {half} in their 50 % region, {most} in 90 %")
    left.set_xlabel("probability of the region that just holds a group")
    draw_pareto(right, report["pareto_k"].values, colour)
    right.set_xlabel(f"group (by {words(report['pareto_k'].dims[0])})")
