"""Matérn fields on tensor grids, and Matérn covariances between points.

On a tensor grid the operator ``(2 nu - l^2 Laplacian)^((nu + d/2) / 2)`` is diagonal in the
product of one-dimensional eigenbases (Lindgren, Rue & Lindström 2011, doi
10.1111/j.1467-9868.2011.00777.x), so that a field costs a few small matrix products.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import eigh_tridiagonal


def laplacian_eigenbasis(centres: np.ndarray, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvalues and eigenvectors of the negative Laplacian in one dimension.

    Finite volumes with no-flux ends; the eigenvectors are orthonormal with the cell widths as
    weights, so that the basis tends to that of the continuous operator as the grid is refined.

    Parameters
    ----------
    centres, widths : ndarray, shape (n,)
        Cell centres, increasing, and cell widths.

    Returns
    -------
    eigenvalues : ndarray, shape (n,)
        Ascending, the first is zero.
    vectors : ndarray, shape (n, n)
        One eigenvector a column.
    """
    conductance = 1.0 / np.diff(centres)
    diagonal = np.zeros(centres.size)
    diagonal[:-1] += conductance
    diagonal[1:] += conductance
    root = np.sqrt(widths)
    # With the widths as weights the operator stays symmetric, and tridiagonal.
    beside = -conductance / (root[1:] * root[:-1])
    eigenvalues, vectors = eigh_tridiagonal(diagonal / widths, beside)
    return np.maximum(eigenvalues, 0.0), vectors / root[:, None]


def matern_amplitude(scaled_eigenvalues, dimensions: int, smoothness: float):
    """Return the amplitude of every mode, up to a constant factor.

    ``S = (2 nu + sum_d l_d^2 lambda_d)^(-(nu + d/2)/2)``, where ``scaled_eigenvalues`` is the sum;
    works on NumPy arrays and on tensors.
    """
    return (2.0 * smoothness + scaled_eigenvalues) ** (-(smoothness + dimensions / 2) / 2)


def apply_along_axes(matrices, array, tensordot, moveaxis):
    """Apply one matrix along each axis: ``out[i, j, ..] = A[i, p] B[j, q] .. array[p, q, ..]``.

    ``tensordot`` and ``moveaxis`` are those of NumPy or PyTensor.
    """
    for axis, matrix in enumerate(matrices):
        array = moveaxis(tensordot(matrix, array, [[1], [axis]]), 0, axis)
    return array


@dataclass(frozen=True, eq=False)
class MaternFactor:
    """The factor ``L = diag(sd / s) (V_1 kron V_2 ..) diag(S)`` of a field's prior covariance.

    ``s`` is the standard deviation of each cell under the basis, so that every cell has ``sd``.

    Parameters
    ----------
    vectors : tuple of ndarray, shape (n_d, n_d)
        Eigenvectors along each axis, one a column, orthonormal with the cell widths as weights.
    amplitude : ndarray, shape (n_1, n_2, ..)
        S, of every mode.
    sd : float
    """

    vectors: tuple[np.ndarray, ...]
    amplitude: np.ndarray
    sd: float = 1.0

    @cached_property
    def scale(self) -> np.ndarray:
        """``sd / s`` of every cell, in the shape of the grid."""
        squares = [v**2 for v in self.vectors]
        return self.sd / np.sqrt(_along_axes(squares, self.amplitude**2))

    @property
    def variance(self) -> np.ndarray:
        """Diagonal of ``L L^T``."""
        return np.full(self.amplitude.size, self.sd**2)

    def next_covariance(self, axis: int) -> np.ndarray:
        """Return the covariance of each cell with the next one along an axis."""
        matrices = [v**2 for v in self.vectors]
        matrices[axis] = self.vectors[axis][:-1] * self.vectors[axis][1:]
        scale = np.moveaxis(self.scale, axis, 0)
        pairs = np.moveaxis(scale[:-1] * scale[1:], 0, axis)
        return pairs * _along_axes(matrices, self.amplitude**2)

    def times(self, columns: np.ndarray) -> np.ndarray:
        """Return ``L`` times columns of shape (n, k)."""
        modes = columns.reshape(*self.amplitude.shape, -1)
        cells = _along_axes(self.vectors, self.amplitude[..., None] * modes)
        return (self.scale[..., None] * cells).reshape(columns.shape)

    def transpose_times(self, columns: np.ndarray) -> np.ndarray:
        """Return ``L^T`` times columns of shape (n, k)."""
        cells = self.scale[..., None] * columns.reshape(*self.amplitude.shape, -1)
        modes = _along_axes([vectors.T for vectors in self.vectors], cells)
        return (self.amplitude[..., None] * modes).reshape(columns.shape)

    def inverse(self, columns: np.ndarray) -> np.ndarray:
        """Return ``L^-1`` times columns of shape (n, k)."""
        cells = columns.reshape(*self.amplitude.shape, -1) / self.scale[..., None]
        modes = _along_axes(self._inverses, cells)
        return (modes / self.amplitude[..., None]).reshape(columns.shape)

    def inverse_transpose(self, columns: np.ndarray) -> np.ndarray:
        """Return ``L^-T`` times columns of shape (n, k)."""
        modes = columns.reshape(*self.amplitude.shape, -1) / self.amplitude[..., None]
        cells = _along_axes([inverse.T for inverse in self._inverses], modes)
        return (cells / self.scale[..., None]).reshape(columns.shape)

    @cached_property
    def _inverses(self) -> list[np.ndarray]:
        return [np.linalg.inv(v) for v in self.vectors]


def _along_axes(matrices, array):
    return apply_along_axes(matrices, array, np.tensordot, np.moveaxis)


CLOSED_FORMS = (0.5, 1.5, 2.5)


def matern_correlation(distance, smoothness: float, xp=np):
    """Return the Matérn correlation at a distance in units of the length scale.

    Smoothness 0.5, 1.5 or 2.5 (Rasmussen & Williams 2006, eq. 4.16-4.17).
    """
    root = np.sqrt(2.0 * smoothness) * distance
    if smoothness == 0.5:
        return xp.exp(-root)
    if smoothness == 1.5:
        return (1.0 + root) * xp.exp(-root)
    if smoothness == 2.5:
        return (1.0 + root + root**2 / 3.0) * xp.exp(-root)
    raise ValueError(f"smoothness {smoothness} has no closed form; use one of {CLOSED_FORMS}")


def interpolation_matrix(nodes: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return the dense matrix of cubic-spline interpolation from nodes to points in one dimension.

    Points outside the nodes are an error of the caller.  Fewer than four nodes: linear.
    """
    from scipy.interpolate import make_interp_spline

    degree = min(3, nodes.size - 1)
    return make_interp_spline(nodes, np.eye(nodes.size), k=degree)(at)
