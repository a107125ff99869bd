"""Shares as percentages, the same in every sentence: no powers of ten, no rounding to all."""

from __future__ import annotations

import math

SMALLEST = 1e-4  # a share below is not told in figures
ALL = 1e-9  # a share within this of one is all


def percent(share: float, signed: bool = False) -> str:
    """Write a share as a percentage: "83 %", "7.1 %", "99.9 %", "less than 0.01 %".

    Parameters
    ----------
    share : float
        Of one.
    signed : bool
        Write a plus in front of what is positive.
    """
    if not math.isfinite(share):
        return "an unknown share"
    sign = "−" if share < 0 else "+" if signed and share > 0 else ""
    size = 100.0 * abs(share)
    if 0 < size < 100.0 * SMALLEST:
        return f"less than {sign}{100.0 * SMALLEST:g} %"
    if 99.5 <= size < 100.0 * (1.0 - ALL):
        return f"{sign}{math.floor(10.0 * size) / 10.0:g} %"  # not all
    if size >= 10.0 or size == 0.0:
        return f"{sign}{size:,.0f} %"
    return f"{sign}{float(f'{size:.2g}'):g} %"


def data(count: int) -> str:
    """Write a number of data: "1 datum", "12 data"."""
    return f"{count:,} {'datum' if count == 1 else 'data'}"


def short(value: float) -> str:
    """Write a number with two figures and without a power of ten: "1.4", "23", "1,200"."""
    if not math.isfinite(value) or abs(value) >= 1e6:
        return f"{value:.1e}"
    return f"{float(f'{value:.2g}'):,.4g}" if abs(value) < 1e4 else f"{float(f'{value:.2g}'):,.0f}"
