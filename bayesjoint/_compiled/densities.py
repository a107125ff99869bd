"""Likelihoods of draws, discrepancy integrated out: factors of it, conditional ones, and joint."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy.special import ndtr

from bayesjoint._compiled.draws import DrawTable
from bayesjoint._compiled.error_blocks import Blocks, blocks_of
from bayesjoint._compiled.error_functions import Errors
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._names import free

MOST_OPERATIONS = 4e11  # on correlated log-likelihoods, about a minute


def likelihoods(table: DrawTable, step: int = 1, first: int = 0) -> dict[str, xr.Dataset]:
    """Return groups of likelihoods of the draws of a table; none where no draw is taken.

    ``log_likelihood``: independent factors, whose sum is the log-likelihood: of each datum where
    its error is independent, else of all data with errors in common as one, ``joint(a, b)``.
    ``log_likelihood_conditional``: of each of those data given all others, for leave-one-out only.
    ``predictive_cdf``: probability of a datum no larger, conditional likewise.
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
    normal, others = _by_noise(functions)
    blocks = blocks_of(functions, normal, integrated=bool(others))
    pointwise, below, joint, factors = _densities(table, blocks)
    joints = dict(zip([*functions.data_slices, joint_name(functions)], joint.T, strict=True))
    conditional = _by_modality(table, pointwise)
    names = list(functions.data_slices)
    tied = {names[index] for block in blocks.correlated for index in block}
    groups = {
        "log_likelihood": {name: conditional.pop(name) for name in names if name not in tied}
        | {_joint_name(names, block): table.array(v, ()) for block, v in factors.items()},
        "log_likelihood_conditional": conditional,
        "predictive_cdf": _by_modality(table, below.astype(np.float32)),
        "log_likelihood_joint": {n: table.array(values, ()) for n, values in joints.items()},
    }
    return {
        name: table.dataset(arrays).assign_coords(draw=first + draws).assign_attrs(thinned=step)
        for name, arrays in groups.items()
        if arrays
    }


def joint_name(functions: ModelFunctions) -> str:
    """Return what the likelihood of all data is called: ``joint``, or what is no modality."""
    return free("joint", functions.data_slices)


def _joint_name(names: list[str], block: tuple[int, ...]) -> str:
    """Return what no modality can be called: those have one word."""
    return f"joint({', '.join(names[index] for index in block)})"


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


def _densities(
    table: DrawTable, blocks: Blocks
) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[tuple[int, ...], np.ndarray]]:
    """Return log-densities and probabilities of data (draw, data), and joint log-densities.

    These are of shape (draw, modality and all); and, of each correlated block, (draw,).
    """
    functions = table.functions
    normal, others = _by_noise(functions)
    noises = [m.noise for m in functions.problem.modalities]
    apart = normal if blocks.together else []
    shape = len(table.points), functions.data.size
    pointwise, below, joint = np.zeros(shape), np.zeros(shape), np.zeros((shape[0], len(noises)))
    alone = sorted({*normal, *others} - {*apart})
    for index, where in zip(alone, _slices(functions, alone), strict=True):
        pointwise[:, where], below[:, where] = _independent(table, index)
        joint[:, index] = pointwise[:, where].sum(axis=1)
    correlated = np.zeros((shape[0], len(blocks.correlated)))
    if apart:
        rows = _rows(functions, apart)
        found = [_of_draw(table, row, apart, blocks) for row in range(len(table.points))]
        pointwise[:, rows], below[:, rows], joint[:, apart], correlated = (
            np.stack(part) for part in zip(*found, strict=True)
        )
    tied = {index for block in blocks.correlated for index in block}
    untied = [index for index in range(len(noises)) if index not in tied]
    total = joint[:, untied].sum(axis=1) + correlated.sum(axis=1)
    factors = dict(zip(blocks.correlated, correlated.T, strict=True))
    return pointwise, below, np.column_stack([joint, total]), factors


def _of_draw(table: DrawTable, row: int, normal: list[int], blocks: Blocks) -> tuple[Any, ...]:
    """Return densities and probabilities of Gaussian data, of their modalities, and of blocks.

    Where all data are Gaussian every discrepancy is integrated out, else those sampled are not.
    """
    functions, rows = table.functions, _rows(table.functions, normal)
    complete = len(normal) == len(functions.data_slices)
    errors = functions.errors(table.points[row], integrated=not complete)
    errors = errors if complete else errors.part(normal)
    residual = functions.data - table.stacked_response(row)
    if not complete:
        for name, values in table.sampled_discrepancies.items():
            residual[functions.data_slices[name]] -= values[row].ravel()
    gap, variance = _conditional(functions, errors, residual, rows, blocks.rotated)
    pointwise = -0.5 * (gap**2 / variance + np.log(2 * np.pi * variance))
    turned, jacobian = functions.rotate(residual), _rotation_jacobian(functions)

    def density(members: Sequence[int]) -> float:
        where, places = _rows(functions, members), [normal.index(index) for index in members]
        return errors.part(places).log_density(turned[where]) + jacobian[where].sum()

    each = np.array([density([index]) for index in normal])
    correlated = np.array([density(block) for block in blocks.correlated])
    return pointwise, ndtr(gap / np.sqrt(variance)), each, correlated


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
