"""What couplings share: checks, scales, arrays on the grid, and potentials with a normaliser."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayesjoint import _validate
from bayesjoint._build import ModelBuild
from bayesjoint.grids import Grid
from bayesjoint.priors import Prior


def require_fixed(owner: str, fact: str, unknown: bool, cure: str = "Give a number") -> None:
    """Raise where something unknown would need the normaliser of the coupled prior."""
    if unknown:
        raise ValueError(
            f"{owner}: {fact} needs the normaliser of the coupled prior, which depends on it; "
            f"without that the posterior is wrong. {cure}"
        )


def require_number(owner: str, setting: str, value: Any) -> None:
    """Raise unless ``value`` is a positive number that is known."""
    require_fixed(owner, f"an unknown {setting}", isinstance(value, Prior))
    _validate.require_scalar(owner, setting, value)
    _validate.require_positive(owner, setting, value)


def require_weight(owner: str, weight: Any, normaliser: Any = None) -> None:
    """Raise unless the weight is a positive number, an array without negative ones, or unknown.

    An unknown one needs the normaliser of the coupled prior.
    """
    _validate.require_given(
        owner, "weight", weight, "try a few and compare bj.resolution and bj.leakage"
    )
    if isinstance(weight, Prior):
        require_fixed(
            owner, "an unknown weight", normaliser is None,
            "Give a number, build the problem with it, and put "
            "normaliser=bj.tabulate_normaliser(problem, up_to=...) beside the prior",
        )  # fmt: skip
        return
    if np.ndim(weight) == 0:
        require_number(owner, "weight", weight)
        return
    array = np.asarray(weight, dtype=float)
    if not np.all(np.isfinite(array)) or np.any(array < 0) or not np.any(array > 0):
        raise ValueError(
            f"{owner}: the weights of the cells must be finite and not negative, some of them "
            f"positive; they range from {array.min():g} to {array.max():g}"
        )


def renamed_keys(scales: Mapping[str, float] | None, names: Mapping[str, str]) -> Any:
    """Return scales under other names of latents."""
    return scales and {names.get(key, key): scale for key, scale in scales.items()}


def renamed_normaliser(normaliser: Any) -> Any:
    """Return the normaliser for the same fields under other names, which its digest knows not."""
    return None if normaliser is None else replace(normaliser, made_for="")


def require_form(owner: str, form: str, forms: Sequence[str]) -> None:
    """Raise unless the form is one of those known."""
    if form not in forms:
        raise ValueError(f"{owner}: the form {form!r} is unknown; use one of {sorted(forms)}")


def require_scales(owner: str, scales: Mapping[str, float] | None, names: Sequence[str]) -> None:
    """Raise unless scales are positive numbers of properties that are coupled."""
    for name, scale in (scales or {}).items():
        if name not in names:
            raise ValueError(
                f"{owner}: scales names {name!r}, which is not coupled; there are {list(names)}"
            )
        require_number(owner, f"scale of {name!r}", scale)


def shared_grid(owner: str, fields: Sequence[Any], scaled: bool = True) -> Grid:
    """Return the grid of the fields, or raise unless they lie on one and their priors are fixed.

    A field that is divided by its current sd (``scaled``) may have an unknown one: the normaliser
    does not depend on it.
    """
    grids: list[Any] = [getattr(field, "grid", None) for field in fields]
    if None in grids or not all(same_grid(grids[0], grid) for grid in grids):
        which = {1: "the latent must be a field on a", 2: "both latents must be fields on the same"}
        raise ValueError(
            f"{owner}: {which.get(len(fields), 'all latents must be fields on the same')} grid; "
            "make them as bj.GaussianField on one bj.Grid"
        )
    if min(grids[0].shape) < 2:
        raise ValueError(f"{owner}: the grid needs two cells or more along each dimension")
    for field in fields:
        unknown = [
            key
            for key, value in field.hyperparameters.items()
            if isinstance(value, Prior) and key not in (("mean", "sd") if scaled else ("mean",))
        ]
        fact = f"an unknown {' and '.join(unknown)} of {field.name!r}"
        require_fixed(owner, fact, bool(unknown), "Give numbers")
    return grids[0]


def on_grid(owner: str, what: str, values: Any, grid: Grid) -> np.ndarray:
    """Return an array in the shape of the grid; one with named dims is brought into their order."""
    dims = getattr(values, "dims", None)
    if dims is not None:
        if set(dims) != set(grid.dims):
            raise ValueError(f"{owner}: the {what} has dims {dims}, the grid {grid.dims}")
        values = values.transpose(*grid.dims)
        for dim in grid.dims:
            known = dim in values.coords and values[dim].size == len(grid.centres[dim])
            if known and not np.allclose(values[dim], grid.centres[dim]):
                raise ValueError(
                    f"{owner}: the {what} has other coordinates {dim!r} than the grid; interpolate "
                    "it to the cell centres"
                )
    array = np.asarray(values)
    if array.shape != grid.shape:
        raise ValueError(f"{owner}: the {what} has shape {array.shape}, the grid {grid.shape}")
    return array


def cells_of(owner: str, mask: Any, grid: Grid) -> np.ndarray | None:
    """Return the cells that take part, None for all."""
    if mask is None:
        return None
    inside = on_grid(owner, "mask", mask, grid)
    if inside.dtype != bool:
        raise ValueError(
            f"{owner}: the mask must be True or False, {inside.dtype} given; numbers go into weight"
        )
    return inside


def cell_weights(owner: str, weight: Any, inside: np.ndarray | None, grid: Grid) -> np.ndarray:
    """Return weight times share of the volume for each cell, zero outside."""
    weights = weight if np.ndim(weight) == 0 else on_grid(owner, "weight", weight, grid)
    shares = grid.volumes / grid.volumes.sum()
    return np.asarray(weights, dtype=float) * shares * (1.0 if inside is None else inside)


def named_constant(build: ModelBuild, owner: str, name: str, array: np.ndarray):
    """Return an array as a constant of the model."""
    return build.matrix(f"{owner}_{name}", array)


def typical_sd(build: ModelBuild, field: Any):
    """Return the prior sd of a field, rms over cells; the current one where it is unknown."""
    if field.precision is None:
        return build.values.get(f"{field.name}_sd", field.sd)
    matrix = field.precision.toarray() if hasattr(field.precision, "toarray") else field.precision
    return float(np.sqrt(np.mean(np.diag(np.linalg.inv(matrix)))))


def weights_of(build: ModelBuild, coupling: Any, inside: np.ndarray | None, grid: Grid) -> tuple:
    """Return the weight of each cell, and a factor of them all, a tensor where it is unknown."""
    if not isinstance(coupling.weight, Prior):
        return cell_weights(coupling.name, coupling.weight, inside, grid), 1.0
    factor = build.unknown(f"{coupling.name}_weight", coupling.weight)
    return cell_weights(coupling.name, 1.0, inside, grid), factor


def add_potential(build: ModelBuild, coupling: Any, factor: Any, cost: Any, residual: Any) -> None:
    """Add ``log p = -factor cost``, and its normaliser where the factor is unknown."""
    build.add_coupling(coupling.name, -factor * cost, pt.sqrt(factor) * residual)
    if isinstance(coupling.weight, Prior):
        log_z = coupling.normaliser.tensor(build, coupling.name, factor)
        pm.Potential(f"{coupling.name}_normaliser", -log_z)


def fields_on_one_grid(owner: str, fields: Sequence[Any]) -> Sequence[Any]:
    """Return the latents if all are fields on the same grid, else raise."""
    for field in fields:
        if getattr(field, "grid", None) is None:
            raise ValueError(
                f"{owner}: {field.name!r} is not a field; it couples bj.GaussianField only"
            )
        if not same_grid(fields[0].grid, field.grid):
            raise ValueError(
                f"{owner}: {fields[0].name!r} and {field.name!r} must be fields on the same grid"
            )
    return fields


def same_grid(first: Any, second: Any) -> bool:
    """Tell whether two grids have the same dims and centres."""
    return first.dims == second.dims and all(
        np.array_equal(first.centres[d], second.centres[d]) for d in first.dims
    )
