"""Tails of the chains: whether all halves of all chains go there, and how many draws there are.

Those of a heavy tail may be right and yet too few: an sd rests on the farthest of them.
"""

from __future__ import annotations

import arviz_stats
import numpy as np
import xarray as xr

from bayesjoint.reports._numbers import percent

SHARES = (0.01, 0.02, 0.05, 0.1, 0.9, 0.95, 0.98, 0.99)  # of all draws, below
ENOUGH = 400  # effective draws (Vehtari et al. 2021)
LARGEST = 1.02  # r-hat of a tail: 1 % of the draws, all in one half of one of two chains
LARGEST_ERROR = 0.06  # of an sd, relative
HEAVY = 6.0  # kurtosis; 3 of a normal quantity, 9 of an exponential one


def r_hat(draws: xr.DataArray) -> np.ndarray:
    """Return the r-hat of the worst tail of each quantity (quantity,).

    Parameters
    ----------
    draws : DataArray, dims (chain, draw, quantity)
        Four draws or more.

    Notes
    -----
    Split r-hat of the indicators of draws below quantiles of all draws (Moins et al. 2022, arXiv
    2205.06694).  A chain that goes to a tail once and stays there, or never goes there, differs
    from the others there, however well they agree in the bulk.
    """
    values = draws.transpose("quantity", "chain", "draw").values
    count = values.shape[2] // 2
    halves = values[:, :, : 2 * count].reshape(values.shape[0], -1, count)
    worst = np.ones(values.shape[0])
    for limit in np.quantile(halves, SHARES, axis=(1, 2)):
        below = halves <= limit[:, None, None]
        share = below.mean(axis=2)
        within = (share * (1.0 - share)).mean(axis=1) * count / (count - 1)
        between = share.var(axis=1, ddof=1)
        ratio = np.divide(between, within, out=np.zeros_like(between), where=within > 0)
        worst = np.maximum(worst, np.sqrt((count - 1) / count + ratio))
    return worst


def sd_error(draws: xr.DataArray) -> np.ndarray:
    """Return the Monte Carlo error of the sd of each heavy-tailed quantity, over it (quantity,).

    Zero where the kurtosis is at most 6: there the sizes tell all.

    Parameters
    ----------
    draws : DataArray, dims (chain, draw, quantity)
        Four draws or more.

    Notes
    -----
    From the effective size of the squared deviations and their variance.  Independent draws of a
    log-normal quantity, of log-sd 1.5, have an sd that is more than 15 % low in two of five samples
    of 2,000, whatever r-hat says; where an sd rests on the farthest draw this error is large.
    """
    values = draws.transpose("chain", "draw", "quantity").values
    moved = values - values.mean(axis=(0, 1))
    moved /= np.maximum(np.abs(moved).max(axis=(0, 1)), np.finfo(float).tiny)
    variance, fourth = (moved**2).mean(axis=(0, 1)), (moved**4).mean(axis=(0, 1))
    heavy, found = fourth > HEAVY * variance**2, np.zeros(variance.size)
    if heavy.any():
        some = xr.Dataset({"draws": (("chain", "draw", "quantity"), moved[:, :, heavy])})
        found[heavy] = arviz_stats.mcse(some, method="sd")["draws"] / np.sqrt(variance[heavy])
    return found


def are_poor(found: dict[str, float]) -> bool:
    """Whether tails have too few effective draws or chains differ there; not where unknown."""
    few = found["ess_tail"] < ENOUGH or found["sd_error"] > LARGEST_ERROR
    return few or found["r_hat_tail"] > LARGEST


def words_of_sd(found: dict[str, float], name: str) -> list[str]:
    """Say that an sd rests on few draws; nothing where none does, or the bulk is known poorly."""
    if found["ess_bulk"] < ENOUGH or not found["sd_error"] > LARGEST_ERROR:
        return []
    return [
        f"The sd of {name} is known to {percent(found['sd_error'])} only: it rests on few draws "
        "far in a tail and is rather too small. Quote its interval, or draw longer."
    ]


def words(found: dict[str, float], name: str) -> list[str]:
    """Say that a tail is known poorly; nothing where none is, or where the bulk is, too."""
    differ = found["ess_tail"] < ENOUGH or found["r_hat_tail"] > LARGEST
    if found["ess_bulk"] < ENOUGH or not differ:
        return []
    why = f"has only {found['ess_tail']:.0f} effective draws"
    if found["r_hat_tail"] > LARGEST:
        why = f"is not visited alike by all chains (r-hat {found['r_hat_tail']:.3f} there)"
    return [
        f"A tail of {name} {why}: its sd and intervals may be too narrow. Draw longer; if that "
        "does not help, a prior that keeps it from where it moves slowly would."
    ]
