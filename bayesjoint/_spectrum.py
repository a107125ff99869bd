"""Coordinates of the sampler from the local information; large problems need no matrix."""

import numpy as np

from bayesjoint import _curvature
from bayesjoint._actions import LocalActions
from bayesjoint._functions import ModelFunctions
from bayesjoint._kernels.spectra import preconditioner


def average_coordinates(
    functions: ModelFunctions, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return directions and stretches of the precision averaged over some points."""
    if functions.size <= _curvature.DENSE_LIMIT:
        each = [_curvature.sampled_precision(functions, point) for point in points]
        return preconditioner(np.mean(each, axis=0))
    actions = [LocalActions(functions, point, sampled=True) for point in points]
    return _curvature.stretched_directions(
        lambda rows: np.mean([action.excess(rows) for action in actions], axis=0), functions.size
    )
