"""The maximum a posteriori by Fisher scoring."""

from dataclasses import dataclass

import numpy as np

from bayesjoint._functions import ModelFunctions
from bayesjoint._information import LocalInformation, local_information
from bayesjoint._kernels.spectra import solve_posterior

MOST_STEPS = 200
DECREMENT = 1e-9  # of log density left to gain, by the quadratic model
RESTARTS = 3


@dataclass(frozen=True, eq=False)
class Mode:
    """A maximum of the posterior density in white coordinates.

    Attributes
    ----------
    point : ndarray, shape (n,)
    log_density : float
    information : LocalInformation
        At the point, with its split over modalities.
    converged : bool
    """

    point: np.ndarray
    log_density: float
    information: LocalInformation
    converged: bool


def maximum_a_posteriori(functions: ModelFunctions, seed: int = 0) -> Mode:
    """Return the maximum a posteriori, from the prior median, else also from prior draws."""
    rng = np.random.default_rng(seed)
    best = _climb(functions, functions.initial.copy())
    for _ in range(RESTARTS):
        if best[2]:
            break
        start = functions.initial + rng.standard_normal(functions.size)
        best = max(best, _climb(functions, start), key=lambda run: (run[2], run[1]))
    point, value, converged = best
    return Mode(point, value, local_information(functions, point), converged)


def prior_precision(functions: ModelFunctions, point: np.ndarray) -> np.ndarray:
    """Return the prior precision in flat coordinates: identity, but for variables without white form.

    Those enter with the Hessian of their prior density, by differences of its gradient.
    """
    precision = np.eye(functions.size)
    columns = non_white_columns(functions)
    if columns.size:
        step = 1e-4
        functions.likelihood_weight.set_value(0.0)
        try:
            for column in columns:
                moved = np.zeros(functions.size)
                moved[column] = step
                change = functions.density(point + moved)[1] - functions.density(point - moved)[1]
                precision[column, columns] = -change[columns] / (2 * step)
        finally:
            functions.likelihood_weight.set_value(1.0)
        block = precision[np.ix_(columns, columns)]
        values, vectors = np.linalg.eigh((block + block.T) / 2)
        precision[np.ix_(columns, columns)] = (vectors * np.maximum(values, 1e-3)) @ vectors.T
    return precision


def non_white_columns(functions: ModelFunctions) -> np.ndarray:
    """Return the flat coordinates of variables without white form."""
    names = [u.variable for u in functions.build.unknowns if not u.white]
    columns = [np.arange(functions.slices[n].start, functions.slices[n].stop) for n in names]
    return np.concatenate([*columns, np.zeros(0, dtype=int)]).astype(int)


def _climb(functions: ModelFunctions, point: np.ndarray) -> tuple[np.ndarray, float, bool]:
    value, gradient = functions.density(point)
    damping = 0.0
    for _ in range(MOST_STEPS):
        if not np.isfinite(value) or not np.all(np.isfinite(gradient)):
            return point, -np.inf, False
        information = local_information(functions, point, split=False)
        precision = prior_precision(functions, point) + information.total + information.coupling
        while True:
            step = solve_posterior(precision + damping * np.eye(point.size), gradient)
            gain = 0.5 * float(step @ gradient)
            if gain < DECREMENT * max(1.0, abs(value) * 1e-3):
                return point, float(value), damping == 0.0 or gain < DECREMENT
            moved = _line_search(functions, point, value, gradient, step)
            if moved is not None:
                break
            damping = max(4.0 * damping, 1e-3 * float(np.mean(np.diag(precision))))
            if damping > 1e12:
                return point, float(value), False
        point, value, gradient = moved
        damping = 0.0 if damping < 1e-3 else damping / 4.0
    return point, float(value), False


def _line_search(functions, point, value, gradient, step):
    """Return the first backtracked point that gains enough, None when none does."""
    slope = float(gradient @ step)
    for fraction in (1.0, 0.5, 0.25, 0.1, 0.03):
        candidate = point + fraction * step
        new_value, new_gradient = functions.density(candidate)
        if np.isfinite(new_value) and new_value >= value + 1e-4 * fraction * slope:
            return candidate, new_value, new_gradient
    return None
