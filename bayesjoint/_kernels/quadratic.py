"""Mean log-likelihoods of linear-Gaussian fits as quadratic forms of the data."""

import numpy as np
from scipy.linalg import eigh, qr

SMALL = 1e-12  # of the largest weight: what is left out cannot be told from round-off
BLOCK = 10_000_000  # random numbers that are held at once


def residual_form(sensitivity: np.ndarray) -> tuple[np.ndarray, float]:
    """Return ``(I - K)^2`` and ``tr K`` of a fit with a standard normal prior.

    ``sensitivity`` (data, unknown) and data are whitened by the errors.  The posterior mean of
    ``|y - A u|^2`` is ``y^T (I - K)^2 y + tr K`` with ``K = A (I + A^T A)^-1 A^T``.
    """
    values, vectors = eigh(sensitivity @ sensitivity.T)
    values = np.maximum(values, 0.0)
    left = (vectors / (1.0 + values) ** 2) @ vectors.T
    return left, float(np.sum(values / (1.0 + values)))


def suspiciousness_weights(joint: np.ndarray, split: np.ndarray) -> tuple[np.ndarray, float]:
    """Return w and offset of ``ln S = offset - sum_i w_i x_i^2 / 2``, x standard normal.

    The distribution of ln S over data drawn from the prior predictive of the joint model.

    Parameters
    ----------
    joint, split : ndarray, shape (data, unknown)
        Sensitivities of the two models, on unknowns with a standard normal prior, whitened by the
        errors.
    """
    together = np.concatenate([joint, split], axis=1)
    if together.shape[1] < together.shape[0]:  # data beyond what either model can fit cancel
        basis = qr(together, mode="economic")[0]
        joint, split = basis.T @ joint, basis.T @ split
    (first, trace), (second, trace_split) = residual_form(joint), residual_form(split)
    values, vectors = eigh(joint @ joint.T)
    root = vectors * np.sqrt(1.0 + np.maximum(values, 0.0))
    weights = np.linalg.eigvalsh(root.T @ (first - second) @ root)
    kept = np.abs(weights) > SMALL * np.abs(weights).max(initial=1.0)
    return weights[kept], -0.5 * (trace - trace_split)


def weighted_chi_squares(weights: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return draws of ``sum_i w_i x_i^2``, x standard normal, shape (count,)."""
    rows = max(1, BLOCK // max(weights.size, 1))
    parts = [
        rng.standard_normal((min(rows, count - start), weights.size)) ** 2 @ weights
        for start in range(0, count, rows)
    ]
    return np.concatenate(parts)
