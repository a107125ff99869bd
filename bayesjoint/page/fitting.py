"""Whether the data fit, in sentences."""

from __future__ import annotations

import math
from itertools import combinations

import xarray as xr

from bayesjoint.page.contents import Contents
from bayesjoint.page.numbers import grouped, listed, of_data
from bayesjoint.plots._fields import one_point
from bayesjoint.plots._style import words
from bayesjoint.reports import _read
from bayesjoint.reports._numbers import short
from bayesjoint.reports.leave_one_out import NOT_UNIFORM
from bayesjoint.reports.predictive import QUANTITIES

SURPRISING = 3.0  # standard deviations of the misfit that make errors too small or too large
EXTREME = 0.025  # p-values nearer to 0 or 1 are reported

MORE = {
    "mean": "an offset",
    "sd": "more scatter",
    "largest": "larger outliers",
    "autocorrelation": "neighbours more alike",
    "chi2": "larger residuals",
}
LESS = {
    "mean": "an offset",
    "sd": "less scatter",
    "largest": "no residual as large",
    "autocorrelation": "neighbours less alike",
    "chi2": "smaller residuals",
}


def fit_of(page: Contents) -> list[tuple[str, str]]:
    """Say of each data set how well it fits, what stands out, and what it gave up."""
    answers = [_fit(name, page) for name in page.modalities]
    if page.predictive is not None:
        answers += _shared(page.predictive)
    if isinstance(page.leave_one_out, str):
        answers.append(("each datum from all others is not told", page.leave_one_out))
    elif page.leave_one_out is not None:
        told = zip(page.leave_one_out["p_value"].values, page.leave_one_out.attrs["words"],
                   strict=True)  # fmt: skip
        answers += [headed(text, page) for p_value, text in told if p_value < NOT_UNIFORM]
    if page.compromise is not None:
        answers += [_given_up(name, page.compromise) for name in page.compromise["modality"].values]
        fusion = page.compromise.attrs["words"][-1]
        answers += [headed(fusion, page)] if fusion.startswith("In all") else []
    return answers


def headed(text: str, page: Contents) -> tuple[str, str]:
    """Split a sentence of a report at its first colon, or its first sentence; names as words."""
    for name in (*page.modalities, *_read.unknowns(page.linear)):
        text = text.replace(name, words(name))
    lead, _, rest = text.partition(": " if ": " in text.split(". ")[0] else ". ")
    return lead, rest


def _fit(name: str, page: Contents) -> tuple[str, str]:
    ds = one_point(page.linear)
    chi2, data = float(ds["chi2"].sel(modality=name)), int(ds["n_data"].sel(modality=name))
    # In a linear Gaussian problem this is the expectation of the misfit at the best fit.
    expected = max(data - float(page.resolution["partial_dofs"].sel(modality=name)), 1.0)
    lead = f"{words(name)}: χ² = {grouped(chi2, 1 if chi2 < 1e4 else 0)} for {of_data(data)}"
    return lead, f"{_misfit(chi2, expected, errors_are_unknown(name, page))}{_check(name, page)}"


def _misfit(chi2: float, expected: float, estimated: bool) -> str:
    off, factor = (chi2 - expected) / math.sqrt(2 * expected), math.sqrt(chi2 / expected)
    if estimated:
        return "their errors were estimated along with the rest"
    likely = f"{grouped(expected)} expected"
    if off > SURPRISING:
        return (
            f"{likely}: its errors are too small by a factor of about {short(factor)}, or the "
            "physics misses something"
        )
    if off < -SURPRISING:
        return f"{likely}: its errors are too large by a factor of about {short(1 / factor)}"
    return f"{likely}: as good as its errors allow"


def errors_are_unknown(name: str, page: Contents) -> bool:
    """Whether a hyperparameter of this data set's errors was estimated."""
    hyper = [str(k) for k in _read.listed(page.linear, "hyperparameters")]
    return any(k.startswith(f"{name}_") or k.endswith(f"_{name}") for k in hyper)


def _check(name: str, page: Contents) -> str:
    """Name what the data show more or less of than replications."""
    if page.predictive is None or name not in page.predictive["block"]:
        return ""
    p_values = page.predictive["p_value"].sel(block=name)
    least = 1.0 / page.predictive.attrs["draws"]
    seen = [_extreme(key, float(p_values.sel(quantity=key)), least) for key in QUANTITIES]
    seen = [text for text in seen if text]
    return f". Against replicated data: {listed(seen)}" if seen else ", and like replicated data"


def _extreme(quantity: str, p: float, least: float) -> str:
    if not (p <= EXTREME or p >= 1 - EXTREME):
        return ""
    side = MORE if p <= EXTREME else LESS
    distance = min(p, 1 - p)
    shown = f"p < {least:.1g}" if distance < least else f"p = {p:.2g}"
    return f"{side[quantity]} ({shown})"


def _shared(report: xr.Dataset) -> list[tuple[str, str]]:
    """Say of which data sets the errors in common are not as the model has them."""
    places = range(report.sizes["modality"])
    pairs = [report.isel(modality=i, modality_other=j) for i, j in combinations(places, 2)]
    return [sentence for one in pairs for sentence in _shared_by(one)]


def _shared_by(one: xr.Dataset) -> list[tuple[str, str]]:
    who = f"{words(one['modality'].item())} and {words(one['modality_other'].item())}"
    found = []
    if _stands_out(one["residual_correlation_p_value"]):
        seen, fresh = one["residual_correlation"], one["residual_correlation_replicated"]
        found.append(
            (
                f"Residuals of {who} go together",
                f"r = {float(seen):.2f} {one['residual_pairing'].item()}, {float(fresh):.2f} in "
                "replications: do they share errors otherwise than the model has it?",
            )
        )
    if _stands_out(one["cross_chi2_p_value"]):
        stronger = float(one["cross_chi2_p_value"]) > 0.5
        how = "stronger than the model has them" if stronger else (
            "weaker than the model has them, or of another sign or pattern"
        )  # fmt: skip
        found.append((f"Errors that {who} share", how))
    return found


def _stands_out(p_value: xr.DataArray) -> bool:
    return min(float(p_value), 1 - float(p_value)) <= EXTREME


def _given_up(name: str, report: xr.Dataset) -> tuple[str, str]:
    row = report.sel(modality=name)
    cost = float(row["penalised_joint"] - row["penalised_separate"])
    return (
        f"{words(name)} by itself: χ² = {float(row['chi2_separate']):.1f}",
        f"jointly {float(row['chi2_joint']):.1f}; with the distance from the prior the compromise "
        f"costs it {cost:.1f}",
    )
