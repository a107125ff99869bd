"""Matrices of users: rows and columns in the order of the labels they belong to."""

from typing import Any

import numpy as np
from scipy import sparse

from bayesjoint.arrays.places import Axes, taken
from bayesjoint.arrays.reading import Given, converted, read


def matrix(
    owner: str,
    what: str,
    value: Any,
    rows: Axes | None,
    columns: Axes | None,
    *,
    units: str | None = None,
) -> np.ndarray:
    """Return a matrix with rows and columns in the order of the labels they belong to.

    Parameters
    ----------
    owner, what : str
        The object and its setting, for messages.
    value : array_like
        A matrix, or an array whose dims are those of the rows, then those of the columns.
    rows, columns : Axes or None
        None where any will do.
    units : str, optional
        Wanted.

    Returns
    -------
    ndarray, shape (size of ``rows``, size of ``columns``)
        Both in C order.

    Raises
    ------
    ValueError
        When labels, the shape or units do not fit, or an entry is not finite.
    """
    given = converted(owner, what, read(owner, what, value), units)
    sides = matrix_sides(f"{owner}: {what}", given, rows, columns)
    array = np.transpose(given.values, [axis for side in sides for axis in side])
    axis, shape = 0, []
    for side, axes in zip(sides, (rows, columns), strict=True):
        for target, source in enumerate(side):
            if axes is not None and len(axes.dims) == len(side):
                array = taken(
                    f"{owner}: {what}", array, axis, given.labels[source],
                    given.label_units[source], axes, target, False,
                )  # fmt: skip
            axis += 1
        shape.append(int(np.prod(array.shape[axis - len(side) : axis])))
    array = array.reshape(shape)
    wanted = tuple(n if a is None else a.size for n, a in zip(shape, (rows, columns), strict=True))
    if array.shape != wanted:
        raise ValueError(
            f"{owner}: {what}: a matrix of shape {array.shape} given where {wanted} is needed"
        )
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{owner}: {what} is not finite; look for NaN or infinity in it")
    return np.ascontiguousarray(array)


def matrix_sides(
    subject: str, given: Given, rows: Axes | None, columns: Axes | None
) -> tuple[list[int], list[int]]:
    """Return which dimensions of an array are its rows and which its columns.

    Named dims decide where they are those of the rows or the columns, else the order does: as many
    dimensions as the rows have, where the rest are the columns', or one of each.  Where rows and
    columns have a dim in common, it is one of the rows if it comes first.
    """
    count, dims = given.values.ndim, given.dims
    named = [
        (own, rest) if is_rows else (rest, own)
        for axes, is_rows in ((columns, False), (rows, True))
        if dims is not None and axes is not None and axes.dims and set(axes.dims) <= set(dims)
        for own in [[dims.index(dim) for dim in axes.dims]]
        if (rest := [i for i in range(count) if i not in own])
    ]
    if named:
        in_front = [sides for sides in named if max(sides[0]) < min(sides[1])]
        return (in_front or named)[0]
    if count == 2:
        return [0], [1]
    first = len(rows.dims) if rows is not None else count - len(columns.dims if columns else (0,))
    if not 0 < first < count or (columns is not None and count - first != len(columns.dims)):
        raise ValueError(
            f"{subject}: an array of shape {given.values.shape}"
            + (f" and dims {dims}" if dims else "")
            + " given"
            + "; a matrix is needed, one row a datum and one column an element in C order"
        )
    return list(range(first)), list(range(first, count))


def columns_of(owner: str, what: str, value: Any, rows: Axes | None) -> Axes | None:
    """Return the axes of the columns of a matrix with labels; None where it has none."""
    given = read(owner, what, value)
    _, side = matrix_sides(f"{owner}: {what}", given, rows, None)
    return _axes_of_side(f"{what} of {owner}", given, side)


def rows_of(owner: str, what: str, value: Any, columns: Axes) -> Axes | None:
    """Return the axes of the rows of a matrix with labels; None where it has none."""
    given = read(owner, what, value)
    side, _ = matrix_sides(f"{owner}: {what}", given, None, columns)
    return _axes_of_side(f"{what} of {owner}", given, side)


def _axes_of_side(owner: str, given: Given, side: list[int]) -> Axes | None:
    if all(given.labels[i] is None for i in side):
        return None
    dims = tuple(given.dims[i] if given.dims else f"axis {i}" for i in side)
    return Axes(
        owner, dims, tuple(given.labels[i] for i in side),
        tuple(given.values.shape[i] for i in side), tuple(given.label_units[i] for i in side),
    )  # fmt: skip


def sparse_matrix(owner: str, what: str, value: Any) -> Any:
    """Return a sparse matrix of real, finite numbers, by rows; it has no labels."""
    if value.dtype.kind not in "fiub":
        hint = "; stack its parts with bj.real_and_imaginary" if value.dtype.kind == "c" else ""
        raise ValueError(f"{owner}: {what} holds {value.dtype}; give real numbers{hint}")
    kept = sparse.csr_array(value, dtype=float, copy=True)
    if not np.all(np.isfinite(kept.data)):
        raise ValueError(f"{owner}: {what} is not finite; look for NaN or infinity in it")
    return kept
