"""What each modality gives up in the joint fit: the compromise."""

from __future__ import annotations

from collections.abc import Mapping

import xarray as xr

from bayesjoint import _arguments
from bayesjoint._names import labelled
from bayesjoint.reports import _maxima, _read
from bayesjoint.reports._fusion import Fits, models, moved, of_fusion, stack
from bayesjoint.reports._fusion_words import compromise_words


@labelled
def compromise(dt: xr.DataTree, separate: Mapping[str, xr.DataTree]) -> xr.Dataset:
    """Misfit of each modality in the joint fit beside its misfit when it is fitted by itself.

    Parameters
    ----------
    dt : xarray.DataTree
        Joint problem, from ``bj.sample`` or ``bj.linearize`` at the maximum a posteriori.
    separate : mapping of modality to xarray.DataTree
        The same for each modality by itself (problems from ``problem.separate()``).

    Returns
    -------
    xarray.Dataset
        Over ``modality`` (those in ``separate``) and ``latent``, dimensionless:

        - ``chi2_joint``, ``chi2_separate``, ``n`` (modality): whitened misfits, number of data;
        - ``prior_norm_joint`` (latent), ``prior_norm_separate`` (modality, latent): squared
          distance from the prior in white coordinates; NaN for latents a modality does not reach;
        - ``penalised_joint``, ``penalised_separate`` (modality): misfit plus the prior norms of
          the latents that the modality reaches;
        - ``distance_prior_sd`` (modality, latent): from separate to joint estimate, root mean
          square over cells, in prior sd; ``distance_own_sd``, in posterior sd of the separate fit;
        - ``chi2_averaged`` (averaging, modality): misfit of each modality at the average of the
          separate models, ``"weighted"`` by their inverse posterior variances or ``"plain"``.
          Latents that one modality alone reaches are that one's, all else is the joint fit's.
          From the linearization at the joint fit: exact where that is linear;
        - for each latent that a separate fit reaches, in its units: ``<latent>_joint`` and
          ``<latent>_separate`` (modality), both also with ``_sd``, linearised; where two or more
          reach it, the averages ``<latent>_averaged`` (weighted) and ``<latent>_averaged_plain``
          (data fusion after inversion, which counts the prior once per modality).

        Attrs: ``words`` (list of sentences), and the settings of the joint linearization.

    Raises
    ------
    ValueError
        When ``separate`` is empty, names a modality that the joint problem lacks, or a tree was
        linearized at draws.

    Notes
    -----
    Where a separate fit has several maxima of about the same height (groups ``linearization_1`` and
    on), the one nearest to the joint fit is compared, and words tell of it.

    At the maximum a posteriori of a problem without unknown covariances or couplings,
    ``chi2_k + ||z||^2`` of modality k is never smaller in the joint fit than in its separate fit,
    since the separate fit minimises it; ``chi2_k`` alone usually is not smaller.  At a model
    that differs from the joint fit by ``V c``, ``chi2_k + 2 slope_k . c + |M_k c|^2``.

    Examples
    --------
    >>> from bayesjoint.reports import compromise
    >>> from bayesjoint.reports.example import example_tree
    >>> alone = {name: example_tree(modalities=[name]) for name in ("gravity", "arrivals")}
    >>> report = compromise(example_tree(), alone)
    >>> bool((report["penalised_joint"] >= report["penalised_separate"] - 1e-9).all())
    True
    """
    joint, separate = _read.linearization(dt), _arguments.trees("compromise", "separate", separate)
    nearest = {k: _maxima.nearest(t, joint, _maxima.of_same_name) for k, t in separate.items()}
    alone = _checked(joint, nearest)
    modality = list(alone)
    report = xr.Dataset(
        {
            "chi2_joint": joint["chi2"].sel(modality=modality),
            "chi2_separate": stack(
                [alone[k]["chi2"].sel(modality=k, drop=True) for k in modality], modality
            ),
            "n": joint["n_data"].sel(modality=modality),
            "prior_norm_joint": joint["prior_norm"],
            "prior_norm_separate": stack([alone[k]["prior_norm"] for k in modality], modality),
        }
    )
    reached = report["prior_norm_separate"].notnull()
    norm_joint = report["prior_norm_joint"].where(reached).sum("latent")
    report["penalised_joint"] = report["chi2_joint"] + norm_joint
    report["penalised_separate"] = report["chi2_separate"] + report["prior_norm_separate"].sum(
        "latent"
    )
    fits = Fits(joint, alone)
    report = report.assign(models(fits)).assign(moved(fits)).assign(of_fusion(fits))
    report.attrs = {"report": "compromise", **_read.settings(joint)}
    several = _maxima.words({f"the fit of {k} alone": separate[k] for k in modality})
    told = compromise_words(report)
    return report.assign_attrs(words=[*told[:-1], *several, told[-1]])


def _checked(joint: xr.Dataset, separate: Mapping[str, xr.DataTree]) -> dict[str, xr.Dataset]:
    known = _read.modalities(joint)
    if not separate:
        raise ValueError(f"separate is empty; give a DataTree for some of: {', '.join(known)}")
    for name in separate:
        if name not in known:
            raise ValueError(f"there is no modality '{name}'; the joint fit has {', '.join(known)}")
    alone = {name: _read.linearization(separate[name]) for name in known if name in separate}
    for name, ds in {"the joint fit": joint, **alone}.items():
        if "point" in ds.dims:
            raise ValueError(f"{name} was linearized at draws; compromise compares best fits")
    for name, ds in alone.items():
        if name not in _read.modalities(ds):
            raise ValueError(f"separate['{name}'] has no modality '{name}'")
    return alone
