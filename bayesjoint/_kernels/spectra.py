"""Coordinates in which a Gaussian of given precision is white."""

import numpy as np
from scipy.linalg import cho_factor, cho_solve, eigh


def preconditioner(precision: np.ndarray, threshold: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvectors and stretches of ``x = x* + (I + V diag(stretch) V^T) xi``.

    ``precision`` is ``I + H + Gamma``; directions whose eigenvalue exceeds one by less than the
    threshold are left alone, ``stretch = (1 + lambda)^(-1/2) - 1``.
    """
    eigenvalues, vectors = eigh((precision + precision.T) / 2)
    kept = np.abs(eigenvalues - 1.0) > threshold
    eigenvalues = np.maximum(eigenvalues[kept], 1e-6)
    return vectors[:, kept], 1.0 / np.sqrt(eigenvalues) - 1.0


def solve_posterior(precision: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Return the solution of ``(I + H + Gamma) x = vector``."""
    return cho_solve(cho_factor(precision), vector)
