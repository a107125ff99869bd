"""Leakage: how much of what an estimate shows comes from another property."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from bayesjoint.reports import _read

# A squared response below this is round-off: no element of the block is above 1e-10.
NO_RESPONSE = 1e-20


def leakage(
    dt: xr.DataTree, groups: Mapping[str, str | Iterable[str]] | Iterable[str] | None = None
) -> xr.DataArray:
    """Share of each property's response that is spurious response to another property.

    Parameters
    ----------
    dt : xarray.DataTree
        From ``bj.sample`` or ``bj.linearize`` (group ``linearization``).
    groups : mapping of name to latents, or list of latents, optional
        Sets of latents (hyperparameters may be named too); default: every latent by itself,
        hyperparameters left out. What is in no group counts nowhere.

    Returns
    -------
    xarray.DataArray
        ``leakage`` (into, source), dimensionless, rows adding up to 1. The diagonal is the share
        of a property's own response; off the diagonal, the share that truly belongs to ``source``
        and shows up in ``into``. It is how one data set informs another property and also how
        artefacts enter. A property that no datum informs has a row of NaN, named in
        ``attrs["no_response"]``. Attrs repeat the settings and the groups.

    Raises
    ------
    ValueError
        When a latent does not exist, stands in two groups, or a group is empty.

    Notes
    -----
    ``leakage_ab = ||R_ab||^2 / sum_c ||R_ac||^2`` (Frobenius norms) with the blocks of the
    resolution matrix in units of each property's own prior, ``L_a^-1 R_ab L_b``: the blocks of
    ``(I + Gamma + H)^-1 H``. The blocks are the interference errors of Rodgers & Connor (2003);
    the scalar is our own definition.

    Examples
    --------
    >>> from bayesjoint.reports import leakage
    >>> from bayesjoint.reports.example import example_tree
    >>> report = leakage(example_tree())
    >>> report.sizes["into"], bool(abs(report.sum("source") - 1).max() < 1e-12)
    (2, True)
    """
    ds = _read.linearization(dt)
    members = _members(ds, groups)
    energy = _response_energy(ds, members)
    total = energy.sum("source")
    silent = total < NO_RESPONSE
    report = (energy / total).where(~silent).rename("leakage")
    everywhere = silent.all([dim for dim in silent.dims if dim != "into"])
    report.attrs = {
        "report": "leakage",
        "long_name": "leakage",
        "units": "1",
        "groups": [f"{name}: {', '.join(held)}" for name, held in members.items()],
        "no_response": [str(name) for name in everywhere["into"].values[everywhere.values]],
        **_read.settings(ds),
    }
    return report


def _members(ds: xr.Dataset, groups: Any) -> dict[str, list[str]]:
    if groups is None:
        groups = _read.latents(ds)
    plain = isinstance(groups, list | tuple) or type(groups) is dict
    if (
        not plain
        and not isinstance(groups, Mapping)
        or isinstance(groups, xr.Dataset | xr.DataTree)
    ):
        raise ValueError("groups: give a mapping of name to latents, or a list of latents")
    if not groups:
        raise ValueError("groups: there are none; name one latent or more")
    pairs = groups.items() if isinstance(groups, Mapping) else ((name, [name]) for name in groups)
    members = {
        str(k): list(held) if isinstance(held, list | tuple | set) else [held] for k, held in pairs
    }
    _check_members(ds, members)
    return members


def _check_members(ds: xr.Dataset, members: dict[str, list[str]]) -> None:
    seen: dict[str, str] = {}
    for name, held in members.items():
        if not held:
            raise ValueError(f"group '{name}' is empty; name at least one latent")
        _read.require_known(ds, held)
        for latent in held:
            if latent in seen:
                raise ValueError(f"'{latent}' stands in group '{seen[latent]}' and in '{name}'")
            seen[latent] = name


def _response_energy(ds: xr.Dataset, members: dict[str, list[str]]) -> xr.DataArray:
    """Squared Frobenius norms (into, source) of the blocks, from two triangular factors each."""
    names = list(members)
    rows = [
        _factor(ds["eigenvectors"] * _read.shrinkage(ds), ds, held) for held in members.values()
    ]
    columns = [_factor(ds["dual_vectors"], ds, held) for held in members.values()]
    norms = [[np.sum((a @ np.swapaxes(b, -1, -2)) ** 2, (-1, -2)) for b in columns] for a in rows]
    leading = ("point",) if "point" in ds["eigenvalues"].dims else ()
    coords = {dim: ds[dim] for dim in leading if dim in ds.coords} | {
        "into": names,
        "source": names,
    }
    return xr.DataArray(
        np.array(norms), dims=("into", "source", *leading), coords=coords
    ).transpose(*leading, "into", "source")


def _factor(vectors: xr.DataArray, ds: xr.Dataset, held: list[str]) -> np.ndarray:
    """Triangular factor of the rows of a group: keeps norms of products, at most (mode, mode)."""
    positions = np.concatenate([_read.unknowns_of(ds, latent) for latent in held])
    flat = vectors.isel(unknown=positions).transpose(..., "unknown", "mode").values
    return np.linalg.qr(flat, mode="r") if flat.shape[-2] > flat.shape[-1] else flat
