"""Modalities whose map gives no number at some draws of the prior: trajectories end there."""

from __future__ import annotations

import numpy as np
import xarray as xr

from bayesjoint.reports import _read
from bayesjoint.reports._numbers import percent


def impossible(dt: xr.DataTree) -> dict[str, float]:
    """Return the share of prior draws at which the response of a modality is not finite."""
    if not _read.has_groups(dt, "prior", "observed_data"):
        return {}
    prior, found = dt["prior"].to_dataset(), {}
    for name in map(str, dt["observed_data"].data_vars):
        if f"{name}_response" in prior:
            values = prior[f"{name}_response"].transpose("chain", "draw", ...).values
            bad = ~np.isfinite(values).reshape(-1, int(np.prod(values.shape[2:]))).all(axis=1)
            found[name] = float(bad.mean())
    return {name: share for name, share in found.items() if share > 0}


def divergence_words(dt: xr.DataTree, count: int) -> str:
    """Say how many divergences there were, where they come from, and what to do."""
    divergences = f"{count} divergence{'' if count == 1 else 's'}"
    if not (found := impossible(dt)):
        return (
            f"{divergences}: regions of strong curvature were missed. Raise target_accept towards "
            "0.99, or give scales priors that keep them off zero."
        )
    told = " and ".join(
        f"that of modality {name!r} at {percent(share)} of the prior's draws"
        for name, share in found.items()
    )
    return (
        f"{divergences}: a map gives NaN or infinity, {told}; trajectories end where they meet "
        "such points. Narrow the priors to where it is defined, or make the map finite there."
    )
