"""Whether the modalities contradict each other: suspiciousness, and shifts of what they share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import scipy.stats
import xarray as xr

from bayesjoint.reports import _maxima, _read
from bayesjoint.reports._likelihoods import Explained, explained, sampled
from bayesjoint.reports._shifts import differences, shared, updates
from bayesjoint.reports._tension_words import tension_words

INFORMED_BY_PRIOR = 0.05  # share of the dimensions from which the chi-squared is called approximate


def tension(
    dt: xr.DataTree,
    separate: Mapping[str, xr.DataTree] | xr.DataTree,
    null: xr.Dataset | None = None,
) -> xr.Dataset:
    """Whether one model explains all modalities as well as a model for each does.

    Parameters
    ----------
    dt : xarray.DataTree
        Joint problem, from ``bj.sample`` or ``bj.linearize``.
    separate : mapping of modality to xarray.DataTree, or xarray.DataTree
        The same for each modality by itself (problems from ``problem.separate()``), or for the
        split problem (``problem.split()``), which correlated errors need.
    null : xarray.Dataset, optional
        From ``bj.tension_null(problem)``: the p-value is then that of simulated consistent data,
        which is right where the prior informs too; with ``refit=True`` also where settings of the
        errors are unknown.

    Returns
    -------
    xarray.Dataset
        Of the likelihoods (nats, dimensionless):

        - ``ln_suspiciousness``: by how much all modalities are explained better together than
          apart, without the share that priors decide; ``d``: the dimensions on which they could
          disagree; both with ``_mcse``, their Monte Carlo error (0 without draws);
        - ``p_value``: probability of no larger suspiciousness for consistent modalities;
          ``p_value_chi2``: that of ``d - 2 ln S`` in chi-squared with d; ``sigma``: the two-sided
          Gaussian equivalent of ``p_value``;
        - ``log_likelihood_joint``, ``log_likelihood_apart``: posterior means.

        Of the scalars and small vectors that two or more modalities reach:

        - ``value``, ``sd`` (modality, parameter), ``value_joint``, ``sd_joint`` (parameter), in the
          units of each;
        - ``difference`` (modality, modality_other, parameter): in sd of the difference;
        - ``shift`` (modality, parameter): of a modality's own mean from the joint one, in sd of
          that shift; NaN where the others add nothing;
        - ``q_dm``, ``q_dm_d``, ``q_dm_p_value`` (modality): the shift in all of them, the number of
          directions in which the others add something, and the p-value in chi-squared.

        Attrs: ``words`` (list of sentences), ``reason`` (why a p-value is NaN), ``modalities``,
        ``p_value_of``: ``"refits"`` to simulated data, ``"simulation"`` at the joint fit, or
        ``"chi-squared"``; ``p_value_smallest`` (the least that can be told), ``null_replicates``
        (0 for chi-squared), ``null_failed`` (that could not be fitted, left out),
        ``prior_share`` (share of the dimensions of the fits apart on which prior and
        data decide together), ``prior_informs`` (1 where it exceeds 5 %), ``null_exact``,
        ``apart`` (``"split"`` or ``"separate"`` fits), ``fitted_anew`` (unknown settings of the
        errors, which the split fit has for itself), ``null_holds`` (those that simulated data have
        as at the joint fit), and the settings of the joint fit.

    Raises
    ------
    ValueError
        When a modality is missing, fits are tempered or linearized elsewhere than at the maximum,
        some fits are sampled and others not, or errors are correlated and ``separate`` is a
        mapping.

    Notes
    -----
    Where a fit apart has several maxima of about the same height (groups ``linearization_1`` and
    on), the linearised numbers are those of the one nearest to the joint fit, and words tell of it.

    ``ln S = <ln L>_joint - sum_k <ln L_k>_separate``, ``d_G = 2 Var(ln L)``, ``d = sum d_k -
    d_joint``; ``d - 2 ln S`` follows chi-squared with d where posteriors are Gaussian and the prior
    does not inform (Handley & Lemos 2019, arXiv 1902.04029, 1903.06682).  Correlated errors: the
    split model in place of the separate ones (Lemos et al. 2020, arXiv 1910.07820).  Unknown sizes
    of the errors adapt to each fit.  Where a modality has few data for its parameters, the split
    fit takes errors for too small, and consistent data seem to contradict each other, unless the
    null has them fitted anew in simulated data too (``bj.tension_null(problem, refit=True)``).
    With ``problem.hold(joint)`` problem and split problem have the errors of the joint fit, which
    may have taken a contradiction for larger errors: the question is then whether modalities
    contradict each other beyond these.
    ``Q_DM = D^T (C_k - C_joint)^-1 D`` of the shift D of the mean (Raveri & Hu 2019, arXiv
    1806.04649); Gaussian linear models have ``Var D = C_k - C_joint`` whatever the prior.

    Examples
    --------
    >>> from bayesjoint.reports import tension
    >>> from bayesjoint.reports.example import example_tree
    >>> alone = {name: example_tree(modalities=[name]) for name in ("gravity", "arrivals")}
    >>> report = tension(example_tree(), alone)
    >>> bool(report["p_value"] > 0.05)
    True

    Where the prior informs, the words of the report say to compare with simulated data:

    >>> import numpy as np
    >>> import pymc as pm
    >>> import xarray as xr
    >>> import bayesjoint as bj
    >>> level = bj.Parameter("level", bj.Prior(pm.Normal, mu=0, sigma=0.5))
    >>> gauges = [
    ...     bj.Modality(
    ...         name, xr.DataArray([value], dims=f"{name}_time"),
    ...         bj.linear_map(np.ones((1, 1)), "level"), bj.GaussianNoise(sd=0.5),
    ...     )
    ...     for name, value in {"old": -0.5, "new": 0.6}.items()
    ... ]
    >>> problem = bj.JointProblem(latents=[level], modalities=gauges)
    >>> joint, split = bj.linearize(problem), bj.linearize(problem.split())
    >>> (told,) = [text for text in tension(joint, split).attrs["words"] if "null=" in text]
    >>> print(told.split("given by ")[1].split(", problem")[0])
    bj.tension(joint, split, null=bj.tension_null(problem))
    >>> report = tension(joint, split, null=bj.tension_null(problem, random_seed=1))
    >>> report.attrs["p_value_of"], round(float(report["p_value"]), 1)
    ('simulation', 0.1)
    """
    ds = _read.linearization(dt)
    names = _read.modalities(ds)
    split = isinstance(separate, xr.DataTree)
    if not isinstance(separate, xr.DataTree | Mapping):
        raise ValueError(
            f"tension: separate is a {type(separate).__name__}; give a mapping of modality to "
            "tree, or the tree of problem.split()"
        )
    given = {"the split fit": separate} if isinstance(separate, xr.DataTree) else dict(separate)
    _check(ds, given, split)
    own = (lambda latent: [f"{latent}__{k}" for k in names]) if split else _maxima.of_same_name
    fits = {owner: _maxima.nearest(tree, ds, own) for owner, tree in given.items()}
    report = _suspiciousness({"the joint fit": dt, **fits})
    apart = dict.fromkeys(names, fits["the split fit"]) if split else {k: fits[k] for k in names}
    common = shared(dt, apart, split)
    report = report.merge(differences(common, names)).merge(updates(common, names))
    share = _prior_share(list(fits.values()))
    report = report.assign(_judged(report, null))
    report.attrs = {
        "report": "tension",
        **_read.settings(ds),
        "modalities": names,
        "apart": "split" if split else "separate",
        "prior_share": share,
        "prior_informs": int(share > INFORMED_BY_PRIOR),
        "p_value_of": _kind(null),
        "p_value_smallest": _smallest(null),
        "null_replicates": _replicates(null),
        "null_failed": 0 if null is None else null.sizes["replicate"] - _replicates(null),
        "null_holds": _held(null),
        "null_exact": 1 if null is None else int(null.attrs.get("exact", 0)),
        "reason": _reason(report, null),
        "fitted_anew": _fitted_anew(ds, separate) if isinstance(separate, xr.DataTree) else [],
    }
    _put_units(report, ds)
    owners = {k if split else f"the fit of {k} alone": tree for k, tree in given.items()}
    return report.assign_attrs(words=[*tension_words(report), *_maxima.words(owners)])


def _check(joint: xr.Dataset, fits: Mapping[str, xr.DataTree], split: bool) -> None:
    """Raise unless the fits apart are those of all modalities, and all likelihoods compare."""
    names = _read.modalities(joint)
    read = {owner: _read.linearization(tree) for owner, tree in fits.items()}
    given = _read.modalities(read["the split fit"]) if split else list(fits)
    if sorted(given) != sorted(names) or len(names) < 2:
        raise ValueError(
            f"tension compares all modalities of the joint fit ({', '.join(names)}; two or more) "
            f"with as many fits apart; given: {', '.join(given) or 'none'}"
        )
    if str(joint.attrs.get("errors", "independent")) == "correlated" and not split:
        raise ValueError(
            "errors are correlated between modalities, so that separate fits lose what each says "
            "about the errors of the others; give the tree of problem.split() as separate"
        )
    for owner, ds in {"the joint fit": joint, **read}.items():
        if _read.tempered(ds):
            raise ValueError(
                f"{owner} is tempered ({', '.join(_read.tempered(ds))}): its likelihood is no "
                "probability of the data; use power=1"
            )


def _suspiciousness(fits: Mapping[str, xr.DataTree]) -> xr.Dataset:
    """Return ln S and d, the joint fit first."""
    if len({sampled(tree) for tree in fits.values()}) > 1:
        lacking = [owner for owner, tree in fits.items() if not sampled(tree)]
        raise ValueError(
            f"{', '.join(lacking)}: no draws, while others have some; sample all of them, or none"
        )
    joint, *others = (explained(tree, owner) for owner, tree in fits.items())
    everything = [joint, *others]
    return xr.Dataset(
        {
            "ln_suspiciousness": joint.mean - sum(e.mean for e in others),
            "ln_suspiciousness_mcse": _in_quadrature([e.mean_mcse for e in everything]),
            "d": sum(e.d for e in others) - joint.d,
            "d_mcse": _in_quadrature([e.d_mcse for e in everything]),
            "log_likelihood_joint": joint.mean,
            "log_likelihood_apart": _total(others),
        }
    )


def _total(fits: list[Explained]) -> float:
    return sum(fit.mean for fit in fits)


def _in_quadrature(errors: list[float]) -> float:
    return float(np.sqrt(np.sum(np.square(errors))))


def _judged(report: xr.Dataset, null: xr.Dataset | None) -> dict[str, float]:
    """Return p-values, and the Gaussian equivalent of the one that counts."""
    ln_s, d = float(report["ln_suspiciousness"]), float(report["d"])
    chi2 = float(scipy.stats.chi2.sf(d - 2.0 * ln_s, d)) if d > 0 else np.nan
    p_value = chi2
    if null is not None:
        # Replicates that failed are NaN and not among those as low.
        p_value = _smallest(null) * (1.0 + float(np.sum(null["ln_suspiciousness"] <= ln_s)))
    p_value = float(np.maximum(p_value, _smallest(null)))  # NaN stays NaN
    sigma = float(scipy.stats.norm.isf(p_value / 2.0))
    return {"p_value": p_value, "p_value_chi2": chi2, "sigma": sigma}


def _smallest(null: xr.Dataset | None) -> float:
    """Return the smallest p-value that can be told."""
    if null is None:
        return float(np.finfo(float).tiny)
    return 1.0 / (1.0 + _replicates(null))


def _replicates(null: xr.Dataset | None) -> int:
    """Return how many simulated data sets there are, without those that failed."""
    return 0 if null is None else int(null["ln_suspiciousness"].notnull().sum())


def _kind(null: xr.Dataset | None) -> str:
    if null is None:
        return "chi-squared"
    return "refits" if null.attrs.get("refitted", 0) else "simulation"


def _held(null: xr.Dataset | None) -> list[str]:
    """Return the unknown settings of the errors that are held in the simulated data."""
    if null is None or _kind(null) != "simulation":
        return []
    return _read.listed(null, "hyperparameters")


def _reason(report: xr.Dataset, null: xr.Dataset | None) -> str:
    d, error = float(report["d"]), float(report["d_mcse"])
    if d > 0:
        return ""
    spread = f" ± {error:.2g}" if error else ""
    cure = "" if null is not None else "; give bj.tension null=bj.tension_null(problem)"
    return (
        f"d = {d:.2g}{spread} is not positive: the modalities hardly share what they inform, and a "
        f"chi-squared has no meaning{cure}"
    )


def _fitted_anew(joint: xr.Dataset, split: xr.DataTree) -> list[str]:
    """Return the unknown settings of the errors, those that both fits have."""
    others = _read.listed(_read.linearization(split), "hyperparameters")
    return [str(n) for n in _read.listed(joint, "hyperparameters") if n in others]


def _prior_share(trees: list[xr.DataTree]) -> float:
    """Share of the dimensions of the fits apart in directions that data and prior both decide."""
    shares = np.concatenate(
        [np.ravel(_read.shrinkage(_read.linearization(tree)).values) for tree in trees]
    )
    total = float(shares.sum())
    return float((shares * (1.0 - shares)).sum()) / total if total > 0 else 0.0


def _put_units(report: xr.Dataset, ds: xr.Dataset) -> None:
    units = [_read.units(ds, str(label).split("[")[0]) for label in report["parameter"].values]
    report.coords["units"] = ("parameter", np.array(units, dtype=str))
