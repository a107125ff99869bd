"""The suspiciousness that consistent modalities would show, priors included."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from bayesjoint._actions import LocalActions
from bayesjoint._coupled_prior import coupled_prior
from bayesjoint._functions import ModelFunctions
from bayesjoint._informed import DATA_LIMIT, Informed
from bayesjoint._kernels.quadratic import suspiciousness_weights, weighted_chi_squares
from bayesjoint._latent_space import LatentSpace
from bayesjoint._mode import maximum_a_posteriori
from bayesjoint.linearization import default_starts, is_gaussian
from bayesjoint.problem import JointProblem


def tension_null(
    problem: JointProblem,
    at: Any = None,
    *,
    replicates: int = 10_000,
    random_seed: int | None = None,
) -> xr.Dataset:
    """Return the suspiciousness of simulated data sets that are consistent by construction.

    Parameters
    ----------
    problem : JointProblem
    at : None, mapping or DataTree
        Where maps are linearised: the maximum a posteriori (default), values of all latents and
        hyperparameters by name, or a tree of this problem from `sample` or `linearize`, whose point
        is taken without a search.
    replicates : int
        Number of simulated data sets.
    random_seed : int, optional
        Makes the result repeatable.

    Returns
    -------
    Dataset
        ``ln_suspiciousness`` (replicate), to be given to `tension` as ``null=``; ``weights``
        (component) and ``offset`` of its exact form.  Attribute ``exact``: 1 where all is linear,
        Gaussian and of known scale; otherwise 0, the distribution is that at the point, with
        hyperparameters held there.

    Raises
    ------
    ValueError
        With fewer than two modalities, a tempered one, or more than 2,000 data and as many
        unknowns.

    Notes
    -----
    Data are drawn from the prior predictive distribution of the joint model: whitened by the errors
    and about the prior mean, ``y ~ N(0, I + A A^T)``.  The joint fit and that of the split problem
    have ``<ln L> = c - (y^T (I - K)^2 y + tr K) / 2`` with ``K = A (I + A^T A)^-1 A^T``, each its
    own A, so that ln S is a weighted sum of squares of standard normal numbers, simulated without
    any fit.  Where the prior does not inform it tends to ``d/2 - chi^2_d / 2`` (Handley & Lemos
    2019, arXiv 1902.04029).

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> import xarray as xr
    >>> import bayesjoint as bj
    >>> level = bj.Parameter("level", bj.Prior(pm.Normal, mu=0, sigma=1))
    >>> gauges = [
    ...     bj.Modality(
    ...         name, xr.DataArray([value], dims=f"{name}_time"),
    ...         bj.linear_map(np.ones((1, 1)), "level"), bj.GaussianNoise(sd=0.5),
    ...     )
    ...     for name, value in {"old": 0.1, "new": 0.4}.items()
    ... ]
    >>> problem = bj.JointProblem(latents=[level], modalities=gauges)
    >>> null = bj.tension_null(problem, replicates=1000, random_seed=1)
    >>> null.sizes["replicate"], null.attrs["exact"]
    (1000, 1)
    """
    _check(problem)
    functions = ModelFunctions(problem)
    space = LatentSpace(functions)
    point = _point(functions, space, at)
    apart = ModelFunctions(problem.split())
    joint = _sensitivity(functions, space, point)
    split = _sensitivity(apart, *_same_point(apart, space, point))
    weights, offset = suspiciousness_weights(joint, split)
    draws = weighted_chi_squares(weights, replicates, np.random.default_rng(random_seed))
    exact = is_gaussian(problem, space) and not problem.couplings
    return xr.Dataset(
        {
            "ln_suspiciousness": ("replicate", offset - 0.5 * draws),
            "weights": ("component", weights),
            "offset": offset,
        },
        attrs={
            "exact": int(exact),
            "modalities": list(problem.modality),
            "random_seed": -1 if random_seed is None else random_seed,
        },
    )


def _check(problem: JointProblem) -> None:
    if len(problem.modalities) < 2:
        raise ValueError(
            f"tension_null: the problem has {len(problem.modalities)} modality; two or more can "
            "contradict each other"
        )
    for modality in problem.modalities:
        if modality.power != 1.0:
            raise ValueError(
                f"tension_null: modality {modality.name!r} is tempered (power {modality.power:g}); "
                "a tempered likelihood has no distribution of data, set power=1"
            )


def _point(functions: ModelFunctions, space: LatentSpace, at: Any) -> np.ndarray:
    if at is None:
        return maximum_a_posteriori(functions, default_starts(functions.problem)).point
    if isinstance(at, xr.DataTree):
        stored = at["linearization"].to_dataset() if "linearization" in at.children else {}
        if any(name not in stored or "point" in stored[name].dims for name in space.names):
            raise ValueError(
                "tension_null: at= is no tree of this problem at one point; give that of "
                "bj.linearize(problem) or bj.sample(problem)"
            )
        at = {name: stored[name].values for name in space.names}
    if not isinstance(at, Mapping):
        raise ValueError("tension_null: at= takes None, a mapping of names to values, or a tree")
    return space.point_of_values(at)


def _same_point(
    apart: ModelFunctions, joint: LatentSpace, point: np.ndarray
) -> tuple[LatentSpace, np.ndarray]:
    """Return the space of the split problem, and where all copies are as in the joint one."""
    values = dict(zip(joint.names, joint.values(point), strict=True))
    space = LatentSpace(apart)
    endings = [f"__{name}" for name in apart.data_slices]
    return space, space.point_of_values({n: values[_original(n, endings)] for n in space.names})


def _original(name: str, endings: list[str]) -> str:
    """Return what an unknown of the split problem is called in the joint one."""
    for ending in endings:
        name = name.replace(ending, "")
    return name


def _sensitivity(functions: ModelFunctions, space: LatentSpace, point: np.ndarray) -> np.ndarray:
    """Return the whitened Jacobian on unknowns with a standard normal prior, (data, unknown)."""
    actions, scaling = LocalActions(functions, point), space.scaling(point)
    informed = Informed(actions, scaling, coupled_prior(actions, scaling), 0.0)
    if not informed.by_rows:
        raise ValueError(
            f"tension_null: {functions.data.size} data and {space.size} unknowns are too many, of "
            f"one at most {DATA_LIMIT}; thin the data, or do without null="
        )
    return informed.whitened(range(len(functions.data_slices)))[: functions.data.size]
