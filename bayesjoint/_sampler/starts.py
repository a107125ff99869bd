"""Chains start at every mode that may hold a part of the posterior, so that none is missed."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._local.curvature import curvature

LOOKED_AT = 2  # chains at whose end of the warm-up derivatives are checked
HALVINGS = 8  # of the way to the mode, from a start that is impossible
NEGLIGIBLE = 10.0  # nats of weight below the heaviest mode, at which one gets no chain


@dataclass(frozen=True, eq=False)
class Starts:
    """The modes that matter, and the one at which each chain starts.

    Attributes
    ----------
    modes : ndarray, shape (mode, n)
        The heaviest first.
    weights : ndarray, shape (mode,)
        Share of the posterior of each, by Laplace's approximation.
    of_chain : ndarray of int, shape (chain,)
        Mode of each chain.
    """

    modes: np.ndarray
    weights: np.ndarray
    of_chain: np.ndarray


def spread(functions: ModelFunctions, modes: np.ndarray, chains: int) -> Starts:
    """Return chains spread over modes in proportion to their weights, one each at least.

    The weight of a mode is its density times its volume, ``p(z*) det(P)^-1/2``: the density alone
    depends on the coordinates, and a high, narrow peak may hold next to nothing.
    """
    if len(modes) == 1:
        return Starts(modes, np.ones(1), np.zeros(chains, dtype=int))
    logs = np.array([_log_weight(functions, mode) for mode in modes])
    order = np.argsort(-logs, kind="stable")
    kept = order[logs[order] > logs.max() - NEGLIGIBLE]
    weights = np.exp(logs[kept] - logs.max())
    weights /= weights.sum()
    return Starts(modes[kept], weights, np.repeat(np.arange(kept.size), shares(weights, chains)))


def possible(density: Any, places: np.ndarray, modes: np.ndarray) -> np.ndarray:
    """Return the places (chain, n), those that are impossible moved towards their modes."""
    moved = places.copy()
    for chain, mode in enumerate(modes):
        for _ in range(HALVINGS):
            if _is_possible(density, moved[chain]):
                break
            moved[chain] = mode + 0.5 * (moved[chain] - mode)
        else:
            moved[chain] = mode
    return moved


def _is_possible(density: Any, point: np.ndarray) -> bool:
    value, gradient = density(point)
    return bool(np.isfinite(value) and np.all(np.isfinite(gradient)))


def _log_weight(functions: ModelFunctions, mode: np.ndarray) -> float:
    return float(functions.density(mode)[0]) - 0.5 * curvature(functions, mode).log_determinant


def shares(weights: np.ndarray, chains: int) -> np.ndarray:
    """Return how many chains each mode gets; the weights descend and add up to one."""
    counts = (np.arange(weights.size) < chains).astype(int)
    while counts.sum() < chains:
        counts[np.argmax(weights * chains - counts)] += 1
    return counts
