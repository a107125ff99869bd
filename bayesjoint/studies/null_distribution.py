"""The suspiciousness that consistent modalities would show, priors included."""

from collections.abc import Mapping
from concurrent.futures import Executor
from typing import Any

import numpy as np
import xarray as xr

from bayesjoint import _arguments
from bayesjoint._compiled.functions import ModelFunctions, compiled
from bayesjoint._compiled.latent_space import LatentSpace
from bayesjoint._kernels.quadratic import suspiciousness_weights, weighted_chi_squares
from bayesjoint._local.actions import LocalActions
from bayesjoint._local.coupled_prior import coupled_prior
from bayesjoint._local.informed import DATA_LIMIT, Informed
from bayesjoint._local.mode import maximum_a_posteriori
from bayesjoint._problem.settled import at_one_point
from bayesjoint.linearization import default_starts, is_gaussian
from bayesjoint.problem import JointProblem, require_problem
from bayesjoint.studies._null_refits import Task, refitted, same_point

SIMULATED, REFITTED = 10_000, 100  # replicates by default: in the linear model, and refitted


def tension_null(
    problem: JointProblem,
    at: Any = None,
    *,
    replicates: int | None = None,
    refit: bool = False,
    starts: int = 1,
    executor: Executor | None = None,
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
    replicates : int, optional
        Number of simulated data sets.  Default: 10,000, or 100 with ``refit``.  The smallest
        p-value that can be told is one in as many and one.
    refit : bool
        Fit joint and split problem to each simulated data set anew, unknown settings of the errors
        included, as `tension` has them with the data.  Takes two linearizations a replicate; needed
        where settings of the errors are unknown.
    starts : int
        Of each search for the maximum with ``refit``: the first is the simulated truth, others
        cover the prior.
    executor : Executor, optional
        Runs the replicates with ``refit``, as ``concurrent.futures.ProcessPoolExecutor()`` or that
        of a cluster.  Default: one after the other.
    random_seed : int, optional
        Makes the result repeatable; a replicate depends on it and on its own number alone.

    Returns
    -------
    Dataset
        ``ln_suspiciousness`` (replicate), to be given to `tension` as ``null=``.  Without ``refit``
        also ``weights`` (component) and ``offset`` of its exact form; with it ``failure``
        (replicate), why a fit failed, "" where none did; ln S of those is NaN.  Attributes:
        ``exact``, 1 where all is linear, Gaussian and of known scale; otherwise 0, the distribution
        is that at the point, with hyperparameters held there unless ``refitted`` is 1;
        ``hyperparameters``, unknown settings of errors and fields; ``failed``, how many replicates.

    Raises
    ------
    ValueError
        With fewer than two modalities, a tempered one, no replicates, or more than 2,000 data and
        as many unknowns (without ``refit``); with ``refit``, when a discrepancy under noise that is
        not Gaussian has no likelihood in closed form, or all replicates fail; when an executor is
        given without ``refit``.

    Notes
    -----
    Data are drawn from the prior predictive distribution of the joint model: whitened by the errors
    and about the prior mean, ``y ~ N(0, I + A A^T)``.  The joint fit and that of the split problem
    have ``<ln L> = c - (y^T (I - K)^2 y + tr K) / 2`` with ``K = A (I + A^T A)^-1 A^T``, each its
    own A, so that ln S is a weighted sum of squares of standard normal numbers, simulated without
    any fit.  Where the prior does not inform it tends to ``d/2 - chi^2_d / 2`` (Handley & Lemos
    2019, arXiv 1902.04029).

    Where settings of the errors are unknown, `tension` fits them to joint and split problem each,
    and the ln S of that is lower than with settings held, the more so the fewer the data: p-values
    from settings held are too small.  With ``refit`` the statistic is the same for simulated and
    measured data.  Simulated are data of the posterior predictive distribution: all unknowns, the
    settings of the errors too, are drawn from the Gaussian at the point.  Directions that the data
    determine are near the fit; others are as the prior has them, where the fit itself, drawn to the
    prior, would simulate data that agree too well.  Over the prior such p-values have mean 1/2 and
    vary no more than uniform ones (Meng 1994, Ann. Stat. 22, 1142).

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
    require_problem(problem)
    owner = "tension_null"
    _arguments.check(owner, refit=refit, starts=starts)
    _arguments.check_given(
        owner, at=at, replicates=replicates, executor=executor, random_seed=random_seed
    )
    _check(problem, refit, executor)
    replicates = (REFITTED if refit else SIMULATED) if replicates is None else replicates
    if replicates < 1:
        raise ValueError(f"tension_null: replicates={replicates}; the least is 1, 400 tell 3 sigma")
    attrs = {
        "modalities": list(problem.modality),
        "random_seed": -1 if random_seed is None else random_seed,
        "refitted": int(refit),
    }
    with compiled(problem) as functions:
        space = functions.once(LatentSpace)
        point = _point(functions, space, at)
        attrs["hyperparameters"] = [u.name for u in space.unknowns if u.kind == "hyperparameter"]
        if not refit:
            with compiled(problem.split()) as apart:
                null = at_point(space, apart.once(LatentSpace), point, replicates, random_seed)
            return null.assign_attrs(**attrs, exact=int(is_gaussian(problem, space)), failed=0)
    found = _refitted(Task(problem, point, starts), replicates, random_seed, executor)
    return found.assign_attrs(**attrs, exact=0)


def _refitted(
    task: Task, replicates: int, random_seed: int | None, executor: Executor | None
) -> xr.Dataset:
    values, failures = refitted(task, replicates, random_seed, executor)
    failed = int(np.isnan(values).sum())
    if failed == replicates:
        raise ValueError(f"tension_null: all {failed} replicates failed, the first: {failures[0]}")
    found = {
        "ln_suspiciousness": ("replicate", values),
        "failure": ("replicate", np.array(failures, dtype=str)),
    }
    return xr.Dataset(found, attrs={"failed": failed})


def at_point(
    space: LatentSpace,
    copies: LatentSpace,
    point: np.ndarray,
    replicates: int,
    random_seed: int | None,
) -> xr.Dataset:
    """Return ln S of data simulated in the linear model at a point, settings of the errors held."""
    joint = _sensitivity(space, point)
    split = _sensitivity(copies, same_point(copies, space, point))
    weights, offset = suspiciousness_weights(joint, split)
    draws = weighted_chi_squares(weights, replicates, np.random.default_rng(random_seed))
    return xr.Dataset(
        {
            "ln_suspiciousness": ("replicate", offset - 0.5 * draws),
            "weights": ("component", weights),
            "offset": offset,
        }
    )


def _check(problem: JointProblem, refit: bool, executor: Executor | None) -> None:
    if executor is not None and not refit:
        raise ValueError("tension_null: executor= runs fits to simulated data; give refit=True")
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
        if refit and problem.discrepancies and not modality.noise.is_normal:
            raise ValueError(
                f"tension_null: modality {modality.name!r} has noise that is not Gaussian beside a "
                "discrepancy, so that fits have no likelihood in closed form; leave out refit=True"
            )


def _point(functions: ModelFunctions, space: LatentSpace, at: Any) -> np.ndarray:
    if at is None:
        return maximum_a_posteriori(functions, default_starts(functions.problem)).point
    if isinstance(at, xr.DataTree):
        at = at_one_point(at, space.names, "tension_null: at=")
    if not isinstance(at, Mapping):
        raise ValueError("tension_null: at= takes None, a mapping of names to values, or a tree")
    return space.point_of_values(at)


def _sensitivity(space: LatentSpace, point: np.ndarray) -> np.ndarray:
    """Return the whitened Jacobian on unknowns with a standard normal prior, (data, unknown)."""
    functions = space.functions
    actions, scaling = LocalActions(functions, point), space.scaling(point)
    informed = Informed(actions, scaling, coupled_prior(actions, scaling), 0.0)
    if not informed.by_rows:
        raise ValueError(
            f"tension_null: {functions.data.size} data and {space.size} unknowns are too many, of "
            f"one at most {DATA_LIMIT}; thin the data, or do without null="
        )
    return informed.whitened(range(len(functions.data_slices)))[: functions.data.size]
