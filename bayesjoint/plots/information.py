"""Figures of the spectrum, of the information in each modality, and of leakage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from bayesjoint._names import with_marks
from bayesjoint.plots._fields import one_point
from bayesjoint.plots._style import (
    INK,
    MUTED,
    POSTERIOR,
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
from bayesjoint.reports import _read, information, leakage, resolution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MANY = 6  # groups from which leakage is written without the percent sign
FAINTEST = 1e-4  # eigenvalues below this tell nothing and are not drawn


@styled
def plot_spectrum(dt: xr.DataTree) -> Figure:
    """Draw the likelihood-informed spectrum and the degrees of freedom it adds up to.

    Parameters
    ----------
    dt : xarray.DataTree
        From ``bj.sample`` or ``bj.linearize``.

    Returns
    -------
    matplotlib.figure.Figure
        Left: eigenvalues; above 1 the data say more about a direction than the prior. Right: the
        sum of ``lam / (1 + lam)``, degrees of freedom. One line per point.

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        When the tree has no group ``linearization``.

    Examples
    --------
    >>> from bayesjoint.plots import plot_spectrum
    >>> from bayesjoint.reports.example import example_tree
    >>> figure = plot_spectrum(example_tree())
    """
    ds = _read.linearization(dt)
    values = _read.eigenvalues(ds)
    lines = values.values.reshape(-1, values.sizes["mode"])
    shown = max(int((lines > FAINTEST).any(axis=0).sum()), 1)
    fig = new_figure(2.9)
    left, right = fig.subplots(1, 2)
    style = {"color": POSTERIOR, "lw": 1.2, "marker": "o", "ms": 3, "alpha": 1 / len(lines) ** 0.5}
    modes = np.arange(1, shown + 1)
    for line in lines[:, :shown]:
        left.semilogy(modes, np.maximum(line, FAINTEST / 10), **style)
        right.plot(modes, np.cumsum(line / (1 + line)), **style)
    _threshold(left, lines, shown)
    total = float(one_point(_read.shrinkage(ds)).sum("mode"))
    right.set_title(f"Degrees of freedom: {total:.1f} of {ds.sizes['unknown']} unknowns")
    right.set(xlabel="directions counted", ylabel="degrees of freedom")
    right.set_ylim(bottom=0)
    left.xaxis.get_major_locator().set_params(integer=True)
    right.xaxis.get_major_locator().set_params(integer=True)
    grid_lines(right)
    return fig


def _threshold(ax: Axes, lines: np.ndarray, shown: int) -> None:
    informed = round(float((lines >= 1).sum(axis=1).mean()))
    below = informed > shown / 2  # where the falling line leaves room for the words
    ax.axhline(1.0, color=INK, lw=0.9, ls="--")
    ax.annotate(
        "data and prior say equally much",
        (0.02 if below else 0.98, 1.0),
        xycoords=("axes fraction", "data"),
        xytext=(0, -4 if below else 4),
        textcoords="offset points",
        ha="left" if below else "right",
        va="top" if below else "bottom",
        color=MUTED,
        fontsize=8,
    )
    low, high = ax.get_ylim()
    ax.set_ylim(min(low, 0.3), max(high, 10))
    ax.set_title(f"Spectrum: {informed} direction{'s' * (informed != 1)} above 1")
    ax.set(xlabel="direction", ylabel="eigenvalue")
    ax.set_xlim(1 - 0.03 * shown, shown + 0.03 * shown + 0.5)
    grid_lines(ax)


@styled
def plot_information(dt: xr.DataTree) -> Figure:
    """Draw what each modality tells: degrees of freedom, and information alone and on top.

    Parameters
    ----------
    dt : xarray.DataTree
        From ``bj.sample`` or ``bj.linearize``.

    Returns
    -------
    matplotlib.figure.Figure
        Left: partial degrees of freedom. Right: information gain in nats, of the modality alone
        (full colour) and on top of all others (pale), with the gain of all data as a line.

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        When the tree has no group ``linearization``.

    Examples
    --------
    >>> from bayesjoint.plots import plot_information
    >>> from bayesjoint.reports.example import example_tree
    >>> figure = plot_information(example_tree())
    """
    report, dofs = one_point(information(dt)), one_point(with_marks(resolution)(dt))
    names = _read.modalities(_read.linearization(dt))
    colour = list(colours(names).values())
    fig = new_figure(1.5 + 0.55 * len(names))
    left, right = fig.subplots(1, 2)
    where = np.arange(len(names))
    left.barh(where, dofs["partial_dofs"], color=colour, height=0.6)
    _value_labels(left, dofs["partial_dofs"].values, where, "{:.1f}")
    unique = "" if "add up" in dofs.attrs["split"] else " (split not unique)"
    left.set_title(f"Degrees of freedom by data set{unique}")
    left.set_xlabel("partial degrees of freedom")
    right.barh(where - 0.19, report["eig_alone"], color=colour, height=0.36)
    right.barh(where + 0.19, report["eig_conditional"], color=colour, height=0.36, alpha=0.4)
    _value_labels(right, report["eig_alone"].values, where - 0.19, "{:.1f} alone")
    _value_labels(
        right, report["eig_conditional"].values, where + 0.19, "{:.1f} on top of the rest"
    )
    _total(right, float(report["eig"]))
    for ax in (left, right):
        short_labels(ax, [words(name) for name in names], axis="y")
        ax.invert_yaxis()
        grid_lines(ax, "x")
    return fig


def _value_labels(ax: Axes, values: np.ndarray, where: np.ndarray, form: str) -> None:
    reach = max(float(np.max(values)), 1e-12)
    for value, y in zip(values, where, strict=True):
        ax.annotate(
            form.format(value), (max(value, 0.0), y), xytext=(4, 0), textcoords="offset points",
            va="center", fontsize=8, color=INK, zorder=5,
            bbox={"fc": "white", "ec": "none", "pad": 0.6},
        )  # fmt: skip
    ax.set_xlim(min(0.0, float(np.min(values))), max(ax.get_xlim()[1], 1.15 * reach))


def _total(ax: Axes, eig: float) -> None:
    ax.axvline(eig, color=INK, lw=0.9, ls="--")
    ax.set_title(f"Information: {eig:.1f} nats from all data (dashed)")
    ax.set_xlabel("expected information gain [nat]")
    ax.set_xlim(0, max(1.45 * eig, ax.get_xlim()[1]))


@styled
def plot_leakage(
    dt: xr.DataTree, groups: Mapping[str, str | Iterable[str]] | Iterable[str] | None = None
) -> Figure:
    """Draw the leakage matrix: which share of each estimate's response comes from where.

    Parameters
    ----------
    dt : xarray.DataTree
        From ``bj.sample`` or ``bj.linearize``.
    groups : mapping or list, optional
        As in ``bj.leakage``.

    Returns
    -------
    matplotlib.figure.Figure
        Rows: estimates; columns: what truly changes; percent, rows adding up to 100. With more
        than six groups shares below half a percent are left blank.

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        As ``bj.leakage``.

    Examples
    --------
    >>> from bayesjoint.plots import plot_leakage
    >>> from bayesjoint.reports.example import example_tree
    >>> figure = plot_leakage(example_tree())
    """
    report = one_point(leakage(dt, groups))
    names = [words(name) for name in report["into"].values]
    many, longest = len(names) > MANY, 0.075 * max(map(len, names))
    width = min(WIDTH, (0.5 if many else 1.05) * len(names) + longest + 0.6)
    fig = new_figure((0.32 if many else 0.75) * len(names) + 0.8 + many * longest, width)
    ax = fig.add_subplot()
    image = ax.imshow(report.values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (i, j), value in np.ndenumerate(report.values):
        text = ("no response" if j == 0 else "") if np.isnan(value) else _percent(value, many)
        colour = INK if np.isnan(value) else readable_on(image.cmap(value))
        side: Any = {"ha": "left" if np.isnan(value) else "center", "va": "center"}
        ax.text(j - 0.4 * np.isnan(value), i, text, color=colour, fontsize=8, **side)
    short_labels(ax, names, room=5 if many else 13)
    short_labels(ax, names, axis="y")
    ax.set(xlabel="true change of", ylabel="shows up in")
    _cell_lines(ax, len(names))
    return fig


def _percent(value: float, bare: bool) -> str:
    """Percent; without the sign, and without what is below half a percent, when space is short."""
    if bare:
        return f"{100 * value:.0f}" if value >= 0.005 else ""
    if 0 < value < 0.001:
        return "< 0.1 %"
    return f"{100 * value:.0f} %" if value >= 0.1 or value == 0 else f"{100 * value:.1f} %"


def _cell_lines(ax: Axes, count: int) -> None:
    plain(ax)
    edges = np.arange(count + 1) - 0.5
    ax.set_xticks(edges, minor=True)
    ax.set_yticks(edges, minor=True)
    ax.grid(False)
    ax.grid(True, which="minor", color="white", lw=2)
    ax.tick_params(which="minor", length=0)
