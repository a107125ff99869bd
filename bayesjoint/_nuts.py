"""NUTS in preconditioned coordinates, run by nutpie."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from nutpie import sample as nutpie_sample
from threadpoolctl import threadpool_limits

from bayesjoint._kernels.spectra import preconditioner


@dataclass(frozen=True, eq=False)
class Coordinates:
    """The affine change ``x = centre + (I + V diag(stretch) V^T) xi``.

    Only coordinates change: the density that is sampled stays exact, whatever these are.
    """

    centre: np.ndarray
    vectors: np.ndarray
    stretch: np.ndarray

    @classmethod
    def from_precision(cls, centre: np.ndarray, precision: np.ndarray) -> "Coordinates":
        """Return coordinates in which a Gaussian with that precision is standard normal."""
        return cls(centre, *preconditioner(precision))

    @classmethod
    def identity(cls, centre: np.ndarray) -> "Coordinates":
        """Return the unchanged coordinates around a centre."""
        return cls(centre, np.zeros((centre.size, 0)), np.zeros(0))

    def points(self, xi: np.ndarray) -> np.ndarray:
        """Return the flat points of rows of ``xi``."""
        return self.centre + xi + ((xi @ self.vectors) * self.stretch) @ self.vectors.T


@dataclass(frozen=True, eq=False)
class Run:
    """What NUTS returned.

    Attributes
    ----------
    points : ndarray, shape (chain, draw, n)
        In the flat coordinates of the model.
    stats : Dataset
        Statistics of each draw.
    seconds : float
        Wall-clock time, warm-up included, compilation not.
    tune : int
    """

    points: np.ndarray
    stats: xr.Dataset
    seconds: float
    tune: int


def run(
    density: Any,
    coordinates: Coordinates,
    *,
    draws: int,
    tune: int,
    chains: int,
    cores: int | None,
    seed: int,
    target_accept: float = 0.8,
    max_depth: int = 10,
    progress: Callable | None = None,
) -> Run:
    """Return draws from a log-density with gradient; an interrupt keeps the draws made so far."""
    model = density.nutpie_model(coordinates.centre, coordinates.vectors, coordinates.stretch)
    # Chains share the processors; each with threads of its own for linear algebra would crowd them.
    with threadpool_limits(limits=1 if chains > 1 else None):
        start = time.perf_counter()
        tree = _collect(model, draws, tune, chains, cores, seed, target_accept, max_depth, progress)
        seconds = time.perf_counter() - start
    return _finished(tree, coordinates, seconds, tune)


def _collect(model, draws, tune, chains, cores, seed, target_accept, max_depth, progress):
    sampler = nutpie_sample(
        model, draws=draws, tune=tune, chains=chains, cores=cores, seed=seed, save_warmup=False,
        progress_bar=False, progress_callback=progress, progress_rate=500, blocking=False,
        target_accept=target_accept, maxdepth=max_depth,
    )  # fmt: skip
    try:
        tree = sampler.wait()
    except KeyboardInterrupt:
        tree = sampler.abort()
    except BaseException:
        sampler.cancel()
        raise
    return tree


def _finished(tree: Any, coordinates: Coordinates, seconds: float, tune: int) -> Run:
    xi = tree["posterior"]["xi"].transpose("chain", "draw", ...).values
    stats = tree["sample_stats"].to_dataset()
    whole = np.all(np.isfinite(xi), axis=(0, 2))  # an interrupted run is padded with NaN
    count = int(np.argmin(whole)) if not whole.all() else whole.size
    if count == 0:
        raise KeyboardInterrupt("interrupted before the first draw")
    keep = [v for v in stats.data_vars if set(stats[v].dims) <= {"chain", "draw"}]
    stats = stats[keep].isel(draw=slice(0, count))
    points = coordinates.points(xi[:, :count].reshape(-1, xi.shape[2]))
    return Run(points.reshape(xi.shape[0], count, -1), stats, seconds, tune)
