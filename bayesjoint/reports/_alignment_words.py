"""Flattening or alignment, in words."""

from __future__ import annotations

import numpy as np
import xarray as xr

from bayesjoint.reports._numbers import percent, short

MOSTLY = 2.0 / 3.0  # share of the fall that makes one cause the main one
NOTICED = np.log(1.2)  # fall, or rise, that is worth a word
LITTLE = 0.1  # narrowing that is little
FLAT = 0.5  # flat share from which similarity rests on little


def alignment_words(report: xr.Dataset) -> list[str]:
    """Return sentences about each pair."""
    found: list[str] = []
    for i in range(report.sizes["pair"]):
        row = report.isel(pair=i)
        found += [_alike(row), *_flat(row), *_why(row), *_worth(row)]
    return found


def _names(row: xr.Dataset) -> str:
    return f"{row['first'].item()} and {row['second'].item()}"


def _mean(values: xr.DataArray) -> float:
    return float(values.mean())


def _alike(row: xr.Dataset) -> str:
    together, prior = _mean(row["correlation"]), _mean(row["prior_correlation"])
    if not np.isfinite(row["similarity"]).any():
        return (
            f"{_names(row)}: correlation {together:.2f} (prior {prior:.2f}); structural "
            "similarity is not defined in one dimension, or where all is flat."
        )
    low, high = np.nanquantile(row["similarity"], [0.05, 0.95])
    return (
        f"{_names(row)}: structural similarity {_mean(row['similarity']):.2f} ({low:.2f} to "
        f"{high:.2f}; prior {_mean(row['prior_similarity']):.2f}), correlation {together:.2f} "
        f"(prior {prior:.2f}); {percent(_mean(row['flat_share']))} of the volume is flat (prior "
        f"{percent(_mean(row['prior_flat_share']))})."
    )


def _flat(row: xr.Dataset) -> list[str]:
    flat = _mean(row["flat_share"])
    if flat < FLAT or not np.isfinite(row["similarity"]).any():
        return []
    return [
        f"{_names(row)}: similarity rests on the {percent(1 - flat)} of the volume that is "
        "not flat."
    ]


def _why(row: xr.Dataset) -> list[str]:
    """Say what lowered the cross-gradient, beside the reference."""
    if "log_drop" not in row:
        if not np.isfinite(row["similarity"]).any():
            return []
        return [
            f"{_names(row)}: whether the coupling aligned or flattened them shows beside a run "
            "without it: bj.alignment(tree, reference=...)."
        ]
    fallen = float(row["log_drop"])
    if not np.isfinite(fallen):
        return []
    before = _mean(row["reference_similarity"])
    start = (
        f"{_names(row)}: beside the reference, similarity goes from {before:.2f} to "
        f"{_mean(row['similarity']):.2f} and squared cross-gradients "
    )
    if abs(fallen) < NOTICED:
        return [f"{start}stay as they are."]
    parts = {str(k): float(row["log_drop_part"].sel(part=k)) for k in row["part"].values}
    product = (
        f"{_fold(parts['alignment'])} (aligned structure) × {_fold(parts['flattening'])} (flatter "
        f"fields) × {_fold(parts['separation'])} (edges apart)"
    )
    if fallen < 0:
        return [f"{start}rise {_fold(-fallen)}-fold; they fall by {product}."]
    return [f"{start}fall {_fold(fallen)}-fold = {product}: {_verdict(parts, fallen)}."]


def _worth(row: xr.Dataset) -> list[str]:
    """Say what the coupling was worth to each field, and which other might be worth more."""
    if "narrowing_first" not in row:
        return []
    names = [str(row[place].item()) for place in ("first", "second")]
    gained = [float(row[f"narrowing_{place}"]) for place in ("first", "second")]
    told = " and ".join(f"{n} {percent(g)}" for n, g in zip(names, gained, strict=True))
    found = [f"{_names(row)}: beside the reference, the posterior sd shrinks: {told}."]
    if _mean(row["reference_similarity"]) <= _mean(row["prior_similarity"]):
        found.append(
            f"{_names(row)}: without the coupling the data show no shared structure (similarity "
            f"{_mean(row['reference_similarity']):.2f}, prior "
            f"{_mean(row['prior_similarity']):.2f}): that they share any is an assumption."
        )
    left = [name for name, gain in zip(names, gained, strict=True) if gain < LITTLE]
    if left:
        found.append(
            f"{' and '.join(left)} gained little: shared edges are met by a flat or blurred "
            "partner too, and carry no values. Where rocks tie the values, CorrelatedFields or "
            "PropertyRelation carry them; where the ground is a few units, PropertyMixture."
        )
    return found


def _verdict(parts: dict[str, float], fallen: float) -> str:
    share = parts["alignment"] / fallen
    if share >= MOSTLY:
        return "alignment"
    if share > 1 - MOSTLY:
        return "alignment and flattening alike"
    return "flattening" if parts["flattening"] >= parts["separation"] else "edges that lie apart"


def _fold(log: float) -> str:
    return short(float(np.exp(log)))
