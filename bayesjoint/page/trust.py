"""Whether the numbers can be trusted: chains, departures, conditions."""

from __future__ import annotations

import numpy as np

from bayesjoint.page.contents import Contents
from bayesjoint.page.numbers import counted, grouped
from bayesjoint.plots._style import words
from bayesjoint.reports import _modes, _read
from bayesjoint.reports._numbers import percent
from bayesjoint.reports.diagnostics import of_steps, verdict_of

VERDICTS = {
    "good": "The chains agree",
    "fair": "The chains agree roughly: draw longer before quoting the last digit",
    "bad": "The chains do not agree: do not use these numbers",
}


def convergence(page: Contents) -> tuple[str, str]:
    """Say whether the chains agree, with the numbers behind it."""
    r_hat, ess = worst(page)
    posterior = page.tree["posterior"]
    chains, draws = posterior.sizes["chain"], posterior.sizes["draw"]
    numbers = [
        f"{counted(chains, 'chain')} of {counted(draws, 'draw')}",
        counted(divergences(page), "divergence"),
        f"largest r-hat {r_hat:.3f}",
        f"smallest effective sample size {grouped(ess)}",
    ]
    return VERDICTS[verdict(page)], ", ".join(numbers)


def worst(page: Contents) -> tuple[float, float]:
    """Return the largest r-hat and the smallest bulk effective sample size."""
    report = page.identifiability
    r_hat = np.nanmax(report["r_hat"].values, initial=1.0)
    return float(r_hat), float(np.nanmin(report["ess_bulk"].values, initial=1e9))


def verdict(page: Contents) -> str:
    """Judge the chains: good, fair or bad, by every quantity that the page shows."""
    of_page = verdict_of(*worst(page), sound=True)
    told = "good" if page.diagnosis is None else str(page.diagnosis.attrs["verdict"])
    return max(of_page, told, key=list(VERDICTS).index)


def divergences(page: Contents) -> int:
    """Count divergent transitions."""
    return int(np.nan_to_num(of_steps(page.tree)["divergences"]))


def warnings(page: Contents) -> list[tuple[str, str]]:
    """List departures and conditions that a reader must know, most serious first."""
    notes = [convergence(page)] if page.sampled and verdict(page) == "bad" else []
    if not page.sampled:
        where = "Estimates and widths are those of a Gaussian at the point of linearization."
        notes.append(("Preview: nothing was sampled", where))
    return notes + _departures(page) + _conditions(page)


def _departures(page: Contents) -> list[tuple[str, str]]:
    raised = [f"{words(k)} to {p:.3g}" for k, p in _read.powers(page.linear).items() if p != 1.0]
    if not raised:
        return []
    return [
        (
            "Tempered likelihoods, on request",
            f"raised to a power ({', '.join(raised)}). That departs from the stated model, and "
            "widths depend on it.",
        )
    ]


def _conditions(page: Contents) -> list[tuple[str, str]]:
    attrs, notes = page.linear.attrs, []
    if int(attrs.get("converged", 1)) == 0:
        notes.append(
            ("Best fit not reached", "the search stopped before; linearised numbers are off it.")
        )
    if lower := _read.listed(page.linear, "lower_modes"):
        where = _where_chains_started(page) if page.sampled else ""
        notes.append(("More than one maximum", f"{_maxima(len(lower), page.as_high)}{where}"))
    if int(attrs.get("local", 0)):
        text = (
            "the problem is not linear and Gaussian, by its physics, noise, settings or couplings. "
            "Resolution, leakage and information hold near the best fit"
            + ("; contraction from draws holds everywhere." if page.sampled else ".")
        )
        notes.append(("Local numbers", text))
    if str(attrs.get("errors")) == "correlated":
        text = "how degrees of freedom divide among data sets is not unique."
        notes.append(("Errors are correlated between data sets", text))
    ends = page.diagnosis.attrs["at_ends"] if page.diagnosis is not None else []
    notes += [("At an end of its prior", text) for text in ends]
    if (bound := float(attrs.get("truncation_bound", 0.0))) > 1e-6:
        notes.append(("Spectrum cut off", f"what was left out is at most {bound:.2g}."))
    return notes


def _maxima(others: int, as_high: int) -> str:
    """Say how many maxima there are beside the best fit, and how high they are."""
    lower = others - as_high
    kind = "maximum" if as_high else "lower maximum"
    what = counted(others, kind).replace("maximums", "maxima")
    height = "" if not as_high else ", of about the same height"
    if as_high and lower:
        height = f", {as_high} of about the same height and {lower} lower"
    return f"{what} of the posterior beside the best fit{height}."


def _where_chains_started(page: Contents) -> str:
    """Say at which modes the chains started, with what those hold."""
    if not len(shares := _modes.weights(page.tree)):
        return " None but the best fit got chains: the others hold next to nothing."
    started = _modes.of_chains(page.tree)
    each = [f"{started.count(mode)} at {percent(share)}" for mode, share in enumerate(shares)]
    return f" Chains started at each, by its share of the posterior: {_modes.listed(each)}."
