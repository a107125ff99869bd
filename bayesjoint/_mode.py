"""The maximum a posteriori by Fisher scoring."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.stats import norm, qmc

from bayesjoint._curvature import Curvature, curvature
from bayesjoint._functions import ModelFunctions

DECREMENT = 1e-9  # of log density left to gain, by the quadratic model
STALLED = 1e-6  # nats gained by a round at which the search ends
ROUNDS = 6
SCORING_STEPS = 15
QUASI_NEWTON_STEPS = 300
CONVERGED = 0.02  # nats left to gain at which the maximum counts as reached
CLIMBED = 3  # starts that are followed to the top
APART = 0.5  # in white coordinates: starts that ended nearer are one
SAME_MODE = 0.1  # nats between what counts as different maxima
NEGLIGIBLE = 30.0  # nats below the highest start at which a start is dropped


@dataclass(frozen=True, eq=False)
class Mode:
    """A maximum of the posterior density in white coordinates.

    Attributes
    ----------
    point : ndarray, shape (n,)
    log_density : float
    converged : bool
    lower_modes : tuple of float
        Log densities of other maxima that were found.
    """

    point: np.ndarray
    log_density: float
    converged: bool
    lower_modes: tuple[float, ...] = ()


def maximum_a_posteriori(functions: ModelFunctions, starts: int = 1) -> Mode:
    """Return the highest maximum of the posterior found from several starts.

    The first start is the prior median, the others cover the prior evenly (a scrambled Sobol
    sequence, seed 0).  Each goes uphill by a quasi-Newton search; the best few are climbed to the
    top.
    """
    points = [functions.initial.copy(), *_even_starts(functions, starts - 1)]
    if len(points) > 1:
        points = [_quasi_newton(functions, point) for point in points]
        heights = np.array([_height(functions, point) for point in points])
        order = [i for i in np.argsort(-heights) if heights[i] > heights.max() - NEGLIGIBLE]
        points = _distinct([points[i] for i in order])[:CLIMBED]
    runs = [_climb(functions, point) for point in points]
    point, value, converged = max(runs, key=lambda run: (np.isfinite(run[1]), run[1]))
    others = sorted((run[1] for run in runs if value - run[1] > SAME_MODE), reverse=True)
    return Mode(point, value, converged, tuple(others))


def _even_starts(functions: ModelFunctions, count: int) -> np.ndarray:
    if count < 1:
        return np.zeros((0, functions.size))
    sobol = qmc.Sobol(functions.size, scramble=True, rng=np.random.default_rng(0))
    covered = sobol.random_base2(int(np.ceil(np.log2(count))))[:count]
    return functions.initial + norm.ppf(np.clip(covered, 1e-6, 1 - 1e-6))


def _distinct(points: list[np.ndarray]) -> list[np.ndarray]:
    """Return the points without those that lie near an earlier one."""
    kept: list[np.ndarray] = []
    for point in points:
        if all(np.linalg.norm(point - other) > APART for other in kept):
            kept.append(point)
    return kept


def _height(functions: ModelFunctions, point: np.ndarray) -> float:
    value = float(functions.density(point)[0])
    return value if np.isfinite(value) else -np.inf


def _climb(functions: ModelFunctions, point: np.ndarray) -> tuple[np.ndarray, float, bool]:
    """Return point, log density and whether the maximum was reached.

    Fisher scoring converges in a few steps where the model fits; where it does not, curvature and
    information differ, and a quasi-Newton search in coordinates scaled by the information goes on.
    """
    value, left = -np.inf, np.inf
    for _ in range(ROUNDS):
        before = value
        point, value, local, left = _score(functions, point)
        if local is None or left < DECREMENT or value - before < STALLED:
            break
        point = _quasi_newton(functions, point, local)
    return point, value, left < CONVERGED


def _score(functions: ModelFunctions, point: np.ndarray):
    """Return (point, log density, curvature, gain left) after some steps of Fisher scoring."""
    value, gradient = functions.density(point)
    local, left = None, np.inf
    for _ in range(SCORING_STEPS):
        if not (np.isfinite(value) and np.all(np.isfinite(gradient))):
            return point, -np.inf, None, np.inf
        local = curvature(functions, point)
        step = local.solve(gradient)
        left = 0.5 * float(step @ gradient)
        moved = None if left < DECREMENT else _line_search(functions, point, value, gradient, step)
        if moved is None:
            break
        point, value, gradient = moved
    return point, float(value), local, left


def _quasi_newton(
    functions: ModelFunctions, point: np.ndarray, local: Curvature | None = None
) -> np.ndarray:
    """Return where a search ends that goes in coordinates scaled by a curvature."""
    scale = local.scale if local else np.array
    transposed = local.scale_transposed if local else np.array

    def objective(scaled):
        value, gradient = functions.density(point + scale(scaled))
        if not (np.isfinite(value) and np.all(np.isfinite(gradient))):
            return 1e300, np.zeros_like(scaled)
        return -float(value), -transposed(gradient)

    options = {"maxiter": QUASI_NEWTON_STEPS, "maxcor": 30, "ftol": 1e-15, "gtol": 1e-7}
    found = minimize(objective, np.zeros(point.size), jac=True, method="L-BFGS-B", options=options)
    return point + scale(found.x)


def _line_search(functions, point, value, gradient, step):
    """Return the first backtracked point that gains enough, None when none does."""
    slope = float(gradient @ step)
    for fraction in (1.0, 0.5, 0.25, 0.1, 0.03):
        candidate = point + fraction * step
        new_value, new_gradient = functions.density(candidate)
        usable = np.isfinite(new_value) and np.all(np.isfinite(new_gradient))
        if usable and new_value >= value + 1e-4 * fraction * slope - 1e-12 * abs(value):
            return candidate, new_value, new_gradient
    return None
