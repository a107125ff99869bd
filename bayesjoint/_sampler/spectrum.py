"""Coordinates of the sampler from the local information; large problems need no matrix."""

import numpy as np

from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._compiled.recentring import Given
from bayesjoint._kernels.spectra import preconditioner
from bayesjoint._local import curvature as _curvature
from bayesjoint._local.actions import LocalActions
from bayesjoint._sampler.given import recentred_coordinates


def average_coordinates(
    functions: ModelFunctions, points: np.ndarray, given: Given | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return directions and stretches of the precision averaged over some points.

    Where fields are recentred by given data, points and directions are those of x.
    """
    if given is not None:
        return recentred_coordinates(functions, points, given)
    if functions.size <= _curvature.DENSE_LIMIT:
        each = [_curvature.sampled_precision(functions, point) for point in points]
        return preconditioner(np.mean(each, axis=0))
    actions = [LocalActions(functions, point, sampled=True) for point in points]
    return _curvature.stretched_directions(
        lambda rows: np.mean([action.excess(rows) for action in actions], axis=0), functions.size
    )
