"""What couplings share: checks, scales, arrays on the grid, and potentials with a normaliser."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytensor.tensor as pt

from bayesjoint import _validate, arrays
from bayesjoint import units as _units
from bayesjoint._graph.build import ModelBuild
from bayesjoint.couplings._group import is_array, tabulated
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
    """Raise unless the weight is a number or map, not negative, or unknown.

    An unknown one needs the normaliser of the coupled prior.  Zero is no coupling; a map of zeros
    is taken for a mistake.
    """
    _validate.require_given(
        owner, "weight", weight, "try a few and compare bj.resolution and bj.leakage"
    )
    if isinstance(weight, Prior):
        _validate.require_positive(owner, "weight", weight)
        require_fixed(
            owner, "an unknown weight", normaliser is None,
            "Give a number, build the problem with it, and put "
            "normaliser=bj.tabulate_normaliser(problem, up_to=...) beside the prior",
        )  # fmt: skip
        return
    if arrays.read(owner, "weight", weight).values.ndim == 0:
        weight = arrays.number(owner, "weight", weight, "1")
        if not (np.isfinite(weight) and weight >= 0):
            raise ValueError(f"{owner}: weight must be finite and not negative, {weight:g} given")
        return
    array = arrays.read(owner, "weight", weight).values
    if not array.size:
        raise ValueError(f"{owner}: weight is empty; give one number, or one for each cell")
    if not np.all(np.isfinite(array)) or np.any(array < 0) or not np.any(array > 0):
        raise ValueError(
            f"{owner}: the weights of the cells must be finite and not negative, some of them "
            f"positive; they range from {array.min():g} to {array.max():g}"
        )


def require_normaliser(owner: str, normaliser: Any) -> None:
    """Raise unless it is a table of the normaliser, or none."""
    if normaliser is not None and not isinstance(getattr(normaliser, "made_for", None), str):
        raise ValueError(
            f"{owner}: the normaliser is of type {type(normaliser).__name__}; give what "
            "bj.tabulate_normaliser returned"
        )


def keep_weight(coupling: Any) -> None:
    """Replace the weight of a coupling by a plain number, or a map that nobody else can change."""
    weight = coupling.weight
    if weight is None or isinstance(weight, Prior):
        return
    one = arrays.read(coupling.name, "weight", weight).values.ndim == 0
    kept = arrays.number(coupling.name, "weight", weight, "1") if one else arrays.keep(weight)
    object.__setattr__(coupling, "weight", kept)


def renamed_keys(scales: Mapping[str, float] | None, names: Mapping[str, str]) -> Any:
    """Return scales under other names of latents."""
    return scales and {names.get(key, key): scale for key, scale in scales.items()}


def renamed_normaliser(normaliser: Any, names: Mapping[str, str]) -> Any:
    """Return the normaliser for the same fields under other names, which its digest knows not."""
    if normaliser is None:
        return None
    lengths = renamed_keys(normaliser.length_scale, names)
    return replace(normaliser, made_for="", length_scale=lengths or {})


def require_form(owner: str, form: str, forms: Sequence[str]) -> None:
    """Raise unless the form is one of those known."""
    _validate.require_choice(owner, "the form", form, sorted(forms))


def require_scales(owner: str, scales: Mapping[str, float] | None, names: Sequence[str]) -> None:
    """Raise unless scales are positive numbers of properties that are coupled."""
    if scales is not None:
        _validate.require_mapping(owner, "scales", scales, '{"density": 100.0}')
    for name, scale in (scales or {}).items():
        if name not in names:
            raise ValueError(
                f"{owner}: scales names {name!r}, which is not coupled; there are {list(names)}"
            )
        require_number(owner, f"scale of {name!r}", scale)


def shared_grid(
    owner: str, fields: Sequence[Any], scaled: bool = True, over: Sequence[str] = ()
) -> Grid:
    """Return the grid of the fields, or raise unless they lie on one and their priors are fixed.

    A field that is divided by its current sd (``scaled``) may have an unknown one, where its mean
    is the same in every cell: the normaliser does not depend on it.  Fields that the normaliser is
    ``over`` may have an unknown length scale.
    """
    grids: list[Any] = [getattr(field, "grid", None) for field in fields]
    if None in grids or not all(same_grid(grids[0], grid) for grid in grids):
        which = {1: "the latent must be a field on a", 2: "both latents must be fields on the same"}
        raise ValueError(
            f"{owner}: {which.get(len(fields), 'all latents must be fields on the same')} grid; "
            "make them as bj.GaussianField on one bj.Grid"
        )
    if not _units.all_same(grids[0].units.values()):
        raise ValueError(
            f"{owner}: the axes of the grid are in {dict(grids[0].units)}, so that gradients along "
            "them cannot be compared; give all axes in one unit"
        )
    if not grids[0].long_axes:
        raise ValueError(f"{owner}: the grid is a single cell; gradients need two or more")
    for field in fields:
        free = {"mean"} | ({"sd"} if scaled and not is_array(field.mean) else set())
        free |= {"length_scale"} if field.name in over else set()
        settings = field.hyperparameters.items()
        unknown = [k for k, value in settings if isinstance(value, Prior) and k not in free]
        fact = f"an unknown {' and '.join(unknown)} of {field.name!r}"
        require_fixed(owner, fact, bool(unknown), _cure(owner, field.name, unknown))
    return grids[0]


def _cure(owner: str, name: str, unknown: Sequence[str]) -> str:
    if unknown != ["length_scale"]:
        return "Give numbers"
    return (
        "Give a number, build the problem with it, and put normaliser=bj.tabulate_normaliser("
        f"problem, {owner!r}, length_scale={{{name!r}: (low, high)}}) into the coupling"
    )


def on_grid(owner: str, what: str, values: Any, grid: Grid) -> np.ndarray:
    """Return an array in the shape of the grid; one with labels is brought into their order."""
    axes = grid.axes()
    return arrays.aligned(owner, f"the {what}", values, axes, missing=True, broadcast=False)


def cells_of(owner: str, mask: Any, grid: Grid) -> np.ndarray | None:
    """Return the cells that take part, None for all."""
    return None if mask is None else arrays.mask(owner, "mask", mask, grid.axes())


def cell_weights(owner: str, weight: Any, inside: np.ndarray | None, grid: Grid) -> np.ndarray:
    """Return weight times share of the volume for each cell, zero outside."""
    weights = weight if np.ndim(weight) == 0 else on_grid(owner, "weight", weight, grid)
    shares = grid.volumes / grid.volumes.sum()
    return np.asarray(weights, dtype=float) * shares * (1.0 if inside is None else inside)


def require_cost(
    coupling: Any, inside: np.ndarray | None, formed: np.ndarray, least: int, grid: Grid
) -> None:
    """Raise unless some cell has a weight, and as many components of the gradient as it needs."""
    if inside is not None and not inside.any():
        raise ValueError(f"{coupling.name}: the mask is False in all cells; the coupling is zero")
    costs = formed >= least
    if not costs.any():
        where = "a neighbour" if least == 1 else "neighbours along two dimensions"
        raise ValueError(
            f"{coupling.name}: no cell that takes part has {where} inside the mask, so that the "
            "coupling is zero; widen the mask"
        )
    if isinstance(coupling.weight, Prior):
        return
    weights = cell_weights(coupling.name, coupling.weight, inside, grid)
    if np.ndim(coupling.weight) and not np.any(weights[costs] > 0):
        raise ValueError(
            f"{coupling.name}: the weights are zero in every cell that takes part and has "
            "neighbours, so that the coupling is zero; raise them there, or leave the coupling out"
        )


def named_constant(build: ModelBuild, owner: str, name: str, array: np.ndarray):
    """Return an array as a constant of the model."""
    return build.matrix(f"{owner}_{name}", array)


def typical_sd(build: ModelBuild, field: Any):
    """Return the prior sd of a field, rms over cells; the current one where it is unknown."""
    shaped = build.shaping.get(field.name)
    if shaped is not None and hasattr(shaped, "overall_sd"):
        return shaped.overall_sd(field.name)
    if field.precision is None:
        return field.setting("sd", build.values)
    matrix = field.precision.toarray() if hasattr(field.precision, "toarray") else field.precision
    return float(np.sqrt(np.mean(np.diag(np.linalg.inv(matrix)))))


def weights_of(build: ModelBuild, coupling: Any, inside: np.ndarray | None, grid: Grid) -> tuple:
    """Return the weight of each cell, and a factor of them all, a tensor where it is unknown."""
    if not isinstance(coupling.weight, Prior):
        return cell_weights(coupling.name, coupling.weight, inside, grid), 1.0
    factor = build.unknown(f"{coupling.name}_weight", coupling.weight)
    return cell_weights(coupling.name, 1.0, inside, grid), factor


def add_potential(
    build: ModelBuild,
    coupling: Any,
    latents: Mapping[str, Any],
    factor: Any,
    cost: Any,
    residual: Any,
) -> None:
    """Add ``log p = -factor cost``, and its normaliser where that depends on an unknown."""
    build.add_coupling(coupling.name, -factor * cost, pt.sqrt(factor) * residual)
    weight = factor if isinstance(coupling.weight, Prior) else coupling.weight
    lengths = {
        name: latents[name].setting("length_scale", build.values) for name in tabulated(coupling)
    }
    if any(isinstance(value, pt.TensorVariable) for value in (weight, *lengths.values())):
        coupling.normaliser.add_to_model(build, coupling.name, weight, lengths)


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
        np.array_equal(first.labels[d], second.labels[d]) for d in first.dims
    )
