"""Slopes of the log-density at draws, by which Stein's identities see a tail that no chain has.

For a density p of z that vanishes far away, integration by parts gives, for any fixed direction a
and any centre c, ``E[s] = 0`` and ``E[(z_j - c) s] = -a_j`` with ``s = a . grad log p``.  Draws
need no part in the tail to tell that they lack it: where they end, the density has not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from bayesjoint._compiled.coordinates import Coordinates
from bayesjoint._compiled.functions import ModelFunctions

MOST = 20  # coordinates of an unknown that are watched one by one, evenly spread
SHARE = 0.1  # of the time that the draws themselves take
ENOUGH = 4000  # draws of all chains together


@dataclass(frozen=True, eq=False)
class Watched:
    """The coordinates whose slopes are kept, and unknowns of which the sum of all is.

    Attributes
    ----------
    names : list of str
        The unknown that each watched coordinate belongs to.
    places : ndarray of int, shape (coordinate,)
    directions : ndarray, shape (n, coordinate)
        ``C e_j / C_jj``, C the covariance that the coordinates of the sampler are made for: along
        it z_j moves by one, and all else as it does in a normal density.
    blocks : dict of str to slice
        Where unknowns of many coordinates lie.
    centre : ndarray, shape (n,)
    """

    names: list[str]
    places: np.ndarray
    directions: np.ndarray
    blocks: dict[str, slice]
    centre: np.ndarray

    def of(self, density: Any, points: np.ndarray) -> dict[str, np.ndarray]:
        """Return what is kept of points (row, n): nothing of the size of a gradient."""
        gradients = np.stack([density(point)[1] for point in points])
        products = (points - self.centre) * gradients
        means = [products[:, where].mean(axis=1) for where in self.blocks.values()]
        return {
            "place": points[:, self.places],
            "slope": gradients @ self.directions,
            "own_slope": gradients[:, self.places],
            "product": np.stack(means, axis=1) if means else np.zeros((len(points), 0)),
        }


def watched(
    functions: ModelFunctions, coordinates: Coordinates, scales: Sequence[np.ndarray]
) -> Watched:
    """Return what is watched of chains that move in some coordinates, with the scales learnt."""
    names_of = {u.variable: u.name for u in functions.build.unknowns}
    names: list[str] = []
    places: list[int] = []
    blocks: dict[str, slice] = {}
    for variable, where in functions.slices.items():
        size, name = where.stop - where.start, names_of.get(str(variable), str(variable))
        kept = np.unique(np.linspace(where.start, where.stop - 1, min(MOST, size)).astype(int))
        names += [name] * kept.size
        places += kept.tolist()
        if size > 1:
            blocks[name] = where
    index = np.array(places, dtype=int)
    scale = np.mean(np.square(scales), axis=0)
    half = _times(coordinates, np.eye(functions.size)[index])
    covariance = _times(coordinates, half * scale)
    own = covariance[np.arange(index.size), index]
    directions = np.ascontiguousarray((covariance / own[:, None]).T)
    return Watched(names, index, directions, blocks, coordinates.centre)


def _times(coordinates: Coordinates, rows: np.ndarray) -> np.ndarray:
    """Return the symmetric factor of the covariance times each row."""
    return coordinates.points(rows) - coordinates.centre


def slopes(
    seen: Watched, density: Any, points: np.ndarray, step: int = 1, first: int = 0
) -> dict[str, xr.Dataset]:
    """Return the group ``slopes`` of draws (chain, draw, n); none where no draw is taken.

    ``place`` and ``slope`` (coordinate): z_j and the slope along its direction; ``own_slope``: the
    slope along z_j alone.  ``product`` (block): mean of ``(z_i - c_i) d_i log p`` over all
    coordinates of an unknown.  z is where chains move: white, and recentred where fields are.

    Parameters
    ----------
    seen : Watched
    density : callable
        What chains move in, ``point -> (log density, gradient)``.
    points : ndarray
    step, first : int
        Every how many draws of the run, from `thinning`, and the number of the first.
    """
    chains, count, size = points.shape
    draws = np.flatnonzero((first + np.arange(count)) % step == 0)
    if draws.size == 0 or not seen.names:
        return {}
    found = seen.of(density, points[:, draws].reshape(-1, size))
    dims = {name: "coordinate" for name in ("place", "slope", "own_slope")} | {"product": "block"}
    variables = {
        name: (("chain", "draw", dims[name]), values.reshape(chains, draws.size, -1))
        for name, values in found.items()
    }
    coords = {
        "chain": np.arange(chains), "draw": first + draws, "coordinate": np.array(seen.names, str),
        "block": np.array(list(seen.blocks), str),
    }  # fmt: skip
    return {"slopes": xr.Dataset(variables, coords, {"thinned": step})}


def thinning(draws: int, steps: float, workers: int) -> int:
    """Return every how many of so many draws slopes are found: one gradient each, one by one.

    Parameters
    ----------
    draws : int
        Of all chains.
    steps : float
        Gradients that a draw takes.
    workers : int
        Chains that move at the same time.
    """
    return max(1, round(draws / ENOUGH), int(np.ceil(workers / (SHARE * max(steps, 1.0)))))
