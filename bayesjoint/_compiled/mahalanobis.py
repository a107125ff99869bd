"""Squared Mahalanobis lengths of residuals under the covariance of all errors, draw by draw."""

from itertools import combinations
from typing import Any

import numpy as np
import xarray as xr

from bayesjoint._compiled.draws import DrawTable
from bayesjoint._compiled.error_functions import Errors
from bayesjoint._compiled.functions import ModelFunctions

MOST_DRAWS = 500  # lengths are of these: p-values are then good to 0.022


def mahalanobis(
    table: DrawTable, replicated: xr.Dataset, step: int = 1, first: int = 0
) -> dict[str, xr.Dataset]:
    """Return the group ``mahalanobis`` of the draws of a table; none where errors are independent.

    ``observed`` and ``replicated`` (modality, modality_other): ``r^T C^-1 r`` of data and of
    replicated data minus the response, C the covariance of noise and discrepancy of both
    modalities at the draw; of one alone on the diagonal, NaN where two have no error in common.
    ``observed_joint`` and ``replicated_joint``: of all data.

    Parameters
    ----------
    table : DrawTable
    replicated : Dataset
        Replicated data of the draws of the table.
    step, first : int
        Every how many draws of the run, from `thinning`, and the number of the first of the table.
    """
    functions, (chains, count) = table.functions, table.shape
    draws = np.flatnonzero((first + np.arange(count)) % step == 0)
    if draws.size == 0 or not _correlated(functions):
        return {}
    names, rows = list(functions.data_slices), (count * np.arange(chains)[:, None] + draws).ravel()
    fresh = [
        replicated[m.name].values.reshape(chains * count, -1)[np.ix_(rows, m.places)]
        for m in functions.problem.modalities
    ]
    found = [
        _of_draw(table, row, drawn)
        for row, drawn in zip(rows, np.concatenate(fresh, axis=1), strict=True)
    ]
    joint, blocks = (
        np.stack(part).reshape(chains, draws.size, *part[0].shape)
        for part in zip(*found, strict=True)
    )
    dims, pair = ("chain", "draw"), ("modality", "modality_other")
    variables: dict[str, Any] = {}
    for i, side in enumerate(("observed", "replicated")):
        variables[side] = ((*dims, *pair), blocks[..., i])
        variables[f"{side}_joint"] = (dims, joint[..., i])
    coords = {"chain": np.arange(chains), "draw": first + draws} | dict.fromkeys(pair, names)
    return {"mahalanobis": xr.Dataset(variables, coords, {"thinned": step})}


def thinning(draws: int) -> int:
    """Return every how many of so many draws lengths are found: each takes several factors."""
    return max(1, draws // MOST_DRAWS)


def _correlated(functions: ModelFunctions) -> bool:
    noises = (modality.noise for modality in functions.problem.modalities)
    return bool(functions.build.factors) or any(n.correlation_factor is not None for n in noises)


def _of_draw(table: DrawTable, row: int, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return lengths of the residuals of all data, and of modalities and pairs of them.

    Of shape (side,) and (modality, modality, side); sides are the data and those drawn.
    """
    functions = table.functions
    errors = functions.errors(table.points[row])
    residual = np.stack([functions.data, drawn], axis=1) - table.stacked_response(row)[:, None]
    residual = functions.rotate(residual)
    order = list(functions.data_slices)
    blocks = np.full((len(order), len(order), 2), np.nan)
    for i in range(len(order)):
        blocks[i, i] = _lengths(errors.part([i]), residual[functions.data_slices[order[i]]])
    joint = _lengths(errors, residual)
    for i, j in _sharing(functions):
        pair = np.concatenate([residual[functions.data_slices[order[k]]] for k in (i, j)])
        whole = len(order) == 2
        blocks[i, j] = blocks[j, i] = joint if whole else _lengths(errors.part([i, j]), pair)
    return joint, blocks


def _lengths(errors: Errors, residual: np.ndarray) -> np.ndarray:
    return np.sum(residual * errors.solve(residual), axis=0)


def _sharing(functions: ModelFunctions) -> list[tuple[int, int]]:
    """Return the pairs of modalities that a discrepancy acts on together."""
    order = list(functions.data_slices)
    pairs: set[Any] = set()
    for factor in functions.build.factors.values():
        pairs.update(combinations(sorted(order.index(name) for name in factor.modalities), 2))
    return sorted(pairs)
