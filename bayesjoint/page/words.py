"""What was found, in sentences: what is known, what is not, and who said it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import xarray as xr

from bayesjoint._names import user
from bayesjoint.page.contents import Contents
from bayesjoint.page.fitting import fit_of, headed
from bayesjoint.page.numbers import counted, digits, listed, of_data, with_sd
from bayesjoint.page.trust import convergence
from bayesjoint.plots._fields import one_point
from bayesjoint.plots._style import words
from bayesjoint.reports import _read
from bayesjoint.reports._numbers import percent, short

TOLD = 2.0  # errors of a contraction that it must exceed to be told
KNOWN, PARTLY = 0.9, 0.5  # contraction from which a parameter is told, or partly told, by data
MOST_LISTED = 10
NEEDED = 1.05  # times the sd without a data set from which that is needed
ALONE = 0.1  # share of the contraction that one data set would give, from which it is told
NOTHING = 0.01  # contraction by one data set alone that is none
LEAST_TOLD = 0.025  # half of the nats alone below which 0.0 is printed, and nothing is known twice
UNRESOLVED = 0.2  # diagonal of the resolution matrix
TRADE_OFF = 0.8  # correlation that is reported


@dataclass(frozen=True)
class Finding:
    """A question, and its answers: what is said first, and the rest of the sentence."""

    question: str
    answers: list[tuple[str, str]]


def findings(page: Contents) -> list[Finding]:
    """Return the questions that a reader comes with, answered; those without an answer left out."""
    asked = [
        Finding("What is known?", known(page)),
        Finding("What is not?", unknown(page)),
        Finding("Which data set said it?", sources(page)),
        Finding("Does one drown another?", weights(page)),
        Finding("Do they contradict each other?", contradiction(page)),
        Finding("Do the fields share structure?", structure(page)),
        Finding("Do the data fit?", fit_of(page)),
        Finding("Can the numbers be trusted?", [convergence(page)] if page.sampled else []),
    ]
    return [finding for finding in asked if finding.answers]


def opening(page: Contents) -> str:
    """Say in a sentence or two how much the data determine."""
    data = int(one_point(page.linear["n_data"]).sum())
    dofs, size = float(page.resolution["dofs"]), page.linear.sizes["unknown"]
    nats = float(page.information["eig"])
    names = listed([words(name) for name in page.modalities])
    rest = "; the prior decides the rest" if size - dofs > 0.5 else ""
    verb, they = ("determines", "It is") if data == 1 else ("determine", "They are")
    return (
        f"The {of_data(data)} of {names} {verb} {dofs:.1f} of {size} degrees of freedom{rest}. "
        f"{they} worth {nats:.1f} nats of information ({nats / math.log(2):.0f} bits)."
    )


def _rows(page: Contents) -> xr.Dataset:
    """Estimate and contraction of every parameter that is listed by itself."""
    names = page.summary["parameter"].values
    known_of = page.identifiability.drop_vars(["r_hat", "ess_bulk"], errors="ignore")
    return page.summary.merge(known_of.sel(parameter=names, parameter_other=names))


def _estimate(row: xr.Dataset) -> str:
    value, sd = float(row["mean"]), float(row["sd"])
    return f"{words(row['parameter'].item())} = {with_sd(value, sd, str(row['units'].values))}"


def known(page: Contents) -> list[tuple[str, str]]:
    """Parameters that the data determine, best known first, then hyperparameters and fields."""
    rows = _rows(page)
    of_field = [str(k).split("[")[0] in page.fields for k in rows["parameter"].values]
    told = rows.isel(
        parameter=np.flatnonzero((rows["contraction"].values >= KNOWN) & ~np.array(of_field, bool))
    )
    hyper = np.isin(told["parameter"].values, _read.listed(page.linear, "hyperparameters"))
    order = np.lexsort([-told["contraction"].values, hyper])[:MOST_LISTED]
    answers = [_known(told.isel(parameter=i), page) for i in order]
    left = told.sizes["parameter"] - len(order)
    if left:
        answers.append((counted(left, "more parameter"), "in the table below"))
    return answers + [_field(name, page) for name in page.fields]


def _known(row: xr.Dataset, page: Contents) -> tuple[str, str]:
    figures = digits(float(row["mean"]), float(row["sd"]))
    certain = [f"{counted(figures, 'certain digit')}"] if figures else []
    if page.as_high and not page.sampled:
        certain = [f"near one of {1 + page.as_high} maxima of about the same height"]
    return _estimate(row), "; ".join(certain + _mainly_from(row, page))


def _mainly_from(row: xr.Dataset, page: Contents) -> list[str]:
    """Say which data sets it needs, and which would tell it alone but add nothing."""
    if len(page.modalities) < 2 or not row["contraction_by_modality"].notnull().all():
        return []
    told = max(float(row["contraction_linearised"]), 0.0)
    lost = np.clip(row["contraction_by_modality"].values, 0.0, None)
    alone = row["contraction_alone"].values
    wider = np.sqrt(1.0 + lost / max(1.0 - told, np.finfo(float).tiny))
    names = [words(name) for name in row["modality"].values]
    needed = [i for i in np.argsort(-wider) if wider[i] >= NEEDED]
    spare = [i for i in np.argsort(-alone) if wider[i] < NEEDED and alone[i] >= ALONE * told]
    found = []
    if needed:
        each = [f"without {names[i]} {short(float(wider[i]))} times as wide" for i in needed]
        found.append(", ".join(each))
        silent = [f"{names[i]} alone" for i in needed if alone[i] < NOTHING]
        verb = "tells" if len(silent) == 1 else "tell"
        found += [f"{listed(silent)} {verb} nothing of it"] if silent else []
    if spare:
        each = [f"{names[i]} alone would take {percent(float(alone[i]))}" for i in spare]
        found.append(f"{listed(each)} of its prior variance, but hardly anything beside the others")
    return ["; ".join(found)] if found else []


def _field(name: str, page: Contents) -> tuple[str, str]:
    dofs = float(page.resolution["dofs_latent"].sel(latent=name))
    values = _contraction_of(name, page)
    half = float(np.mean(values >= PARTLY))
    where = "all cells" if half == 1.0 else f"{percent(half)} of the cells"
    return (
        f"{words(name)}: {dofs:.1f} degrees of freedom",
        f"for {counted(values.size, 'cell')}; {percent(float(values.mean()))} of the prior "
        f"variance is gone on average, and at least half of it in {where}",
    )


def _contraction_of(name: str, page: Contents) -> np.ndarray:
    report = page.identifiability
    if f"{name}_contraction" in report:
        return report[f"{name}_contraction"].values.ravel()
    own = [str(k).startswith(f"{name}[") for k in report["parameter"].values]
    return report["contraction"].values[own]


def unknown(page: Contents) -> list[tuple[str, str]]:
    """Parameters that the data hardly determine, and strong trade-offs."""
    rows = _rows(page)
    names = [str(name) for name in rows["parameter"].values]
    scalar = np.array(["[" not in name for name in names], bool)
    contraction = rows["contraction"].values
    partly = np.flatnonzero(scalar & (contraction < KNOWN) & (contraction >= PARTLY))
    hardly = np.flatnonzero(scalar & (contraction < PARTLY))
    text = {"partly": "known in part, the prior still counts", "hardly": "mostly prior"}
    answers = [_weak(rows.isel(parameter=i), text["partly"]) for i in partly[:MOST_LISTED]]
    answers += [_weak(rows.isel(parameter=i), text["hardly"]) for i in hardly[:MOST_LISTED]]
    answers += [blurred for name in page.fields for blurred in _blurred(name, page)]
    return answers + _not_separable(page) + _trade_offs(rows, names, scalar)


def _not_separable(page: Contents) -> list[tuple[str, str]]:
    """Say that some combination of the scalar parameters has no effect on the data."""
    if page.identifiability.attrs["separable"]:
        return []
    names = _read.listed(page.identifiability, "collinearity_of")
    return [
        (
            f"{listed([words(name) for name in names])}: not separable",
            "some combination of them has no effect on the data, only the prior knows it",
        )
    ]


def _blurred(name: str, page: Contents) -> list[tuple[str, str]]:
    """Say where single cells of a field are not resolved."""
    values = page.resolution[user(name)].values
    share = float(np.mean(values < UNRESOLVED))
    if share < 0.01:
        return []
    return [
        (
            f"{words(name)}: {percent(share)} of the cells are not resolved one by one",
            f"resolution below {UNRESOLVED}: there only averages over several cells are known",
        )
    ]


def _weak(row: xr.Dataset, text: str) -> tuple[str, str]:
    contraction = float(row["contraction"])
    if contraction <= TOLD * float(row.get("contraction_error", 0.0)):
        return _estimate(row), "no narrower than the prior"
    return _estimate(row), f"{text} ({percent(contraction)} of its variance gone)"


def _trade_offs(rows: xr.Dataset, names: list[str], scalar: np.ndarray) -> list[tuple[str, str]]:
    matrix, which = rows["correlation"].values, np.flatnonzero(scalar)
    pairs = [(i, j) for i in which for j in which if i < j and abs(matrix[i, j]) >= TRADE_OFF]
    pairs.sort(key=lambda pair: -abs(matrix[pair]))
    return [
        (
            f"{words(names[i])} and {words(names[j])} trade off",
            f"r = {matrix[i, j]:.2f}: the data fix a combination of them better than either",
        )
        for i, j in pairs[:5]
    ]


def sources(page: Contents) -> list[tuple[str, str]]:
    """Say how the degrees of freedom and the information divide among data sets."""
    if len(page.modalities) < 2:
        return []
    return [_source(name, page) for name in page.modalities]


def _source(name: str, page: Contents) -> tuple[str, str]:
    partial, total = page.resolution["partial_dofs"], float(page.resolution["dofs"])
    own = float(page.information["eig_alone"].sel(modality=name))
    added = float(page.information["eig_conditional"].sel(modality=name))
    repeated = ", so the others know most of it too" if added < 0.5 * own >= LEAST_TOLD else ""
    return (
        f"{words(name)}: {float(partial.sel(modality=name)):.1f} of {total:.1f} degrees of freedom",
        f"alone it tells {own:.1f} nats, on top of the rest {added:.1f}{repeated}",
    )


def weights(page: Contents) -> list[tuple[str, str]]:
    """Say what the balance shows; misfits and prior sds are told elsewhere."""
    if page.balance is None:
        return []
    elsewhere = ("The residuals of ", "Unknowns are scaled ")
    told = page.balance.attrs["words"]
    return [headed(text, page) for text in told if not text.startswith(elsewhere)]


def contradiction(page: Contents) -> list[tuple[str, str]]:
    """Say whether one model explains all data sets."""
    if page.tension is None:
        return []
    if isinstance(page.tension, str):
        return [("not told by these fits", page.tension)]
    return [headed(text, page) for text in page.tension.attrs["words"]]


def structure(page: Contents) -> list[tuple[str, str]]:
    """Say whether coupled fields are aligned or flat."""
    if page.alignment is None:
        return []
    return [headed(text, page) for text in page.alignment.attrs["words"]]
