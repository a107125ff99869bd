"""Importance weights of a posterior without some data, their tail smoothed."""

from __future__ import annotations

import numpy as np
import scipy.special

FEWEST = 25  # draws: Pareto's tail takes a fifth of them, and five at least


def smoothed_weights(log_density: np.ndarray, owner: str) -> tuple[np.ndarray, float]:
    """Return normalised log-weights ``1 / density`` of draws, and Pareto's k of their tail.

    Data that no unknown reaches leave the posterior as it is: even weights, and a k of zero.  A
    tail without a Pareto distribution, where a chain stood still and its weights repeat, has an
    infinite k: nothing tells how far off these weights are.

    Parameters
    ----------
    log_density : ndarray, shape (draw,)
        Of the data that are left out, given all others.
    owner : str
        Whom messages name.

    Raises
    ------
    ValueError
        When there are too few draws for a tail.
    """
    from arviz_stats.base import array_stats

    if log_density.size < FEWEST:
        raise ValueError(
            f"{owner}: importance weights need {FEWEST} draws or more, there are "
            f"{log_density.size}; sample more, or use more of them"
        )
    if np.ptp(log_density) == 0.0:
        return np.full(log_density.size, -np.log(log_density.size)), 0.0
    try:
        log_weights, pareto_k = array_stats.psislw(log_density)
    except ValueError:  # all weights of the tail are one
        return -log_density - scipy.special.logsumexp(-log_density), np.inf
    return log_weights, float(pareto_k) if np.isfinite(pareto_k) else np.inf
