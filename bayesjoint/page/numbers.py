"""Numbers as people write them: as many digits as the uncertainty allows."""

from __future__ import annotations

import math

from bayesjoint.plots._style import pretty_units, raised

LARGEST, SMALLEST = 1e6, 1e-3  # beyond these, powers of ten


def with_sd(value: float, sd: float, units: str = "") -> str:
    """Write ``value ± sd units``, the sd with two figures and the value to the same place."""
    unit = pretty_units(units)
    if not (math.isfinite(value) and math.isfinite(sd)) or sd <= 0:
        return f"{value:.4g} {unit}".strip()
    size = max(abs(value), sd)
    power = 0 if SMALLEST <= size < LARGEST or _all_digits_matter(value, sd) else _power(size)
    scale = 10.0**power
    places = max(0, 1 - _power(sd / scale))
    text = f"{grouped(value / scale, places)} ± {grouped(sd / scale, places)}"
    if power:
        text = f"({text}) × 10{raised(str(power))}"
    return f"{text} {unit}".strip()


def _all_digits_matter(value: float, sd: float) -> bool:
    """Whether a large number differs only in its last figures, like a map coordinate."""
    return 1.0 <= sd < 1e-3 * abs(value) < 1e5


def _power(value: float) -> int:
    return math.floor(math.log10(abs(value))) if value else 0


def grouped(value: float, places: int) -> str:
    """Write a number with thin spaces between thousands, from five figures on."""
    text = f"{abs(value):.{places}f}"
    whole, _, fraction = text.partition(".")
    if len(whole) > 4:
        whole = f"{int(whole):,}".replace(",", "\u202f")
    sign = "−" if value < 0 and float(text) else ""
    return sign + whole + (f".{fraction}" if fraction else "")


def plain(value: float, like: float | None = None) -> str:
    """Write a number, to the place of the second figure of ``like`` (four figures without)."""
    if not math.isfinite(value):
        return "–"
    scale = like if like and math.isfinite(like) else value
    if value and not SMALLEST <= abs(value) < LARGEST and not _all_digits_matter(value, scale):
        power = _power(value)
        figures = min(max(power - _power(scale) + 1, 1), 6) if like else 3
        return f"{grouped(value / 10.0**power, figures)} × 10{raised(str(power))}"
    places = 1 - _power(scale) if like else 3 - _power(scale)
    return grouped(value, min(max(0, places), 8))


def digits(value: float, sd: float) -> int:
    """Significant figures that are known: two sd fit into one unit of the last one."""
    if not (sd > 0 and value and math.isfinite(value)):
        return 0
    return max(0, math.floor(_power(value) + 1 - math.log10(2 * sd)))


def listed(names: list[str]) -> str:
    """Join names: "a", "a and b", "a, b and c"."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def counted(number: int, noun: str) -> str:
    """Write a number with its noun: "1 datum set", "3 data sets"."""
    return f"{grouped(number, 0)} {noun}{'' if number == 1 else 's'}"
