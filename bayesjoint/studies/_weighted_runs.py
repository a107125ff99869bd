"""Linearisations of one problem at several weights of a coupling, and a weight with a bound."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._compiled.latent_space import LatentSpace
from bayesjoint._names import with_marks
from bayesjoint.linearization import (
    default_starts,
    linearization_at_mode,
    linearization_at_point,
    tree_of,
)
from bayesjoint.problem import JointProblem
from bayesjoint.reports import _read, leakage, resolution
from bayesjoint.studies._weight_map import Local, local_at
from bayesjoint.studies.coupling_weight import coupling_of

BELOW, STEPS = 1e-6, 13  # smallest weight of the ladder over the largest, and how many
CLOSE, HALVINGS = 0.005, 40  # relative, below the bound, at which the search ends


class Runs:
    """Linearisations of a problem at several weights of one coupling, compiled once."""

    def __init__(self, problem: JointProblem, name: str | None, at: Mapping | None) -> None:
        self.coupling = coupling_of(problem, name)
        # The interpreted density reads the factor at each call; a compiled one keeps its first.
        self.functions = ModelFunctions(problem)
        self.space = self.functions.once(LatentSpace)
        self._starts = default_starts(problem)
        self.point = None if at is None else self.space.point_of_values(at)

    def tree(self, weight: float) -> tuple[xr.DataTree, np.ndarray]:
        """Return the linearisation at a weight, and its point."""
        factor = self.functions.coupling_factors[self.coupling.name]
        factor.set_value(weight / self.coupling.weight)
        if self.point is None:
            dataset, mode = linearization_at_mode(self.functions, self._starts)
            point = mode.point
        else:
            dataset, point = linearization_at_point(self.space, self.point), self.point
            dataset = dataset.assign_attrs(at="values", converged=1)
        return tree_of(dataset), point

    def row(self, weight: float) -> xr.Dataset:
        """Return what a sweep shows of one weight."""
        tree, point = self.tree(weight)
        ds, factors = _read.linearization(tree), self.space.factors(point)
        seen, variance = with_marks(resolution)(tree), _read.variance_of_cells(ds)
        names = _read.latents(ds)
        relative = [variance.values[self.space.cell_slices[n]] / factors[n].variance for n in names]
        size = xr.DataArray([r.size for r in relative], {"latent": names}, "latent")
        return xr.Dataset(
            {
                "leakage": leakage(tree),
                "resolution": seen["dofs_latent"].sel(latent=names) / size,
                "dofs": seen["dofs"],
                "posterior_sd": ("latent", [np.sqrt(r.mean()) for r in relative]),
                "chi2": ds["chi2"],
                "n_data": ds["n_data"],
                "prior_norm": ds["prior_norm"].sel(latent=names),
                "converged": ((), ds.attrs["converged"]),
            }
        )

    def leaks(self, into: str, source: str) -> Callable[[float], float]:
        """Return the leakage as a function of the weight."""
        return lambda weight: float(leakage(self.tree(weight)[0]).sel(into=into, source=source))

    def local(self, point: np.ndarray) -> Local:
        """Return the posterior at a point, as a function of weights."""
        return local_at(self.space, point, self.coupling.name, self.coupling.weight)


def largest_weight(
    leaks: Callable[[float], float], bound: float, up_to: float, what: str, least: float = 0.0
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the largest weight within the bound, and the ladder on which it was looked for.

    The ladder starts at the weight `least` and spans six decades below `up_to`.  From its first
    weight within the bound on, the first crossing is taken.
    """
    ladder = np.concatenate([[least], up_to * np.geomspace(BELOW, 1.0, STEPS)])
    ladder = ladder[ladder >= least]
    seen = np.array([leaks(weight) for weight in ladder])
    if np.isnan(seen).any():
        raise ValueError(f"design_weight: no datum informs either side of {what}")
    holds = np.flatnonzero(seen <= bound)
    if not holds.size:
        raise ValueError(
            f"design_weight: no weight up to {up_to:.3g} keeps the leakage of {what} within "
            f"{bound:g}; the smallest is {seen.min():.3g}, at a weight of "
            f"{ladder[np.argmin(seen)]:.3g}"
        )
    last = holds[0] + np.argmin(np.append(seen[holds[0] :] <= bound, False)) - 1
    if last == ladder.size - 1:
        return up_to, ladder, seen
    return _refined(leaks, bound, ladder[last : last + 2], seen[last : last + 2]), ladder, seen


def _refined(leaks: Callable[[float], float], bound: float, pair: Any, seen: Any) -> float:
    """Return the largest weight within the bound between one that is and one that is not.

    Regula falsi (Illinois) just below the bound; where the leakage jumps, the side within it.
    """
    margin = CLOSE / 2 * bound
    places, excess = np.log1p(np.asarray(pair) / pair[1]), np.asarray(seen) - bound + margin
    pull, last, within = np.ones(2), -1, pair[0]
    for _ in range(HALVINGS):
        if excess[0] >= -margin or places[1] - places[0] < 1e-6:
            break
        below, above = np.abs(excess) * pull
        place = places[0] + (places[1] - places[0]) * np.clip(below / (below + above), 0.05, 0.95)
        weight = pair[1] * np.expm1(place)
        found = leaks(weight) - bound + margin
        side = int(found > margin)
        within = within if side else weight
        places[side], excess[side] = place, found
        pull = np.where(np.arange(2) == side, 1.0, pull * (0.5 if side == last else 1.0))
        last = side
    return float(within)  # as it was tried: its place may round to the other side of the bound
