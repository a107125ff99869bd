"""The balance of the modalities in words: what stands out, likely causes, and what to do."""

from __future__ import annotations

import numpy as np
import xarray as xr

from bayesjoint._names import free, made
from bayesjoint.reports._numbers import data, percent, short

NOBODY = "prior"  # leads where no modality tells enough
LITTLE = 0.1  # share of the information that is little
MUCH, RATIO = 0.5, 2.5  # share that is much, and over how many times the share of the data
OFF = 1.5  # factor of a noise sd that is worth a word
REPEATED = 0.3  # of what a modality tells alone: added to the rest, less is a repetition
ROUNDING = 1e-9  # nats


def balance_words(report: xr.Dataset) -> list[str]:
    """Return sentences about a balance."""
    mean = _mean(report)
    names = [str(name) for name in report["modality"].values]
    rows = {name: mean.sel(modality=name) for name in names}
    found = []
    if len(names) > 1:
        found += [text for name, row in rows.items() if (text := _share(name, row, mean))]
        found = found or [_no_drowning(rows)]
    found += [text for name, row in rows.items() if (text := _misfit(name, row, report))]
    found += _scales_in_words(names, report.attrs["noise_scales"])
    if len(names) > 1:
        found += _leaders(report)
    found.append(_scaling(report))
    if report.attrs["tempered"]:
        found.append(f"Tempered already ({', '.join(report.attrs['tempered'])}): {_departs()}")
    return found + (_powers(mean, names) if "power" in mean else [])


def _mean(report: xr.Dataset) -> xr.Dataset:
    kept = report[[name for name, values in report.items() if values.dtype.kind in "fi"]]
    return kept.mean("point") if "point" in kept.dims else kept


def _share(name: str, row: xr.Dataset, mean: xr.Dataset) -> str:
    share, of_data, count = (float(row[k]) for k in ("eig_share", "n_data_share", "n_data"))
    if share < LITTLE:
        return f"{name} carries {percent(share)} of the information: {_why_little(row)}."
    if share > MUCH and share > RATIO * of_data:
        return (
            f"{name} has {data(int(count))} of {float(mean['n_data'].sum()):.0f} "
            f"but {percent(share)} of the information: a datum moves by "
            f"{short(float(row['sensitivity_per_datum']))} of its noise sd over the prior. That is "
            "right if that sd is, errors of the physics included; a sd that is too small gives it "
            "all the say."
        )
    return ""


def _why_little(row: xr.Dataset) -> str:
    alone, added = float(row["eig_alone"]), float(row["eig_conditional"])
    if added < REPEATED * alone and alone > LITTLE * float(row["eig"]):
        return (
            f"alone it would tell {alone:.1f} nats, on top of the others {added:.1f}; they know it "
            "already"
        )
    if alone <= ROUNDING and added > ROUNDING:
        return (
            f"alone it would tell nothing, on top of the others {added:.1f} nats; it sees what the "
            "errors of the others share"
        )
    moved = float(row["sensitivity_per_datum"])
    if moved == 0.0:
        return (
            "no unknown moves its data, and the errors that it shares with others it sees too "
            "faintly to tell them"
        )
    if moved < 1:
        return (
            f"over the prior its data move by {short(moved)} of their noise sd; the noise sd may "
            "be too large, the stations too far, or the prior sd of what it sees too small"
        )
    count, dofs = int(row["n_data"]), f"{float(row['partial_dofs']):.1f} degrees of freedom"
    return (
        f"over the prior its data move by {short(moved)} of their noise sd, but its {data(count)} "
        f"{'determines' if count == 1 else 'determine'} {dofs}; they are few or repeat each other"
    )


def _no_drowning(rows: dict[str, xr.Dataset]) -> str:
    told = ", ".join(f"{name} {percent(float(row['eig_share']))}" for name, row in rows.items())
    return f"No modality drowns another: of the information come {told}."


def _misfit(name: str, row: xr.Dataset, report: xr.Dataset) -> str:
    """Say when a stated noise sd does not fit the residuals."""
    known = report.attrs["noise_scales"][list(report["modality"].values).index(name)] == "known"
    ratio = float(row["misfit_ratio"])
    free = max(float(row["n_data"] - row["partial_dofs"]), 1.0)
    if not known or abs(ratio - 1.0) < 3.0 * np.sqrt(2.0 / free) or not ratio > 0:
        return ""
    factor = np.sqrt(ratio)
    if factor > OFF:
        return (
            f"The residuals of {name} are {short(factor)} times its noise sd: the sd is too small, "
            "or the physics misses something, and it has too much say."
        )
    if factor < 1 / OFF:
        return (
            f"The residuals of {name} are {short(factor)} of its noise sd: the sd is too large by "
            f"a factor of about {short(1 / factor)}, and it has too little say."
        )
    return ""


def _scales_in_words(names: list[str], scales: list[str]) -> list[str]:
    unknown = [name for name, word in zip(names, scales, strict=True) if word == "unknown"]
    known = [name for name, word in zip(names, scales, strict=True) if word == "known"]
    found = []
    if unknown:
        found.append(
            f"The noise scale of {_listed(unknown)} is unknown and found with the rest: that is "
            "the Bayesian balance."
        )
    if known:
        found.append(
            f"The noise sd of {_listed(known)} is fixed, and the balance rests on it. Let the data "
            "decide with an unknown scale: bj.GaussianNoise(sd=..., scale=bj.Prior(pm.LogNormal, "
            "mu=0, sigma=0.5))."
        )
    return found


def _scaling(report: xr.Dataset) -> str:
    """Say by what the unknowns are scaled."""
    without = report.attrs.get("without_prior_sd", [])
    told = [
        f"{name} {float(report['scale'].sel(latent=name)):.3g} {units}".rstrip()
        + (" (near the point: its prior has no sd)" * (name in without))
        for name, units in zip(report["latent"].values, report["units"].values, strict=True)
    ]
    return f"Unknowns are scaled by their prior sd: {_listed(told)}."


def _leaders(report: xr.Dataset) -> list[str]:
    """Say of each field which modality leads in how many cells."""
    found, nobody = [], free(NOBODY, report["modality"].values)
    for name in report["latent"].values:
        values = report[made(f"{name}_leader")].values
        if values.size < 2:
            continue
        who, counts = np.unique(values, return_counts=True)
        order = np.argsort(-counts)
        told = [
            f"{'the prior' if who[i] == nobody else who[i]} in {percent(counts[i] / values.size)}"
            for i in order
        ]
        found.append(f"{name}: most is told by {_listed(told)} of the cells.")
    return found


def _powers(mean: xr.Dataset, names: list[str]) -> list[str]:
    told = [f"{name} {float(mean['power'].sel(modality=name)):.3g}" for name in names]
    return [
        f"An equal say, {float(mean['dofs_equalised']):.1f} degrees of freedom each, would take "
        f"the powers {_listed(told)}: {_departs()}"
    ]


def _departs() -> str:
    return "a departure from the model, whose widths follow from no noise model."


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
