"""Unit processes at the places of the data: what the modalities share of a discrepancy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import xarray as xr
from scipy.linalg import svd

from bayesjoint import arrays
from bayesjoint._graph.build import ModelBuild
from bayesjoint._kernels import correlations, matern
from bayesjoint._kernels.correlations import Term
from bayesjoint._kernels.modes import Modes, modes_of
from bayesjoint.grids import Grid
from bayesjoint.priors import Prior

if TYPE_CHECKING:
    from bayesjoint.discrepancy import JointDiscrepancy

ROWS = 500  # of a covariance that is not kept
ROUNDING = 1e-10  # of the unit variance: jitter, and modes below it are left out


@dataclass(frozen=True, eq=False)
class Process:
    """The unit process of a discrepancy in coordinates of the data.

    Attributes
    ----------
    terms : tuple of Term
        Whose product the covariance is.
    lengths : tuple of float or Prior
        Length scale of each term.
    names : tuple of str
        Of the hyperparameters, where they are unknown.
    """

    owner: str
    axes: tuple[str, ...]
    terms: tuple[Term, ...]
    lengths: tuple[Any, ...]
    names: tuple[str, ...]
    grid: Grid | None
    rank: int | None

    @classmethod
    def of(cls, given: "JointDiscrepancy") -> "Process":
        """Return the process of a discrepancy with ``on=``."""
        axes, lengths, kinds = given.axes, given.length_scale, given.kernel
        prefix = f"{given.name}_length_scale"
        by_axis = isinstance(lengths, Mapping)
        groups = [(i,) for i in range(len(axes))] if by_axis else [tuple(range(len(axes)))]
        terms = tuple(
            Term(
                columns,
                kinds[axes[columns[0]]] if isinstance(kinds, Mapping) else kinds,
                smoothness=given.smoothness,
                period=given.period or 1.0,
                origin=given.origin or 0.0,
            )
            for columns in groups
        )
        values = tuple(lengths[a] for a in axes) if isinstance(lengths, Mapping) else (lengths,)
        names = tuple(f"{prefix}_{axis}" for axis in axes) if by_axis else (prefix,)
        return cls(given.owner, axes, terms, values, names, given.grid, given.rank)

    @property
    def is_known(self) -> bool:
        """Whether no length scale is unknown."""
        return not any(isinstance(length, Prior) for length in self.lengths)

    @cached_property
    def numbers(self) -> tuple[float, ...]:
        """Length scales, where they are known."""
        return tuple(float(length) for length in self.lengths)

    def basis(self, build: ModelBuild, points: np.ndarray):
        """Return basis (point, mode) and scale (mode,) of the process at points."""
        lengths = [
            build.unknown(name, length, of_errors=True)
            for name, length in zip(self.names, self.lengths, strict=True)
        ]
        if self.grid is not None:
            smoothness = self.terms[0].smoothness
            return reduced_rank(self.grid, points, self.axes, smoothness, self.rank, lengths[0])
        unique, index = np.unique(points, axis=0, return_inverse=True)
        if self.is_known:
            factor = self._constant_factor(unique)
            return factor[index.ravel()], pt.ones(factor.shape[1])
        kernel = correlations.product(self.terms, unique, lengths, pt)
        size = unique.shape[0]
        factor = pt.linalg.cholesky(kernel + ROUNDING * np.eye(size))
        return pt.specify_shape(factor, (size, size))[index.ravel()], pt.ones(size)

    def covariance(self, points: np.ndarray) -> np.ndarray:
        """Return the exact covariance between points."""
        return correlations.product(self.terms, points, self.numbers)

    def covariance_times(self, points: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the exact covariance between points times columns, some rows at a time."""
        parts = np.array_split(points, -(-len(points) // ROWS))
        return np.concatenate([
            correlations.product(self.terms, part, self.numbers, others=points) @ columns
            for part in parts
        ])  # fmt: skip

    def modes(self, points: np.ndarray, sizes: tuple[int, ...] | None = None) -> Modes:
        """Return the modes at points, along each axis of data of the given sizes.

        Without sizes all points are one axis; else the coordinates follow the axes one by one.
        """
        if self.grid is not None:
            vectors, values, _ = svd(self.grid_factor(points), full_matrices=False)
            return Modes((vectors,), values**2, np.zeros(0))
        if sizes is None:
            return modes_of([(self.terms, self.numbers, points)], self.rank)
        lattice = points.reshape(*sizes, len(self.axes))
        along = []
        for axis, (term, length) in enumerate(zip(self.terms, self.numbers, strict=True)):
            first: list[Any] = [0] * len(sizes)
            first[axis] = slice(None)
            line = lattice[tuple(first)]
            along.append(((term,), (length,), line))
        return modes_of(along)

    def beside(self, points: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the covariance between points of data and new ones, and among the new ones."""
        if self.grid is not None:
            both = self.grid_factor(np.concatenate([points, new]), len(points))
            own, other = both[: len(points)], both[len(points) :]
            return own @ other.T, other @ other.T
        unique, index = np.unique(points, axis=0, return_inverse=True)
        cross = correlations.product(self.terms, unique, self.numbers, others=new)
        if self.rank is not None:
            modes = self.modes(unique)
            cross = modes.expand(modes.project(cross))
        return cross[index.ravel()], self.covariance(new)

    def grid_factor(self, points: np.ndarray, count: int | None = None) -> np.ndarray:
        """Return the factor (point, mode) of the process in the modes of its grid.

        The first ``count`` points are those of the data; all by default.
        """
        grid: Any = self.grid
        smoothness, length = self.terms[0].smoothness, self.numbers[0]
        basis, scale = reduced_rank(grid, points, self.axes, smoothness, self.rank, length, count)
        return basis * scale

    def share_left_out(self, points: np.ndarray) -> float:
        """Return the share of the variance in modes that are left out."""
        modes = self.modes(np.unique(points, axis=0))
        rest = modes.left_out.sum()
        return float(rest / (rest + modes.variances.sum()))

    def _constant_factor(self, points: np.ndarray) -> np.ndarray:
        modes = modes_of([(self.terms, self.numbers, points)], self.rank)
        kept = modes.variances > ROUNDING
        vectors: Any = modes.matrices[0]
        return vectors[:, kept] * np.sqrt(modes.variances[kept])


def points_of(
    owner: str, data: Any, axes: tuple[str, ...], frames: Mapping[str, arrays.Frame]
) -> np.ndarray:
    """Return the coordinates of all data in C order, as numbers in frames, shape (data, axis)."""
    columns = []
    for axis in axes:
        if axis not in data.coords:
            raise ValueError(
                f"{owner} has no coordinate {axis!r}; there are {sorted(map(str, data.coords))}"
            )
        coordinate = data[axis]
        numbers = arrays.coordinate(
            f"{owner}: the coordinate {axis!r}", coordinate, frames.get(axis)
        )
        placed = xr.DataArray(numbers, dims=coordinate.dims)
        values = placed.broadcast_like(data.drop_vars(data.coords)).transpose(*data.dims)
        if not np.all(np.isfinite(values)):
            raise ValueError(f"{owner}: the coordinate {axis!r} is not finite; drop those data")
        columns.append(values.values.ravel())
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


def reduced_rank(
    grid: Grid,
    points: np.ndarray,
    axes: tuple[str, ...],
    smoothness: float,
    rank: int | None,
    length: Any,
    count: int | None = None,
):
    """Return basis (point, mode) and scale (mode,) in the product of one-dimensional eigenbases.

    The mean variance over the first ``count`` points is one; over all by default.
    """
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
    mean_variance = (amplitude**2 * np.mean(columns[:count] ** 2, axis=0)).sum()
    return columns, amplitude / mean_variance**0.5


def kron_row(row, basis):
    """Return ``[row_0 basis, row_1 basis, ...]``, shape (data, modality x mode)."""
    if isinstance(row, np.ndarray) and isinstance(basis, np.ndarray):
        return np.kron(row[None, :], basis)
    row, basis = pt.as_tensor(row), pt.as_tensor(basis)
    shape = (basis.type.shape[0], row.type.shape[0] * basis.type.shape[1])
    wide = row[None, :, None] * basis[:, None, :]
    return pt.specify_shape(wide.reshape(shape), shape)


def correlation_matrix(correlation: Any, count: int) -> np.ndarray:
    """Return the correlation matrix of what a user may give.

    A number common to all pairs, one number a pair, the matrix, or None for independence.
    """
    if correlation is None:
        return np.eye(count)
    array = np.asarray(correlation, dtype=float)
    if array.ndim == 2:
        return array
    matrix = np.eye(count)
    matrix[np.triu_indices(count, 1)] = array
    return np.triu(matrix) + np.triu(matrix, 1).T


def correlation_factor(correlation: Any, count: int) -> np.ndarray:
    """Return ``A`` with ``A A^T`` the correlation matrix; fewer columns where it is singular."""
    matrix = correlation_matrix(correlation, count)
    try:
        return np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return semidefinite_factor(matrix)


def semidefinite_factor(matrix: np.ndarray) -> np.ndarray:
    """Return ``A`` with ``A A^T`` a covariance, a column for each eigenvalue above rounding."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > ROUNDING * values[-1]
    return vectors[:, kept] * np.sqrt(values[kept])


def correlation_among(correlation: Any, kept: Sequence[int], count: int) -> Any:
    """Return what a user gives as correlation of ``count`` parts, for those kept.

    A submatrix of LKJ(eta) of size n has density LKJ(eta + (n - m) / 2) of size m (Joe 2006).
    """
    if len(kept) == count or correlation is None:
        return correlation
    if isinstance(correlation, Prior):
        if correlation.distribution is not pm.LKJCorr:
            return correlation
        eta = correlation.parameters["eta"] + 0.5 * (count - len(kept))
        return Prior(pm.LKJCorr, **{**correlation.parameters, "eta": eta, "n": len(kept)})
    if np.ndim(correlation) >= 2:
        return np.asarray(correlation)[..., kept, :][..., kept]
    return correlation
