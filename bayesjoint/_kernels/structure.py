"""Whether two fields on one grid change in the same directions."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from bayesjoint._kernels.differences import forward_slopes


@dataclass(frozen=True, eq=False)
class Gradients:
    """Of many draws of two fields, in each cell, shape (draw, *grid).

    Attributes
    ----------
    cross : ndarray
        ``|grad a x grad b|^2``.
    first, second : ndarray
        ``|grad a|^2`` and ``|grad b|^2``.
    """

    cross: np.ndarray
    first: np.ndarray
    second: np.ndarray

    @property
    def product(self) -> np.ndarray:
        """``|grad a|^2 |grad b|^2``."""
        return self.first * self.second


def gradients_of(
    first: np.ndarray,
    second: np.ndarray,
    centres: Sequence[np.ndarray],
    inside: np.ndarray | None = None,
) -> Gradients:
    """Return the gradients of draws of two fields, each (draw, *grid), by forward differences.

    Parameters
    ----------
    first, second : ndarray, shape (draw, *grid)
    centres : sequence of ndarray
        Cell centres along each dimension; along one of a single cell there is no gradient.
    inside : ndarray of bool, shape of the grid, optional
        Cells that take part, all by default; a difference that reaches another is not formed.
    """
    taking_part = np.ones(first.shape[1:], dtype=bool) if inside is None else inside
    a, b = (
        [forward_slopes(field, at, axis, taking_part) for axis, at in enumerate(centres)]
        for field in (first, second)
    )
    cross = np.zeros(first.shape)
    for i, j in combinations(range(len(a)), 2):
        cross += (a[i] * b[j] - a[j] * b[i]) ** 2
    return Gradients(cross, *(np.sum([part**2 for part in parts], axis=0) for parts in (a, b)))


def similarity(
    found: Gradients, volumes: np.ndarray, least: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return structural similarity and flat share of each draw.

    Parameters
    ----------
    found : Gradients
    volumes : ndarray, shape of the grid
    least : tuple of float
        Squared gradients of both fields below which a cell is flat.

    Returns
    -------
    ndarray, shape (draw,)
        ``1 - sum V |grad a x grad b|^2 / sum V |grad a|^2 |grad b|^2`` over cells in which neither
        is flat; NaN where there are none.
    ndarray, shape (draw,)
        Share of the volume that is left out.
    """
    steep = volumes * ((found.first > least[0]) & (found.second > least[1]))
    axes = tuple(range(1, found.cross.ndim))
    crossed = (steep * found.cross).sum(axis=axes)
    whole = (steep * found.product).sum(axis=axes)
    kept = np.divide(crossed, whole, out=np.full(crossed.shape, np.nan), where=whole > 0)
    return 1.0 - kept, 1.0 - steep.sum(axis=axes) / volumes.sum()
