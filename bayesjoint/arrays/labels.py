"""Labels of two sides, matched."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from bayesjoint import units as _units
from bayesjoint.arrays.reading import comparable, in_levels_of

LARGE = 1e5  # as map coordinates, of which all digits are shown
SAME_PLACE = 1e-6  # of the distance to the next label: two coordinates that are nearer are one


def matched(
    subject: str, labels: pd.Index, given: str | None, wanted: pd.Index, units: str | None
) -> np.ndarray:
    """Return the position of each wanted label among those given, -1 where it is missing."""
    return _matched(in_levels_of(in_units_of(subject, labels, given, units), wanted), wanted)


def in_units_of(subject: str, labels: pd.Index, given: str | None, wanted: str | None) -> pd.Index:
    """Return labels in other units, where they are numbers."""
    if not pd.api.types.is_numeric_dtype(labels.dtype):
        return labels
    change = _units.conversion(
        f"{subject}: its labels are in {{}}, those of its place in {{}}", given, wanted,
        "convert one of them",
    )  # fmt: skip
    return labels if change.is_identity else pd.Index(change(labels.to_numpy(dtype=float)))


def _matched(labels: pd.Index, wanted: pd.Index) -> np.ndarray:
    """Return the position of each wanted label, -1 where it is missing.

    Numbers that are nearer than a millionth of the distance between labels are one.
    """
    numeric = all(pd.api.types.is_float_dtype(i.dtype) for i in (labels, wanted)) or (
        all(pd.api.types.is_numeric_dtype(i.dtype) for i in (labels, wanted))
        and any(pd.api.types.is_float_dtype(i.dtype) for i in (labels, wanted))
    )
    if not numeric:
        return np.asarray(comparable(labels).get_indexer(comparable(wanted)))
    if labels.is_unique and (exact := np.asarray(labels.get_indexer(wanted))).min(initial=0) >= 0:
        return exact
    there, sought = (i.to_numpy(dtype=float) for i in (labels, wanted))
    order = np.argsort(there)
    ranked = there[order]
    after = np.clip(np.searchsorted(ranked, sought), 0, len(ranked) - 1)
    before = np.maximum(after - 1, 0)
    nearer = np.abs(ranked[before] - sought) < np.abs(ranked[after] - sought)
    nearest = np.where(nearer, before, after)
    sides = (ranked, np.sort(sought))
    spacing = min((np.diff(side).min() for side in sides if len(side) > 1), default=0.0)
    within = np.maximum(SAME_PLACE * spacing, 4.0 * np.spacing(np.abs(sought)))
    return np.where(np.abs(ranked[nearest] - sought) <= within, order[nearest], -1)


def shown(label: Any) -> str:
    """Return a label as messages show it."""
    return repr(label.item() if isinstance(label, np.generic) else label)


def plain(label: Any) -> str:
    """Return a label as tables and titles show it."""
    if isinstance(label, np.timedelta64):  # a number for NumPy
        return str(pd.Timedelta(label))
    if isinstance(label, np.datetime64):  # to the hour, where it is one
        return str(np.datetime_as_string(label, unit="auto"))
    if isinstance(label, (int, np.integer)):
        return str(label)
    if isinstance(label, (float, np.floating)):
        return f"{label:.10g}" if abs(float(label)) >= LARGE else f"{label:g}"
    return str(label)


def plain_labels(labels: Iterable[Any]) -> list[str]:
    """Return labels as tables show them, with as many digits as it takes to tell them apart."""
    values = list(labels)
    shown = [plain(label) for label in values]
    if len(set(shown)) == len(set(values)):
        return shown
    return [str(float(v)) if isinstance(v, (float, np.floating)) else str(v) for v in values]
