"""What was found, in sentences."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import xarray as xr

from bayesjoint.page.contents import Contents
from bayesjoint.page.numbers import counted, digits, listed, with_sd
from bayesjoint.plots._fields import one_point
from bayesjoint.plots._style import words
from bayesjoint.reports import _read
from bayesjoint.reports.predictive import QUANTITIES

KNOWN, PARTLY = 0.9, 0.5  # contraction from which a parameter is told, or partly told, by data
MOST_LISTED = 12
MOSTLY = 0.6  # share of a parameter's information that makes one data set its main source
SURPRISING = 3.0  # standard deviations of the misfit that make noise too small or too large
EXTREME = 0.025  # p-values nearer to 0 or 1 are reported
TRADE_OFF = 0.8  # correlation that is reported


@dataclass(frozen=True)
class Finding:
    """One question and its answers."""

    question: str
    answers: list[str]


def findings(page: Contents) -> list[Finding]:
    """Return the questions that a reader comes with, answered; those without an answer left out."""
    asked = [
        Finding("What is known?", known(page)),
        Finding("What is not?", unknown(page)),
        Finding("Which data set said it?", sources(page)),
        Finding("Do the data fit?", misfits(page) + checks(page) + given_up(page)),
        Finding("Can the numbers be trusted?", [convergence(page)] if page.sampled else []),
    ]
    return [finding for finding in asked if finding.answers]


def opening(page: Contents) -> str:
    """Say in one sentence how much the data determine."""
    data = int(one_point(page.linear["n_data"]).sum())
    dofs, size = float(page.resolution["dofs"]), page.linear.sizes["unknown"]
    nats = float(page.information["eig"])
    names = listed([words(name) for name in page.modalities])
    return (
        f"{names[:1].upper() + names[1:]}, {counted(data, 'number')} in all, determine {dofs:.1f} "
        f"of {counted(size, 'unknown')}; the rest is left to the prior. "
        f"They are worth {nats:.1f} nats of information ({nats / math.log(2):.0f} bits)."
    )


def _rows(page: Contents) -> xr.Dataset:
    """Estimate and contraction of every parameter that is listed by itself."""
    names = page.summary["parameter"].values
    return page.summary.merge(page.identifiability.sel(parameter=names, parameter_other=names))


def _estimate(row: xr.Dataset) -> str:
    value, sd = float(row["mean"]), float(row["sd"])
    return f"{words(row['parameter'].item())} = {with_sd(value, sd, str(row['units'].values))}"


def known(page: Contents) -> list[str]:
    """Parameters that the data determine, best known first, and what is known of fields."""
    rows = _rows(page)
    told = rows.isel(parameter=np.flatnonzero(rows["contraction"] >= KNOWN))
    order = np.argsort(-told["contraction"].values)[:MOST_LISTED]
    answers = [_known(told.isel(parameter=i), page) for i in order]
    left = told.sizes["parameter"] - len(order)
    if left:
        answers.append(f"{counted(left, 'more parameter')} of the table below.")
    return answers + [_field(name, page) for name in page.fields]


def _known(row: xr.Dataset, page: Contents) -> str:
    figures = digits(float(row["mean"]), float(row["sd"]))
    certain = f" ({counted(figures, 'certain digit')})" if figures else ""
    return f"{_estimate(row)}{certain}{_mainly_from(row, page)}."


def _mainly_from(row: xr.Dataset, page: Contents) -> str:
    if len(page.modalities) < 2:
        return ""
    credit = row["contraction_by_modality"]
    share = np.clip(credit.values, 0, None) / max(
        float(np.clip(credit.values, 0, None).sum()), 1e-12
    )
    order = np.argsort(-share)
    best = words(credit["modality"].values[order[0]])
    if share[order[0]] >= MOSTLY:
        return f", {100 * share[order[0]]:.0f} % of it from {best}"
    return f", from {best} and {words(credit['modality'].values[order[1]])} together"


def _field(name: str, page: Contents) -> str:
    dofs = float(page.resolution["dofs_latent"].sel(latent=name))
    cells = page.linear["latent_of_cell"].values == name
    size = int(cells.sum())
    mapped = page.identifiability.get(f"{name}_contraction")
    if mapped is None:
        listed_cells = page.identifiability["contraction"].values
        labels = [str(k) for k in page.identifiability["parameter"].values]
        of_field = [
            v for k, v in zip(labels, listed_cells, strict=True) if k.startswith(f"{name}[")
        ]
        values = np.array(of_field)
    else:
        values = mapped.values.ravel()
    half = 100 * float(np.mean(values >= PARTLY))
    return (
        f"{words(name)}: {dofs:.1f} degrees of freedom for its {counted(size, 'cell')}; the data "
        f"remove {100 * values.mean():.0f} % of its prior variance on average, at least half of it "
        f"in {half:.0f} % of the cells."
    )


def unknown(page: Contents) -> list[str]:
    """Parameters that the data hardly determine, and strong trade-offs."""
    rows = _rows(page)
    contraction = rows["contraction"].values
    partly = np.flatnonzero((contraction < KNOWN) & (contraction >= PARTLY))
    hardly = np.flatnonzero(contraction < PARTLY)
    answers = []
    for which, text in (
        (partly, "Known in part, the prior still counts"),
        (hardly, "Mostly prior"),
    ):
        scalars = [i for i in which if "[" not in str(rows["parameter"].values[i])]
        if scalars:
            each = [
                f"{_estimate(rows.isel(parameter=i))} (variance reduced by {_reduced(contraction[i])})"
                for i in scalars[:MOST_LISTED]
            ]
            answers.append(f"{text}: {'; '.join(each)}.")
    return answers + _trade_offs(rows)


def _reduced(contraction: float) -> str:
    return f"{100 * contraction:.0f} %" if contraction > 0 else "nothing"


def _trade_offs(rows: xr.Dataset) -> list[str]:
    names = [str(name) for name in rows["parameter"].values]
    scalar = [i for i, name in enumerate(names) if "[" not in name]
    matrix = rows["correlation"].values
    pairs = [(i, j) for i in scalar for j in scalar if i < j and abs(matrix[i, j]) >= TRADE_OFF]
    pairs.sort(key=lambda pair: -abs(matrix[pair]))
    return [
        f"{words(names[i])} and {words(names[j])} trade off, r = {matrix[i, j]:.2f}: the data fix "
        f"a combination of them better than either."
        for i, j in pairs[:5]
    ]


def sources(page: Contents) -> list[str]:
    """Say how the degrees of freedom and the information divide among data sets."""
    if len(page.modalities) < 2:
        return []
    partial, total = page.resolution["partial_dofs"], float(page.resolution["dofs"])
    alone, rest = page.information["eig_alone"], page.information["eig_conditional"]
    answers = []
    for name in page.modalities:
        own, added = float(alone.sel(modality=name)), float(rest.sel(modality=name))
        dofs = float(partial.sel(modality=name))
        answers.append(
            f"{words(name)} supplies {dofs:.1f} of {total:.1f} degrees of freedom. Alone it would "
            f"tell {own:.1f} nats; on top of the rest it adds {added:.1f}"
            f"{', most of which the others know too' if added < 0.5 * own else ''}."
        )
    return answers


def misfits(page: Contents) -> list[str]:
    """Compare each misfit with what the stated noise makes likely."""
    return [_misfit(name, page) for name in page.modalities]


def _misfit(name: str, page: Contents) -> str:
    ds = one_point(page.linear)
    chi2, data = float(ds["chi2"].sel(modality=name)), int(ds["n_data"].sel(modality=name))
    # In a linear Gaussian problem the misfit at the best fit has this expectation.
    expected = max(data - float(page.resolution["partial_dofs"].sel(modality=name)), 1.0)
    start = f"{words(name)}: χ² = {chi2:.1f} for {counted(data, 'number')}"
    off = (chi2 - expected) / math.sqrt(2 * expected)
    factor = math.sqrt(chi2 / expected)
    if _noise_is_unknown(name, page):
        return f"{start}; the size of its errors was estimated along with the rest."
    if off > SURPRISING:
        return (
            f"{start} ({expected:.0f} expected): more than its errors allow. They are too small by "
            f"a factor of about {factor:.2g}, or the physics misses something."
        )
    if off < -SURPRISING:
        return (
            f"{start} ({expected:.0f} expected): less than its errors allow. They are stated too "
            f"large by a factor of about {1 / factor:.2g}."
        )
    return f"{start} ({expected:.0f} expected): as good as its errors allow."


def _noise_is_unknown(name: str, page: Contents) -> bool:
    """Whether a hyperparameter of this data set's errors was estimated."""
    hyper = [str(k) for k in _read.listed(page.linear, "hyperparameters")]
    return any(k.startswith(f"{name}_") or k.endswith(f"_{name}") for k in hyper)


TOO_MUCH = {
    "mean": "an offset that the model lacks",
    "sd": "larger scatter than the model allows",
    "largest": "outliers beyond what the model allows",
    "autocorrelation": "neighbouring residuals alike: a structure that the model misses",
    "chi2": "larger residuals than the model allows",
}
TOO_LITTLE = {
    "mean": "an offset that the model lacks",
    "sd": "less scatter than the model expects",
    "largest": "no residual as large as the model expects",
    "autocorrelation": "neighbouring residuals opposed more than the model expects",
    "chi2": "smaller residuals than the model expects",
}


def checks(page: Contents) -> list[str]:
    """Report extreme predictive p-values."""
    if page.predictive is None:
        return []
    answers = []
    for name in page.modalities:
        if name in page.predictive["block"]:
            p_values = page.predictive["p_value"].sel(block=name)
            answers += [
                f"{words(name)}: {text} (predictive p = {p:.3g})."
                for quantity in QUANTITIES
                for p, text in [_extreme(quantity, float(p_values.sel(quantity=quantity)))]
                if text
            ]
    return (answers or ["No predictive check stands out."]) + _shared(page.predictive)


def _extreme(quantity: str, p: float) -> tuple[float, str]:
    if p <= EXTREME:
        return p, TOO_MUCH[quantity]
    return p, TOO_LITTLE[quantity] if p >= 1 - EXTREME else ""


def _shared(report: xr.Dataset) -> list[str]:
    names = [str(name) for name in report["modality"].values]
    p_value = report["residual_correlation_p_value"].values
    seen = report["residual_correlation"].values
    return [
        f"Residuals of {words(names[i])} and {words(names[j])} go together, r = {seen[i, j]:.2f}: "
        f"errors that they share?"
        for i in range(len(names))
        for j in range(i)
        if min(p_value[i, j], 1 - p_value[i, j]) <= EXTREME
    ]


def given_up(page: Contents) -> list[str]:
    """Say what each data set gives up in the joint fit."""
    if page.compromise is None:
        return []
    answers = []
    for name in page.compromise["modality"].values:
        row = page.compromise.sel(modality=name)
        start, end = float(row["penalised_separate"]), float(row["penalised_joint"])
        answers.append(
            f"{words(name)} by itself would reach χ² = {float(row['chi2_separate']):.1f}, jointly "
            f"{float(row['chi2_joint']):.1f}; with the distance from the prior the compromise costs "
            f"it {end - start:.1f}."
        )
    return answers


def convergence(page: Contents) -> str:
    """Say whether the chains agree, in words."""
    r_hat = float(np.nanmax(page.identifiability["r_hat"].values, initial=1.0))
    ess = float(np.nanmin(page.identifiability["ess_bulk"].values, initial=np.inf))
    chains, draws = (page.tree["posterior"].sizes[dim] for dim in ("chain", "draw"))
    numbers = (
        f"{counted(chains, 'chain')} of {counted(draws, 'draw')}, {counted(divergences(page), 'divergence')}, "
        f"largest r-hat {r_hat:.3f}, smallest effective sample size {ess:.0f}"
    )
    return f"{VERDICTS[verdict(page)]} ({numbers})."


VERDICTS = {
    "good": "The chains agree",
    "fair": "The chains agree roughly: draw longer before quoting the last digit",
    "bad": "The chains do not agree: do not use these numbers",
}


def verdict(page: Contents) -> str:
    """Judge the chains: good, fair or bad."""
    r_hat = float(np.nanmax(page.identifiability["r_hat"].values, initial=1.0))
    ess = float(np.nanmin(page.identifiability["ess_bulk"].values, initial=np.inf))
    if r_hat > 1.05 or ess < 100:
        return "bad"
    return "good" if r_hat <= 1.01 and ess >= 400 and not divergences(page) else "fair"


def divergences(page: Contents) -> int:
    """Count divergent transitions."""
    if not _read.has_groups(page.tree, "sample_stats"):
        return 0
    stats = page.tree["sample_stats"].to_dataset()
    return int(stats["diverging"].sum()) if "diverging" in stats else 0


def warnings(page: Contents) -> list[str]:
    """List departures and conditions that a reader must know."""
    ds, notes = page.linear, []
    for name, power in _read.powers(ds).items():
        if power != 1.0:
            notes.append(
                f"Tempered: the likelihood of {words(name)} is raised to the power {power:.3g}, on "
                f"request. That is a departure from the stated model."
            )
    if not page.sampled:
        notes.append(
            "Preview: nothing was sampled. Estimates and widths are Gaussian, at the point."
        )
    if page.sampled and verdict(page) == "bad":
        notes.append(convergence(page))
    if int(ds.attrs.get("converged", 1)) == 0:
        notes.append("The search for the best fit did not converge: linearised numbers are off it.")
    if lower := _read.listed(ds, "lower_modes"):
        notes.append(
            f"The posterior has {counted(len(lower), 'other, lower maximum')}: see the draws."
        )
    if int(ds.attrs.get("local", 0)):
        notes.append(
            "Local: the problem is nonlinear or coupled. Resolution, leakage and information hold "
            "near the best fit; contraction from draws does not have this limit."
        )
    if str(ds.attrs.get("errors")) == "correlated":
        notes.append(
            "Errors are correlated between data sets: how degrees of freedom divide among them is "
            "not unique."
        )
    if (bound := float(ds.attrs.get("truncation_bound", 0.0))) > 1e-6:
        notes.append(f"The spectrum was cut off; what was left out is at most {bound:.2g}.")
    return notes
