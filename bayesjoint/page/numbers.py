"""Numbers as people write them: as many digits as the uncertainty allows."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bayesjoint.plots._style import pretty_units, raised

LARGEST, SMALLEST = 1e6, 1e-3  # beyond these, powers of ten


@dataclass(frozen=True)
class Form:
    """How the numbers of one parameter are written: power of ten, decimal places, units."""

    power: int
    places: int
    units: str

    def __call__(self, value: float) -> str:
        """Write one number, without its power of ten and its units."""
        return grouped(value / 10.0**self.power, self.places) if math.isfinite(value) else "–"

    @property
    def with_power(self) -> str:
        """Units with the power of ten in front."""
        times = f"10{raised(str(self.power))}" if self.power else ""
        return f"{times} {self.units}".strip()


def form_of(value: float, sd: float, units: str = "") -> Form:
    """Return the form in which the sd has two figures and other numbers end at the same place."""
    known = math.isfinite(sd) and sd > 0
    size = max(abs(value), sd if known else 0.0)
    small_enough = SMALLEST <= size < LARGEST or (known and _all_digits_matter(value, sd))
    power = 0 if small_enough or not size or not math.isfinite(size) else 3 * (_power(size) // 3)
    figures = 1 - _power(sd / 10.0**power) if known else 3 - _power(size / 10.0**power or 1.0)
    return Form(power, min(max(0, figures), 9), pretty_units(units))


def with_sd(value: float, sd: float, units: str = "") -> str:
    """Write ``value ± sd units``, the sd with two figures and the value to the same place."""
    form = form_of(value, sd, units)
    text = f"{form(value)} ± {form(sd)}" if math.isfinite(sd) and sd > 0 else form(value)
    tens = f"10{raised(str(form.power))} " if form.power else ""
    if tens or form.units.startswith("10"):
        return f"({text}) × {tens}{form.units}".strip()
    return f"{text} {form.units}".strip()


def _all_digits_matter(value: float, sd: float) -> bool:
    """Whether a large number differs only in its last figures, like a map coordinate."""
    return 1.0 <= sd < 1e-3 * abs(value) < 1e5


def _power(value: float) -> int:
    return math.floor(math.log10(abs(value))) if value else 0


def grouped(value: float, places: int = 0) -> str:
    """Write a number with thin spaces between thousands, from five figures on."""
    text = f"{abs(value):.{places}f}"
    whole, _, fraction = text.partition(".")
    if len(whole) > 4:
        whole = f"{int(whole):,}".replace(",", "\u202f")
    sign = "−" if value < 0 and float(text) else ""
    return sign + whole + (f".{fraction}" if fraction else "")


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


def of_data(number: int) -> str:
    """Write a number of data: "1 datum", "12 data"."""
    return f"{grouped(number)} {'datum' if number == 1 else 'data'}"


def counted(number: int, noun: str) -> str:
    """Write a number with its noun: "1 chain", "3 chains"."""
    return f"{grouped(number)} {noun}{'' if number == 1 else 's'}"
