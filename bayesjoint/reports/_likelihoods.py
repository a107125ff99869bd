"""How well a fit explains its data: the mean log-likelihood and its spread over the posterior."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from bayesjoint.reports import _read


@dataclass(frozen=True)
class Explained:
    """Mean log-likelihood over a posterior, and the Gaussian dimensionality, with their errors."""

    mean: float
    mean_mcse: float
    d: float
    d_mcse: float


def explained(dt: xr.DataTree, owner: str) -> Explained:
    """Return what draws say, or without draws the Gaussian at the maximum a posteriori."""
    if sampled(dt):
        values = dt["log_likelihood_joint"].to_dataset()
        return _of_draws(values[max((str(k) for k in values if _is_joint(str(k))), key=len)])
    return _of_gaussian(_read.linearization(dt), owner)


def _is_joint(name: str) -> bool:
    """Whether a name is that of all data: behind a modality of that name it has an underscore."""
    return name.rstrip("_") == "joint"


def sampled(dt: xr.DataTree) -> bool:
    """Tell whether a tree has joint log-likelihoods of draws."""
    return _read.has_groups(dt, "log_likelihood_joint")


def _of_draws(values: xr.DataArray) -> Explained:
    from arviz_stats.base import array_stats

    draws = values.transpose("chain", "draw").values
    error, error_of_sd = (
        float(array_stats.mcse(draws, chain_axis=0, draw_axis=1, method=method))
        for method in ("mean", "sd")
    )
    sd = float(draws.std(ddof=1))
    return Explained(float(draws.mean()), error, 2.0 * sd**2, 4.0 * sd * error_of_sd)


def _of_gaussian(ds: xr.Dataset, owner: str) -> Explained:
    """Return the closed form: ``ln L = ln L* + s . c - sum lam c^2 / 2``, c with variance k/lam."""
    _read.require_stored(ds, "log_likelihood", "log_likelihood_slope")
    if str(ds.attrs.get("at", "map")) != "map" or "point" in ds.dims:
        raise ValueError(
            f"{owner} was linearized elsewhere than at its best fit; use bj.linearize(problem), or "
            "sample it"
        )
    best = float(ds["log_likelihood"])
    if not np.isfinite(best):
        raise ValueError(
            f"{owner}: a discrepancy under noise that is not Gaussian has no joint likelihood in "
            "closed form; sample the problem"
        )
    share = _read.shrinkage(ds).values
    slope = ds["log_likelihood_slope"].values
    d = np.sum(share**2) + 2.0 * np.sum(slope**2 * _read.left(ds).values)
    return Explained(best - 0.5 * float(share.sum()), 0.0, float(d), 0.0)
