"""Orthonormal modes of a process at the places of the data, axis by axis."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from scipy.linalg import eigh

from bayesjoint._kernels.correlations import Term, product


@dataclass(frozen=True, eq=False)
class Modes:
    """The covariance ``U diag(variances) U^T`` of a unit process at the data of one modality.

    ``U`` is the Kronecker product of one matrix an axis.

    Parameters
    ----------
    matrices : tuple of ndarray of shape (n_d, m_d), or None
        Orthonormal columns along each axis; None is the identity.
    variances : ndarray, shape (m_1, m_2, ..)
        Of each mode.
    left_out : ndarray
        Variances of the modes that are left out.
    """

    matrices: tuple[np.ndarray | None, ...]
    variances: np.ndarray
    left_out: np.ndarray

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of the data."""
        return tuple(
            size if matrix is None else matrix.shape[0]
            for matrix, size in zip(self.matrices, self.variances.shape, strict=True)
        )

    @property
    def size(self) -> int:
        """Number of modes."""
        return self.variances.size

    @property
    def is_identity(self) -> bool:
        """Whether every datum is a mode."""
        return all(matrix is None for matrix in self.matrices)

    @property
    def is_complete(self) -> bool:
        """Whether there are as many modes as data."""
        return self.size == int(np.prod(self.shape))

    def project(self, columns: np.ndarray) -> np.ndarray:
        """Return ``U^T`` times data, (n, k) -> (m, k)."""
        return self._times([u if u is None else u.T for u in self.matrices], self.shape, columns)

    def expand(self, columns: np.ndarray) -> np.ndarray:
        """Return ``U`` times modes, (m, k) -> (n, k)."""
        return self._times(self.matrices, self.variances.shape, columns)

    def diagonal(self, weights: np.ndarray) -> np.ndarray:
        """Return the diagonal of ``U diag(weights) U^T``, for weights of shape (m, k)."""
        squares = [u if u is None else u**2 for u in self.matrices]
        return self._times(squares, self.variances.shape, weights)

    def _times(self, matrices: Sequence, shape: tuple[int, ...], columns: np.ndarray) -> np.ndarray:
        array = columns.reshape(*shape, columns.shape[1])
        for axis, matrix in enumerate(matrices):
            if matrix is not None:
                array = np.moveaxis(np.tensordot(matrix, array, ([1], [axis])), 0, axis)
        return array.reshape(int(np.prod(array.shape[:-1])), columns.shape[1])


def modes_of(axes: Sequence[tuple | int], rank: int | None = None) -> Modes:
    """Return the modes of a product of covariances, one an axis of the data.

    Parameters
    ----------
    axes : sequence
        Of each axis its size where data are independent along it, else a tuple of terms, their
        length scales, and points of shape (n, d).
    rank : int, optional
        Number of leading modes kept, where there is one axis.
    """
    pairs = [
        (np.ones(axis), None) if isinstance(axis, int) else _decomposed(*_hashable(*axis))
        for axis in axes
    ]
    variances = np.ones(())
    for values, _ in pairs:
        variances = np.multiply.outer(variances, values)
    matrices = tuple(vectors for _, vectors in pairs)
    if rank is None or rank >= variances.size:
        return Modes(matrices, variances, np.zeros(0))
    vectors: Any = matrices[0]
    return Modes((np.ascontiguousarray(vectors[:, :rank]),), variances[:rank], variances[rank:])


def _hashable(terms: Sequence[Term], lengths: Sequence[float], points: np.ndarray) -> tuple:
    contiguous = np.ascontiguousarray(points, dtype=float)
    return tuple(terms), tuple(lengths), contiguous.shape, contiguous.tobytes()


@lru_cache(maxsize=2)  # a problem is built many times; two matrices of 5,000 places take 400 MB
def _decomposed(terms, lengths, shape, points) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvalues, descending, and eigenvectors of a covariance."""
    covariance = product(terms, np.frombuffer(points).reshape(shape), lengths)
    values, vectors = eigh(covariance, overwrite_a=True, check_finite=False, driver="evd")
    return np.maximum(values[::-1], 0.0), np.asfortranarray(vectors[:, ::-1])
