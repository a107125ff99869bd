"""Structural similarity of draws of coupled fields, in the cells that their coupling counts."""

from itertools import combinations
from typing import Any

import numpy as np

from bayesjoint._kernels.structure import gradients_of, similarity
from bayesjoint.couplings import _common, _guide
from bayesjoint.grids import Grid
from bayesjoint.priors import Prior

FLAT = 0.1**2  # of the mean squared gradient of the uncoupled prior: below, a cell is flat


class SharedStructure:
    """Measures draws of the coupled fields, or of a field beside its guide.

    Cells outside the mask of the coupling, and those of weight zero, are left out; differences
    that reach cells outside the mask are not formed, as in the coupling itself.

    Parameters
    ----------
    coupling : structural coupling
    grid : Grid

    Raises
    ------
    ValueError
        When there are no two images to compare, or gradients cannot differ in direction.
    """

    def __init__(self, coupling: Any, grid: Grid) -> None:
        guide = getattr(coupling, "guide", None)
        self._images = [] if guide is None else [_guide.known_image(coupling, grid)[None]]
        self._centres = list(grid.centres.values())
        cells = _common.cells_of(coupling.name, coupling.mask, grid)
        self._inside = np.ones(grid.shape, dtype=bool) if cells is None else cells
        self._counted = self._inside & _weighted(coupling, grid)
        self._volumes = grid.volumes * self._counted
        self._mean_squares: list[tuple[float, float]] = []
        if len(coupling.latents) + len(self._images) < 2 or len(grid.long_axes) < 2:
            raise ValueError(
                f"{coupling.name}: a structural similarity needs two fields, or one and a guide, "
                "and a grid with two cells or more along two dimensions; try weights with "
                "bj.coupling_sweep instead"
            )

    def measure(self, fields: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, float]:
        """Return similarity and flat share of each draw, and the size of gradients.

        The first draws measured are those of the uncoupled prior, whose gradients are of size one.
        A draw that is flat in all cells has no similarity: NaN.
        """
        images = fields + [np.broadcast_to(image, fields[0].shape) for image in self._images]
        found = [
            gradients_of(a, b, self._centres, self._inside) for a, b in combinations(images, 2)
        ]
        squares = [(self._mean(f.first), self._mean(f.second)) for f in found]
        self._mean_squares = self._mean_squares or squares
        pairs = zip(found, self._mean_squares, strict=True)
        alike = [similarity(f, self._volumes, (FLAT * a, FLAT * b)) for f, (a, b) in pairs]
        ratios = np.sqrt(np.divide(squares, self._mean_squares))
        size = ratios[:, 0] if self._images else ratios  # a guide stays as it is
        mean, flat = np.mean(alike, axis=0)
        return mean, flat, float(np.mean(size))

    def _mean(self, squared: np.ndarray) -> float:
        return float(squared[:, self._counted].mean())


def _weighted(coupling: Any, grid: Grid) -> np.ndarray:
    """Return the cells whose weight is not zero."""
    if isinstance(coupling.weight, Prior) or np.ndim(coupling.weight) == 0:
        return np.ones(grid.shape, dtype=bool)
    return _common.on_grid(coupling.name, "weight", coupling.weight, grid) > 0
