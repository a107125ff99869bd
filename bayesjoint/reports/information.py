"""How much was learned, in nats, from all data and from each modality."""

from __future__ import annotations

import numpy as np
import xarray as xr

from bayesjoint.reports import _read


def information(dt: xr.DataTree) -> xr.Dataset:
    """Information gained from the data together, from each modality alone, and on top of the rest.

    Parameters
    ----------
    dt : xarray.DataTree
        From ``bj.sample`` or ``bj.linearize`` (group ``linearization``).

    Returns
    -------
    xarray.Dataset
        In nats (divide by ln 2 for bits):

        - ``eig``: expected information gain of all data;
        - ``eig_alone`` (modality): of this modality, were it the only one;
        - ``eig_conditional`` (modality): what it adds when all the others are known already;
        - ``kl``: Kullback-Leibler divergence of the posterior from the coupled prior.

        With dim ``point`` when the tree was linearized at draws. Attrs repeat the settings, among
        them ``local``: 1 where the numbers hold near the point only, 0 where the problem is linear
        and Gaussian and ``eig`` is the expectation over all data.

    Raises
    ------
    ValueError
        When the tree has no group ``linearization``.

    Notes
    -----
    ``EIG = 1/2 sum log(1 + lam)``; conditional: ``EIG_all - EIG_rest``;
    ``KL = EIG - 1/2 sum lam / (1 + lam) + 1/2 ||z* - z_prior||^2`` in the metric ``I + Gamma``.
    In a linear Gaussian problem the expectation of KL over data is EIG.

    Examples
    --------
    >>> from bayesjoint.reports import information
    >>> from bayesjoint.reports.example import example_tree
    >>> report = information(example_tree())
    >>> bool((report["eig_alone"] <= report["eig"]).all())
    True
    """
    ds = _read.linearization(dt)
    eig = 0.5 * xr.apply_ufunc(np.log1p, _read.eigenvalues(ds)).sum("mode")
    kl = eig - 0.5 * _read.shrinkage(ds).sum("mode") + 0.5 * ds["prior_distance"]
    report = xr.Dataset(
        {
            "eig": eig.assign_attrs(long_name="expected information gain"),
            "eig_alone": ds["eig_alone"].assign_attrs(long_name="information gain alone"),
            "eig_conditional": (eig - ds["eig_without"]).assign_attrs(
                long_name="information gain on top of the other modalities"
            ),
            "kl": kl.assign_attrs(long_name="Kullback-Leibler divergence from the prior"),
        }
    )
    for name in report.data_vars:
        report[name].attrs["units"] = "nat"
    return report.assign_attrs({"report": "information", **_read.settings(ds)})
