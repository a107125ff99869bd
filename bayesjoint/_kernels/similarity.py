"""Structural similarity of two fields: how far their gradients are parallel where both are."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

FLAT = 0.1  # share of the root mean square gradient of the prior below which a field is flat


def structural_similarity(
    first: Sequence[np.ndarray],
    second: Sequence[np.ndarray],
    volumes: np.ndarray,
    rms: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the similarity and the flat share of each draw.

    ``s = 1 - sum V |grad a x grad b|^2 / sum V |grad a|^2 |grad b|^2`` over cells where both
    gradients exceed 10 % of their prior root mean square; the flat share is the volume of the other
    cells.

    Parameters
    ----------
    first, second : sequence of ndarray, shape (..., *grid)
        Gradient along each axis.
    volumes : ndarray, shape of the grid
    rms : tuple of float
        Root mean square size of each gradient a priori.

    Returns
    -------
    tuple of ndarray, shape (...)
        The similarity is NaN where every cell is flat.
    """
    sizes = [sum(g**2 for g in gradient) for gradient in (first, second)]
    cross = sum(
        (first[i] * second[j] - first[j] * second[i]) ** 2
        for i, j in combinations(range(len(first)), 2)
    )
    steep = (sizes[0] > (FLAT * rms[0]) ** 2) & (sizes[1] > (FLAT * rms[1]) ** 2)
    weight = volumes * steep
    axes = tuple(range(-volumes.ndim, 0))
    total = (weight * sizes[0] * sizes[1]).sum(axis=axes)
    with np.errstate(invalid="ignore", divide="ignore"):
        similarity = 1.0 - (weight * cross).sum(axis=axes) / total
    return similarity, 1.0 - weight.sum(axis=axes) / volumes.sum()
