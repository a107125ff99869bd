"""What modalities, and single data, tell at a point: the part of a linearization about the data."""

from functools import cache
from typing import Any

import numpy as np

from bayesjoint._compiled.densities import log_likelihood_at
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._local.information import STEP
from bayesjoint._local.informed import Informed

MOST_NUMBERS = 2_000_000  # of the directions of single data that are stored


def of_modalities(informed: Informed) -> dict[str, Any]:
    """Return what each modality, and each datum, adds."""
    everything = range(len(informed.functions.data_slices))
    per_modality, importance = informed.shares()
    rest = [tuple(other for other in everything if other != k) for k in everything]
    gain = cache(informed.gain)  # of two modalities, each is all but the other
    factors = informed.factors([(k,) for k in everything])
    found = {
        "modality_information": (("modality", "mode"), per_modality),
        "modality_factor": (("modality", "row", "mode"), factors),
        "eig_alone": ("modality", [gain((k,)) for k in everything]),
        "eig_without": ("modality", [gain(others) for others in rest]),
        "data_importance": ("datum", importance),
    }
    if correlated(informed.functions) and len(everything) > 2:
        # Otherwise it is made up of the factors of the other modalities.
        found["rest_factor"] = (("modality", "rest_row", "mode"), informed.factors(rest))
    return found


def of_each_datum(informed: Informed) -> dict[str, Any]:
    """Return what each datum tells, in as many leading directions as there is room for."""
    count, modes = informed.functions.data.size, informed.spectrum.values.size
    kept = min(modes, MOST_NUMBERS // max(count, 1))
    solved, precision = informed.data_rows()
    return {
        "data_rows": (("datum", "leading_mode"), solved[:, :kept]),
        "precision_given_others": ("datum", precision),
    }


def misfits(informed: Informed, point: np.ndarray) -> dict[str, Any]:
    """Return the whitened misfit of each modality under its own block of the errors, untempered.

    With it, half of its derivative along each direction: the misfit nearby is
    ``chi2_k + 2 slope_k . c + |M_k c|^2 / power_k``.
    """
    functions, parts = informed.functions, list(informed.functions.data_slices.values())
    errors = functions.errors(point)
    residual = functions.rotate(functions.residual(point))
    solved = [errors.part([k]).solve(residual[where]) for k, where in enumerate(parts)]
    pairs = list(zip(parts, solved, strict=True))
    slopes = [-(part @ informed.pushed[where]) for where, part in pairs]
    empty = np.zeros((0, informed.spectrum.values.size))
    return {
        "chi2": ("modality", [float(residual[where] @ part) for where, part in pairs]),
        "chi2_slope": (("modality", "mode"), np.stack(slopes) if slopes else empty),
    }


def likelihood(informed: Informed, point: np.ndarray) -> dict[str, Any]:
    """Return the joint log-likelihood, and its derivative along each direction.

    Nearby it is ``lnL + slope . c - sum_j lambda_j c_j^2 / 2``.
    """
    functions, actions = informed.functions, informed.actions
    residual = functions.rotate(functions.residual(point))
    slope = informed.pushed.T @ actions.errors.solve(residual)
    columns = actions.of_errors[0]
    moved = [step * np.eye(functions.size)[columns] for step in (STEP, -STEP)]
    up, down = (
        np.array([log_likelihood_at(functions, point + row) for row in rows]) for rows in moved
    )
    slope = slope + informed.flat_vectors[:, columns] @ ((up - down) / (2 * STEP))
    return {
        "log_likelihood": ((), log_likelihood_at(functions, point)),
        "log_likelihood_slope": ("mode", slope),
    }


def correlated(functions: ModelFunctions) -> bool:
    """Say whether errors of different modalities are correlated."""
    return any(len(f.modalities) > 1 for f in functions.build.factors.values())
