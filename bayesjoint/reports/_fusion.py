"""Models of separate fits beside the joint one: how far apart, and what their average is worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from bayesjoint._names import made, user
from bayesjoint.reports import _read

AVERAGINGS = ("weighted", "plain")


@dataclass(frozen=True)
class Fits:
    """The linearization of the joint fit, and of each modality by itself."""

    joint: xr.Dataset
    alone: dict[str, xr.Dataset]

    def holders(self, latent: str) -> list[str]:
        """Return the modalities whose separate fits reach a latent."""
        return [k for k, ds in self.alone.items() if latent in _read.latents(ds)]

    def sds(self, latent: str) -> list[xr.DataArray]:
        """Return the posterior sd of a latent in each separate fit that reaches it."""
        each = [self.alone[k] for k in self.holders(latent)]
        return [_read.on_grid(_read.variance_of_cells(ds), ds, latent) ** 0.5 for ds in each]


def stack(arrays: list[xr.DataArray], modality: list[str]) -> xr.DataArray:
    """Put arrays of several modalities along one dim."""
    dim = xr.Variable("modality", modality)
    cleaned = [array.drop_vars("modality", errors="ignore") for array in arrays]
    return xr.concat(cleaned, dim=dim, join="outer", coords="minimal", compat="override")


def models(fits: Fits) -> dict[str, xr.DataArray]:
    """Return estimates of each latent in its units: joint, separate, and averaged."""
    found, variance = {}, _read.variance_of_cells(fits.joint)
    for latent in _read.latents(fits.joint):
        if not (holders := fits.holders(latent)):
            continue
        values = stack([fits.alone[k][user(latent)] for k in holders], holders)
        sds = stack(fits.sds(latent), holders)
        estimates = {
            "joint": fits.joint[user(latent)],
            "joint_sd": _read.on_grid(variance, fits.joint, latent) ** 0.5,
            "separate": values,
            "separate_sd": sds,
        }
        if len(holders) > 1:
            weights = 1.0 / sds**2
            average = (weights * values).sum("modality") / weights.sum("modality")
            estimates |= {"averaged": average, "averaged_plain": values.mean("modality")}
        units = _read.units(fits.joint, latent)
        for kind, array in estimates.items():
            found[made(f"{latent}_{kind}")] = array.assign_attrs(units=units)
    return found


def moved(fits: Fits) -> dict[str, xr.DataArray]:
    """Return how far the joint fit is from each separate one, in prior and in its own sd."""
    latents, ds = _read.latents(fits.joint), fits.joint
    labels = {"modality": list(fits.alone), "latent": latents}
    missing = np.full((len(fits.alone), len(latents)), np.nan)
    distance = xr.DataArray(missing, labels, ("modality", "latent"))
    shift = distance.copy()
    for latent in latents:
        prior_sd = _read.on_grid(_read.prior_sd_of_cells(ds), ds, latent)
        for k, sd in zip(fits.holders(latent), fits.sds(latent), strict=True):
            gap = fits.alone[k][user(latent)] - ds[user(latent)]
            where = {"modality": k, "latent": latent}
            distance.loc[where] = float(((gap / prior_sd) ** 2).mean()) ** 0.5
            shift.loc[where] = float(((gap / sd) ** 2).mean()) ** 0.5
    return {"distance_prior_sd": distance, "distance_own_sd": shift}


def of_fusion(fits: Fits) -> dict[str, xr.DataArray]:
    """Return the misfit of each modality at the averages of the separate models."""
    ds = fits.joint
    _read.require_stored(ds, "modality_factor", "chi2_slope")
    given, rows = models(fits), []
    for averaging in AVERAGINGS:
        gap = xr.DataArray(np.zeros(ds.sizes["cell"]), dims="cell")
        for latent in _read.latents(ds):
            if fits.holders(latent):
                chosen = _fused(given, latent, averaging)
                change = (chosen - ds[user(latent)]).transpose(*ds[user(latent)].dims)
                gap[_read.cells_of(ds, latent)] = change.values.ravel()
        rows.append(misfits_after(ds, gap).sel(modality=list(fits.alone)))
    dim = xr.Variable("averaging", list(AVERAGINGS))
    return {"chi2_averaged": xr.concat(rows, dim=dim, coords="minimal", compat="override")}


def _fused(given: dict[str, xr.DataArray], latent: str, averaging: str) -> xr.DataArray:
    """Return the average of the separate estimates, or the only one."""
    if made(f"{latent}_averaged") not in given:
        return given[made(f"{latent}_separate")].isel(modality=0, drop=True)
    return given[made(f"{latent}_averaged{'_plain' if averaging == 'plain' else ''}")]


def misfits_after(ds: xr.Dataset, change: xr.DataArray) -> xr.DataArray:
    """Return the misfit of each modality after a change of the physical values (cell)."""
    step = xr.dot(ds["physical_duals"].drop_vars("latent_of_cell"), change, dim="cell")
    curved = (xr.dot(ds["modality_factor"], step, dim="mode") ** 2).sum("row")
    powers = xr.DataArray(list(_read.powers(ds).values()), dims="modality")
    chi2 = ds["chi2"] + 2.0 * xr.dot(ds["chi2_slope"], step, dim="mode") + curved / powers
    return chi2.clip(min=0.0)  # a sum of squares, but for round-off and what is not linear
