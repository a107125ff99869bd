"""A known image that guides a field: its scale, its gradient, and where it is flat."""

from typing import Any

import numpy as np

from bayesjoint._kernels.differences import forward_slopes
from bayesjoint.couplings import _common
from bayesjoint.couplings._gradients import Slopes
from bayesjoint.grids import Grid

GUIDE = "guide"


def known_image(coupling: Any, grid: Grid) -> np.ndarray:
    """Return the guide divided by its scale, with its mean in place of cells outside the mask."""
    owner = coupling.name
    inside = _common.cells_of(owner, coupling.mask, grid)
    image = _common.on_grid(owner, GUIDE, coupling.guide, grid).astype(float)
    kept = image if inside is None else image[inside]
    if not np.all(np.isfinite(kept)):
        raise ValueError(
            f"{owner}: the guide is not finite in every cell that takes part; fill it, or "
            "leave those cells out by mask="
        )
    if not kept.size or np.ptp(kept) == 0.0:
        raise ValueError(f"{owner}: the guide is the same in all cells; it guides nothing")
    spread = np.ptp(kept) if coupling.normalisation == "range" else np.std(kept)
    scale = (coupling.scales or {}).get(GUIDE, spread)
    return (image if inside is None else np.where(inside, image, kept.mean())) / scale


def require_slopes(coupling: Any, grid: Grid) -> None:
    """Raise unless the guide is finite where it counts, and differs between neighbours."""
    image = known_image(coupling, grid)
    inside = _common.cells_of(coupling.name, coupling.mask, grid)
    inside = np.ones(grid.shape, dtype=bool) if inside is None else inside
    axes = enumerate(grid.centres.values())
    if not any(np.any(forward_slopes(image[None], at, axis, inside)) for axis, at in axes):
        raise ValueError(
            f"{coupling.name}: the guide is the same in all cells that are neighbours; it guides "
            "nothing"
        )


def squared_slope(coupling: Any, grid: Grid, form: str) -> tuple[np.ndarray, float]:
    """Return the squared gradient of the guide, and its mean over the cells that take part."""
    inside = _common.cells_of(coupling.name, coupling.mask, grid)
    components = Slopes(grid, form, inside).arrays(known_image(coupling, grid))
    squared = np.sum(np.square(components), axis=0)
    volumes = grid.volumes * (True if inside is None else inside)
    return squared, float(np.sum(volumes * squared) / np.sum(volumes))


def flatness(coupling: Any, grid: Grid) -> np.ndarray:
    """Return ``eta / sqrt(g'^2 + eta^2)`` of each cell, eta the floor times the rms of ``g'``."""
    squared, mean = squared_slope(coupling, grid, coupling.form)
    least = coupling.floor**2 * mean
    return np.sqrt(least / (squared + least))
