"""Whether the fitted model could have produced the data: posterior predictive checks."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import xarray as xr

from bayesjoint.reports import _read

QUANTITIES = ("mean", "sd", "largest", "autocorrelation", "chi2")
MOST_DRAWS = 1000  # draws used; p-values are then good to 0.016


@dataclass(frozen=True)
class Residuals:
    """Standardised residuals of one modality, (draw, first data dim, rest)."""

    observed: np.ndarray
    replicated: np.ndarray
    shape: tuple[int, ...]


def predictive_check(dt: xr.DataTree) -> xr.Dataset:
    """Posterior predictive p-values of residuals, per modality, jointly, and between modalities.

    Parameters
    ----------
    dt : xarray.DataTree
        From ``bj.sample`` (groups ``posterior``, ``posterior_predictive``, ``observed_data``).

    Returns
    -------
    xarray.Dataset
        Dims ``block`` (modalities, then ``"joint"``: all residuals together) and ``quantity``,
        dimensionless:

        - ``p_value`` (block, quantity): share of draws whose replicated quantity reaches the
          observed one; near 0 the data show more of it than the model allows, near 1 less;
        - ``observed``, ``replicated``, ``replicated_lower``, ``replicated_upper``
          (block, quantity): medians over draws, and the central 90 % of replications;
        - ``residual_correlation``, ``residual_correlation_replicated``,
          ``residual_correlation_p_value`` (modality, modality_other): correlation of residuals
          paired by index, a joint quantity; NaN between unequal numbers of data.

        Quantities of the standardised residuals: ``mean``, ``sd``, ``largest`` (absolute value),
        ``autocorrelation`` (lag 1 along the first dim of the data; NaN for the joint block),
        ``chi2`` (sum of squares). Attrs: ``draws``, the number of draws used.

    Raises
    ------
    ValueError
        When the tree lacks one of the groups, or no modality has both an observation and a
        response.

    Notes
    -----
    Residuals are ``observed - response`` and ``replicated - response``, draw by draw, divided by
    the standard deviation of the replicated ones at each datum: noise and model discrepancy as
    the posterior sees them, whatever the noise model. Realised discrepancies: Gelman, Meng &
    Stern (1996, Statistica Sinica 6:733). Replications share the parameters that the data chose:
    p-values are conservative, extremes are telling.

    Examples
    --------
    >>> from bayesjoint.reports import predictive_check
    >>> from bayesjoint.reports.example import example_tree
    >>> report = predictive_check(example_tree())
    >>> [str(block) for block in report["block"].values]
    ['gravity', 'arrivals', 'joint']
    """
    blocks = residuals(dt)
    values = {
        name: (_quantities(r.observed), _quantities(r.replicated)) for name, r in blocks.items()
    }
    values["joint"] = _joint(list(blocks.values()))
    report = _compared(values)
    report = report.merge(_correlations(blocks))
    drawn = next(iter(blocks.values())).observed.shape[0]
    return report.assign_attrs(report="predictive_check", draws=drawn, units="1", **_marks(dt))


def _marks(dt: xr.DataTree) -> dict[str, object]:
    if not _read.has_groups(dt, "linearization"):
        return {}
    return {"tempered": _read.tempered(_read.linearization(dt))}


def residuals(dt: xr.DataTree) -> dict[str, Residuals]:
    """Return standardised residuals by modality, of at most ``MOST_DRAWS`` draws."""
    names = ("posterior", "posterior_predictive", "observed_data")
    posterior, predictive, observed = (_read.group(dt, name) for name in names)
    whole = [k for k in observed.data_vars if f"{k}_response" in posterior and k in predictive]
    found = _read.in_order(dt, [str(k) for k in whole])
    if not found:
        raise ValueError(
            "no modality has an observation, a response and a posterior predictive; "
            f"observed_data holds {', '.join(map(str, observed.data_vars)) or 'nothing'}"
        )
    return {k: _standardised(observed[k], posterior[f"{k}_response"], predictive[k]) for k in found}


def _standardised(
    data: xr.DataArray, response: xr.DataArray, replicated: xr.DataArray
) -> Residuals:
    fitted, fresh = _thinned(response, data), _thinned(replicated, data)
    noise = fresh - fitted
    scale = noise.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)  # a datum that the model reproduces exactly
    flat = (fitted.shape[0], data.shape[0] if data.ndim else 1, -1)
    seen = (data.values - fitted) / scale
    return Residuals(seen.reshape(flat), (noise / scale).reshape(flat), data.shape)


def _thinned(draws: xr.DataArray, data: xr.DataArray) -> np.ndarray:
    values = draws.transpose("chain", "draw", *data.dims).values
    values = values.reshape(-1, *data.shape)
    return values[:: -(-values.shape[0] // MOST_DRAWS)]


def _quantities(values: np.ndarray) -> np.ndarray:
    """Return the test quantities (quantity, draw) of residuals (draw, first data dim, rest)."""
    axes = (1, 2)
    return np.stack(
        [
            values.mean(axes),
            values.std(axes),
            np.abs(values).max(axes),
            _lag_one(values),
            (values**2).sum(axes),
        ]
    )


def _lag_one(values: np.ndarray) -> np.ndarray:
    if values.shape[1] < 3:
        return np.full(values.shape[0], np.nan)
    centred = values - values.mean(axis=1, keepdims=True)
    total = (centred**2).sum((1, 2))
    shifted = (centred[:, 1:] * centred[:, :-1]).sum((1, 2))
    return np.divide(shifted, total, out=np.full_like(total, np.nan), where=total > 0)


def _joint(blocks: list[Residuals]) -> tuple[np.ndarray, np.ndarray]:
    sides = []
    for side in ("observed", "replicated"):
        flat = [getattr(block, side).reshape(block.observed.shape[0], 1, -1) for block in blocks]
        sides.append(_quantities(np.concatenate(flat, axis=2)))
    return sides[0], sides[1]


def _p_value(observed: np.ndarray, replicated: np.ndarray) -> np.ndarray:
    """Share of draws (last axis) with replicated at least observed; NaN stays NaN."""
    share = (replicated >= observed).mean(axis=-1)
    return np.where(np.isnan(observed).any(axis=-1), np.nan, share)


def _compared(values: dict[str, tuple[np.ndarray, np.ndarray]]) -> xr.Dataset:
    observed = np.stack([pair[0] for pair in values.values()])  # (block, quantity, draw)
    replicated = np.stack([pair[1] for pair in values.values()])
    dims = ("block", "quantity")
    lower, upper = np.quantile(replicated, [0.05, 0.95], axis=-1)
    return xr.Dataset(
        {
            "p_value": (dims, _p_value(observed, replicated)),
            "observed": (dims, np.median(observed, axis=-1)),
            "replicated": (dims, np.median(replicated, axis=-1)),
            "replicated_lower": (dims, lower),
            "replicated_upper": (dims, upper),
        },
        {"block": list(values), "quantity": list(QUANTITIES)},
    )


def _correlations(blocks: dict[str, Residuals]) -> xr.Dataset:
    names = list(blocks)
    shape = (len(names), len(names))
    seen, fresh, p_value = np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, np.nan)
    for i, j in combinations(range(len(names)), 2):
        first, second = blocks[names[i]], blocks[names[j]]
        if np.prod(first.shape) != np.prod(second.shape):
            continue
        observed = _correlation(first.observed, second.observed)
        replicated = _correlation(first.replicated, second.replicated)
        for where in ((i, j), (j, i)):
            seen[where], fresh[where] = np.median(observed), np.median(replicated)
            p_value[where] = _p_value(observed, replicated)
    dims = ("modality", "modality_other")
    return xr.Dataset(
        {
            "residual_correlation": (dims, seen),
            "residual_correlation_replicated": (dims, fresh),
            "residual_correlation_p_value": (dims, p_value),
        },
        {"modality": names, "modality_other": names},
    )


def _correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Correlation over data, draw by draw."""
    a, b = (x.reshape(x.shape[0], -1) for x in (first, second))
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.divide((a * b).sum(axis=1), scale, out=np.full(scale.shape, np.nan), where=scale > 0)
