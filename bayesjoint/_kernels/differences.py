"""First differences along one dimension, and the cells that they lie in."""

from collections.abc import Iterable

import numpy as np


def forward_difference(centres: np.ndarray) -> np.ndarray:
    """Return the matrix of forward differences; the last cell takes the backward one."""
    matrix = np.zeros((centres.size, centres.size))
    step = 1.0 / np.diff(centres)
    left = np.arange(centres.size - 1)
    matrix[left, left], matrix[left, left + 1] = -step, step
    matrix[-1] = matrix[-2]
    return matrix


def central_difference(centres: np.ndarray) -> np.ndarray:
    """Return the matrix of central differences, second order on uneven spacing inside."""
    return np.stack([np.gradient(unit, centres) for unit in np.eye(centres.size)], axis=1)


FORMS = {"forward": forward_difference, "central": central_difference}


def difference_matrices(axes: Iterable[np.ndarray], form: str) -> list[np.ndarray]:
    """Return one difference matrix for each axis."""
    return [FORMS[form](centres) for centres in axes]


def cell_widths(centres: np.ndarray) -> np.ndarray:
    """Return widths of cells that meet midway between centres; 1 for a single cell."""
    if centres.size == 1:
        return np.ones(1)
    middle = (centres[1:] + centres[:-1]) / 2
    first, last = centres[0] - (middle[0] - centres[0]), centres[-1] + (centres[-1] - middle[-1])
    return np.diff(np.concatenate([[first], middle, [last]]))
