"""Tails that no chain has seen, from slopes of the log-density at the draws: Stein's identities."""

from __future__ import annotations

from dataclasses import dataclass

import arviz_stats
import numpy as np
import xarray as xr
from scipy.stats import norm

from bayesjoint.reports import _read
from bayesjoint.reports._numbers import percent

CHANCE = 0.01  # of a false alarm in a run, if errors are normal
SHIFT = 0.1  # of an sd: a smaller one is no matter
SHARE = 0.2  # of a variance, likewise
FEWEST = 400  # draws with slopes, of all chains: of fewer, errors are themselves poorly known


@dataclass(frozen=True)
class Found:
    """How draws keep Stein's identities; NaN where slopes are not known.

    Attributes
    ----------
    score : float
        Largest departure in Monte Carlo errors, of those that matter if there is one beyond chance.
    variance : float
        Of the quantity with that score: variance of the draws over that which slopes tell of.
    name : str
        The unknown it belongs to.
    poor : bool
        Whether a departure matters and is beyond chance.
    """

    score: float = np.nan
    variance: float = np.nan
    shift: float = 0.0
    name: str = ""
    poor: bool = False

    def words(self) -> list[str]:
        """Say which unknown has a tail that its draws do not reach; nothing where none has."""
        if not self.poor:
            return []
        return [
            f"The draws of {self.name} do not cover its density: {self._fact()} by "
            f"{abs(self.score):.1f} standard errors, where the slopes of its log-density at the "
            "draws are summed (Stein's identity). No chain has been far enough in a tail, or has "
            "been there too long, or a derivative of a map is wrong. Warm up longer (tune), raise "
            "target_accept, draw longer; if that does not help, narrow the prior of what it "
            "depends on."
        ]

    def _fact(self) -> str:
        change = 1.0 - self.variance
        if abs(change) <= SHARE:
            return f"their mean is off by about {abs(self.shift):.1g} sd,"
        kind = "small" if change > 0 else "large"
        return f"their variance is too {kind} by about {percent(abs(change))},"


def departures(dt: xr.DataTree) -> Found:
    """Return how the draws keep Stein's identities.

    Notes
    -----
    With s the slope of the log-density along a direction in which z_j moves by one: ``E[s] = 0``
    and ``E[-(z_j - c) s] = 1``.  For a normal density the first is the shift of the mean over the
    variance and the second the variance of the draws over the true one.  Of two directions the one
    with the smaller error is taken, and no error is smaller than that of independent draws of a
    normal density.  Of unknowns of many coordinates also the second, averaged.
    """
    if not _read.has_groups(dt, "slopes"):
        return Found()
    ds = dt["slopes"].to_dataset()
    if ds.sizes["chain"] * ds.sizes["draw"] < FEWEST:
        return Found()
    means, errors, names = _of_coordinates(ds)
    blocks = ds["product"].transpose("chain", "draw", "block").rename(block="coordinate")
    mean, error = _moments(blocks)
    means = np.concatenate([means, np.stack([np.zeros(mean.size), -mean])], axis=1)
    errors = np.concatenate([errors, np.stack([np.ones(mean.size), error])], axis=1)
    names = [*names, *blocks["coordinate"].values.astype(str).tolist()]
    return _worst(means, errors, names)


def _of_coordinates(ds: xr.Dataset) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return shift and variance ratio (2, coordinate), and their errors."""
    place = ds["place"].transpose("chain", "draw", "coordinate")
    centred, sd = place - place.mean(("chain", "draw")), place.std(("chain", "draw")).values
    found = []
    for name in ("slope", "own_slope"):
        slope = ds[name].transpose("chain", "draw", "coordinate")
        (mean, error), (product, other) = _moments(slope), _moments(-centred * slope)
        # A sample of small variance has small products, and thinks too well of their mean.
        least = np.array([[1.0], [2.0]]) / (place.sizes["chain"] * place.sizes["draw"])
        errors = np.maximum(np.stack([sd * error, other]), np.sqrt(least))
        found.append((np.stack([sd * mean, product]), errors))
    better = found[0][1] <= found[1][1]
    means, errors = (np.where(better, found[0][i], found[1][i]) for i in (0, 1))
    return means, errors, place["coordinate"].values.astype(str).tolist()


def _moments(values: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """Return means over all draws and their Monte Carlo errors (coordinate,)."""
    if values.sizes["coordinate"] == 0:
        return np.zeros(0), np.zeros(0)
    errors = arviz_stats.mcse(values.drop_vars("coordinate").to_dataset(name="v"), method="mean")
    return values.mean(("chain", "draw")).values, errors["v"].values


def _worst(means: np.ndarray, errors: np.ndarray, names: list[str]) -> Found:
    """Return the departure that matters most of shifts and variance ratios (2, quantity)."""
    departure = means - np.array([[0.0], [1.0]])
    scores = np.divide(departure, errors, out=np.zeros_like(departure), where=errors > 0)
    if not np.isfinite(scores).all():  # a map failed where it had not before
        return Found()
    matters = np.abs(departure) > np.array([[SHIFT], [SHARE]])
    limit = norm.isf(CHANCE / (2 * scores.size))
    beyond = matters & (np.abs(scores) > limit)
    shown = np.where(beyond, np.abs(scores), 0.0) if beyond.any() else np.abs(scores)
    kind, which = np.unravel_index(int(np.argmax(shown)), scores.shape)
    return Found(
        float(scores[kind, which]), float(means[1, which]), float(means[0, which]), names[which],
        bool(beyond.any()),
    )  # fmt: skip
