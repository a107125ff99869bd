"""Common access to the trees that reports read: groups, names, cells, grids, settings.

Inside the group ``linearization`` every unknown lies on one flat axis (``unknown`` in white
coordinates, ``cell`` in physical units). The helpers here find a latent on that axis and put flat
numbers back onto the dims that the user gave the latent. Variables, dims and coordinates that bear
names of the user are marked (see `bayesjoint._names`): reports take the marks off at their end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from bayesjoint import _names
from bayesjoint._names import made, user

UPPER = 1.6448536269514722  # standard normal quantile of 0.95

CURES = {
    "linearization": "make one with bj.linearize(problem), or bj.sample(problem), which stores it",
    "posterior": "sample the problem with bj.sample(problem)",
    "posterior_predictive": "sample the problem with bj.sample(problem), which stores it",
    "prior": "sample the problem with bj.sample(problem), which stores it",
    "log_likelihood": "sample the problem with bj.sample(problem), which stores it",
    "predictive_cdf": "sample the problem with bj.sample(problem), which stores it",
    "observed_data": "sample the problem with bj.sample(problem), which stores it",
}


def has_groups(dt: xr.DataTree, *names: str) -> bool:
    """Tell whether the tree holds all the named groups, none of them empty."""
    return all(name in dt.children and len(dt[name].data_vars) > 0 for name in names)


def group(dt: xr.DataTree, name: str) -> xr.Dataset:
    """Return one group of the tree as a Dataset; ValueError with the cure when it is missing."""
    if not isinstance(dt, xr.DataTree):
        raise ValueError(f"expected an xarray.DataTree, got {type(dt).__name__}; {CURES[name]}")
    if not has_groups(dt, name):
        present = ", ".join(dt.children) or "none"
        raise ValueError(f"the tree has no group '{name}' (groups: {present}); {CURES[name]}")
    return dt[name].to_dataset()


def linearization(dt: xr.DataTree, name: str = "linearization") -> xr.Dataset:
    """Return the group ``linearization``, or that at another maximum, which reports read."""
    ds = group(dt, name)
    _require_own(ds, name)
    return _names.restored(ds, _names_of_user(ds))


def _require_own(ds: xr.Dataset, name: str) -> None:
    """Raise where a group of that name is not one that this package made."""
    if not {"latents", "mixtures"} & set(ds.attrs):
        raise ValueError(
            f"the group {name!r} names no latents, so that it is none of bayesjoint; "
            f"{CURES['linearization']}"
        )


def _names_of_user(ds: xr.Dataset) -> set[str]:
    """Return the names in a stored linearization that the user gave: latents, and their dims."""
    names = {name for name in unknowns(ds) if name in ds.variables}
    renamed = dict(text.split(": ") for text in listed(ds, "renamed"))
    spectrum = ds.get(renamed.get("eigenvalues", "eigenvalues"))
    own = ("point",) if spectrum is None else spectrum.dims
    dims = {str(dim) for name in names for dim in ds[name].dims if dim not in own}
    dims |= {f"{name}_unit" for name in listed(ds, "mixtures")}
    lying = {str(k) for k, c in ds.coords.items() if c.dims and dims.issuperset(map(str, c.dims))}
    return names | dims | lying


def of_user(values: xr.DataArray) -> xr.DataArray:
    """Mark the names of an array whose dims and coordinates are all of the user."""
    return _names.marked(values)


def as_given(values: xr.DataArray) -> xr.DataArray:
    """Return such an array with the names that the user gave."""
    return values.rename({k: _names.plain(k) for k in (*values.dims, *values.coords)})


def require_stored(ds: xr.Dataset, *names: str) -> None:
    """Raise ValueError when the linearization, of an earlier version, lacks a variable."""
    missing = [name for name in names if name not in ds]
    if missing:
        raise ValueError(
            f"the group 'linearization' lacks {', '.join(missing)}: an earlier version stored it; "
            "make it anew with bj.linearize(problem)"
        )


def listed(ds: xr.Dataset, attr: str) -> list[Any]:
    """Return an attribute as a list, however a file format stored a short or empty list."""
    value = ds.attrs.get(attr, [])
    if isinstance(value, str):
        return [value] if value else []
    return list(np.atleast_1d(np.asarray(value)).tolist()) if np.size(value) else []


def latents(ds: xr.Dataset) -> list[str]:
    """Names of the latents, without hyperparameters."""
    return [str(name) for name in listed(ds, "latents")]


def unknowns(ds: xr.Dataset) -> list[str]:
    """Names of the latents and, last, of the hyperparameters."""
    return latents(ds) + [str(name) for name in listed(ds, "hyperparameters")]


def modalities(ds: xr.Dataset) -> list[str]:
    """Names of the modalities."""
    return [str(name) for name in ds["modality"].values]


def in_order(dt: xr.DataTree, names: list[str]) -> list[str]:
    """Sort names of modalities as the problem lists them; a stored tree forgets their order."""
    if not has_groups(dt, "linearization"):
        return names
    order = modalities(linearization(dt))
    return sorted(names, key=lambda name: order.index(name) if name in order else len(order))


def require_known(ds: xr.Dataset, names: Any, what: str = "latent") -> list[str]:
    """Return names as a list, or raise where one is no latent and no hyperparameter."""
    known = unknowns(ds)
    try:
        listed = [names] if isinstance(names, str) else list(names)
    except TypeError:  # some say that they can be iterated, and cannot
        listed = []
    if not listed or isinstance(names, xr.DataTree):
        raise ValueError(f"the {what}s are {_shown(names)}; give a list of {', '.join(known)}")
    for name in listed:
        if not isinstance(name, str):
            raise ValueError(
                f"a {what} is named by text, {type(name).__name__} given; this problem has "
                f"{', '.join(known)}"
            )
        if name not in known:
            raise ValueError(f"there is no {what} '{name}'; this problem has {', '.join(known)}")
    return listed


def _shown(names: Any) -> str:
    empty = isinstance(names, list | tuple) and not names
    return "none" if empty else f"of type {type(names).__name__}"


def cells_of(ds: xr.Dataset, latent: str) -> np.ndarray:
    """Positions of a latent along the axis ``cell``."""
    return np.flatnonzero(ds["latent_of_cell"].values == latent)


def unknowns_of(ds: xr.Dataset, latent: str) -> np.ndarray:
    """Positions of a latent along the axis ``unknown``."""
    return np.flatnonzero(ds["latent_of_unknown"].values == latent)


def own_dims(ds: xr.Dataset, latent: str) -> tuple[str, ...]:
    """Dims that the user gave the latent; none for a scalar."""
    return tuple(_names.plain(dim) for dim in ds[user(latent)].dims if dim != "point")


def template(ds: xr.Dataset, latent: str) -> xr.DataArray:
    """Return the latent at the first point, for its dims, coordinates and units."""
    values = ds[user(latent)]
    return values.isel(point=0, drop=True) if "point" in values.dims else values


def units(ds: xr.Dataset, latent: str) -> str:
    """Units of a latent; an empty string when it has none or none were stated."""
    return str(ds[user(latent)].attrs.get("units") or "")


def on_grid(values: xr.DataArray, ds: xr.Dataset, latent: str) -> xr.DataArray:
    """Pick the latent's cells from numbers of all cells and lay them on the latent's own dims."""
    return shaped(values.isel(cell=cells_of(ds, latent)), ds, latent)


def shaped(
    values: xr.DataArray, ds: xr.Dataset, latent: str, axis: str = "cell", suffix: str = ""
) -> xr.DataArray:
    """Lay the numbers of one latent, flat along ``axis``, on its own dims; other dims come first.

    The latent's dims and coordinates get the suffix (for the source side of a resolution matrix).
    """
    grid = template(ds, latent)
    leading = [dim for dim in values.dims if dim != axis]
    flat = values.transpose(*leading, axis)
    labels = [str(name) for name in {*grid.dims, *grid.coords}]
    name_of = {k: made(f"{_names.plain(k)}{suffix}") if suffix else k for k in labels}
    dims = [*leading, *(name_of[str(dim)] for dim in grid.dims)]
    of_latent = {
        name_of[str(name)]: ([name_of[str(dim)] for dim in coord.dims], coord.values, coord.attrs)
        for name, coord in grid.coords.items()
    }
    kept = {
        name: coord
        for name, coord in values.coords.items()
        if set(coord.dims) <= set(leading) and name not in of_latent
    }
    numbers = flat.values.reshape((*flat.shape[:-1], *grid.shape))
    return xr.DataArray(numbers, dims=dims, coords=kept | of_latent)


def powers(ds: xr.Dataset) -> dict[str, float]:
    """Power to which each modality's likelihood is raised; 1 everywhere unless tempered."""
    given = [float(power) for power in listed(ds, "powers")]
    return dict(zip(modalities(ds), given or [1.0] * ds.sizes["modality"], strict=True))


def tempered(ds: xr.Dataset) -> list[str]:
    """Modalities whose likelihood is tempered, in words: ``"insar: power 0.1667"``."""
    return [f"{name}: power {power:.4g}" for name, power in powers(ds).items() if power != 1.0]


def settings(ds: xr.Dataset) -> dict[str, Any]:
    """Return the settings of the linearization that each report repeats in its attrs."""
    return {
        "at": str(ds.attrs.get("at", "map")),
        "errors": str(ds.attrs.get("errors", "independent")),
        "coupled": int(ds.attrs.get("coupled", 0)),
        "local": int(ds.attrs.get("local", 0)),
        "truncation_bound": float(ds.attrs.get("truncation_bound", 0.0)),
        "tempered": tempered(ds),
    }


def split_note(ds: xr.Dataset) -> str:
    """Say whether a split of information among modalities is unique."""
    if str(ds.attrs.get("errors", "independent")) == "correlated":
        return "errors are correlated between modalities: the split among them is not unique"
    return "errors are independent: contributions of the modalities add up"


def eigenvalues(ds: xr.Dataset) -> xr.DataArray:
    """Eigenvalues (mode), with round-off below zero removed."""
    return ds["eigenvalues"].clip(min=0.0)


def shrinkage(ds: xr.Dataset) -> xr.DataArray:
    """Return the share of each direction that the data determine, ``lam / (1 + lam)`` (mode)."""
    values = eigenvalues(ds)
    return values / (1.0 + values)


def left(ds: xr.Dataset) -> xr.DataArray:
    """Return the share of the variance of each direction that is left, ``1 / (1 + lam)`` (mode)."""
    return 1.0 / (1.0 + eigenvalues(ds))


def value_of_cells(ds: xr.Dataset) -> xr.DataArray:
    """Physical values at the point (cell), the mean over points when there are several."""
    values = xr.DataArray(np.zeros(ds.sizes["cell"]), dims="cell")
    for name in unknowns(ds):
        there = ds[user(name)]
        at_point = there.mean("point") if "point" in there.dims else there
        values[cells_of(ds, name)] = at_point.values.ravel()
    return values


def prior_sd_of_cells(ds: xr.Dataset) -> xr.DataArray:
    """Return the prior sd (cell): the true one where it is known and finite, else the local one."""
    require_stored(ds, "true_prior_sd")
    local, true = ds["prior_sd"], ds["true_prior_sd"]
    kept = xr.where(np.isfinite(true), true, local) ** 2
    return (kept.mean("point") if "point" in kept.dims else kept) ** 0.5


def marginals(ds: xr.Dataset) -> xr.Dataset:
    """Return ``mean``, ``sd``, ``lower`` and ``upper`` of each cell (cell) of a linearization.

    The ends hold 90 %.  Of the Gaussian, except where a number is a curved function of its white
    variable: there of the local Gaussian of that variable, seen through the function.
    """
    require_stored(ds, "mapped_values")
    mean, sd = value_of_cells(ds).values, variance_of_cells(ds).values ** 0.5
    lower, upper = mean - UPPER * sd, mean + UPPER * sd
    cells, nodes, values = mapped(ds)
    if cells.size:
        weights = np.exp(-0.5 * nodes**2)
        weights /= weights.sum()
        mean[cells] = values @ weights
        sd[cells] = np.sqrt((values - mean[cells, None]) ** 2 @ weights)
        for ends, node in ((lower, -UPPER), (upper, UPPER)):
            ends[cells] = [np.interp(node, nodes, row) for row in values]
    columns = {"mean": mean, "sd": sd, "lower": lower, "upper": upper}
    return xr.Dataset({name: ("cell", column) for name, column in columns.items()})


def mapped_stretch(ds: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return by how much the local prior and posterior sds of cells (cell) are to be stretched.

    To the true ones of numbers under priors that are no Gaussians; by one elsewhere, and where a
    prior has no sd.
    """
    before, after = np.ones(ds.sizes["cell"]), np.ones(ds.sizes["cell"])
    cells = mapped(ds)[0]
    true, local = (_root_mean_square(ds[name])[cells] for name in ("true_prior_sd", "prior_sd"))
    sd = marginals(ds)["sd"].values[cells]
    linear = _root_mean_square(ds["posterior_sd"])[cells]
    known = np.isfinite(true) & (local > 0) & (linear > 0)
    before[cells[known]] = true[known] / local[known]
    after[cells[known]] = sd[known] / linear[known]
    return before, after


def _root_mean_square(values: xr.DataArray) -> np.ndarray:
    squared = values**2
    return np.sqrt((squared.mean("point") if "point" in squared.dims else squared).values)


def mapped(ds: xr.Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return cells that are no Gaussians, nodes, and their values there (cell, node)."""
    values, cells = ds["mapped_values"], ds["mapped_cell"]
    if "point" in values.dims:
        values = values.mean("point")
    cells = cells.isel(point=0) if "point" in cells.dims else cells
    return cells.values, ds["node"].values, values.transpose("mapped", "node").values


def variance_of_cells(ds: xr.Dataset) -> xr.DataArray:
    """Linearised posterior variance (cell), squared units, the mean over points."""
    require_stored(ds, "posterior_sd")
    variance = ds["posterior_sd"] ** 2
    return variance.mean("point") if "point" in variance.dims else variance
