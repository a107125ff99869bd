"""How far off the errors of a problem are where a discrepancy is an approximation, in words."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pymc as pm

from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._compiled.latent_space import LatentSpace
from bayesjoint._errors.checks import EXACT_POINTS
from bayesjoint._errors.factors import factor_of
from bayesjoint._errors.processes import Process
from bayesjoint._graph.build import ModelBuild
from bayesjoint._graph.compile import in_turn, number
from bayesjoint._kernels.density_error import log_density_error
from bayesjoint._kernels.errors import ErrorCovariance
from bayesjoint._local.curvature import DENSE_LIMIT
from bayesjoint._problem.settled import settled
from bayesjoint.discrepancy import JointDiscrepancy


def approximation_errors(space: LatentSpace, point: np.ndarray) -> dict[str, str]:
    """Say how far off each discrepancy is that leaves out modes, or is in those of a grid.

    Of the log-density: its root mean square over data of the exact process beside the independent
    noise, and its error at the data there are, which grows with the misfit.  In the modes of a
    grid that is for up to 1,000 places and 2,000 data; beyond, the error of its covariance on a
    sample of places.  Where leading modes at places that are not shared are kept, a bound.
    """
    functions = space.functions
    there = errors_at_data(functions, point)
    found = {
        name: _of_density(error, there.get(name))
        for name, error in functions.truncation_errors(point).items()
    }
    values = dict(zip(space.names, space.values(point), strict=True))
    for discrepancy in functions.problem.discrepancies:
        if discrepancy.grid is not None:
            found[discrepancy.name] = _of_grid(
                functions, point, settled(discrepancy, discrepancy.name, values)
            )
    return found


def errors_at_data(functions: ModelFunctions, point: np.ndarray) -> dict[str, float]:
    """Return what modes left out at shared places would add to the log-density of the data."""
    residual = functions.residual(point)
    known, errors = {d.name: d for d in functions.problem.discrepancies}, {}
    for name, rows, part in functions.truncated(point):
        first = functions.build.factors[name].modalities[0]
        points = known[name].points({first: functions.problem.modality[first]})
        times = partial(Process.of(known[name]).covariance_times, points)
        errors[name] = part.change_for_modes_left_out(residual[rows], times)
    return errors


def _of_density(error: float, there: float | None) -> str:
    """Say how far off the log-density is for data of the model, and at the data there are."""
    words = f"log-density off by about {error:.1g} nats"
    return words if there is None else f"{words}, at these data by {abs(there):.1g}"


def _of_grid(functions: ModelFunctions, point: np.ndarray, known: JointDiscrepancy) -> str:
    """Say how far off a discrepancy without unknowns is for being in the modes of a grid."""
    modality = functions.problem.modality
    points = known.points({name: modality[name] for name in known.touches(modality)})
    if len(np.unique(points, axis=0)) > EXACT_POINTS or functions.data.size > DENSE_LIMIT:
        return _on_places(Process.of(known), points)
    others = [d.name for d in functions.problem.discrepancies if d.name != known.name]
    gridded = functions.errors(point, without=others)
    factors = functions.rotate(_exact_factor(functions, known)), gridded.factor
    exact, approximate = (ErrorCovariance(gridded.variance, factor) for factor in factors)
    residual = functions.rotate(functions.residual(point))
    there = exact.log_density(residual) - approximate.log_density(residual)
    return _of_density(log_density_error(exact, approximate), there)


@in_turn()
def _exact_factor(functions: ModelFunctions, known: JointDiscrepancy) -> np.ndarray:
    """Return the factor of a discrepancy without unknowns that has neither grid nor rank."""
    modality = functions.problem.modality
    exact = replace(known, grid=None, rank=None)
    touched = {name: modality[name] for name in exact.touches(modality)}
    factor: Any = factor_of(exact, ModelBuild(pm.Model()), touched, alone=False)
    stacked = np.zeros((functions.data.size, factor.rank))
    for name, basis in factor.bases.items():
        stacked[functions.data_slices[name]] = basis
    return stacked * number(factor.scale)


def _on_places(process: Process, points: np.ndarray) -> str:
    """Say how far off the covariance is between places, at most a thousand of them."""
    places, first = np.unique(points, axis=0, return_index=True)
    factor = process.grid_factor(points)[first]
    variance = np.max(np.abs(np.sum(factor**2, axis=1) - 1.0))
    count = min(EXACT_POINTS, len(places))
    some = np.random.default_rng(0).choice(len(places), count, replace=False)
    error = np.max(np.abs(factor[some] @ factor[some].T - process.covariance(places[some])))
    return (
        f"covariances off by up to {error:.1g} of the variance between {count} of its "
        f"{len(places)} places, variances by up to {variance:.1g}"
    )
