"""Tension in words: whether modalities agree, and about what they do not."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr

from bayesjoint.reports import _read
from bayesjoint.reports._numbers import percent

CONTRADICT, STRAINED = 3.0, 2.0  # sigma
APART = 2.0  # sd of the difference from which a parameter is named
MOST = 3  # parameters that are named


def tension_words(report: xr.Dataset) -> list[str]:
    """Return sentences about tension."""
    return [_verdict(report), *_parameters(report), *_compared(report), *_caveats(report)]


def _verdict(report: xr.Dataset) -> str:
    names = [str(name).replace("_", " ") for name in report.attrs["modalities"]]
    who = f"{', '.join(names[:-1])} and {names[-1]}"
    numbers = f"ln S = {_with_error(report, 'ln_suspiciousness')} in d = {_with_error(report, 'd')}"
    sigma, p_value = float(report["sigma"]), float(report["p_value"])
    if not np.isfinite(sigma):
        return f"Whether {who} agree is not told by their likelihoods: {report.attrs['reason']}."
    how = "seem to contradict" if _anew(report) else "contradict"
    more = "more than " if p_value <= report.attrs["p_value_smallest"] else ""
    if sigma >= CONTRADICT:
        return f"{who} {how} each other at {more}{sigma:.1f} sigma: {numbers} dimensions."
    if sigma >= STRAINED:
        return (
            f"{who} pull apart at {more}{sigma:.1f} sigma: {numbers} dimensions, as "
            f"{'fewer than ' if more else ''}one in {1.0 / p_value:.0f} consistent data sets would."
        )
    return f"{who} agree: {numbers} dimensions, p = {p_value:.2g}."


def _with_error(report: xr.Dataset, name: str) -> str:
    value, error = float(report[name]), float(report[f"{name}_mcse"])
    text = f"{value:.1f}".replace("-", "−")
    return f"{text} ± {error:.1g}" if error else text


def _parameters(report: xr.Dataset) -> list[str]:
    """Name the parameters on which two modalities differ most, each once."""
    gaps = abs(report["difference"]).fillna(0.0)
    largest = gaps.max(["modality", "modality_other"])
    order = [j for j in np.argsort(-largest.values) if largest.values[j] > APART][:MOST]
    return [_parameter(report.isel(parameter=j), gaps.isel(parameter=j)) for j in order]


def _parameter(one: xr.Dataset, gaps: xr.DataArray) -> str:
    place = np.unravel_index(int(np.argmax(gaps.values)), gaps.shape)
    first, second = sorted(map(int, place))
    units = str(one["units"].values)
    said = [_said(one.isel(modality=i), units) for i in (first, second)]
    label = str(one["parameter"].values).replace("_", " ")
    return (
        f"{label}: {said[0]}, {said[1]}: {float(gaps.values[first, second]):.1f} sd of the "
        "difference apart."
    )


def _said(one: xr.Dataset, units: str) -> str:
    name = str(one["modality"].values).replace("_", " ")
    text = f"{name} says {_with_sd(float(one['value']), float(one['sd']))}"
    return f"{text} {units}".rstrip() if units != "1" else text


def _with_sd(value: float, sd: float) -> str:
    """Write a number to the second figure of its sd."""
    places = 1 - math.floor(math.log10(sd)) if sd > 0 else 9
    if not -6 <= places <= 6:  # too large or too small to be written out
        return f"{value:.4g} ± {sd:.2g}"
    shown = [f"{round(number, places):.{max(places, 0)}f}" for number in (value, sd)]
    return " ± ".join(shown).replace("-", "−")


def _anew(report: xr.Dataset) -> list[str]:
    """Return settings of the errors that each fit has for itself, and simulated data have not."""
    return [] if report.attrs["p_value_of"] == "refits" else _read.listed(report, "fitted_anew")


def _compared(report: xr.Dataset) -> list[str]:
    """Say what the p-value is that of, if there is one."""
    if not np.isfinite(report["p_value"]):
        return []
    if report.attrs["p_value_of"] == "chi-squared":
        return ["The p-value is that of chi-squared with d, as where data alone inform."]
    text = f"Compared with {report.attrs['null_replicates']:,} simulated consistent data sets"
    if report.attrs["p_value_of"] == "refits":
        text += ", all fits repeated for each, settings of the errors included"
    elif names := _read.listed(report, "null_holds"):
        text += f", settings of the errors ({_spoken(names)}) held as in the joint fit"
    failed = int(report.attrs["null_failed"])
    end = f"; {failed} more could not be fitted and are left out" if failed else ""
    return [f"{text}{end}."]


def _spoken(names: list[str]) -> str:
    return ", ".join(names).replace("_", " ")


def _call(report: xr.Dataset) -> str:
    """Return the call that compares with simulated data, settings of the errors fitted anew."""
    names = ", ".join(map(repr, report.attrs["modalities"]))
    apart, refit = report.attrs["apart"], ""
    if _read.listed(report, "fitted_anew"):
        refit = ", refit=True"
    return (
        f"bj.tension(joint, {apart}, null=bj.tension_null(problem{refit})), problem being the "
        f"JointProblem of {names}"
    )


def _caveats(report: xr.Dataset) -> list[str]:
    found = []
    if report.attrs["p_value_of"] == "chi-squared" and report.attrs["prior_informs"]:
        found.append(
            f"Prior and data decide together on {percent(report.attrs['prior_share'])} of what "
            "the fits apart know, so that the p-value is approximate; that of simulated data is "
            f"given by {_call(report)}."
        )
    names, sigma = _anew(report), float(report["sigma"])
    if names and not sigma < STRAINED:  # NaN too
        found.append(
            f"Settings of the errors ({_spoken(names)}) are fitted anew in the split fit, so that "
            "ln S is too low where data are few; null=bj.tension_null(problem, refit=True) fits "
            "them anew in simulated data too; problem.hold(joint) keeps them as in the joint fit, "
            "which may have taken a contradiction for larger errors."
        )
    if report.attrs["p_value_of"] == "simulation" and not report.attrs["null_exact"]:
        found.append("The simulated data are those of the problem linearised at its best fit.")
    if float(report["d"]) > 0 and float(report["d_mcse"]) > 0.25 * float(report["d"]):
        found.append("d is known poorly; more draws would tell.")
    return found
