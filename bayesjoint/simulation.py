"""Simulated data: a truth from the prior, or a given one, seen by every modality."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from bayesjoint._compiled.density import default_backend
from bayesjoint._compiled.draws import DrawEvaluator, DrawTable
from bayesjoint._compiled.functions import ModelFunctions, compiled
from bayesjoint._compiled.latent_space import LatentSpace
from bayesjoint._local.rechecks import require_possible
from bayesjoint._sampler.joint_draw import joint_draw, normalised
from bayesjoint.problem import JointProblem

TRIES = 20  # draws of a truth at which a map may fail


def simulate(
    problem: JointProblem,
    *,
    truth: Mapping[str, Any] | None = None,
    random_seed: int | None = None,
) -> xr.Dataset:
    """Return simulated data of every modality, and the truth they came from.

    Parameters
    ----------
    problem : JointProblem
        Its own data give the shapes only, and where they are missing; zeros will do.
    truth : mapping of name to value, optional
        Physical values of latents and hyperparameters.  Those left out are drawn from the prior;
        all are when it is not given, couplings included.
    random_seed : int, optional
        Makes the result repeatable.

    Returns
    -------
    Dataset
        Data under the names of the modalities, NaN where those of the problem are missing; truth
        under the names of latents and hyperparameters.
        ``problem.with_data(data[list(problem.modality)])`` puts the data in place.

    Raises
    ------
    ValueError
        When ``truth`` names something unknown, or leaves out one of several coupled latents.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> import xarray as xr
    >>> import bayesjoint as bj
    >>> slope = bj.Parameter("slope", bj.Prior(pm.Normal, mu=0, sigma=1))
    >>> line = bj.Modality(
    ...     "line", xr.DataArray(np.zeros(3), dims="x"), bj.linear_map(np.ones((3, 1)), "slope"),
    ...     bj.GaussianNoise(sd=0.5),
    ... )
    >>> problem = bj.JointProblem(latents=[slope], modalities=[line])
    >>> data = bj.simulate(problem, truth={"slope": 2.0}, random_seed=1)
    >>> float(data.slope), data.line.shape
    (2.0, (3,))
    """
    if truth is not None and not isinstance(truth, Mapping):
        raise ValueError(
            f'simulate: truth is a {type(truth).__name__}; give values by name, as {{"slope": 2.0}}'
        )
    rng = np.random.default_rng(random_seed)
    with compiled(problem) as functions:
        table = _possible(functions, dict(truth or {}), rng)
        drawn = table.simulated(rng).isel(chain=0, draw=0, drop=True)
        values = table.prior().isel(chain=0, draw=0, drop=True)
    responses = [f"{name}_response" for name in problem.modality]
    merged = xr.merge([drawn, values.drop_vars(responses)])
    return merged.assign_attrs(random_seed=-1 if random_seed is None else random_seed)


def _possible(
    functions: ModelFunctions, truth: dict[str, Any], rng: np.random.Generator
) -> DrawTable:
    """Return a truth at which the maps give numbers; what is drawn is drawn again where not."""
    evaluator, drawn = functions.once(DrawEvaluator), set(functions.once(LatentSpace).names)
    tries = TRIES if drawn - set(truth) else 1
    for _ in range(tries):
        table = evaluator.table(_truth_point(functions, truth, rng)[None, None])
        if all(np.all(np.isfinite(response)) for response in table.responses.values()):
            break
    require_possible(functions, table.responses, "at the truth")
    return table


def _truth_point(
    functions: ModelFunctions, truth: dict[str, Any], rng: np.random.Generator
) -> np.ndarray:
    space = functions.once(LatentSpace)
    unknown = sorted(set(truth) - set(space.names))
    if unknown:
        raise ValueError(f"simulate: truth names {unknown}; the unknowns are {space.names}")
    drawn = set(space.names) - set(truth)
    for coupling in functions.problem.couplings:
        missing = [name for name in coupling.latents if name not in truth]
        given = [name in truth for name in coupling.latents]
        # A potential draws its latents together; those shaped can be drawn given the others.
        drawable = coupling.shapes and given == sorted(given, reverse=True)
        if missing and any(given) and not drawable:
            raise ValueError(
                f"simulate: truth leaves out {missing} of {coupling.latents}, which "
                f"{coupling.name} couples; give all or none of them"
            )
    point = functions.initial
    if drawn:
        # A coupled prior takes some ten thousand evaluations, others next to none.
        coupled = bool(functions.build.residuals)
        backend = default_backend(functions.problem) if coupled else "interpreted"
        names = set(normalised(functions.problem, set(truth)))
        stated = space.point_of_values({n: truth[n] for n in names}, start=point)
        whites = {n: stated[functions.slices[f"{n}_white"]] for n in names}
        point = joint_draw(functions, backend, rng, whites)
    return space.point_of_values(truth, start=point)
