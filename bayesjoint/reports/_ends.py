"""Parameters that sit at an end of their prior: it decides them, or the model lacks something."""

from __future__ import annotations

import numpy as np
import xarray as xr

from bayesjoint.reports import _read, _rows
from bayesjoint.reports._numbers import percent

OUTER = 0.05  # share of the prior's draws that make an end of it
BEYOND = 0.5  # share of the posterior's draws there from which it is told
PILED = 0.15  # the same where the prior ends in a bound, its densest part
BOUNDED = 0.4  # width of the outer draws over that of those to the median: an end without a tail
FEWEST = 100  # draws of the prior
LARGEST = 50  # elements of a latent that are looked at one by one


def at_ends(dt: xr.DataTree) -> list[str]:
    """Say which parameters sit at an end of their prior, one sentence for each latent.

    From draws of the coupled prior and of the posterior, whatever the prior: an end holds 5 % of
    the prior's draws.  A posterior that piles up at a bound need not have most of its draws there.
    """
    if not _read.has_groups(dt, "posterior", "prior", "linearization"):
        return []
    ds = _read.linearization(dt)
    prior, posterior = (dt[name].to_dataset() for name in ("prior", "posterior"))
    known = [n for n in _read.unknowns(ds) if n in prior and n in posterior]
    return [told for n in known if (told := _of_latent(ds, n, prior[n], posterior[n]))]


def _of_latent(ds: xr.Dataset, name: str, prior: xr.DataArray, posterior: xr.DataArray) -> str:
    rows = [row for row in _rows.rows_of(ds, name, LARGEST) if row.element]
    if not rows or prior.sizes["chain"] * prior.sizes["draw"] < FEWEST:
        return ""
    dims = _read.own_dims(ds, name)
    before, after = (
        v.transpose(*dims, "chain", "draw").values.reshape(len(rows), -1)
        for v in (prior, posterior)
    )
    found: dict[str, list[tuple[str, float]]] = {}
    for row, b, a in zip(rows, before, after, strict=True):
        for end, sign in (("upper", 1.0), ("lower", -1.0)):
            if share := _share_at_end(sign * b, sign * a):
                found.setdefault(end, []).append((row.label, share))
    return " ".join(_words(name, end, told, len(rows)) for end, told in found.items())


def _share_at_end(prior: np.ndarray, posterior: np.ndarray) -> float:
    """Return the share of the posterior at the upper end of the prior; 0 where it is no matter."""
    ends = np.quantile(prior, np.linspace(0.0, 1.0, round(1 / OUTER) + 1))
    parts = np.histogram(np.clip(posterior, ends[0], ends[-1]), ends)[0] / posterior.size
    middle, outer = np.quantile(prior, [0.5, 1.0 - OUTER])
    bounded = prior.max() - outer < BOUNDED * (outer - middle)
    piled = bounded and parts[-1] >= PILED and np.argmax(parts) == len(parts) - 1
    return float(parts[-1]) if parts[-1] >= BEYOND or piled else 0.0


def _words(name: str, end: str, told: list[tuple[str, float]], count: int) -> str:
    share = percent(max(share for _, share in told))
    who = told[0][0] if len(told) == 1 else f"{name} ({len(told)} of its {count} elements)"
    up_to = "" if len(told) == 1 else "up to "
    return (
        f"{who} sits at the {end} end of its prior, where {percent(OUTER)} of the prior and {up_to}"
        f"{share} of the posterior lie: the prior decides it, or the model lacks what it makes up "
        "for."
    )
