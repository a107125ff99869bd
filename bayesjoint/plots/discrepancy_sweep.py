"""Figure of what the correlation of errors does to each parameter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from bayesjoint import _arguments
from bayesjoint.plots._style import (
    FAINT,
    INK,
    MUTED,
    colours,
    grid_lines,
    new_figure,
    styled,
    words,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

SETTINGS = {
    "correlation": "correlation between the modalities",
    "sd_factor": "factor on the sd of the discrepancy",
    "length_scale": "length scale of the discrepancy",
}
NEEDED = ("relative_information", "relative_sd", "posterior_sd", "eig", "alignment_leading")
MOST = 6  # parameters that are told apart
HURTS, HELPS = "#d55e00", "#009e73"
LARGE = 4.0  # ratio of information from which its axis is logarithmic


@styled
def plot_discrepancy_sweep(sweep: xr.Dataset, parameters: Sequence[str] | None = None) -> Figure:
    """Draw what the errors' correlation, sd or length scale does to each parameter.

    Parameters
    ----------
    sweep : xarray.Dataset
        From ``bj.discrepancy_sweep``, along one setting: select one value of the others.
    parameters : sequence of str, optional
        Which, at most six.  Default: the first six.

    Returns
    -------
    matplotlib.figure.Figure
        Information and posterior sd over those of the reference, with dots where each turns, error
        bars (two Monte Carlo errors) where it was sampled, and a dashed line at the correlation of
        the problem; the sd lies in the shade of "hurts" or of "helps". Below: expected information
        gain, and the cosine of the sensitivity with directions that the correlation makes noisier
        (full lines) and quieter (dashed). Hatched: values that are not valid.

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        When the sweep has more than one setting, lacks something, or a parameter is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from bayesjoint.plots import plot_discrepancy_sweep
    >>> rho, names = np.linspace(-0.9, 0.9, 7), ["depth"]
    >>> line = (("correlation", "parameter"), 1.0 - 0.2 * rho[:, None])
    >>> sweep = xr.Dataset(
    ...     {"relative_information": line, "relative_sd": line, "posterior_sd": line,
    ...      "eig": line, "alignment_leading": line, "alignment_trailing": line,
    ...      "valid": ("correlation", np.full(7, True))},
    ...     {"correlation": rho, "parameter": names}, {"own_correlation": 0.5},
    ... )
    >>> figure = plot_discrepancy_sweep(sweep)
    """
    setting, sweep = _checked(sweep, parameters)
    colour = colours(sweep["parameter"].values)
    fig = new_figure(5.6, apart=0.05)
    (information, sd), (gain, alignment) = fig.subplots(2, 2)
    for name, c in colour.items():
        one = sweep.sel(parameter=name)
        _line(information, one["relative_information"], c, words(name))
        _line(sd, one["relative_sd"], c)
        _line(gain, one["eig"], c)
        _line(alignment, one["alignment_leading"], c)
        _line(alignment, one["alignment_trailing"], c, style="--")
        if setting == "correlation":
            _turning(information, one, "turning_point", "relative_information", c)
            _turning(sd, one, "turning_point_posterior", "relative_sd", c)
            _sampled(sd, one, c)
    reference = "zero correlation" if setting == "correlation" else "the problem's own"
    information.set(title="Fisher information, others known", ylabel=f"relative to {reference}")
    sd.set(title="Posterior sd", ylabel=f"relative to {reference}")
    gain.set(title="Expected information gain", ylabel="nat")
    alignment.set(title="Sensitivity to noisier (full), quieter (dashed)", ylabel="cosine")
    alignment.set_ylim(-0.03, 1.05)
    _logarithmic(information, sweep["relative_information"])
    _shade(sd, sweep["relative_sd"], float(sweep.attrs.get("tolerance", 0.0)))
    for ax in (information, sd, gain, alignment):
        _finish(ax, sweep, setting)
    handles, labels = information.get_legend_handles_labels()
    if len(labels) > 1:
        fig.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    else:
        fig.suptitle(labels[0], x=0.01, ha="left", fontweight="bold", fontsize=10)
    return fig


def _checked(sweep: xr.Dataset, parameters: Sequence[str] | None) -> tuple[str, xr.Dataset]:
    _arguments.table("plot_discrepancy_sweep", sweep, "discrepancy_sweep", *NEEDED)
    dims = [name for name in SETTINGS if name in sweep["relative_sd"].dims]
    if len(dims) != 1:
        raise ValueError(
            f"plot_discrepancy_sweep: the sweep has the settings {dims}; select one value of all "
            "but one, as in sweep.sel(sd_factor=1.0)"
        )
    return dims[0], chosen("plot_discrepancy_sweep", sweep, parameters, MOST).sortby(dims[0])


def chosen(owner: str, report: xr.Dataset, parameters: Any, most: int) -> xr.Dataset:
    """Return the report of some parameters."""
    known = [str(name) for name in report["parameter"].values]
    _arguments.check_given(owner, parameters=parameters)
    given = [parameters] if isinstance(parameters, str) else parameters
    names = known[:most] if given is None else list(given)
    unknown = [name for name in names if name not in known]
    if unknown or not 0 < len(names) <= most:
        raise ValueError(f"{owner}: parameters={names}; give one to {most} of {known}")
    return report.sel(parameter=names)


def _line(ax: Axes, values: xr.DataArray, colour: str, label: str = "", style: str = "-") -> None:
    setting = values.dims[0]
    ax.plot(values[setting], values, style, color=colour, lw=1.6, label=label or "_unnamed")


def _turning(ax: Axes, one: xr.Dataset, name: str, along: str, colour: str) -> None:
    """Draw a dot where the line turns, when it does within what is drawn."""
    if name not in one or not np.isfinite(one[name]):
        return
    known = one[along].dropna("correlation")
    at, rho = float(one[name]), known["correlation"].values
    if rho.size and rho[0] <= at <= rho[-1]:
        ax.plot(at, np.interp(at, rho, known.values), "o", ms=5, mfc="white", mew=1.4, mec=colour)


def _sampled(ax: Axes, one: xr.Dataset, colour: str) -> None:
    if "posterior_sd_sampled" not in one:
        return
    # The reference, from any point of the line.
    at = int(np.argmax(np.isfinite(one["relative_sd"].values)))
    reference = float(one["posterior_sd"][at] / one["relative_sd"][at])
    ax.errorbar(
        one["nuts_correlation"], one["posterior_sd_sampled"] / reference,
        2.0 * one["posterior_sd_sampled_mcse"] / reference,
        fmt="s", ms=3.5, color=colour, ecolor=INK, elinewidth=1.0, capsize=2.5, zorder=5,
    )  # fmt: skip


def _shade(ax: Axes, ratios: xr.DataArray, tolerance: float) -> None:
    """Shade where it hurts and where it helps, and say so on the side that the lines leave free."""
    low, high = ax.get_ylim()
    reach = max(high - 1.0, 1.0 - low, 2.0 * tolerance)
    low, high = max(min(low, 1.0 - 0.25 * reach), 0.0), max(high, 1.0 + 0.25 * reach)
    ax.axhspan(1.0 + tolerance, high, color=HURTS, alpha=0.09, lw=0, zorder=0)
    ax.axhspan(low, 1.0 - tolerance, color=HELPS, alpha=0.09, lw=0, zorder=0)
    ax.set_ylim(low, high)
    known = ratios.dropna(ratios.dims[0], how="any").values
    ends = known[[0, -1]] if len(known) else np.ones((2, 1))
    look: dict[str, Any] = {"transform": ax.transAxes, "fontsize": 8.5, "fontweight": "bold"}
    for word, colour, y, left in (
        ("hurts", HURTS, 0.97, ends[0].max() <= ends[1].max()),
        ("helps", HELPS, 0.03, ends[0].min() >= ends[1].min()),
    ):
        side: dict[str, Any] = {"x": 0.02 if left else 0.98, "ha": "left" if left else "right"}
        ax.text(s=word, y=y, va="top" if y > 0.5 else "bottom", color=colour, **side, **look)


def _finish(ax: Axes, sweep: xr.Dataset, setting: str) -> None:
    values = sweep[setting].values
    ax.set_xlabel(SETTINGS[setting])
    if setting != "correlation" and values[0] > 0 and values[-1] > 10.0 * values[0]:
        ax.set_xscale("log")
        _plain_ticks(ax.xaxis, values[-1] / values[0])
    ax.set_xlim(values[0], values[-1])
    if setting == "correlation":
        ax.axvline(float(sweep.attrs["own_correlation"]), color=MUTED, ls=(0, (4, 3)), lw=1.0)
    valid = sweep["valid"].values
    for first, last in _gaps(valid):
        ends = values[max(first - 1, 0)], values[min(last, values.size - 1)]
        ax.axvspan(*ends, fc=FAINT, ec="white", hatch="///", lw=0, alpha=0.8, zorder=0.5)
    grid_lines(ax)


def _gaps(valid: np.ndarray) -> list[tuple[int, int]]:
    """Return first and one past the last index of each run of values that are not valid."""
    steps = np.diff(np.concatenate([[0], (~valid).astype(int), [0]]))
    return list(zip(np.flatnonzero(steps == 1), np.flatnonzero(steps == -1), strict=True))


def _logarithmic(ax: Axes, ratios: xr.DataArray) -> None:
    """Make the axis of ratios that reach far logarithmic, with few plain numbers."""
    reach = float(ratios.max() / ratios.min())
    if reach > LARGE:
        ax.set_yscale("log")
        _plain_ticks(ax.yaxis, reach)


def _plain_ticks(axis: Axis, reach: float) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0,) if reach > 100.0 else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
