"""Eigenpairs of data information against prior precision."""

import numpy as np
from scipy.linalg import cho_factor, cho_solve, eigh, solve_triangular


def generalised_pairs(
    information: np.ndarray, precision: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs ``H v = lambda P v`` with ``V^T P V = I``, eigenvalues descending.

    Parameters
    ----------
    information, precision : ndarray, shape (n, n)
        H symmetric and positive semidefinite, P symmetric and positive definite.
    """
    lower = np.linalg.cholesky(precision)
    half = solve_triangular(lower, information, lower=True)
    symmetric = solve_triangular(lower, half.T, lower=True)
    eigenvalues, vectors = eigh((symmetric + symmetric.T) / 2)
    order = np.argsort(eigenvalues)[::-1]
    vectors = solve_triangular(lower, vectors[:, order], lower=True, trans=1)
    return np.maximum(eigenvalues[order], 0.0), vectors


def information_gain(information: np.ndarray, precision: np.ndarray) -> float:
    """Return ``(1/2) log det(I + P^-1 H)`` in nats."""
    posterior, prior = precision + information, precision
    return 0.5 * float(np.linalg.slogdet(posterior)[1] - np.linalg.slogdet(prior)[1])


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
