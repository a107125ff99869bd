"""Several modes in words: which chains stay at which, and what to do."""

from __future__ import annotations

import numpy as np
import xarray as xr

from bayesjoint.reports import _read

APART = 2.0  # sd within a chain: chains whose means differ by more stay apart


def groups(posterior: xr.Dataset) -> list[list[int]]:
    """Return the chains that lie together, each group by the numbers of its chains.

    Chains of one group are linked by pairs whose means are near each other in every unknown.
    """
    chains = posterior.sizes["chain"]
    near = np.ones((chains, chains), dtype=bool)
    for values in posterior.data_vars.values():
        draws = values.transpose("chain", "draw", ...).values
        mean, variance = draws.mean(axis=1), draws.var(axis=1)
        squared = (mean[:, None] - mean) ** 2
        near &= np.all(
            squared <= APART**2 * (variance[:, None] + variance) / 2,
            axis=tuple(range(2, squared.ndim)),
        )
    for through in range(chains):
        near |= near[:, through, None] & near[through]
    return [np.flatnonzero(row).tolist() for i, row in enumerate(near) if np.argmax(row) == i]


def weights(dt: xr.DataTree) -> np.ndarray:
    """Return Laplace's shares of the modes that matter; none where there is one."""
    return np.array(_read.listed(dt["posterior"].to_dataset(), "mode_weights"), dtype=float)


def of_chains(dt: xr.DataTree) -> list[int]:
    """Return the mode at which each chain started; none where there is one."""
    return [int(mode) for mode in _read.listed(dt["posterior"].to_dataset(), "mode_of_chain")]


def left_out(dt: xr.DataTree) -> float:
    """Return the share of the posterior at modes where no chain started, by Laplace."""
    started = of_chains(dt)
    return float(sum(w for mode, w in enumerate(weights(dt)) if mode not in started))


def apart(dt: xr.DataTree, found: list[list[int]], r_hat: float, worst: str) -> str:
    """Say that chains stay at different modes, and at which."""
    stay = [
        f"{counted(chains)} {'' if i else 'stays ' if len(chains) == 1 else 'stay '}at "
        f"{'another' if i else 'one'}"
        for i, chains in enumerate(found)
    ]
    return (
        f"The posterior has several modes and the chains do not move between them (r-hat "
        f"{r_hat:.3f} of {worst}): {listed(stay)}."
        f"{_estimated(dt, found)} All draws together weigh the modes by their chains, not by their "
        "probability. Read each group of chains alone, or add a prior or data that decide."
    )


def _estimated(dt: xr.DataTree, found: list[list[int]]) -> str:
    """Say what each group holds by Laplace, where every chain stayed at its mode."""
    started, shares = of_chains(dt), weights(dt)
    modes = [{started[chain] for chain in chains} for chains in found]
    if any(len(of_group) > 1 for of_group in modes) or len(set().union(*modes)) < len(modes):
        return ""
    told = listed([f"{shares[of_group.pop()]:.2g}" for of_group in modes])
    return f" By Laplace's approximation they hold {told} of the posterior."


def others(dt: xr.DataTree) -> list[str]:
    """Tell of maxima at which no chain stays."""
    if (share := left_out(dt)) > 0:
        return [
            f"Modes at which no chain started hold about {share:.2g} of the posterior by Laplace's "
            f"approximation: sample with at least {len(weights(dt))} chains."
        ]
    if of_chains(dt):
        return ["The posterior has several modes; chains started at each that matters."]
    if not _read.has_groups(dt, "linearization"):
        return []
    ds = _read.linearization(dt)
    if not (lower := _read.listed(ds, "lower_modes")):
        return []
    gap = float(ds["log_posterior"].mean()) - max(lower)
    return [
        f"The posterior has another maximum, {gap:.1f} nats lower: no chain started there, for by "
        "Laplace's approximation it holds next to nothing."
    ]


def counted(chains: list[int]) -> str:
    """Return for instance ``chains 0 and 1``."""
    return f"{'chain' if len(chains) == 1 else 'chains'} {listed([str(c) for c in chains])}"


def listed(words: list[str]) -> str:
    """Return words as one phrase, with commas and an ``and``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
