"""Likelihoods of draws, discrepancy integrated out: pointwise for leave-one-out, and joint."""

from typing import Any

import numpy as np
import xarray as xr
from scipy.special import ndtr

from bayesjoint._draws import DrawTable
from bayesjoint._functions import Errors, ModelFunctions

MOST_OPERATIONS = 4e11  # on correlated log-likelihoods, about a minute


def likelihoods(table: DrawTable, step: int = 1, first: int = 0) -> dict[str, xr.Dataset]:
    """Return groups of likelihoods of the draws of a table; none where no draw is taken.

    ``log_likelihood`` and ``predictive_cdf``: log-density of each datum, and probability of one no
    larger, conditional on all other data where errors are correlated; for leave-one-out only.
    ``log_likelihood_joint``: of each modality and of all.  A sampled discrepancy under noise that
    is not Gaussian is kept as sampled.

    Parameters
    ----------
    table : DrawTable
    step : int
        Every how many draws of the run, from `thinning`: see the coordinate ``draw`` and the
        attribute ``thinned``.
    first : int
        Number of the first draw of the table in the run.
    """
    draws = np.flatnonzero((first + np.arange(table.shape[1])) % step == 0)
    if draws.size == 0:
        return {}
    functions, table = table.functions, table.part(draws)
    pointwise, below, joint = _densities(table)
    joints = dict(zip([*functions.data_slices, "joint"], joint.T, strict=True))
    groups = {
        "log_likelihood": _by_modality(table, pointwise),
        "predictive_cdf": _by_modality(table, below.astype(np.float32)),
        "log_likelihood_joint": {n: table.array(values, ()) for n, values in joints.items()},
    }
    return {
        name: table.dataset(arrays).assign_coords(draw=first + draws).assign_attrs(thinned=step)
        for name, arrays in groups.items()
    }


def _by_modality(table: DrawTable, values: np.ndarray) -> dict[str, xr.DataArray]:
    functions = table.functions
    return {
        m.name: table.array(
            values[:, functions.data_slices[m.name]].reshape(-1, *m.data.shape), m.data.dims
        )
        for m in functions.problem.modalities
    }


def log_likelihood_at(functions: ModelFunctions, point: np.ndarray) -> float:
    """Return the joint log-likelihood at a flat point, discrepancy integrated out.

    NaN where that has no closed form: a discrepancy under noise that is not Gaussian.
    """
    modalities = functions.problem.modalities
    outputs = functions.outputs(point)[: functions.data.size]
    if all(m.noise.gaussian or m.noise.correlation_factor is not None for m in modalities):
        turned = functions.rotate(functions.data - outputs)
        jacobian = _rotation_jacobian(functions).sum()
        return functions.errors(point).log_density(turned) + jacobian
    if functions.build.factors:
        return np.nan
    sds = functions.noise_sds(point)
    parts = [
        m.noise.log_density(m.data.values, outputs[where].reshape(m.data.shape), sd).sum()
        for m, where, sd in zip(modalities, functions.data_slices.values(), sds, strict=True)
    ]
    return float(sum(parts))


def thinning(functions: ModelFunctions, draws: int) -> int:
    """Return every how many of so many draws correlated log-likelihoods are evaluated."""
    rank, data = functions.rank, functions.data.size
    return max(1, int(np.ceil(draws * data * min(rank, data) ** 2 / MOST_OPERATIONS)))


def _densities(table: DrawTable) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return log-densities and probabilities of data (draw, data), and joint log-densities.

    These are of shape (draw, modality and all).
    """
    functions = table.functions
    noises = [m.noise for m in functions.problem.modalities]
    rotated = any(noise.correlation_factor is not None for noise in noises)
    gaussian = all(n.gaussian or n.correlation_factor is not None for n in noises)
    if gaussian and (rotated or functions.build.factors):
        rows = [_of_draw(table, row, rotated) for row in range(len(table.points))]
        pointwise, below, joint = (np.stack(part) for part in zip(*rows, strict=True))
        return pointwise, below, joint
    pointwise, below = _independent(table)
    parts = [pointwise[:, where].sum(axis=1) for where in functions.data_slices.values()]
    return pointwise, below, np.stack([*parts, pointwise.sum(axis=1)], axis=1)


def _of_draw(table: DrawTable, row: int, rotated: bool) -> tuple[np.ndarray, ...]:
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
    joint = np.array([*blocks, errors.log_density(turned) + jacobian.sum()])
    return pointwise, ndtr(gap / np.sqrt(variance)), joint


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


def _independent(table: DrawTable) -> tuple[np.ndarray, np.ndarray]:
    sampled: dict[str, Any] = table.sampled_discrepancies()
    densities, below = ([np.zeros((len(table.points), 0))] for _ in range(2))
    for modality in table.functions.problem.modalities:
        mean = table.responses[modality.name] + sampled.get(modality.name, 0.0)
        given = modality.data.values, mean, table.noise_sd[modality.name]
        densities.append(modality.noise.log_density(*given).reshape(len(table.points), -1))
        below.append(modality.noise.cdf(*given).reshape(len(table.points), -1))
    return np.concatenate(densities, axis=1), np.concatenate(below, axis=1)
