"""A figure of the worth of data for a prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from bayesjoint import _arguments
from bayesjoint.plots._axes import dress
from bayesjoint.plots._fields import axis_of, draw_image
from bayesjoint.plots._style import (
    INK,
    PRIOR,
    SEQUENTIAL,
    colours,
    grid_lines,
    new_figure,
    short_labels,
    styled,
    with_units,
    words,
)
from bayesjoint.reports import data_worth

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CUT = 4.0  # times the others, from which the bar of the prior is cut off
CANDIDATE = "#6b7785"


@styled
def plot_data_worth(
    dt: xr.DataTree | xr.Dataset,
    prediction: str | xr.DataArray | Mapping[str, Any] | None = None,
    **settings: Any,
) -> Figure:
    """Draw what each modality, each datum and each candidate is worth for a prediction.

    Parameters
    ----------
    dt : xarray.DataTree or xarray.Dataset
        From ``bj.linearize`` or ``bj.sample``; or the report of ``bj.data_worth``.
    prediction, **settings
        As for ``bj.data_worth``; none with a report.

    Returns
    -------
    matplotlib.figure.Figure
        Left: sd of the prediction with all data, without each modality, before any data, and with
        the best candidate. Right: for each datum, the share of the variance left by all others that
        it removes. Below, with candidates on one or two dims: the share that each would remove.

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        As ``bj.data_worth``.

    Examples
    --------
    >>> from bayesjoint.plots import plot_data_worth
    >>> from bayesjoint.reports.example import example_tree
    >>> figure = plot_data_worth(example_tree(), "gain")
    """
    if isinstance(dt, xr.Dataset):
        needed = ("sd", "sd_prior", "sd_without_modality", "worth_of_datum", "modality")
        _arguments.table("plot_data_worth", dt, "data_worth", *needed)
        report = dt
    elif prediction is None:
        raise ValueError("plot_data_worth: name the prediction, as in bj.data_worth")
    else:
        report = data_worth(dt, prediction, **settings)
    candidates = report.get("worth_of_candidate")
    drawn = int(candidates is not None and candidates.ndim in (1, 2))
    heights = [1.5 + 0.32 * (report.sizes["modality"] + 2 + drawn), *([2.7] * drawn)]
    fig = new_figure(sum(heights))
    strips = fig.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    left, right = strips[0].subplots(1, 2, width_ratios=[2, 3])
    colour = colours([str(name) for name in report["modality"].values])
    _sds(left, report, colour)
    _data(right, report, colour)
    if drawn and candidates is not None:
        _candidates(strips[1].subplots(), candidates)
    return fig


def _sds(ax: Axes, report: xr.Dataset, colour: dict[str, str]) -> None:
    bars = [("before the data", float(report["sd_prior"]), PRIOR)]
    for name, c in colour.items():
        without = float(report["sd_without_modality"].sel(modality=name))
        bars.append((f"without {words(name)}", without, c))
    bars.append(("all data", float(report["sd"]), INK))
    if "sd_with_candidate" in report:
        best = float(report["sd_with_candidate"].min())
        bars.append(("with the best candidate", best, CANDIDATE))
    labels, values, shades = zip(*bars, strict=True)
    reach = 1.25 * (max(values) if values[0] < CUT * max(values[1:]) else max(values[1:]))
    ax.barh(np.arange(len(bars)), np.minimum(values, reach), color=shades, height=0.62)
    ax.axvline(float(report["sd"]), color=INK, lw=0.8, ls=":")
    for y, value in enumerate(values):
        cut = value > reach
        text, side = (f" {value:.3g} → ", "right") if cut else (f" {value:.3g}", "left")
        ax.text(min(value, reach), y, text, va="center", ha=side, fontsize=8, color=INK)
    short_labels(ax, list(labels), axis="y")
    ax.set(ylim=(len(bars) - 0.5, -0.5), xlim=(0, reach))
    ax.set_title(f"Sd of {words(report.attrs['prediction'])}")
    ax.set_xlabel(with_units("sd", str(report["sd"].attrs["units"])))
    ax.tick_params(axis="y", length=0)


def _data(ax: Axes, report: xr.Dataset, colour: dict[str, str]) -> None:
    worth, owner = 100.0 * report["worth_of_datum"].values, report["modality_of_datum"].values
    where = np.arange(worth.size)
    for name, c in colour.items():
        own = owner == name
        ax.vlines(where[own], 0, worth[own], color=c, lw=1.2, alpha=0.6)
        ax.plot(where[own], worth[own], "o", color=c, ms=3.5, mew=0, label=words(name))
    ax.set(title="Each datum: share of the variance that all others leave")
    ax.set(xlabel="datum", ylabel="removes [%]")
    ax.locator_params(axis="x", integer=True)
    ax.set_ylim(0, 1.28 * max(float(worth.max(initial=0.0)), 1e-6))
    ax.legend(loc="upper right", ncols=len(colour), handletextpad=0.2)
    grid_lines(ax, "y")


def _candidates(ax: Axes, worth: xr.DataArray) -> None:
    shown = 100.0 * worth.assign_coords(
        {dim: np.arange(worth.sizes[dim]) for dim in worth.dims if dim not in worth.coords}
    )
    if worth.ndim == 1:
        dim = str(worth.dims[0])
        axis = axis_of(shown, dim)
        line: Any = {"ls": "" if axis.kind == "names" else "-", "color": CANDIDATE}
        ax.plot(axis.at, shown.values, marker="o", ms=4, lw=1.2, **line)
        dress(ax.xaxis, axis)
        ax.set(ylabel="would remove [%]", ylim=(0, None))
        grid_lines(ax)
    else:
        draw_image(ax, shown, "would remove", "%", cmap=SEQUENTIAL)
    ax.set_title("Each candidate: share of the variance")
