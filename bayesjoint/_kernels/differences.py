"""Slopes of a field on a tensor grid: towards the cells before and after, and their mixtures."""

import numpy as np

FORMS = ("central", "face", "forward")
AHEAD = "ahead"  # forward, without the backward one where there is nothing ahead


def one_sided_slopes(centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return matrices of the slopes towards the cells before and after; zero where none is.

    Parameters
    ----------
    centres : ndarray, shape (n,)
        Cell centres, increasing.

    Returns
    -------
    before, after : ndarray, shape (n, n)
    """
    before, after = np.zeros((2, centres.size, centres.size))
    step = 1.0 / np.diff(centres)
    left = np.arange(centres.size - 1)
    after[left, left], after[left, left + 1] = -step, step
    before[1:] = after[:-1]
    return before, after


def mixtures(
    form: str, before: np.ndarray, after: np.ndarray, steps: tuple[np.ndarray, np.ndarray]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return what each cell takes of its two one-sided slopes, one pair for each component.

    Squares of the components add up to the squared slope of the cell.

    Parameters
    ----------
    form : {"forward", "central", "face", "ahead"}
    before, after : ndarray of bool
        Cells that have a neighbour on that side.
    steps : tuple of ndarray
        Distances of the centres to those before and after; any number where there is none.

    Returns
    -------
    list of (ndarray, ndarray)
        Weights of the slopes before and after.
    """
    zero = np.zeros(before.shape)
    if form == "face":  # half the square of each face, the outer faces are flat
        return [(np.sqrt(0.5) * before, zero), (zero, np.sqrt(0.5) * after)]
    if form == AHEAD:
        return [(zero, 1.0 * after)]
    if form == "forward":
        return [(1.0 * (before & ~after), 1.0 * after)]
    both, total = before & after, steps[0] + steps[1]
    return [
        (np.where(both, steps[1] / total, before), np.where(both, steps[0] / total, after))
    ]  # slope of the parabola through three centres


def neighbours(inside: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which cells inside have a neighbour inside before and after them along an axis."""
    along = np.moveaxis(np.asarray(inside, dtype=bool), axis, 0)
    before, after = np.zeros((2, *along.shape), dtype=bool)
    after[:-1] = along[:-1] & along[1:]
    before[1:] = after[:-1]
    return np.moveaxis(before, 0, axis), np.moveaxis(after, 0, axis)


def forward_slopes(
    values: np.ndarray, centres: np.ndarray, axis: int, inside: np.ndarray
) -> np.ndarray:
    """Return slopes of draws to the next cell, or where that is not inside from the one before.

    Parameters
    ----------
    values : ndarray, shape (draw, *grid)
    centres : ndarray, shape (n,)
        Cell centres along the axis.
    axis : int
        Of the grid.
    inside : ndarray of bool, shape of the grid
        Cells that take part.

    Returns
    -------
    ndarray, shape (draw, *grid)
        Zero where neither neighbour is inside.
    """
    steps = np.diff(centres).reshape([-1 if i == axis else 1 for i in range(inside.ndim)])
    slope = np.diff(values, axis=axis + 1) / steps
    none = np.zeros_like(np.take(values, [0], axis=axis + 1))
    before, after = neighbours(inside, axis)
    behind = np.where(before, np.concatenate([none, slope], axis=axis + 1), 0.0)
    return np.where(after, np.concatenate([slope, none], axis=axis + 1), behind)


def cell_widths(centres: np.ndarray) -> np.ndarray:
    """Return widths of cells that meet midway between centres; 1 for a single cell."""
    if centres.size == 1:
        return np.ones(1)
    middle = (centres[1:] + centres[:-1]) / 2
    first, last = centres[0] - (middle[0] - centres[0]), centres[-1] + (centres[-1] - middle[-1])
    return np.diff(np.concatenate([[first], middle, [last]]))
