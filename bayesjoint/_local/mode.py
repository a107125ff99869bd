"""The maximum a posteriori by Fisher scoring."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.stats import norm, qmc

from bayesjoint._compiled.failures import first_error, no_point
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._local.curvature import Curvature, NotFinite, curvature, vanished

DECREMENT = 1e-9  # of log density left to gain, by the quadratic model
STALLED = 1e-6  # nats gained by a round at which the search ends
ROUNDS = 6
SCORING_STEPS = 15
QUASI_NEWTON_STEPS = 300
CONVERGED = 0.02  # nats left to gain at which the maximum counts as reached
CLIMBED = 4  # starts that are followed to the top
APART = 0.5  # in white coordinates: ends of the search that count as different unseen
DIP = 0.1  # nats that the density falls between different maxima
BETWEEN = (0.25, 0.5, 0.75)  # of the way from one to the other, where it is looked for
NUDGE = 1e-3  # of the prior median, which may be a saddle by symmetry
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
        Log densities of other maxima that were found; one as high is among them.
    lower_points : tuple of ndarray
        Where those are.
    """

    point: np.ndarray
    log_density: float
    converged: bool
    lower_modes: tuple[float, ...] = ()
    lower_points: tuple[np.ndarray, ...] = ()

    @property
    def points(self) -> np.ndarray:
        """All maxima, the highest first, shape (maximum, n)."""
        return np.stack([self.point, *self.lower_points])


def maximum_a_posteriori(
    functions: ModelFunctions, starts: int = 1, first: np.ndarray | None = None
) -> Mode:
    """Return the highest maximum of the posterior found from several starts.

    The first start is the prior median unless it is given, the others cover the prior evenly (a
    scrambled Sobol sequence, seed 0).  Each goes uphill by a quasi-Newton search; the best few are
    climbed to the top.
    """
    points = [np.array(functions.initial if first is None else first)]
    if starts > 1:
        points[0] += NUDGE * np.random.default_rng(0).standard_normal(functions.size)
        points += list(_even_starts(functions, starts - 1))
        points = [_quasi_newton(functions, point) for point in points]
        ends = _highest_first([(point, _height(functions, point)) for point in points])
        ends = [end for end in ends if end[1] > ends[0][1] - NEGLIGIBLE]
        points = [end[0] for end in _distinct(functions, ends, APART)[:CLIMBED]] or points[:1]
    tops = _highest_first([_climb(functions, point) for point in points])
    if not np.isfinite(tops[0][1]):
        raise no_point(functions.counts, max(starts, 1)) from first_error(functions.counts)
    (point, value, converged), *others = _distinct(functions, tops)
    return Mode(
        point, value, converged, tuple(top[1] for top in others), tuple(top[0] for top in others)
    )


def _highest_first(ends: list) -> list:
    return sorted(ends, key=lambda end: -end[1])


def _even_starts(functions: ModelFunctions, count: int) -> np.ndarray:
    if count < 1:
        return np.zeros((0, functions.size))
    sobol = qmc.Sobol(functions.size, scramble=True, rng=np.random.default_rng(0))
    covered = sobol.random_base2(int(np.ceil(np.log2(count))))[:count]
    return functions.initial + norm.ppf(np.clip(covered, 1e-6, 1 - 1e-6))


def _distinct(functions: ModelFunctions, ends: list, apart: float = np.inf) -> list:
    """Return the ends (point, log density, ...) that do not repeat an earlier one.

    Two are one where the density does not dip between them; those farther apart count as two.
    """
    kept: list = []
    for end in ends:
        if all(
            np.linalg.norm(end[0] - other[0]) > apart or _dips(functions, end, other)
            for other in kept
        ):
            kept.append(end)
    return kept


def _dips(functions: ModelFunctions, first: tuple, second: tuple) -> bool:
    """Tell whether the density falls on the straight way from one point to another."""
    way = second[0] - first[0]
    lowest = min(_height(functions, first[0] + fraction * way) for fraction in BETWEEN)
    return lowest < min(first[1], second[1]) - DIP


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
    """Return (point, log density, curvature, gain left) after some steps of Fisher scoring.

    Where density, gradient or curvature are not finite a point cannot be used: steps there are
    shortened.
    """
    here, left = _usable(functions, point), np.inf
    if here is None:
        return point, -np.inf, None, np.inf
    for _ in range(SCORING_STEPS):
        try:
            step = here.local.solve(here.gradient)
        except np.linalg.LinAlgError as error:
            raise ValueError(_no_maximum(functions, here.point)) from error
        left = 0.5 * float(step @ here.gradient)
        if left < DECREMENT:
            return *_last_step(functions, here, step), here.local, left
        moved = _line_search(functions, here, step)
        if moved is None:
            break
        here = moved
    return here.point, here.value, here.local, left


@dataclass(frozen=True, eq=False)
class _Usable:
    """A point where density, gradient and curvature are finite."""

    point: np.ndarray
    value: float
    gradient: np.ndarray
    local: Curvature


def _last_step(functions: ModelFunctions, here: _Usable, step: np.ndarray):
    """Return point and log density after a step too small to change the curvature.

    It takes away what rounding left of the step before, which matters where data are precise: a
    gain of 1e-9 nats is 5e-5 posterior sd, but many digits of the mean in units of the prior sd.
    """
    point = here.point + step
    value = _height(functions, point)
    lowest = here.value - 1e-12 * abs(here.value)
    return (point, value) if value >= lowest else (here.point, here.value)


def _usable(functions: ModelFunctions, point: np.ndarray, least: float = -np.inf) -> _Usable | None:
    """Return a point with what is known there; None where it cannot be used or is too low."""
    value, gradient = functions.density(point)
    if not (np.isfinite(value) and value >= least and np.all(np.isfinite(gradient))):
        return None
    try:
        return _Usable(point, float(value), gradient, curvature(functions, point))
    except NotFinite:
        return None
    except np.linalg.LinAlgError as error:
        raise ValueError(_no_maximum(functions, point)) from error


def _no_maximum(functions: ModelFunctions, point: np.ndarray) -> str:
    """Say why a search ended where the precision is singular to working precision."""
    gone = vanished(functions, point)
    if not gone:
        return (
            "the precision at the end of the search for the maximum is singular to working "
            "precision: some noise is far too small for its data, or some prior far too wide; "
            "look at bj.simulate(problem), or give at= values to linearize"
        )
    return (
        f"the density has no maximum: it grows without bound as {', '.join(gone)} vanishes, since "
        "the other unknowns can fit those data exactly; give a prior that keeps it off zero, as "
        "bj.Prior(pm.LogNormal, ...), or a number"
    )


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


def _line_search(functions: ModelFunctions, here: _Usable, step: np.ndarray) -> _Usable | None:
    """Return the first backtracked point that gains enough, None when none does."""
    slope = float(here.gradient @ step)
    for fraction in (1.0, 0.5, 0.25, 0.1, 0.03):
        least = here.value + 1e-4 * fraction * slope - 1e-12 * abs(here.value)
        found = _usable(functions, here.point + fraction * step, least)
        if found is not None:
            return found
    return None
