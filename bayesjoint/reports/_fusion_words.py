"""The compromise in words: what each modality gave up, and whether averaging had been better."""

from __future__ import annotations

import numpy as np
import xarray as xr

from bayesjoint._names import made
from bayesjoint.reports._numbers import data, short

PULLED = 2.0  # sd of a separate fit from which the joint fit contradicts it
WORSE = 1.2  # ratio of misfits that is worth a word


def compromise_words(report: xr.Dataset) -> list[str]:
    """Return sentences about a compromise."""
    found = [_given_up(report.sel(modality=name)) for name in report["modality"].values]
    return [*found, *_pulled(report), _fusion(report)]


def _given_up(row: xr.Dataset) -> str:
    cost = float(row["penalised_joint"] - row["penalised_separate"])
    return (
        f"{row['modality'].item()}: χ² = {float(row['chi2_separate']):.1f} by itself and "
        f"{float(row['chi2_joint']):.1f} jointly for {data(int(row['n']))}; with the distance from "
        f"the prior the joint fit costs it {cost:.1f}."
    )


def _pulled(report: xr.Dataset) -> list[str]:
    """Say where the joint fit lies outside what a separate fit thought possible."""
    shift = report["distance_own_sd"]
    return [
        f"{latent} of the joint fit lies {value:.1f} posterior sd from the fit of {name} alone: "
        "they contradict each other, or its noise sd is too small."
        for name in shift["modality"].values
        for latent in shift["latent"].values
        if (value := float(shift.sel(modality=name, latent=latent))) > PULLED
    ]


def _fusion(report: xr.Dataset) -> str:
    joint, count = float(report["chi2_joint"].sum()), int(report["n"].sum())
    averaged = float(report["chi2_averaged"].sel(averaging="weighted").sum())
    if not any(made(f"{name}_averaged") in report for name in report["latent"].values):
        return "No two modalities reach one latent: there is nothing to average."
    start = (
        f"In all χ² = {joint:.1f} jointly for {data(count)}; averaging the separate models: "
        f"{averaged:.1f}"
    )
    ratio = averaged / max(joint, np.finfo(float).tiny)
    if ratio > WORSE:
        times = f"{short(ratio)} times as much"
        return f"{start}, {times}: what they say together is not their average."
    if ratio < 1 / WORSE:
        return f"{start}, less: the modalities hardly share what they inform, or disagree."
    return f"{start}: much the same fit."
