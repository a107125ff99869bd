"""The tables of the page: estimates, and settings."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import xarray as xr

from bayesjoint.page.contents import Contents
from bayesjoint.page.numbers import counted, form_of, grouped
from bayesjoint.page.trust import divergences
from bayesjoint.plots._fields import one_point
from bayesjoint.plots._style import words
from bayesjoint.reports import _read

ALWAYS_SHOWN = 40  # rows before the table is folded


@dataclass(frozen=True)
class Line:
    """One row of the table of estimates, as text."""

    name: str
    mean: str
    sd: str
    interval: str
    units: str
    contraction: float  # percent, for the bar
    ess: str
    r_hat: str


def estimates(page: Contents) -> list[Line]:
    """One line per parameter; a field that is not listed by element has one line of ranges."""
    report = page.identifiability
    return [
        _listed(page, name) if name in page.summary["parameter"] else _field(page, name)
        for name in (str(value) for value in report["parameter"].values)
    ]


def _diagnosis(row: xr.Dataset) -> tuple[str, str]:
    if "r_hat" not in row:
        return "", ""
    ess, r_hat = float(row["ess_bulk"]), float(row["r_hat"])
    return (
        grouped(ess) if math.isfinite(ess) else "–",
        f"{r_hat:.3f}" if math.isfinite(r_hat) else "–",
    )


def _percent(contraction: float) -> float:
    return float(np.clip(100 * contraction, 0, 100)) if math.isfinite(contraction) else 0.0


def _listed(page: Contents, name: str) -> Line:
    row, known = page.summary.sel(parameter=name), page.identifiability.sel(parameter=name)
    mean, sd, lower, upper = (float(row[key]) for key in ("mean", "sd", "eti_lower", "eti_upper"))
    form = form_of(mean, sd, str(row["units"].values))
    return Line(
        words(name), form(mean), form(sd), f"{form(lower)} to {form(upper)}", form.with_power,
        _percent(float(known["contraction"])), *_diagnosis(known),
    )  # fmt: skip


def _field(page: Contents, name: str) -> Line:
    mean, sd = field_moments(page, name)
    known = page.identifiability.sel(parameter=name)
    largest = float(abs(mean).max())
    form = form_of(largest, float(sd.mean()), _read.units(page.linear, name))
    return Line(
        f"{words(name)} ({counted(mean.size, 'cell')})",
        f"{form(float(mean.min()))} to {form(float(mean.max()))}",
        f"{form(float(sd.min()))} to {form(float(sd.max()))}",
        "on the maps", form.with_power, _percent(float(known["contraction"])), *_diagnosis(known),
    )  # fmt: skip


def field_moments(page: Contents, name: str) -> tuple[xr.DataArray, xr.DataArray]:
    """Mean and sd of a field: of the draws, or at the point."""
    if page.sampled:
        draws = page.tree["posterior"].to_dataset()[name]
        return draws.mean(("chain", "draw")), draws.std(("chain", "draw"))
    ds = page.linear
    value = _read.on_grid(_read.value_of_cells(ds), ds, name)
    return value, _read.on_grid(_read.variance_of_cells(ds) ** 0.5, ds, name)


def tiles(page: Contents) -> list[tuple[str, str]]:
    """Return the numbers at the top of the page: figure, and what it counts."""
    data, unknowns = int(one_point(page.linear["n_data"]).sum()), page.linear.sizes["unknown"]
    shown = [
        (grouped(len(page.modalities)), "data set" + "s" * (len(page.modalities) != 1)),
        (grouped(data), "datum" if data == 1 else "data"),
        (grouped(unknowns), "unknown" + "s" * (unknowns != 1)),
        (f"{float(page.resolution['dofs']):.1f}", "degrees of freedom"),
        (f"{float(page.information['eig']):.1f}", "nats of information"),
    ]
    if page.sampled:
        sizes = page.tree["posterior"].sizes
        shown.append((grouped(sizes["chain"] * sizes["draw"]), "draws"))
    return shown


def settings(page: Contents) -> list[tuple[str, str]]:
    """Return what was computed, and how."""
    attrs = page.linear.attrs
    rows = [
        ("Data sets", ", ".join(_with_power(page))),
        ("Latents", ", ".join(map(words, _read.latents(page.linear)))),
        ("Hyperparameters", ", ".join(map(words, _read.listed(page.linear, "hyperparameters")))),
        ("Couplings", ", ".join(map(words, _read.listed(page.linear, "couplings")))),
        ("Discrepancies", "; ".join(map(words, _discrepancies(page)))),
        ("Errors of the data sets", str(attrs.get("errors", "independent"))),
        ("Linearized at", _point(page)),
        ("Contraction from", str(page.identifiability.attrs["contraction_from"])),
        *_sampling(page),
        ("PyMC", str(attrs.get("pymc_version", ""))),
        ("bayesjoint", _version()),
    ]
    return [(name, value) for name, value in rows if value]


def _discrepancies(page: Contents) -> list[str]:
    forms = _read.listed(page.linear, "discrepancy_forms")
    return forms or _read.listed(page.linear, "discrepancies")


def _with_power(page: Contents) -> list[str]:
    powers = _read.powers(page.linear)
    return [f"{words(k)} (power {p:.3g})" if p != 1.0 else words(k) for k, p in powers.items()]


def _point(page: Contents) -> str:
    at = str(page.linear.attrs.get("at", "map"))
    named = {"map": "the maximum a posteriori", "values": "given values"}
    points = page.linear.sizes.get("point", 0)
    return f"{points} draws, averaged here" if points else named.get(at, at)


def _sampling(page: Contents) -> list[tuple[str, str]]:
    if not page.sampled:
        return [("Sampling", "none")]
    posterior = page.tree["posterior"]
    rows = [
        ("Chains × draws", f"{posterior.sizes['chain']} × {posterior.sizes['draw']}"),
        ("Warm-up draws", str(posterior.attrs.get("tuning_steps", ""))),
        ("Divergences", str(divergences(page))),
    ]
    if "sampling_time" in posterior.attrs:
        rows.append(("Sampling time", f"{float(posterior.attrs['sampling_time']):.1f} s"))
    if _read.has_groups(page.tree, "sample_stats") and "n_steps" in page.tree["sample_stats"]:
        rows.append(("Steps per draw", f"{float(page.tree['sample_stats']['n_steps'].mean()):.1f}"))
    return rows


def _version() -> str:
    from bayesjoint import __version__

    return __version__
