"""What couplings share: checks of the fields they act on."""

from collections.abc import Sequence
from typing import Any

import numpy as np


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
