"""How the parts of a problem are fitted to each other: by labels, in units that agree."""

from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from bayesjoint import arrays
from bayesjoint import units as _units

if TYPE_CHECKING:
    from bayesjoint.modalities import Modality
    from bayesjoint.problem import JointProblem


def fitted_modalities(problem: "JointProblem") -> tuple["Modality", ...]:
    """Return the modalities with maps that read the latents as they are, and shared coordinates.

    Two modalities that are given the same map keep sharing one.
    """
    maps: dict[tuple, Any] = {}
    shared = _shared_coordinates(problem)
    _require_one_unit(problem, shared)
    fitted = []
    for modality in problem.modalities:
        rows = _rows(modality)
        labelled = rows is not None and getattr(modality.forward, "has_row_labels", False)
        key = (id(modality.forward), modality.name if labelled else None)
        if key not in maps:
            maps[key] = modality.forward.fitted(problem.latent, rows)
        fitted.append(_with(modality, maps[key], shared))
    return tuple(fitted)


def _rows(modality: Any) -> arrays.Axes | None:
    """Return what labels the output of the map of a modality."""
    if modality.observe is not None:
        return modality.operator.columns_axes
    return arrays.Axes.of(modality.data)


def _with(modality: Any, forward: Any, shared: dict[str, xr.DataArray]) -> Any:
    """Return the modality with another map, and with coordinates in the units others state."""
    data, changed = modality.data, {}
    for dim in data.dims:
        if dim in shared and dim in data.coords and not data[dim].identical(shared[dim]):
            changed[dim] = shared[dim]
    if forward is modality.forward and not changed:
        return modality
    other = copy(modality)
    object.__setattr__(other, "forward", forward)
    if changed:
        object.__setattr__(other, "data", data.assign_coords(changed))
    return other


def _shared_coordinates(problem: "JointProblem") -> dict[str, xr.DataArray]:
    """Return the coordinates that several parts share in different units, as the first has them.

    Raises
    ------
    ValueError
        When parts share a dimension with different coordinates.
    """
    seen: dict[str, tuple[str, xr.DataArray]] = {}
    shared = {}
    for owner, coords in _coordinates(problem):
        for dim, values in coords.items():
            other, known = seen.setdefault(dim, (owner, values))
            if not _same(owner, other, dim, values, known):
                raise ValueError(
                    f"{other} and {owner} share the dimension {dim!r} with different coordinates; "
                    f"give one of them a dimension of its own, with {dim!r} as a coordinate on it, "
                    f"as in data.swap_dims({dim}='{dim}_2'), or align them"
                )
            if _units.stated(values) != _units.stated(known) and _units.stated(values):
                shared[dim] = known
    return shared


def _require_one_unit(problem: "JointProblem", shared: dict[str, xr.DataArray]) -> None:
    """Raise where a length scale without units is along a coordinate that is converted.

    It could be in the units of the data, or in those of the grid or of the other data.
    """
    for given in problem.discrepancies_given:
        touched = [m.data for m in problem.modalities if m.name in given.touches(problem.modality)]
        for axis in given.axes if given.of is None else ():
            here = {_units.stated(data[axis]) for data in touched if axis in data.dims}
            other = _units.stated(shared[axis]) if axis in shared else None
            differs = sorted(repr(units) for units in here - {None, other})
            if differs and axis in shared and not given.states_units(axis):
                raise ValueError(
                    f"{given.owner}: {axis!r} is in {' and '.join(differs)} in the data and in "
                    f"{other!r} in another part that shares it, so that its length scale or period "
                    'needs units; give a quantity, or a DataArray with attrs["units"]'
                )


def _coordinates(problem: "JointProblem") -> list[tuple[str, dict[str, xr.DataArray]]]:
    parts = []
    for latent in problem.latents:
        grid = getattr(latent, "grid", None)
        bare = {d: xr.DataArray(np.asarray(v), dims=d) for d, v in latent.grid_coords.items()}
        parts.append((f"latent {latent.name!r}", bare if grid is None else grid.coordinates()))
    for modality in problem.modalities:
        data = modality.data
        coords = {
            str(dim): data[dim]
            if dim in data.coords
            else xr.DataArray(np.arange(data.sizes[dim]), dims=str(dim))
            for dim in data.dims
        }
        parts.append((f"modality {modality.name!r}", coords))
    return parts


def _same(owner: str, other: str, dim: str, values: xr.DataArray, known: xr.DataArray) -> bool:
    """Return whether two coordinates are the same places, in whatever units."""
    first, second = values.to_index(), known.to_index()
    if len(first) != len(second):
        return False
    if not pd.api.types.is_numeric_dtype(first.dtype):
        return bool(first.equals(second))
    change = _units.conversion(
        f"{owner} and {other} share the dimension {dim!r}: its coordinate is in {{}} and {{}}",
        _units.stated(values), _units.stated(known), "give one of them a dimension of its own",
    )  # fmt: skip
    numbers = change(first.to_numpy())
    if change.is_identity:
        return bool(np.array_equal(numbers, second.to_numpy()))
    apart = np.abs(np.diff(second.to_numpy(dtype=float))).min(initial=np.inf)
    rounding = 4.0 * np.spacing(np.abs(numbers))
    near = np.maximum(arrays.SAME_PLACE * (apart if np.isfinite(apart) else 0.0), rounding)
    return bool(np.all(np.abs(numbers - second.to_numpy()) <= near))
