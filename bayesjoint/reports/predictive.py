"""Whether the fitted model could have produced the data: posterior predictive checks."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from bayesjoint._names import free
from bayesjoint.reports import _read
from bayesjoint.reports._shared_residuals import Residuals, p_value, shared_residuals

QUANTITIES = ("mean", "sd", "largest", "autocorrelation", "chi2")
MOST_DRAWS = 1000  # draws used; p-values are then good to 0.016


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
          observed one; near 0 the data show more of it than the model allows, near 1 less; NaN for
          a quantity that cannot vary, as the scatter of a single datum;
        - ``observed``, ``replicated``, ``replicated_lower``, ``replicated_upper``
          (block, quantity): medians over draws, and the central 90 % of replications;
        Of each two modalities (modality, modality_other), NaN where it does not apply, each with
        ``_replicated``, ``_replicated_lower``, ``_replicated_upper`` and ``_p_value`` after it:

        - ``residual_correlation``: correlation of residuals of ``residual_pairs`` pairs, formed as
          ``residual_pairing`` says: by the labels of a dim of both, nearest in coordinates of both
          (those of the discrepancy, where it has some), by index where they have no coordinate in
          common and equal numbers, else "not applicable" and why; where several data lie at one
          place (components), the one farthest from zero;
        - ``cross_chi2``: chi2 of both together minus that of each, where the model has errors in
          common; 0 on average.  p near 0: those of the data are weaker than the model's, or of
          another sign or pattern; near 1: stronger.

        Quantities of the standardised residuals: ``mean``, ``sd``, ``largest`` (absolute value),
        ``autocorrelation`` (lag 1 along the first dim of the data; NaN for the joint block),
        ``chi2``, the squared Mahalanobis length: ``r^T C^-1 r`` with the covariance C of all errors
        of the block at the draw; a sum of squares where they are independent.

        Attrs: ``draws``, the number of draws used (the squared lengths are stored of fewer, 500 to
        1,000, in long runs); ``chi2``: ``"mahalanobis"`` or ``"sum of
        squares"``, also where a tree lacks the group ``mahalanobis``; ``words`` (list of
        sentences) of the modalities two by two.

    Raises
    ------
    ValueError
        When the tree lacks one of the groups, or no modality has both an observation and a
        response.

    Notes
    -----
    Residuals are ``observed - response`` and ``replicated - response``, draw by draw, divided by
    the standard deviation of the replicated ones at each datum: noise and model discrepancy as
    the posterior sees them, whatever the noise model.  Realised discrepancies: Gelman, Meng &
    Stern (1996, Statistica Sinica 6:733).

    What p-values mean: replications share the parameters that the data chose.  Over data that the
    model itself would produce, p-values have mean 1/2 and vary no more than uniform ones: at most
    2 p of them are below p (Meng 1994, Ann. Stat. 22:1142), and fewer, the more of the data go into
    parameters.  Under Gaussian errors of known covariance the distributions of ``chi2`` and
    ``cross_chi2`` do not depend on the latents, so that their p-values are nearly uniform where
    parameters are few beside data.  Noise that is not Gaussian enters C by the variance of its
    Fisher information: another quantity, compared with replications all the same.

    ``cross_chi2`` of errors of equal variances and correlation c, c' in the data, has the mean
    ``2 n c (c - c') / (1 - c^2)``.  Where the model has no error in common it does not exist, and
    the correlation of residuals tells.

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
        name: (_quantities(_rows(r, r.observed)), _quantities(_rows(r, r.replicated)))
        for name, r in blocks.items()
    }
    values[free("joint", blocks)] = _joint(list(blocks.values()))
    report = _compared(values)
    stored = _read.has_groups(dt, "mahalanobis")
    if stored:
        report = _with_mahalanobis(report, dt["mahalanobis"].to_dataset())
    shared = shared_residuals(dt, blocks)
    drawn = next(iter(blocks.values())).observed.shape[0]
    return report.merge(shared).assign_attrs(
        report="predictive_check",
        draws=drawn,
        chi2="mahalanobis" if stored else "sum of squares",
        words=shared.attrs["words"],
        units="1",
        **_marks(dt),
    )


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
    noise = np.where(np.isnan(data.values), np.nan, fresh - fitted)  # missing: nothing to compare
    scale = noise.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)  # a datum that the model reproduces exactly
    return Residuals((data.values - fitted) / scale, noise / scale, data)


def _thinned(draws: xr.DataArray, data: xr.DataArray) -> np.ndarray:
    values = draws.transpose("chain", "draw", *data.dims).values
    values = values.reshape(-1, *data.shape)
    return values[:: -(-values.shape[0] // MOST_DRAWS)]


def _rows(block: Residuals, values: np.ndarray) -> np.ndarray:
    """Return residuals as (draw, first data dim, rest)."""
    return values.reshape(len(values), block.data.shape[0] if block.data.ndim else 1, -1)


def _quantities(values: np.ndarray) -> np.ndarray:
    """Return the test quantities (quantity, draw) of residuals (draw, first data dim, rest)."""
    axes, there = (1, 2), _there(values)
    return np.stack(
        [
            values.mean(axes, where=there),
            values.std(axes, where=there),
            np.abs(values).max(axes, initial=0.0, where=there),
            _lag_one(values),
            (values**2).sum(axes, where=there),
        ]
    )


def _there(values: np.ndarray) -> Any:
    """Return which data are not missing, True where all are there."""
    missing = np.isnan(values[:1])
    return ~missing if missing.any() else True


def _lag_one(values: np.ndarray) -> np.ndarray:
    if values.shape[1] < 3:
        return np.full(values.shape[0], np.nan)
    there = _there(values)
    if there is not True:
        values, there = values[:, :, there.any(axis=1)[0]], there[:, :, there.any(axis=1)[0]]
    centred = values - values.mean(axis=1, keepdims=True, where=there)
    centred = np.where(there, centred, 0.0)
    total = (centred**2).sum((1, 2))
    shifted = (centred[:, 1:] * centred[:, :-1]).sum((1, 2))
    return np.divide(shifted, total, out=np.full_like(total, np.nan), where=total > 0)


def _joint(blocks: list[Residuals]) -> tuple[np.ndarray, np.ndarray]:
    sides = []
    for side in ("observed", "replicated"):
        flat = [getattr(block, side).reshape(block.observed.shape[0], 1, -1) for block in blocks]
        sides.append(_quantities(np.concatenate(flat, axis=2)))
    return sides[0], sides[1]


def _compared(values: dict[str, tuple[np.ndarray, np.ndarray]]) -> xr.Dataset:
    observed = np.stack([pair[0] for pair in values.values()])  # (block, quantity, draw)
    replicated = np.stack([pair[1] for pair in values.values()])
    dims, coords = ("block", "quantity"), {"block": list(values), "quantity": list(QUANTITIES)}
    numbers = _judged(observed, replicated)
    return xr.Dataset({name: (dims, value) for name, value in numbers.items()}, coords)


def _judged(observed: np.ndarray, replicated: np.ndarray) -> dict[str, np.ndarray]:
    """Return the p-value, medians and range of quantities, draws on their last axis."""
    lower, upper = np.quantile(replicated, [0.05, 0.95], axis=-1)
    return {
        "p_value": p_value(observed, replicated),
        "observed": np.median(observed, axis=-1),
        "replicated": np.median(replicated, axis=-1),
        "replicated_lower": lower,
        "replicated_upper": upper,
    }


def _with_mahalanobis(report: xr.Dataset, lengths: xr.Dataset) -> xr.Dataset:
    """Return the report with the stored chi2, under the covariance of all errors of a block."""
    report = report.copy(deep=True)
    *single, joint = map(str, report["block"].values)
    for block in (*single, joint):
        alone = {} if block == joint else {"modality": block, "modality_other": block}
        suffix = "_joint" if block == joint else ""
        sides = (lengths[f"{side}{suffix}"].sel(alone) for side in ("observed", "replicated"))
        numbers = _judged(*(side.transpose("chain", "draw").values.ravel() for side in sides))
        for name, value in numbers.items():
            report[name].loc[{"block": block, "quantity": "chi2"}] = value
    return report
