"""Unknown settings held at values."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from bayesjoint import arrays
from bayesjoint._names import user
from bayesjoint.priors import Prior
from bayesjoint.reports import _read

if TYPE_CHECKING:
    from bayesjoint.discrepancy import JointDiscrepancy
    from bayesjoint.problem import JointProblem


def named(problem: "JointProblem", name: str | None, owner: str) -> "JointDiscrepancy":
    """Return the discrepancy of that name, or the only one."""
    known = {d.name: d for d in problem.discrepancies}
    if not known:
        raise ValueError(
            f"{owner}: the problem has no discrepancy; give it discrepancy=bj.JointDiscrepancy(...)"
        )
    if name is None and len(known) == 1:
        return next(iter(known.values()))
    if name not in known:
        raise ValueError(f"{owner}: discrepancy={name!r}; name one of {sorted(known)}")
    return known[name]


def settled(part: Any, name: str, values: Mapping[str, Any]) -> Any:
    """Return a part of a problem with numbers in place of those priors that have values.

    Parameters
    ----------
    part : discrepancy, noise or latent
    name : str
        Prefix of the names of its unknowns.
    values : mapping
        By name of the unknown; others stay unknown.
    """
    changes: dict[str, Any] = {}
    for field in fields(part):
        value, full = getattr(part, field.name), f"{name}_{field.name}"
        if isinstance(value, Prior) and full in values:
            changes[field.name] = _in_units(_number(values[full]), value.units)
        elif isinstance(value, Mapping) and any(isinstance(v, Prior) for v in value.values()):
            changes[field.name] = {
                k: _in_units(_number(values[f"{full}_{k}"]), v.units)
                if isinstance(v, Prior) and f"{full}_{k}" in values
                else v
                for k, v in value.items()
            }
    return replace(part, **changes)


def _number(value: Any) -> Any:
    """Return a number, or the matrix of correlations of all pairs."""
    array = arrays.read("hold", "a value", value).values
    if array.ndim == 0:
        return float(array)
    if array.ndim > 1 or int(np.sqrt(1 + 8 * array.size)) ** 2 != 1 + 8 * array.size:
        raise ValueError(
            f"hold: a value has shape {array.shape}; give one number, or the correlations of all "
            "pairs one after the other"
        )
    count = (1 + int(np.sqrt(1 + 8 * array.size))) // 2
    upper = np.zeros((count, count))
    upper[np.triu_indices(count, 1)] = array
    return upper + upper.T + np.eye(count)


def _in_units(value: Any, units: str | None) -> Any:
    """Return a number that states the units of the prior it takes the place of."""
    return xr.DataArray(value, attrs={"units": units}) if units else value


def sds_of(known: "JointDiscrepancy", names: Iterable[str]) -> np.ndarray:
    """Return the sd of a discrepancy without unknowns in each modality, with the sign of a loading.

    Shape (modality,).
    """
    sd, loadings = known.sd, known.loadings
    return np.array([sd[name] if loadings is None else sd * loadings[name] for name in names])


def at_one_point(tree: xr.DataTree, names: Sequence[str], owner: str) -> dict[str, np.ndarray]:
    """Return values from the linearization of a tree."""
    stored = _read.has_groups(tree, "linearization")
    found = _read.linearization(tree) if stored else xr.Dataset()
    there = {name: found[user(name)] for name in names if user(name) in found}
    lacking = [name for name in names if name not in there or "point" in there[name].dims]
    if lacking:
        raise ValueError(
            f"{owner} is no tree of this problem at one point; give that of bj.linearize(problem) "
            f"or bj.sample(problem), or a mapping of names to values; it lacks {lacking}"
        )
    return {name: values.values for name, values in there.items()}
