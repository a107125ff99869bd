"""Each datum predicted from all others: whether predictions are as sharp as they claim."""

from __future__ import annotations

import numpy as np
import scipy.special
import scipy.stats
import xarray as xr

from bayesjoint._names import labelled, made
from bayesjoint.reports import _read
from bayesjoint.reports._numbers import data, short
from bayesjoint.reports._smoothed import smoothed_weights

OWNER = "leave_one_out"
TOO_FAR = 0.7  # Pareto's k from which importance weights are not to be trusted
NOT_UNIFORM = 0.01  # p-value below which predictions are called miscalibrated
MARGIN = 0.1  # of the sd of normal scores, or of their mean in sd, that is worth a word


@labelled
def leave_one_out(dt: xr.DataTree) -> xr.Dataset:
    """Predictive density and calibration of each datum given all others, modality by modality.

    Parameters
    ----------
    dt : xarray.DataTree
        From ``bj.sample`` (groups ``log_likelihood`` and ``predictive_cdf``; where errors are
        correlated ``log_likelihood_conditional``, of each datum given all others).

    Returns
    -------
    xarray.Dataset
        On the dims of the data:

        - ``<modality>_pit``: probability, given all other data, of a datum no larger than the one
          observed; uniform between 0 and 1 when the model is right;
        - ``<modality>_elpd``: log-density of the datum given all others;
        - ``<modality>_pareto_k``: above 0.7 the datum moves the posterior too far for importance
          sampling, see ``bj.leave_out`` and sampling without it; infinite where weights of a
          chain that stood still repeat, so that nothing tells how far.

        Over ``modality``: ``elpd`` and ``elpd_se``, sum and standard error; ``p_value`` of a
        uniform ``pit``; ``normal_sd``, ``normal_mean`` of ``pit`` as normal scores: an sd above 1
        means intervals too narrow, below 1 too wide; ``untrusted``, number of data above 0.7;
        ``n``.  Attrs: ``words`` (list of sentences), ``draws``, ``tempered``.

    Raises
    ------
    ValueError
        When the tree lacks one of the groups, or has fewer than 25 draws.

    Notes
    -----
    With importance weights ``1 / p(y_i | m, y_rest)``, smoothed by a Pareto tail (Vehtari et al.
    2024, JMLR 25:72), ``pit_i = sum_s w_s F(y_i | m_s, y_rest)``; the conditional form is that of
    Bürkner, Gabry & Vehtari (2021, doi 10.1007/s00180-020-01045-4).  These values depend on each
    other; the p-value, pointwise over order statistics with a Cauchy combination, allows for it
    (Tesso et al. 2026, arXiv 2603.02928).  A tempered modality has weights to its power.

    Examples
    --------
    >>> from bayesjoint.reports import leave_one_out
    >>> from bayesjoint.reports.example import example_tree
    >>> report = leave_one_out(example_tree())
    >>> report["gravity_pit"].dims
    ('station',)
    """
    densities, below = _densities(dt), _read.group(dt, "predictive_cdf")
    names = _read.in_order(dt, [str(name) for name in below.data_vars])
    powers = _powers(dt)
    single = {k: _of_modality(densities[k], below[k], powers.get(k, 1.0)) for k in names}
    parts = {made(f"{k}_{name}"): values for k, of in single.items() for name, values in of.items()}
    totals = [_totals(of) for of in single.values()]
    report = xr.Dataset(
        parts | {name: ("modality", [t[name] for t in totals]) for name in totals[0]},
        {"modality": names},
    )
    report.attrs = {
        "report": OWNER,
        "draws": below.sizes["chain"] * below.sizes["draw"],
        "tempered": [f"{k}: power {power:.4g}" for k, power in powers.items() if power != 1.0],
    }
    return report.assign_attrs(words=[_words(report.sel(modality=name)) for name in names])


def _densities(dt: xr.DataTree) -> dict[str, xr.DataArray]:
    """Return the log-density of each datum given all others, by modality."""
    found = {str(k): v for k, v in _read.group(dt, "log_likelihood").data_vars.items()}
    if _read.has_groups(dt, "log_likelihood_conditional"):
        given = dt["log_likelihood_conditional"].to_dataset()
        found |= {str(k): v for k, v in given.data_vars.items()}
    return found


def _powers(dt: xr.DataTree) -> dict[str, float]:
    if not _read.has_groups(dt, "linearization"):
        return {}
    return _read.powers(_read.linearization(dt))


def _of_modality(
    density: xr.DataArray, below: xr.DataArray, power: float
) -> dict[str, xr.DataArray]:
    """Return PIT, log predictive density and Pareto's k of each datum, on the dims of the data."""
    dims = [dim for dim in density.dims if dim not in ("chain", "draw")]
    log_density, share = (
        v.transpose(*dims, "chain", "draw").values.reshape(-1, v.sizes["chain"] * v.sizes["draw"])
        for v in (density, below)
    )
    weighed = [smoothed_weights(power * each, OWNER) for each in log_density]
    log_weights, pareto_k = (np.array(part) for part in zip(*weighed, strict=True))
    found = {
        "pit": np.sum(np.exp(log_weights) * share, axis=1),
        "elpd": scipy.special.logsumexp(log_weights + log_density, axis=1),
        "pareto_k": pareto_k,
    }
    template = _read.of_user(density.isel(chain=0, draw=0, drop=True).transpose(*dims))
    return {
        name: template.copy(data=values.reshape(template.shape)) for name, values in found.items()
    }


def _totals(of: dict[str, xr.DataArray]) -> dict[str, float]:
    """Return sums over the data of a modality, and what their PIT says."""
    from arviz_stats.base import array_stats

    pit, elpd = np.clip(of["pit"].values.ravel(), 0.0, 1.0), of["elpd"].values.ravel()
    scores = scipy.stats.norm.ppf(np.clip(pit, 1e-10, 1.0 - 1e-10))
    several = pit.size > 1
    return {
        "elpd": float(elpd.sum()),
        "elpd_se": float(np.sqrt(elpd.size) * elpd.std(ddof=1)) if several else np.nan,
        "p_value": float(array_stats.uniformity_test(pit)[0]) if several else np.nan,
        "normal_mean": float(scores.mean()),
        "normal_sd": float(scores.std(ddof=1)) if several else np.nan,
        "untrusted": int(np.sum(of["pareto_k"].values > TOO_FAR)),
        "n": pit.size,
    }


def _words(row: xr.Dataset) -> str:
    name = str(row["modality"].values).replace("_", " ")
    p_value, count = float(row["p_value"]), int(row["untrusted"])
    text = f"{name}: each datum is predicted by all others as it should be, p = {p_value:.2g}"
    if p_value < NOT_UNIFORM:
        text = (
            f"{name}: data are not where all others predict them ({_how(row)}), p = {p_value:.1g}"
        )
    elif np.isnan(p_value):
        text = f"{name}: a single datum says nothing of its predictions"
    if not count:
        return f"{text}."
    which = f"{data(count)} {'moves' if count == 1 else 'move'}"
    return f"{text}; {which} the posterior too far for importance sampling."


def _how(row: xr.Dataset) -> str:
    mean, sd = float(row["normal_mean"]), float(row["normal_sd"])
    found = []
    if sd > 1 + MARGIN:
        found.append(f"intervals are too narrow, by a factor of about {short(sd)}")
    elif sd < 1 - MARGIN:
        found.append(f"intervals are too wide, by a factor of about {short(1 / max(sd, 1e-3))}")
    if abs(mean) > MARGIN * sd:
        found.append(f"data are {'larger' if mean > 0 else 'smaller'} than predicted")
    return "; ".join(found) or "the shape of their distribution differs"
