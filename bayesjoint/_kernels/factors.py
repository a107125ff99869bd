"""Factors L of prior covariances ``L L^T``, from white coordinates to physical values."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from scipy.linalg import solve_triangular


class Factor(Protocol):
    """A factor L of a prior covariance, square or with more rows than columns."""

    @property
    def variance(self) -> np.ndarray:
        """Diagonal of ``L L^T``."""

    def times(self, columns: np.ndarray) -> np.ndarray:
        """Return ``L`` times columns."""

    def transpose_times(self, columns: np.ndarray) -> np.ndarray:
        """Return ``L^T`` times columns."""

    def inverse(self, columns: np.ndarray) -> np.ndarray:
        """Return ``L^-1`` times columns; the pseudoinverse where L is not square."""

    def inverse_transpose(self, columns: np.ndarray) -> np.ndarray:
        """Return ``L^-T`` times columns; the pseudoinverse where L is not square."""


@dataclass(frozen=True, eq=False)
class DiagonalFactor:
    """Of independent variables: the slope of each."""

    slope: np.ndarray

    @property
    def variance(self) -> np.ndarray:
        """Diagonal of ``L L^T``."""
        return self.slope**2

    def times(self, columns: np.ndarray) -> np.ndarray:
        """Return ``L`` times columns."""
        return self.slope[:, None] * columns

    transpose_times = times

    def inverse(self, columns: np.ndarray) -> np.ndarray:
        """Return ``L^-1`` times columns; zero where a value does not move."""
        still = self.slope == 0.0
        inverse = np.where(still, 0.0, 1.0 / np.where(still, 1.0, self.slope))
        return inverse[:, None] * columns

    inverse_transpose = inverse


@dataclass(frozen=True, eq=False)
class DenseFactor:
    """Of anything else: a matrix."""

    matrix: np.ndarray

    @cached_property
    def variance(self) -> np.ndarray:
        """Diagonal of ``L L^T``."""
        return np.sum(self.matrix**2, axis=1)

    def times(self, columns: np.ndarray) -> np.ndarray:
        """Return ``L`` times columns."""
        return self.matrix @ columns

    def transpose_times(self, columns: np.ndarray) -> np.ndarray:
        """Return ``L^T`` times columns."""
        return self.matrix.T @ columns

    @cached_property
    def _inverse(self) -> np.ndarray:
        return np.linalg.pinv(self.matrix)

    def inverse(self, columns: np.ndarray) -> np.ndarray:
        """Return the pseudoinverse times columns."""
        return self._inverse @ columns

    def inverse_transpose(self, columns: np.ndarray) -> np.ndarray:
        """Return the transposed pseudoinverse times columns."""
        return self._inverse.T @ columns


@dataclass(frozen=True, eq=False)
class TriangularFactor:
    """Of a covariance ``C C^T``: ``L = C``."""

    lower: np.ndarray

    @cached_property
    def variance(self) -> np.ndarray:
        """Diagonal of ``L L^T``."""
        return np.sum(self.lower**2, axis=1)

    def times(self, columns: np.ndarray) -> np.ndarray:
        """Return ``L`` times columns."""
        return self.lower @ columns

    def transpose_times(self, columns: np.ndarray) -> np.ndarray:
        """Return ``L^T`` times columns."""
        return self.lower.T @ columns

    def inverse(self, columns: np.ndarray) -> np.ndarray:
        """Return ``L^-1`` times columns."""
        return solve_triangular(self.lower, columns, lower=True)

    def inverse_transpose(self, columns: np.ndarray) -> np.ndarray:
        """Return ``L^-T`` times columns."""
        return solve_triangular(self.lower, columns, lower=True, trans=1)


@dataclass(frozen=True, eq=False)
class PrecisionFactor:
    """Of a precision ``C C^T``: ``L = C^-T``."""

    lower: np.ndarray

    @cached_property
    def variance(self) -> np.ndarray:
        """Diagonal of ``L L^T``."""
        inverse = solve_triangular(self.lower, np.eye(self.lower.shape[0]), lower=True)
        return np.sum(inverse**2, axis=0)

    def times(self, columns: np.ndarray) -> np.ndarray:
        """Return ``L`` times columns."""
        return solve_triangular(self.lower, columns, lower=True, trans=1)

    def transpose_times(self, columns: np.ndarray) -> np.ndarray:
        """Return ``L^T`` times columns."""
        return solve_triangular(self.lower, columns, lower=True)

    def inverse(self, columns: np.ndarray) -> np.ndarray:
        """Return ``L^-1`` times columns."""
        return self.lower.T @ columns

    def inverse_transpose(self, columns: np.ndarray) -> np.ndarray:
        """Return ``L^-T`` times columns."""
        return self.lower @ columns


@dataclass(frozen=True, eq=False)
class ScaledFactor:
    """Of a covariance whose values are scaled one by one: ``diag(scale) L``."""

    scale: np.ndarray
    factor: Factor

    @property
    def variance(self) -> np.ndarray:
        """Diagonal of ``L L^T``."""
        return self.scale**2 * self.factor.variance

    def times(self, columns: np.ndarray) -> np.ndarray:
        """Return ``L`` times columns."""
        return self.scale[:, None] * self.factor.times(columns)

    def transpose_times(self, columns: np.ndarray) -> np.ndarray:
        """Return ``L^T`` times columns."""
        return self.factor.transpose_times(self.scale[:, None] * columns)

    def inverse(self, columns: np.ndarray) -> np.ndarray:
        """Return ``L^-1`` times columns."""
        return self.factor.inverse(columns / self.scale[:, None])

    def inverse_transpose(self, columns: np.ndarray) -> np.ndarray:
        """Return ``L^-T`` times columns."""
        return self.factor.inverse_transpose(columns) / self.scale[:, None]
