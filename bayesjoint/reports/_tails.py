"""Tails of the chains: how many effective draws each quantity has there, in every chain."""

from __future__ import annotations

import numpy as np
import xarray as xr

TAILS = (0.05, 0.95)
ENOUGH = 400  # effective draws of all chains (Vehtari et al. 2021)
LEAST_SHARE = 0.25  # of its even part of these, which each chain must have by itself


def in_chains(draws: xr.DataArray) -> np.ndarray:
    """Return the effective draws of the worse tail of each chain by itself (chain, quantity).

    Parameters
    ----------
    draws : DataArray, dims (chain, draw, quantity)

    Notes
    -----
    Of the indicator of a draw beyond the 5 % or 95 % quantile of its own chain.  A chain that goes
    to a tail once and stays there for long has few, however many it has in the bulk.
    """
    from arviz_stats.base import array_stats

    values = draws.transpose("quantity", "chain", "draw").values[:, :, None]
    of_tails = [array_stats.ess(values, 2, 3, method="quantile", prob=share) for share in TAILS]
    moves = values[:, :, 0].std(axis=2) > 0
    return np.where(moves, np.minimum(*of_tails), 1.0).T


def least(chains: int) -> float:
    """Return the effective draws that each chain must have in a tail by itself."""
    return LEAST_SHARE * ENOUGH / chains


def are_poor(found: dict[str, float], chains: int) -> bool:
    """Whether tails have too few effective draws, of all chains or of one; not where unknown."""
    return found["ess_tail"] < ENOUGH or found["ess_tail_chain"] < least(chains)


def words(found: dict[str, float], name: str, chain: int, chains: int) -> list[str]:
    """Say that tails are known poorly; nothing where they are not, or where the bulk is, too.

    Parameters
    ----------
    found : dict
        ``ess_bulk``, ``ess_tail`` and ``ess_tail_chain``.
    name : str
        Of the quantity whose tail is known worst.
    chain : int
        In which chain.
    chains : int
        How many there are.
    """
    if found["ess_bulk"] < ENOUGH:
        return []
    if found["ess_tail"] < ENOUGH:
        count, where = found["ess_tail"], ""
    elif found["ess_tail_chain"] < least(chains):
        count, where = found["ess_tail_chain"], f" in chain {chain}"
    else:
        return []
    return [
        f"A tail of {name} has only {count:.0f} effective draws{where}: its sd and intervals may "
        "be too narrow. Draw longer; if that does not help, a prior that keeps it from where it "
        "moves slowly would."
    ]
