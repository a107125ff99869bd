"""Which parameters are confounded with which discrepancy, in numbers and in words."""

from __future__ import annotations

import numpy as np
import xarray as xr

from bayesjoint.reports._rows import Row, per_row

CONFOUNDED = 0.5  # share of the posterior variance from which a parameter is said to be


def confounded(ds: xr.Dataset, table: list[Row]) -> xr.Dataset:
    """Return ``confounding`` (discrepancy, parameter); empty where it is not stored."""
    if "confounding" not in ds:
        return xr.Dataset()
    return xr.Dataset({"confounding": per_row(ds["confounding"], table)})


def confounding_words(ds: xr.Dataset, report: xr.Dataset) -> list[str]:
    """Say of each parameter how much of its width is a discrepancy, and where that shows."""
    if "confounding" not in report:
        return []
    shares = report["confounding"]
    shares = shares.mean("point") if "point" in shares.dims else shares
    lines = []
    for parameter in shares["parameter"].values:
        for name in shares["discrepancy"].values:
            share = float(shares.sel(parameter=parameter, discrepancy=name))
            if share >= CONFOUNDED:
                line = f"{parameter}: {_percent(share)} of its posterior variance is {name}"
                lines.append(line + _mode(ds, str(parameter), str(name)))
    return lines


def _mode(ds: xr.Dataset, parameter: str, name: str) -> str:
    """Say by how much the discrepancy changes with a parameter that is one number."""
    if parameter not in ds["scalar"].values:
        return ""
    size = ds["confounding_rms"].sel(scalar=parameter, discrepancy=name)
    size = size.mean("point") if "point" in size.dims else size
    kept = size.where(size > 0.1 * float(size.max()), drop=True)
    parts = [
        f"{float(v):.2g} noise sd in {str(k)}"
        for k, v in zip(kept["modality"].values, kept, strict=True)
    ]
    return f"; one sd of it trades off with {' and '.join(parts)}" if parts else ""


def _percent(share: float) -> str:
    return f"{100 * np.floor(1000 * share) / 1000:.3g} %"
