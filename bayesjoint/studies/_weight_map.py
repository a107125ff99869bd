"""A map of weights of one coupling at a fixed point: what it costs in leakage, what it gains."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import brentq, minimize

from bayesjoint._compiled.latent_space import LatentSpace
from bayesjoint._local.actions import LocalActions
from bayesjoint._local.coupled_prior import coupled_prior

ROUNDS, STEPS = 12, 300  # of the multiplier, and steps of the search in each
PENALTY, STIFFER = 10.0, 3.0  # on the relative excess, and how it grows while the bound is exceeded
SETTLED = 1e-4  # relative excess of leakage, and gain of a round, at which the search ends


@dataclass(frozen=True, eq=False)
class Local:
    """Quadratic model of a posterior at a point, with the rows of one coupling set apart.

    Attributes
    ----------
    base : ndarray, shape (n, n)
        Precision of the prior in white coordinates, without the coupling.
    information : ndarray, shape (n, n)
        H, of the data.
    rows : ndarray, shape (part, cell, n)
        Jacobian of the residual of the coupling at weight one.
    relative : ndarray, shape (n, n)
        ``L^T D^-1 L`` over the cells of all latents, D the variance of the uncoupled prior: its
        trace with a covariance is the sum of relative variances.
    groups : dict of str to slice
        Where each latent lies in the white coordinates.
    """

    base: np.ndarray
    information: np.ndarray
    rows: np.ndarray
    relative: np.ndarray
    groups: dict[str, slice]

    def at(self, weights: np.ndarray) -> "Weighted":
        """Return the posterior under weights, one for each cell."""
        return Weighted(self, np.asarray(weights, dtype=float))

    def constant(self, weight: float) -> "Weighted":
        """Return the posterior under one weight in all cells."""
        return self.at(np.full(self.rows.shape[1], weight))

    def leaks(self, into: str, source: str) -> Callable[[float], float]:
        """Return the leakage as a function of one weight."""
        return lambda weight: self.constant(weight).leakage(into, source)


class Weighted:
    """The posterior ``P = (B + H + sum_c w_c Gamma_c)^-1`` under weights of the cells."""

    def __init__(self, local: Local, weights: np.ndarray) -> None:
        self.local, self.weights = local, weights
        inner = np.einsum("pcn,c,pcm->nm", local.rows, weights, local.rows, optimize=True)
        precision = local.base + local.information + inner
        self.covariance = cho_solve(cho_factor(precision), np.eye(precision.shape[0]))

    @cached_property
    def resolution(self) -> np.ndarray:
        """``R = P H``, in white coordinates."""
        return self.covariance @ self.local.information

    def _energy(self, into: str, source: str) -> float:
        groups = self.local.groups
        return float(np.sum(self.resolution[groups[into], groups[source]] ** 2))

    def leakage(self, into: str, source: str) -> float:
        """Return ``|R_ab|^2 / sum_c |R_ac|^2``, as in `bayesjoint.leakage`."""
        total = sum(self._energy(into, name) for name in self.local.groups)
        return self._energy(into, source) / total

    def leakage_gradient(self, into: str, source: str) -> np.ndarray:
        """Return the derivative of the leakage by the weight of each cell.

        ``dR = -P Gamma_c R dw_c``, so that ``d|R_ab|^2 = -2 (P j)_a^T R_ab (R^T j)_b dw_c``.
        """
        moved = self.local.rows @ self.covariance  # (part, cell, n)
        seen = self.local.rows @ self.resolution
        a = self.local.groups[into]
        slopes = {
            name: -2.0 * np.sum((moved[..., a] @ self.resolution[a, b]) * seen[..., b], axis=(0, 2))
            for name, b in self.local.groups.items()
        }
        total = sum(self._energy(into, name) for name in self.local.groups)
        whole = np.sum(list(slopes.values()), axis=0)
        return (slopes[source] - self.leakage(into, source) * whole) / total

    def relative_variance(self) -> float:
        """Return the sum over cells of posterior over uncoupled prior variance."""
        return float(np.sum(self.local.relative * self.covariance))

    def benefit_gradient(self) -> np.ndarray:
        """Return by how much the weight of each cell lowers `relative_variance`; never negative.

        ``tr(W P Gamma_c P) = sum_j (P j)^T W (P j)``.
        """
        moved = self.local.rows @ self.covariance
        return np.sum((moved @ self.local.relative) * moved, axis=(0, 2))


def local_at(space: LatentSpace, point: np.ndarray, coupling: str, weight: float) -> Local:
    """Return the quadratic model at a point; `weight` is that of the coupling as it was built."""
    functions, scaling = space.functions, space.scaling(point)
    factor, units = functions.coupling_factors[coupling], np.eye(space.size)
    before, flat = float(factor.get_value()), scaling.to_flat(units)
    try:
        factor.set_value(1.0 / weight)
        pushed = functions.residual_actions[0](flat, point)[0]
        factor.set_value(0.0)
        actions = LocalActions(functions, point)
        base = coupled_prior(actions, scaling).precision(units)
        information = scaling.to_white(actions.data(flat))
    finally:
        factor.set_value(before)
    latents = functions.problem.latent
    rows = _of_coupling(space, point, coupling, pushed)
    return Local(
        (base + base.T) / 2, (information + information.T) / 2, rows,
        _relative(space, point, list(latents)), {n: space.unknown_slices[n] for n in latents},
    )  # fmt: skip


def _of_coupling(
    space: LatentSpace, point: np.ndarray, coupling: str, pushed: np.ndarray
) -> np.ndarray:
    """Return the rows of one coupling, shape (part, cell, n), from those of all couplings."""
    build, problem = space.functions.build, space.functions.problem
    sizes = [r.size for r in space.functions.compile(list(build.residuals.values()))(point)]
    index = list(build.residuals).index(coupling)
    start = sum(sizes[:index])
    named = next(c for c in problem.couplings if c.name == coupling)
    cells = problem.latent[named.latents[0]].grid.size
    if sizes[index] % cells:
        raise ValueError(f"{coupling}: its residual has no value for each cell; it takes no map")
    mine = pushed[:, start : start + sizes[index]].T
    return mine.reshape(-1, cells, space.size)


def _relative(space: LatentSpace, point: np.ndarray, names: list[str]) -> np.ndarray:
    factors = space.factors(point)
    physical = space.physical(factors, np.eye(space.size))
    total = np.zeros((space.size, space.size))
    for name in names:
        rows = physical[space.cell_slices[name]] / np.sqrt(factors[name].variance)[:, None]
        total += rows.T @ rows
    return total


def shaped_weights(
    local: Local, into: str, source: str, bound: float, start: float, up_to: float
) -> np.ndarray:
    """Return weights that gain most while the leakage stays within its bound.

    An augmented Lagrangian over ``log(1 + w / start)`` of each cell, from the constant map `start`,
    which must meet the bound; its inner searches are quasi-Newton steps with exact gradients.
    """
    unit = max(start, 1e-6 * up_to)
    none, full = (local.constant(w).relative_variance() for w in (0.0, up_to))
    scale, multiplier, penalty, before = none - full, 0.0, PENALTY, np.inf

    def lagrangian(places: np.ndarray) -> tuple[float, np.ndarray]:
        at = local.at(unit * np.expm1(places))
        force = max(0.0, multiplier + penalty * (at.leakage(into, source) / bound - 1.0))
        slope = force / bound * at.leakage_gradient(into, source) - at.benefit_gradient() / scale
        value = at.relative_variance() / scale + force**2 / (2.0 * penalty)
        return value, slope * unit * np.exp(places)

    places = np.full(local.rows.shape[1], np.log1p(start / unit))
    limits = [(0.0, np.log1p(up_to / unit))] * places.size
    options = {"maxiter": STEPS, "maxcor": 20, "ftol": 1e-10, "gtol": 1e-7}
    for _ in range(ROUNDS):
        found = minimize(
            lagrangian, places, jac=True, method="L-BFGS-B", bounds=limits, options=options
        )
        places = found.x
        at = local.at(unit * np.expm1(places))
        excess, now = at.leakage(into, source) / bound - 1.0, at.relative_variance() / scale
        multiplier = max(0.0, multiplier + penalty * excess)
        if (excess < SETTLED) and abs(before - now) < SETTLED:
            break
        before, penalty = now, penalty * (STIFFER if excess > SETTLED else 1.0)
    return _within(local, into, source, bound, unit * np.expm1(places), start)


def _within(local: Local, into: str, source: str, bound: float, weights: np.ndarray, start: float):
    """Return the weights, lowered together until they meet the bound; else the constant map."""
    constant = np.full_like(weights, start)
    share = _lowered(lambda s: local.at(s * weights).leakage(into, source) - bound)
    least = local.at(constant).relative_variance()
    return share * weights if local.at(share * weights).relative_variance() < least else constant


def _lowered(excess: Callable[[float], float]) -> float:
    """Return the first share below one at which the excess is gone; zero where one is far off."""
    if excess(1.0) <= 0.0:
        return 1.0
    above, step = 1.0, 1e-6
    while step < 1.0:
        if excess(1.0 - step) <= 0.0:
            root = brentq(excess, 1.0 - step, above, xtol=1e-12)
            return root if excess(root) <= 0.0 else 1.0 - step
        above, step = 1.0 - step, 2.0 * step
    return 0.0
