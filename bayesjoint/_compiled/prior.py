"""The local prior precision of variables that have no white form."""

import numpy as np

from bayesjoint._compiled.functions import ModelFunctions

STEP = 1e-4  # of differences of the gradient


def non_white_columns(functions: ModelFunctions) -> np.ndarray:
    """Return the flat coordinates of variables without white form."""
    names = [u.variable for u in functions.build.unknowns if not u.white]
    columns = [np.arange(functions.slices[n].start, functions.slices[n].stop) for n in names]
    return np.concatenate([*columns, np.zeros(0, dtype=int)]).astype(int)


def non_white_precision(
    functions: ModelFunctions, point: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return those coordinates, and the Hessian of their prior density (less its sign).

    By differences of the gradient; eigenvalues that are not positive are raised.
    """
    columns = non_white_columns(functions)
    block = np.zeros((columns.size, columns.size))
    if not columns.size:
        return columns, block
    functions.likelihood_weight.set_value(0.0)
    try:
        for row, column in enumerate(columns):
            moved = np.zeros(functions.size)
            moved[column] = STEP
            change = functions.density(point + moved)[1] - functions.density(point - moved)[1]
            block[row] = -change[columns] / (2 * STEP)
    finally:
        functions.likelihood_weight.set_value(1.0)
    values, vectors = np.linalg.eigh((block + block.T) / 2)
    return columns, (vectors * np.maximum(values, 1e-3)) @ vectors.T


def prior_precision(functions: ModelFunctions, point: np.ndarray) -> np.ndarray:
    """Return the prior precision in flat coordinates: the identity for white variables."""
    columns, block = non_white_precision(functions, point)
    precision = np.eye(functions.size)
    precision[np.ix_(columns, columns)] = block
    return precision
