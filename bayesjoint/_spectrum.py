"""Directions of the sampler's coordinates: where data and couplings inform the unknowns."""

import numpy as np

from bayesjoint import _mode
from bayesjoint._functions import ModelFunctions
from bayesjoint._kernels.spectra import preconditioner


def sampling_coordinates(
    functions: ModelFunctions, point: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return directions and stretches of the density that is sampled, at a point."""
    return preconditioner(_mode.sampled_precision(functions, point))


def average_coordinates(
    functions: ModelFunctions, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the same for the average of the precision over some points."""
    return preconditioner(np.mean([_mode.sampled_precision(functions, p) for p in points], axis=0))
