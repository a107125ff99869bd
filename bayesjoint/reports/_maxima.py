"""Fits with several maxima of about the same height: which one is compared with another fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr

from bayesjoint._names import user
from bayesjoint.reports import _modes, _read


def maxima(dt: xr.DataTree) -> list[xr.Dataset]:
    """Return the linearizations at all maxima that are about as high, the highest first."""
    return [_read.linearization(dt, name) for name in _groups(dt)]


def _groups(dt: xr.DataTree) -> list[str]:
    others = [f"linearization_{i}" for i in range(1, 1 + len(dt.children))]
    return ["linearization", *(name for name in others if _read.has_groups(dt, name))]


def nearest(dt: xr.DataTree, joint: xr.Dataset, own: Callable[[str], list[str]]) -> xr.DataTree:
    """Return the tree with the maximum nearest to another fit as its linearization.

    Parameters
    ----------
    dt : DataTree
    joint : Dataset
        The linearization of that fit.
    own : callable
        What a latent of it is called in the tree; none where it has no such latent.
    """
    found = maxima(dt)
    if len(found) == 1 or "point" in joint.dims:
        return dt
    distances = [_distance(ds, joint, own) for ds in found]
    changed = dt.copy()
    chosen = dt[_groups(dt)[int(np.argmin(distances))]].to_dataset()
    changed["linearization"] = xr.DataTree(chosen)
    return changed


def _distance(ds: xr.Dataset, joint: xr.Dataset, own: Callable[[str], list[str]]) -> float:
    """Return the mean square of differences of what two fits share, in sd of the prior."""
    total = 0.0
    for latent in _read.latents(joint):
        prior_sd = _read.on_grid(joint["prior_sd"], joint, latent)
        for name in own(latent):
            if name in _read.latents(ds):
                gap = (ds[user(name)].values - joint[user(latent)].values) / prior_sd.values
                total += float(np.mean(gap**2))
    return total


def of_same_name(latent: str) -> list[str]:
    """Return the latent itself, as it is called in the fit of one modality."""
    return [latent]


def words(trees: Mapping[str, xr.DataTree]) -> list[str]:
    """Say which fits have several maxima, and that the nearest one was compared."""
    several = {owner: len(maxima(dt)) for owner, dt in trees.items()}
    told = [f"{owner} has {count}" for owner, count in several.items() if count > 1]
    if not told:
        return []
    return [
        f"There is more than one best fit: {_modes.listed(told)} maxima of about the same height; "
        "what is compared is the one nearest to the joint fit."
    ]
