"""Likelihoods of draws, discrepancy integrated out: pointwise for leave-one-out, and joint."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy.special import ndtr

from bayesjoint._compiled.draws import DrawTable
from bayesjoint._compiled.error_functions import Errors
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._names import free

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
    joints = dict(zip([*functions.data_slices, joint_name(functions)], joint.T, strict=True))
    groups = {
        "log_likelihood": _by_modality(table, pointwise),
        "predictive_cdf": _by_modality(table, below.astype(np.float32)),
        "log_likelihood_joint": {n: table.array(values, ()) for n, values in joints.items()},
    }
    return {
        name: table.dataset(arrays).assign_coords(draw=first + draws).assign_attrs(thinned=step)
        for name, arrays in groups.items()
    }


def joint_name(functions: ModelFunctions) -> str:
    """Return what the likelihood of all data is called: ``joint``, or what is no modality."""
    return free("joint", functions.data_slices)


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
    outputs = functions.outputs(point)[: functions.data.size]
    normal, others = _by_noise(functions)
    if others and any(not factor.marginal for factor in functions.build.factors.values()):
        return np.nan
    total = 0.0
    if normal:
        rows = _rows(functions, normal)
        turned = functions.rotate(functions.data - outputs)[rows]
        total += functions.errors(point).part(normal).log_density(turned)
        total += _rotation_jacobian(functions)[rows].sum()
    sds = functions.noise_sds(point) if others else []
    for index in others:
        modality, (where,) = functions.problem.modalities[index], _slices(functions, [index])
        mean = outputs[where].reshape(modality.data.shape)
        total += modality.noise.log_density(modality.data.values, mean, sds[index]).sum()
    return float(total)


def _by_noise(functions: ModelFunctions) -> tuple[list[int], list[int]]:
    """Return which modalities have Gaussian noise, correlated or not, and which another."""
    normal = [m.noise.is_normal for m in functions.problem.modalities]
    return list(np.flatnonzero(normal)), list(np.flatnonzero(np.logical_not(normal)))


def _slices(functions: ModelFunctions, blocks: Sequence[int]) -> list[slice]:
    slices = list(functions.data_slices.values())
    return [slices[block] for block in blocks]


def _rows(functions: ModelFunctions, blocks: Sequence[int]) -> np.ndarray:
    return np.concatenate([np.r_[where] for where in _slices(functions, blocks)])


def thinning(functions: ModelFunctions, draws: int) -> int:
    """Return every how many of so many draws correlated log-likelihoods are evaluated."""
    rank, data = functions.rank, functions.data.size
    return max(1, int(np.ceil(draws * data * min(rank, data) ** 2 / MOST_OPERATIONS)))


def _densities(table: DrawTable) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return log-densities and probabilities of data (draw, data), and joint log-densities.

    These are of shape (draw, modality and all).
    """
    functions = table.functions
    normal, others = _by_noise(functions)
    noises = [m.noise for m in functions.problem.modalities]
    rotated = any(noise.correlation_factor is not None for noise in noises)
    apart = normal if rotated or functions.build.factors else []
    shape = len(table.points), functions.data.size
    pointwise, below, joint = np.zeros(shape), np.zeros(shape), np.zeros((shape[0], len(noises)))
    alone = sorted({*normal, *others} - {*apart})
    for index, where in zip(alone, _slices(functions, alone), strict=True):
        pointwise[:, where], below[:, where] = _independent(table, index)
        joint[:, index] = pointwise[:, where].sum(axis=1)
    total = joint.sum(axis=1)
    if apart:
        rows = _rows(functions, apart)
        found = [_of_draw(table, row, apart, rotated) for row in range(len(table.points))]
        pointwise[:, rows], below[:, rows], joint[:, apart], together = (
            np.stack(part) for part in zip(*found, strict=True)
        )
        total = total + together
    return pointwise, below, np.column_stack([joint, total])


def _of_draw(table: DrawTable, row: int, blocks: list[int], rotated: bool) -> tuple[Any, ...]:
    """Return densities and probabilities of Gaussian data, of their modalities, and of all.

    Where all data are Gaussian every discrepancy is integrated out, else those sampled are not.
    """
    functions, rows = table.functions, _rows(table.functions, blocks)
    complete = len(blocks) == len(functions.data_slices)
    errors = functions.errors(table.points[row], integrated=not complete)
    errors = errors if complete else errors.part(blocks)
    residual = functions.data - table.stacked_response(row)
    if not complete:
        for name, values in table.sampled_discrepancies.items():
            residual[functions.data_slices[name]] -= values[row].ravel()
    gap, variance = _conditional(functions, errors, residual, rows, rotated)
    pointwise = -0.5 * (gap**2 / variance + np.log(2 * np.pi * variance))
    turned, jacobian = functions.rotate(residual), _rotation_jacobian(functions)
    each = [
        errors.part([i]).log_density(turned[where]) + jacobian[where].sum()
        for i, where in enumerate(_slices(functions, blocks))
    ]
    joint = errors.log_density(turned[rows]) + jacobian[rows].sum()
    return pointwise, ndtr(gap / np.sqrt(variance)), np.array(each), joint


def _conditional(
    functions: ModelFunctions, errors: Errors, residual: np.ndarray, rows: np.ndarray, rotated: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the gap of each residual to its mean given all others, and its variance."""
    if not rotated:
        mean, variance = errors.conditional(residual[rows])
        return residual[rows] - mean, variance
    whitener = errors.whiten(functions.rotate(np.eye(functions.data.size))[np.ix_(rows, rows)])
    precision = whitener.T @ whitener
    variance = 1.0 / np.diag(precision)
    return (precision @ residual[rows]) * variance, variance


def _rotation_jacobian(functions: ModelFunctions) -> np.ndarray:
    """Return the log-determinant of `rotate`, one part a datum."""
    result = np.zeros(functions.data.size)
    for modality in functions.problem.modalities:
        factor = modality.noise.correlation_factor
        if factor is not None:
            result[functions.data_slices[modality.name]] = -np.log(np.diag(factor))
    return result


def _independent(table: DrawTable, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Return log-densities and probabilities of the data of one modality, (draw, data)."""
    modality, count = table.functions.problem.modalities[index], len(table.points)
    mean = table.responses[modality.name] + table.sampled_discrepancies.get(modality.name, 0.0)
    given = modality.data.values, mean, table.noise_sd[modality.name]
    densities = modality.noise.log_density(*given)
    return densities.reshape(count, -1), modality.noise.cdf(*given).reshape(count, -1)
