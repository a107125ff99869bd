"""Modalities predicted from all others, in words."""

import numpy as np
import xarray as xr

FAILED = 0.01  # p-value below which the others are said to fail
TOO_FAR = 0.7  # Pareto's k from which an average over draws is not to be trusted
ROUGH = 1.0  # nats of Monte Carlo error that are worth a word


def left_out_words(report: xr.Dataset) -> list[str]:
    """Return sentences about each modality that was left out, those that fail first."""
    order = np.argsort([p_value(report, name) for name in report["modality"].values], kind="stable")
    found = []
    for name in report["modality"].values[order]:
        found += [_verdict(report, name), *_unseen(report, name), *_caveat(report, name)]
    if _least(report) >= FAILED:
        found.append(
            f"{report.sizes['sample']} predicted data sets are too few for a failure to show; use "
            "200 draws or more."
        )
    return found


def p_value(report: xr.Dataset, name: str) -> float:
    """Return one p-value of the two, corrected for there being two."""
    row = report.sel(modality=name)
    return min(1.0, 2.0 * min(float(row["p_value"]), float(row["p_value_gain"])))


def _verdict(report: xr.Dataset, name: str) -> str:
    row, shown = report.sel(modality=name), _words(name)
    measured, predicted = float(row["log_density"]), row["log_density_predicted"].values
    numbers = (
        f"log density {_number(measured)} where {_number(np.mean(predicted))} ± "
        f"{np.std(predicted, ddof=1):.2g} is expected, p {_small(report, name)}"
    )
    if p_value(report, name) >= FAILED:
        if float(row["p_value"]) > 1.0 - FAILED / 2.0:
            return f"The others predict {shown} more closely than they claim: {numbers}."
        return f"The others predict {shown} as they should: {numbers}."
    how = "it lies outside of what they allow"
    if float(row["p_value"]) > float(row["p_value_gain"]):
        how = "it would move the unknowns further than they allow"
    return f"The others fail to predict {shown}, {how}: {numbers}."


def _unseen(report: xr.Dataset, name: str) -> list[str]:
    labels = report["parameter"].values[report["unseen"].sel(modality=name).values]
    if not labels.size:
        return []
    latents = list(dict.fromkeys(_words(str(label).split("[")[0]) for label in labels))
    whole = ", ".join(_words(label) for label in labels) if labels.size <= 3 else ", ".join(latents)
    prior = "the prior, with its couplings," if report.attrs["coupled"] else "the prior"
    return [f"Nothing but {_words(name)} sees {whole}: there {prior} predicts."]


def _caveat(report: xr.Dataset, name: str) -> list[str]:
    row = report.sel(modality=name)
    if not (float(row["pareto_k"]) > TOO_FAR or float(row["log_density_mcse"]) > ROUGH):
        return []
    return [f"The log density of {_words(name)} is a rough number; more draws would tell."]


def _small(report: xr.Dataset, name: str) -> str:
    """Write the p-value; where no predicted data set lies beyond, a bound."""
    value, least = p_value(report, name), _least(report)
    return f"= {value:.2g}" if value > least else f"< {np.ceil(1e3 * least) / 1e3:.2g}"


def _least(report: xr.Dataset) -> float:
    """Return the smallest p-value that so many data sets can have."""
    return 2.0 / (1 + report.sizes["sample"])


def _words(name: object) -> str:
    return str(name).replace("_", " ")


def _number(value: float) -> str:
    return f"{value:.1f}".replace("-", "−")
