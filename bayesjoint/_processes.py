"""Matérn processes at points, and how they are mixed over modalities: parts of a discrepancy."""

from typing import Any

import numpy as np
import pytensor.tensor as pt

from bayesjoint._kernels import matern
from bayesjoint.grids import Grid

JITTER = 1e-10  # of the unit variance, against rounding where points nearly coincide


def points_of(owner: str, data: Any, axes: tuple[str, ...]) -> np.ndarray:
    """Return the coordinates of all data in C order, shape (data, axis)."""
    columns = []
    for axis in axes:
        if axis not in data.coords:
            raise ValueError(
                f"{owner} has no coordinate {axis!r}; there are {sorted(map(str, data.coords))}"
            )
        values = data[axis].broadcast_like(data).transpose(*data.dims).values.ravel()
        if not np.issubdtype(values.dtype, np.number):
            raise ValueError(
                f"{owner}: the coordinate {axis!r} is not numeric; convert it, for instance times "
                "to days since the start"
            )
        if not np.all(np.isfinite(values)):
            raise ValueError(f"{owner}: the coordinate {axis!r} is not finite; drop those data")
        columns.append(values.astype(float))
    return np.stack(columns, axis=1)


def require_covered(owner: str, grid: Grid, points: np.ndarray, axes: tuple[str, ...]) -> None:
    """Raise unless the grid reaches as far as the points."""
    for dim, centres in grid.centres.items():
        at = points[:, axes.index(dim)]
        if at.min() < centres[0] or at.max() > centres[-1]:
            raise ValueError(
                f"{owner}: the grid {dim} [{centres[0]:g}, {centres[-1]:g}] does not cover the "
                f"data [{at.min():g}, {at.max():g}]; widen it, at best by a length scale"
            )


def exact(points: np.ndarray, smoothness: float, length: Any):
    """Return basis (point, mode) and scale (mode,); tensors where the length is one."""
    unique, index = np.unique(points, axis=0, return_inverse=True)
    distance = matern.distances(unique)
    size = unique.shape[0]
    if isinstance(length, float):
        kernel = matern.matern_correlation(distance / length, smoothness)
        factor = np.linalg.cholesky(kernel + JITTER * np.eye(size))
        return factor[index.ravel()], pt.ones(size)
    kernel = matern.matern_correlation(pt.constant(distance) / length, smoothness, pt)
    factor = pt.linalg.cholesky(kernel + JITTER * np.eye(size))
    return pt.specify_shape(factor, (size, size))[index.ravel()], pt.ones(size)


def reduced_rank(
    grid: Grid,
    points: np.ndarray,
    axes: tuple[str, ...],
    smoothness: float,
    rank: int | None,
    length: Any,
):
    """Return basis (point, mode) and scale (mode,) in the product of one-dimensional eigenbases."""
    columns, eigenvalues = np.ones((points.shape[0], 1)), np.zeros(1)
    for dim, widths in zip(grid.dims, grid.widths, strict=True):
        centres, at = grid.centres[dim], points[:, axes.index(dim)]
        values, vectors = matern.laplacian_eigenbasis(centres, widths)
        at_points = matern.interpolation_matrix(centres, at) @ vectors
        columns = (columns[:, :, None] * at_points[:, None, :]).reshape(points.shape[0], -1)
        eigenvalues = np.add.outer(eigenvalues, values).ravel()
    kept = np.argsort(eigenvalues, kind="stable")[:rank]
    columns, eigenvalues = columns[:, kept], eigenvalues[kept]
    amplitude = matern.matern_amplitude(length**2 * eigenvalues, len(grid.dims), smoothness)
    mean_variance = (amplitude**2 * np.mean(columns**2, axis=0)).sum()
    return columns, amplitude / pt.sqrt(mean_variance)


def kron_row(row, basis):
    """Return ``[row_0 basis, row_1 basis, ...]``, shape (data, modality x mode)."""
    if isinstance(row, np.ndarray) and isinstance(basis, np.ndarray):
        return np.kron(row[None, :], basis)
    row, basis = pt.as_tensor(row), pt.as_tensor(basis)
    shape = (basis.type.shape[0], row.type.shape[0] * basis.type.shape[1])
    wide = row[None, :, None] * basis[:, None, :]
    return pt.specify_shape(wide.reshape(shape), shape)


def correlation_matrix(correlation: Any, count: int) -> np.ndarray:
    """Return the matrix of a number common to all pairs, a matrix, or None for independence."""
    if correlation is None:
        return np.eye(count)
    array = np.asarray(correlation, dtype=float)
    if array.ndim == 0:
        return np.full((count, count), array) + (1.0 - array) * np.eye(count)
    return array


def correlation_tensor(correlation, count: int):
    """Return the matrix of an unknown correlation: a scalar common to all pairs, or a matrix."""
    if correlation.ndim == 2:
        return correlation
    return pt.eye(count) + correlation * (1.0 - np.eye(count))
