"""Units of what users give: compared and converted by pint, kept in the user's spelling.

Nothing is parsed where two spellings are equal or one of them is not stated, so that pint is not
imported before two units differ.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from bayesjoint._warnings import warn

SECONDS = "s"  # in which times without a stated unit are counted
_DATE = re.compile(r"\bsince\b")


@dataclass(frozen=True)
class Conversion:
    """From one unit to another: ``factor * value + offset``.

    A difference, a standard deviation or a length takes the factor alone.
    """

    factor: float = 1.0
    offset: float = 0.0

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing."""
        return self.factor == 1.0 and self.offset == 0.0

    def __call__(self, values: Any) -> Any:
        """Return values in the other unit."""
        return values if self.is_identity else self.factor * values + self.offset

    def of_differences(self, values: Any, power: int = 1) -> Any:
        """Return differences in the other unit; with ``power=2`` variances."""
        return values if self.factor == 1.0 else self.factor**power * values


IDENTITY = Conversion()


def stated(value: Any) -> str | None:
    """Return the units an object states: ``attrs["units"]``, or those of a pint quantity."""
    attrs = getattr(value, "attrs", None)
    if isinstance(attrs, dict) and (text := attrs.get("units")) is not None:
        return spelled(text)
    if isinstance(value, np.ndarray):  # whose ``data`` is a buffer
        return None
    return of_quantity(getattr(value, "data", value)) or of_quantity(value)


def of_quantity(value: Any) -> str | None:
    """Return the units of a pint quantity, None of anything else."""
    units = getattr(value, "units", None)
    if hasattr(value, "magnitude") and _is_pint(units):
        return format(units, "~D") or "dimensionless"
    return None


def _is_pint(unit: Any) -> bool:
    """Return whether it is a unit of pint; that has classes of its own for each registry."""
    return any(base.__module__.startswith("pint.") for base in type(unit).__mro__)


def spelled(text: Any) -> str | None:
    """Return units as text, None where there are none.

    Raises
    ------
    ValueError
        When they are neither text nor a unit of pint.
    """
    if text is None:
        return None
    if _is_pint(text) and hasattr(text, "dimensionality") and not hasattr(text, "magnitude"):
        return format(text, "~D") or "dimensionless"
    if isinstance(text, int | float | np.number) and text == 1:  # "1" that lost its quotes
        text = "1"
    if not isinstance(text, str):
        raise ValueError(
            f'units are of type {type(text).__name__}; state them as text, as "kg m-3"'
        )
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("units hold a letter that no file can; state them as text, as 'kg m-3'")
    return text if text.strip() else None


def conversion(owner: str, first: str | None, second: str | None, cure: str) -> Conversion:
    """Return the conversion from the first unit to the second.

    Parameters
    ----------
    owner : str
        The sentence of the error up to the units, as ``"modality 'm': the sd is in {} ..."``,
        with two places for the units.
    first, second : str or None
        Units; None where they are not stated, and then nothing is converted.
    cure : str
        What the user can do.

    Raises
    ------
    ValueError
        When one is not a multiple of the other.
    """
    if not first or not second or first == second:
        return IDENTITY
    one, other = parsed(first), parsed(second)
    if one is None or other is None:
        if _compact(first) == _compact(second):
            return IDENTITY
        unknown = first if one is None else second
        raise ValueError(
            f"{owner.format(repr(first), repr(second))}; pint does not know {unknown!r}, so that "
            f"they are compared as text: {cure}"
        )
    if one == other:
        return IDENTITY
    try:
        zero, unit = (float(_registry().Quantity(x, one).to(other).magnitude) for x in (0.0, 1.0))
        factor = float(_registry().Quantity(1.0, _delta(one)).to(_delta(other)).magnitude)
    except Exception:  # pint has a class of its own for each way to fail
        raise ValueError(f"{owner.format(repr(first), repr(second))}; {cure}") from None
    if not np.isclose(unit - zero, factor, rtol=1e-9):
        raise ValueError(
            f"{owner.format(repr(first), repr(second))}, and one is no multiple of the other; "
            f"{cure}"
        )
    return Conversion(factor, zero)


def compatible(first: str | None, second: str | None) -> bool:
    """Return whether one unit can be converted to the other; units not stated always can."""
    try:
        conversion("", first, second, "")
    except ValueError:
        return False
    return True


def all_same(units: Iterable[str | None]) -> bool:
    """Return whether the units that are stated are one and the same."""
    known = [text for text in units if text]
    first, rest = known[:1], known[1:]
    return all(
        compatible(first[0], u) and conversion("", first[0], u, "").is_identity for u in rest
    )


def product(*parts: str | None) -> str | None:
    """Return the product of units, None where one is not stated."""
    known = [f"({part})" for part in parts if part]
    return " * ".join(known) if len(known) == len(parts) else None


@cache
def parsed(text: str) -> Any:
    """Return pint's unit for a spelling, None for one it does not know, which is told once."""
    try:
        if _DATE.search(text):
            raise ValueError("a count of time since a date is no unit")
        return _registry().parse_units(text)
    except Exception:
        warn(f"units {text!r} are not known to pint: they are compared as text, and not converted")
        return None


def _compact(text: str) -> str:
    return " ".join(text.split())


def _delta(unit: Any) -> Any:
    """Return the unit of a difference, for temperatures that have an offset."""
    name = str(unit)
    return _registry().parse_units(f"delta_{name}") if name in _OFFSETS else unit


_OFFSETS = ("degree_Celsius", "degree_Fahrenheit", "degree_Reaumur")


@cache
def _registry() -> Any:
    """Return pint's registry with the spellings of the CF conventions, as ``kg m-3``.

    To pint a gal is a gallon; nobody measures those in thousandths.
    """
    from cf_xarray.units import units

    units.define("milligal = 1e-3 * galileo")
    units.define("microgal = 1e-6 * galileo")
    return units
