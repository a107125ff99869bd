"""The look that all figures share, and the lazy import of matplotlib."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesjoint import _names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 9.0  # inches: a page's width
INK, MUTED, FAINT = "#1f2933", "#6b7785", "#e3e7ec"
POSTERIOR, PRIOR, DATA = "#0072b2", "#b6bec8", "#1f2933"
# Okabe & Ito (2008): told apart with every kind of colour vision.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
SEQUENTIAL, WIDTHS, DIVERGING = "viridis", "YlOrBr", "RdBu_r"

RESOLUTION = 110  # dots per inch on screen

RC: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 7.0,
    "axes.labelsize": 9.0,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.dpi": RESOLUTION,
    "text.color": INK,
    "text.parse_math": False,  # names and units of users are no formulas, whatever stands in them
}


def styled[**P, R](draw: Callable[P, R]) -> Callable[P, R]:
    """Draw with the shared style; say which extra to install when matplotlib is missing."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            import matplotlib
            import matplotlib.pyplot
        except ImportError as missing:
            raise ImportError(
                "figures need matplotlib; install the extra: pip install 'bayesjoint[plots]'"
            ) from missing
        if "ipykernel" in sys.modules:
            matplotlib.pyplot.draw_if_interactive()  # a notebook learns how to show figures
        with matplotlib.rc_context(RC):
            drawn = draw(*args, **kwargs)
            _powers_of_ten(drawn)
        return drawn

    return wrapper


def _powers_of_ten(drawn: Any) -> None:
    """Let matplotlib write the powers of ten of its own logarithmic axes as formulas."""
    from matplotlib.ticker import LogFormatter

    for ax in getattr(drawn, "axes", []):
        for axis in (ax.xaxis, ax.yaxis):
            for formatter, ticks in (
                (axis.get_major_formatter(), axis.get_major_ticks),
                (axis.get_minor_formatter(), axis.get_minor_ticks),
            ):
                if isinstance(formatter, LogFormatter):
                    for tick in ticks():
                        tick.label1.set_parse_math(True)
                        tick.label2.set_parse_math(True)


def new_figure(height: float, width: float = WIDTH, apart: float = 0.02) -> Figure:
    """Return a figure that belongs to the caller alone: pyplot neither keeps nor shows it."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(wspace=apart)
    return Figure(figsize=(width, height), layout=layout, dpi=RESOLUTION)


def colours(names: Iterable[str]) -> dict[str, str]:
    """One colour per name, the same in every figure that lists the names in the same order."""
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(names)}


def words(name: object) -> str:
    """Write a name as words; labels in brackets behind it stay as they are."""
    own, bracket, labels = _names.plain(name).partition("[")
    return own.replace("_", " ") + bracket + labels


def with_units(label: str, units: str) -> str:
    """Label with units in brackets, exponents raised; without brackets when there are none."""
    shown = pretty_units(units)
    return f"{label} [{shown}]" if shown else label


def pretty_units(units: str) -> str:
    """Raise the exponents of units: ``kg/m3``, ``kg m^-3`` and ``1e-6/m`` with small figures."""
    if units in ("", "1"):
        return ""
    powers = re.sub(r"(?<![\w.])1e([-+]?\d+)", lambda m: f"10{raised(m.group(1))}", units)
    return re.sub(r"(?<=[A-Za-zµÅΩ])(?:\^|\*\*)?(-?\d+)", lambda m: raised(m.group(1)), powers)


def raised(exponent: str) -> str:
    """Write an exponent in small figures, without a plus and leading zeros."""
    return str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def scaled_units(values: np.ndarray, units: str) -> tuple[float, str]:
    """Power of ten by which to divide numbers for an axis, and the units that then hold.

    None for large numbers that hardly differ, such as map coordinates: their digits all matter.
    """
    values = np.ravel(values)[~np.isnan(np.ravel(values))]  # data may be missing
    largest = float(np.max(np.abs(values), initial=0.0))
    if not np.isfinite(largest) or largest == 0 or 1e-2 <= largest < 1e5:
        return 1.0, units
    if largest < 1e8 and np.ptp(values) < 1e-3 * largest:
        return 1.0, units
    power = 3 * int(np.floor(np.log10(largest) / 3))
    return 10.0**power, f"10{raised(str(power))} {'' if units == '1' else units}".strip()


def around_zero(values: np.ndarray) -> dict[str, Any]:
    """Return the colours of a map with both signs, wide enough for all but the very largest."""
    reach = float(np.nanquantile(np.abs(values), 0.995)) or 1.0
    return {"cmap": DIVERGING, "vmin": -reach, "vmax": reach}


def grid_lines(ax: Axes, axis: Any = "both") -> None:
    """Draw faint grid lines behind the data."""
    ax.grid(True, axis=axis)


def plain(ax: Axes) -> None:
    """Leave only the content of an axes: no frame, no ticks."""
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)


def readable_on(colour: Any) -> str:
    """Black or white, whichever is readable on a colour (red, green, blue, alpha)."""
    red, green, blue = np.asarray(colour)[:3]
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 0.55 else "white"


def short_labels(ax: Axes, labels: list[str], axis: str = "x", room: int = 14) -> None:
    """Put names on ticks, turned when one has more letters than there is room for."""
    positions = np.arange(len(labels))
    if axis == "y":
        ax.set_yticks(positions, labels)
    elif max(map(len, labels), default=0) > room:
        ax.set_xticks(positions, labels, rotation=35, ha="right", rotation_mode="anchor")
    else:
        ax.set_xticks(positions, labels)
