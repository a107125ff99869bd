"""How far off the log-density is under a covariance that stands for another."""

import numpy as np

from bayesjoint._kernels.errors import ErrorCovariance


def log_density_error(exact: ErrorCovariance, approximate: ErrorCovariance) -> float:
    """Return how far off the log-density is, nats: the root mean square over data of the exact one.

    With ``M = A^-1 C - I`` the difference has the mean ``(1/2) (tr M - log det(I + M))``, the
    Kullback-Leibler divergence, and the variance ``(1/2) tr M^2``: its sd is much larger than its
    mean where both are small.

    Parameters
    ----------
    exact, approximate : ErrorCovariance
        C and A, with the same independent variances.
    """
    root = np.sqrt(approximate.variance)
    change = exact.scaled @ exact.scaled.T - approximate.scaled @ approximate.scaled.T
    relative = approximate.solve(root[:, None] * change * root)
    determinants = exact.log_determinant() - approximate.log_determinant()
    mean = 0.5 * (np.trace(relative) - determinants)
    return float(np.sqrt(mean**2 + 0.5 * np.sum(relative * relative.T)))
