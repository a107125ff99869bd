"""Which parameters are confounded with which discrepancy, in numbers and in words."""

from __future__ import annotations

import xarray as xr

from bayesjoint.reports._numbers import percent, short
from bayesjoint.reports._rows import Row, per_row

CONFOUNDED = 0.5  # share of the posterior variance from which a parameter is said to be


def confounded(ds: xr.Dataset, table: list[Row]) -> xr.Dataset:
    """Return ``confounding`` (discrepancy, parameter); empty where it is not stored."""
    if "confounding" not in ds:
        return xr.Dataset()
    return xr.Dataset({"confounding": per_row(ds["confounding"], table)})


def confounding_words(ds: xr.Dataset, report: xr.Dataset) -> list[str]:
    """Say of each latent how much of its width is a discrepancy, and where that shows."""
    if "confounding" not in report:
        return []
    shares = report["confounding"]
    shares = shares.mean("point") if "point" in shares.dims else shares
    labels = [str(label) for label in shares["parameter"].values]
    lines = []
    for latent in dict.fromkeys(label.split("[")[0] for label in labels):
        own = shares.isel(parameter=[label.split("[")[0] == latent for label in labels])
        for name in map(str, shares["discrepancy"].values):
            if line := _of_latent(latent, own.sel(discrepancy=name), name):
                lines.append(line + _mode(ds, latent, name))
    return lines


def _of_latent(latent: str, shares: xr.DataArray, name: str) -> str:
    """Say it of one parameter, or of all elements of a latent at once."""
    high = shares.where(shares >= CONFOUNDED, drop=True)
    if high.size == 0:
        return ""
    share = percent(float(high.max()))
    if high.size == 1:
        return f"{high['parameter'].item()}: {share} of its posterior variance is {name}"
    who = f"{latent}: of {high.size} of its {shares.size} elements"
    return f"{who} up to {share} of the posterior variance is {name}"


def _mode(ds: xr.Dataset, parameter: str, name: str) -> str:
    """Say by how much the discrepancy changes with a parameter that is one number."""
    if parameter not in ds["scalar"].values:
        return ""
    size = ds["confounding_rms"].sel(scalar=parameter, discrepancy=name)
    size = size.mean("point") if "point" in size.dims else size
    kept = size.where(size > 0.1 * float(size.max()), drop=True)
    parts = [
        f"{short(float(v))} noise sd in {str(k)}"
        for k, v in zip(kept["modality"].values, kept, strict=True)
    ]
    return f"; one sd of it trades off with {' and '.join(parts)}" if parts else ""
