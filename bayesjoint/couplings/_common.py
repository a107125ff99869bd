"""What couplings share: checks of the fields they act on, and potentials with their normaliser."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayesjoint._build import ModelBuild
from bayesjoint.priors import Prior


def fields_on_one_grid(owner: str, fields: Sequence[Any]) -> Sequence[Any]:
    """Return the latents if all are fields on the same grid, else raise."""
    for field in fields:
        if getattr(field, "grid", None) is None:
            raise ValueError(
                f"{owner}: {field.name!r} is not a field; it couples bj.GaussianField only"
            )
    for other in fields[1:]:
        if not same_grid(fields[0].grid, other.grid):
            raise ValueError(
                f"{owner}: {fields[0].name!r} and {other.name!r} must be fields on the same grid"
            )
    return fields


def same_grid(first: Any, second: Any) -> bool:
    """Tell whether two grids have the same dims and centres."""
    return first.dims == second.dims and all(
        np.array_equal(first.centres[dim], second.centres[dim]) for dim in first.dims
    )


def require_normaliser(owner: str, weight: Any, normaliser: Any) -> None:
    """Raise for an unknown weight without the normaliser of the coupled prior."""
    if isinstance(weight, Prior) and normaliser is None:
        raise ValueError(
            f"{owner}: an unknown weight needs the normaliser of the coupled prior, which depends "
            "on it; a bare prior over the weight gives a wrong posterior. Give a number, build the "
            "problem, and put normaliser=bj.tabulate_normaliser(problem, up_to=...) beside the "
            "prior"
        )


def require_known_scales(owner: str, fields: Sequence[Any]) -> None:
    """Raise when the normaliser depends on an unknown setting of a field."""
    for field in fields:
        if isinstance(field.length_scale, Prior):
            raise ValueError(
                f"{owner}: the length scale of {field.name!r} is unknown, and the normaliser of "
                "the coupled prior depends on it; without that the posterior is wrong. Give a "
                "number"
            )


def typical_sd(build: ModelBuild, field: Any):
    """Return the sd of a field that makes it dimensionless: the current one where unknown."""
    if field.precision is None:
        return build.values.get(f"{field.name}_sd", field.sd)
    matrix = field.precision.toarray() if hasattr(field.precision, "toarray") else field.precision
    return float(np.sqrt(np.mean(np.diag(np.linalg.inv(matrix)))))


def add_least_squares(build: ModelBuild, coupling: Any, residual: Any) -> None:
    """Add the potential ``-w |r|^2 / 2``, and its normaliser where w is unknown."""
    weight = build.unknown(f"{coupling.name}_weight", coupling.weight)
    build.residuals[coupling.name] = (pt.sqrt(weight) * residual).ravel()
    build.log_priors[coupling.name] = -0.5 * weight * (residual**2).sum()
    pm.Potential(coupling.name, build.log_priors[coupling.name])
    if coupling.normaliser is not None and isinstance(coupling.weight, Prior):
        log_z = coupling.normaliser.tensor(build, coupling.name, weight)
        pm.Potential(f"{coupling.name}_normaliser", -log_z)
