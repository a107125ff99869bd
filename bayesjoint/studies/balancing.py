"""The balance of the modalities of a problem, before anyone samples."""

from __future__ import annotations

from typing import Any

import xarray as xr

from bayesjoint import _arguments, reports


def balance(problem: Any, equalise: bool = False) -> xr.Dataset:
    """Weigh the modalities: sensitivity, degrees of freedom, information, and where each leads.

    Parameters
    ----------
    problem : JointProblem or DataTree
        A problem is linearised at its maximum a posteriori; a tree of `sample` or `linearize`
        holds that already.
    equalise : bool
        Find also the powers of the likelihoods that would give each modality an equal say: equal
        partial degrees of freedom, the largest power 1.  A departure from the model.

    Returns
    -------
    Dataset
        Per modality: ``n_data``, ``sensitivity_norm`` and ``sensitivity_per_datum``,
        ``partial_dofs``, ``eig_alone``, ``eig_conditional``, shares that add up to one, and
        ``misfit_ratio``; per latent ``<latent>_alone``, ``<latent>_conditional`` and
        ``<latent>_leader`` on its own dims; ``scale`` of each latent; on request ``power``.
        ``attrs["words"]`` says what stands out and what to do.  All of it is described in
        ``bayesjoint.reports.balance``.

    Raises
    ------
    ValueError
        When `problem` is neither, or equal powers are asked for and do not exist.

    Notes
    -----
    The noise model is the balance: a posterior needs no other.  To apply the powers all the same::

        powers = bj.balance(problem, equalise=True)["power"]
        problem.replace(modalities=[
            dataclasses.replace(m, power=float(powers.sel(modality=m.name)))
            for m in problem.modalities
        ])

    They hold at the point of linearization; where the problem is not linear the maximum moves, and
    shares there are equal but roughly.  ``bj.linearize(tempered, at=values)`` stays at the point.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> import xarray as xr
    >>> import bayesjoint as bj
    >>> level = bj.Parameter("level", bj.Prior(pm.Normal, mu=0, sigma=1))
    >>> seen = bj.linear_map(np.ones((1, 1)), "level")
    >>> sharp, rough = (
    ...     bj.Modality(name, xr.DataArray([1.0], dims=f"{name}_t"), seen, bj.GaussianNoise(sd=sd))
    ...     for name, sd in (("sharp", 0.1), ("rough", 0.5))
    ... )
    >>> problem = bj.JointProblem(latents=[level], modalities=[sharp, rough])
    >>> bj.balance(problem, equalise=True)["power"].values.round(3)
    array([0.04, 1.  ])
    """
    _arguments.check("balance", equalise=equalise)
    if isinstance(problem, xr.DataTree):
        return reports.balance(problem, equalise)
    from bayesjoint.linearization import linearize
    from bayesjoint.problem import JointProblem

    if not isinstance(problem, JointProblem):
        raise ValueError(
            f"balance: a {type(problem).__name__} is neither a problem nor a tree; give a "
            "bj.JointProblem, or what bj.sample or bj.linearize returned"
        )
    return reports.balance(linearize(problem), equalise)
