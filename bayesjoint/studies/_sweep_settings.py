"""Which settings of a discrepancy are swept, and over what values."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bayesjoint import _validate, arrays
from bayesjoint.studies._swept_errors import Swept

OWNER = "discrepancy_sweep"


@dataclass(frozen=True, eq=False)
class Settings:
    """Values of each setting: one alone where it is not swept.

    Attributes
    ----------
    correlation, sd_factor : list of float
    length_scale : list of float or None
        None: that of the problem.
    of_one : str or None
        The modality whose sd is swept; None: all.
    dims : list of str
        The settings that are swept.
    turns : bool
        Whether there is a correlation that could turn from hurting to helping.
    length_units : str or None
    """

    correlation: list[float]
    sd_factor: list[float]
    length_scale: list[float | None]
    of_one: str | None
    dims: list[str]
    turns: bool
    length_units: str | None = None

    def factors(self, modalities: Iterable[str], factor: float) -> np.ndarray:
        """Return the factor on the sd of each modality."""
        return np.array([factor if m == (self.of_one or m) else 1.0 for m in modalities])

    def own(self, swept: Swept) -> "Settings":
        """Return the settings of the problem itself."""
        return replace(self, correlation=[swept.own], turns=False)


def sweep_settings(swept: Swept, correlation: Any, sd_factor: Any, length_scale: Any) -> Settings:
    """Return the settings that are swept, checked."""
    of_one = None
    if isinstance(sd_factor, Mapping):
        if len(sd_factor) != 1 or next(iter(sd_factor)) not in swept.names:
            raise ValueError(f"{OWNER}: sd_factor= names {list(sd_factor)}; one of {swept.names}")
        ((of_one, sd_factor),) = sd_factor.items()
    given = {"correlation": correlation, "sd_factor": sd_factor, "length_scale": length_scale}
    if all(values is None for values in given.values()):
        raise ValueError(f"{OWNER}: nothing is swept; give {', '.join(f'{n}=' for n in given)}")
    if correlation is not None:
        swept.require_correlation()
    stated = swept.discrepancy.length_scale
    if length_scale is not None and (stated is None or isinstance(stated, Mapping)):
        fault = "has no length scale" if stated is None else "has one length scale a coordinate"
        raise ValueError(f"{OWNER}: {swept.discrepancy.owner} {fault}")
    units = {"length_scale": swept.length_units}
    if length_scale is not None and swept.along_times:
        _require_spans(length_scale)
    kept = {
        name: _numbers(name, values, units.get(name, "1"))
        for name, values in given.items()
        if values is not None
    }
    return Settings(
        kept.get("correlation", [swept.own]),
        kept.get("sd_factor", [1.0]),
        [*kept.get("length_scale", [None])],
        of_one,
        list(kept),
        not swept.fault,
        swept.length_units,
    )


def _require_spans(values: Any) -> None:
    """Raise where lengths along times have no units."""
    each = [values] if arrays.is_labelled(values) or not isinstance(values, Iterable) else values
    if any(arrays.read(OWNER, "length_scale=", value).units is None for value in each):
        raise ValueError(
            f"{OWNER}: length_scale= is along times, so that it needs units; give time spans, as "
            'np.array([10, 30], "timedelta64[D]")'
        )


def _numbers(name: str, values: Any, units: str | None) -> list[float]:
    numbers = arrays.numbers(OWNER, f"{name}=", values, units)
    if not numbers or not np.all(np.isfinite(numbers)):
        raise ValueError(f"{OWNER}: {name}= is empty or not finite")
    if name != "correlation":
        _validate.require_positive(OWNER, name, numbers)
    return numbers
