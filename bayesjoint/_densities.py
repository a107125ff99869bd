"""Log-likelihoods of draws, discrepancy integrated out: pointwise for leave-one-out, and joint."""

from typing import Any

import numpy as np
import xarray as xr

from bayesjoint._draws import DrawTable
from bayesjoint._functions import Errors, ModelFunctions

MOST_OPERATIONS = 4e11  # on correlated log-likelihoods, about a minute


def log_likelihoods(
    table: DrawTable, step: int = 1, first: int = 0
) -> tuple[xr.Dataset, xr.Dataset] | None:
    """Return pointwise and joint log-likelihoods of the draws of a table.

    Pointwise values are conditional on all other data where errors are correlated, for
    leave-one-out only.  A sampled discrepancy under noise that is not Gaussian is kept as sampled.

    Parameters
    ----------
    table : DrawTable
    step : int
        Every how many draws of the run, from `thinning`: see the coordinate ``draw`` and the
        attribute ``thinned``.
    first : int
        Number of the first draw of the table in the run.

    Returns
    -------
    tuple of Dataset, or None
        None where no draw of the table is taken.
    """
    draws = np.flatnonzero((first + np.arange(table.shape[1])) % step == 0)
    if draws.size == 0:
        return None
    functions, table = table.functions, table.part(draws)
    pointwise, joint = _densities(table)
    arrays = {
        m.name: table.array(
            pointwise[:, functions.data_slices[m.name]].reshape(-1, *m.data.shape), m.data.dims
        )
        for m in functions.problem.modalities
    }
    names = [*functions.data_slices, "joint"]
    joints = {name: table.array(joint[:, i], ()) for i, name in enumerate(names)}
    of_data, of_all = (
        table.dataset(part).assign_coords(draw=first + draws).assign_attrs(thinned=step)
        for part in (arrays, joints)
    )
    return of_data, of_all


def thinning(functions: ModelFunctions, draws: int) -> int:
    """Return every how many of so many draws correlated log-likelihoods are evaluated."""
    rank, data = functions.rank, functions.data.size
    return max(1, int(np.ceil(draws * data * min(rank, data) ** 2 / MOST_OPERATIONS)))


def _densities(table: DrawTable) -> tuple[np.ndarray, np.ndarray]:
    """Return pointwise (draw, data) and joint (draw, modality and all) log-densities."""
    functions = table.functions
    noises = [m.noise for m in functions.problem.modalities]
    rotated = any(noise.correlation_factor is not None for noise in noises)
    gaussian = all(n.gaussian or n.correlation_factor is not None for n in noises)
    if gaussian and (rotated or functions.build.factors):
        rows = [_of_draw(table, row, rotated) for row in range(len(table.points))]
        return np.stack([row[0] for row in rows]), np.stack([row[1] for row in rows])
    pointwise = _independent(table)
    parts = [pointwise[:, where].sum(axis=1) for where in functions.data_slices.values()]
    return pointwise, np.stack([*parts, pointwise.sum(axis=1)], axis=1)


def _of_draw(table: DrawTable, row: int, rotated: bool) -> tuple[np.ndarray, np.ndarray]:
    functions = table.functions
    errors = functions.errors(table.points[row])
    residual = functions.data - table.stacked_response(row)
    gap, variance = _conditional(functions, errors, residual, rotated)
    pointwise = -0.5 * (gap**2 / variance + np.log(2 * np.pi * variance))
    turned, jacobian = functions.rotate(residual), _rotation_jacobian(functions)
    blocks = [
        errors.part([index]).log_density(turned[where]) + jacobian[where].sum()
        for index, where in enumerate(functions.data_slices.values())
    ]
    return pointwise, np.array([*blocks, errors.log_density(turned) + jacobian.sum()])


def _conditional(
    functions: ModelFunctions, errors: Errors, residual: np.ndarray, rotated: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the gap of each residual to its mean given all others, and its variance."""
    if not rotated:
        mean, variance = errors.conditional(residual)
        return residual - mean, variance
    whitener = errors.whiten(functions.rotate(np.eye(functions.data.size)))
    precision = whitener.T @ whitener
    variance = 1.0 / np.diag(precision)
    return (precision @ residual) * variance, variance


def _rotation_jacobian(functions: ModelFunctions) -> np.ndarray:
    """Return the log-determinant of `rotate`, one part a datum."""
    result = np.zeros(functions.data.size)
    for modality in functions.problem.modalities:
        factor = modality.noise.correlation_factor
        if factor is not None:
            result[functions.data_slices[modality.name]] = -np.log(np.diag(factor))
    return result


def _independent(table: DrawTable) -> np.ndarray:
    sampled: dict[str, Any] = table.sampled_discrepancies()
    parts = [np.zeros((len(table.points), 0))]
    for modality in table.functions.problem.modalities:
        mean = table.responses[modality.name] + sampled.get(modality.name, 0.0)
        sd = table.noise_sd[modality.name]
        density = modality.noise.log_density(modality.data.values, mean, sd)
        parts.append(density.reshape(len(table.points), -1))
    return np.concatenate(parts, axis=1)
