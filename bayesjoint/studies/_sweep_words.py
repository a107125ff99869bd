"""What a sweep over the settings of a discrepancy says, in words."""

import numpy as np
import xarray as xr

from bayesjoint.reports._numbers import percent


def classified(report: xr.Dataset, reference: xr.Dataset | None, tolerance: float) -> xr.Dataset:
    """Return the sweep with each effect on the posterior sd, compared with the reference.

    None stands for zero correlation, at the other settings of each point.
    """
    relative = {
        name: report[name] / _plain(report[f"{name}_at_zero"] if reference is None else
                                    reference[name])
        for name in ("information", "posterior_sd")
    }  # fmt: skip
    report = report.assign(
        relative_information=relative["information"].assign_attrs(
            long_name="information over that of the reference"
        ),
        relative_sd=relative["posterior_sd"].assign_attrs(
            long_name="posterior sd over that of the reference"
        ),
        effect=_effect(relative["posterior_sd"], tolerance),
    )
    if "posterior_sd_at_own" not in report:
        return report
    own = report["posterior_sd_at_own"] / report["posterior_sd_at_zero"]
    report = report.assign(own_relative_sd=own, own_effect=_effect(own, tolerance))
    stems = ("information", "posterior_sd")
    return report.drop_vars([f"{stem}_at_{where}" for stem in stems for where in ("zero", "own")])


def _plain(values: xr.DataArray) -> xr.DataArray:
    return values.drop_vars("correlation", errors="ignore")


def _effect(relative: xr.DataArray, tolerance: float) -> xr.DataArray:
    """Return "hurts", "helps" or "neutral"; nothing where there is no number."""
    words = np.select(
        [relative > 1.0 + tolerance, relative < 1.0 - tolerance, np.isfinite(relative)],
        ["hurts", "helps", "neutral"],
        "",
    )
    return relative.copy(data=words)


def sentences(report: xr.Dataset) -> list[str]:
    """Return what is found, a sentence a parameter; of a grid of settings nothing."""
    found = []
    if "own_effect" in report and report["own_effect"].dims == ("parameter",):
        own = report.attrs["own_correlation"]
        found += [_of_parameter(report.sel(parameter=p), own) for p in report["parameter"].values]
    invalid = int((~report["valid"]).sum())
    if invalid:
        reasons = sorted(set(report["reason"].values.ravel()) - {""})
        found.append(f"{invalid} of {report['valid'].size} points are left out: {reasons[0]}")
    return found


def _of_parameter(of_one: xr.Dataset, own: float) -> str:
    name, effect = str(of_one["parameter"].item()), str(of_one["own_effect"].item())
    change = float(of_one["own_relative_sd"]) - 1.0
    sd = f"posterior sd {percent(change, signed=True)} against zero correlation"
    text = f"{name}: the correlation of {own:.3g} "
    text += f"is neutral ({sd})" if effect == "neutral" else f"{effect} ({sd})"
    return f"{text}; {of_one['turning_point_posterior_note'].item()}"
