"""The weight of a coupling: what it does to the prior."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import arviz as az
import numpy as np
import pymc as pm
import xarray as xr
from scipy.interpolate import PchipInterpolator

from bayesjoint import arrays
from bayesjoint._compiled.coordinates import Coordinates
from bayesjoint._compiled.density import CompiledDensity
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._sampler import nuts as _nuts
from bayesjoint._sampler.run import PRIOR_DEPTH, PRIOR_TUNE, seeds_of
from bayesjoint.couplings import _common
from bayesjoint.couplings.normaliser import Omitted
from bayesjoint.priors import Prior
from bayesjoint.problem import JointProblem
from bayesjoint.studies._shared_structure import SharedStructure

CHAINS = 2
LADDER = np.sqrt(10.0)  # between one weight and the next
HIGHEST = 1e6  # times the weight at which the potential begins to matter


def calibrate_coupling(
    problem: JointProblem,
    *,
    similarity: float,
    coupling: str | None = None,
    draws: int = 500,
    random_seed: int | None = None,
) -> xr.Dataset:
    """Find the weight at which the coupled prior has a stated mean structural similarity.

    Parameters
    ----------
    problem : JointProblem
        With any positive number as weight of the coupling, or a map of weights, which is then
        scaled by a factor; its data do not matter.
    similarity : float
        Wanted mean of the structural similarity over the coupled prior, below one.  Without a
        coupling it is 1/2 in two dimensions and 1/3 in three: gradients point anywhere.
    coupling : str, optional
        Name of the coupling; not needed where there is one with a weight.
    draws : int
        At each weight, in each of two chains.
    random_seed : int, optional
        Makes the answer repeatable.

    Returns
    -------
    Dataset
        Along ``weight``, what the coupled prior does: ``similarity`` and ``similarity_error``
        (Monte Carlo), ``flat_share``, ``potential`` (of weight one) and ``size``, the root mean
        square gradient over that of the uncoupled prior: below one where the coupling is met by
        flat fields.  ``calibrated`` is the weight asked for.  Of a map of weights ``weight`` and
        ``calibrated`` are factors of it (attribute ``weight_is``), and ``calibrated_map``, on the
        dims of the grid, is the map times the factor.

    Raises
    ------
    ValueError
        When the similarity is not between that of the uncoupled prior and one, no weight up to a
        million times the first that matters reaches it, draws are flat in every cell before it is
        reached, or there are no two images with gradients in two dimensions to compare.

    Notes
    -----
    Structural similarity: ``1 - sum V |t|^2 / sum V |grad a|^2 |grad b|^2``, t the cross-gradient,
    over cells where both gradients exceed a tenth of their root mean square under the uncoupled
    prior; the flat share is the volume of the others.  As in the coupling, cells outside its
    ``mask`` and those of weight zero do not count, and differences that reach cells outside the
    mask are not formed.

    Examples
    --------
    >>> import numpy as np
    >>> import bayesjoint as bj
    >>> grid = bj.Grid(z=np.arange(4.0), x=np.arange(4.0))
    >>> fields = [bj.GaussianField(name, grid, sd=1.0, length_scale=3.0) for name in "ab"]
    >>> coupled = bj.JointProblem(
    ...     latents=fields, modalities=[], couplings=[bj.CrossGradient("a", "b", weight=1.0)]
    ... )
    >>> found = bj.calibrate_coupling(coupled, similarity=0.7, draws=200, random_seed=1)
    >>> bool(found["calibrated"] > 0)
    True
    """
    similarity = arrays.number("calibrate_coupling", "similarity", similarity, "1")
    if not 0.0 < similarity < 1.0:
        raise ValueError(
            f"calibrate_coupling: a similarity lies between 0 and 1, {similarity} given"
        )
    given = coupling_of(problem, coupling, maps=True)
    SharedStructure(given, problem.latent[given.latents[0]].grid)  # before anything is compiled
    sweep = Sweep(problem, given.name, random_seed)
    table = [_with_structure(next(iter(sweep.at([0.0], draws))), similarity, sweep)]
    if similarity <= table[0].similarity.mean():
        raise ValueError(
            f"{sweep.coupling.name}: the uncoupled prior has a similarity of "
            f"{table[0].similarity.mean():.2f} already; ask for more"
        )
    first = 0.1 / table[0].potential.mean()
    ladder = first * LADDER ** np.arange(np.log(HIGHEST) / np.log(LADDER) + 1)
    beyond = 0
    for drawn in sweep.at(ladder, draws):
        if beyond and drawn.flat_draws:
            break
        table.append(_with_structure(drawn, similarity, sweep))
        beyond += int(drawn.similarity.mean() > similarity)
        if beyond == 2:  # one more, so that noise does not end the search
            break
    return _calibrated(table, similarity, sweep)


@dataclass(frozen=True, eq=False)
class _Drawn:
    """Quantities of draws of the coupled prior at one weight, shape (chain, draw)."""

    weight: float
    potential: np.ndarray
    similarity: np.ndarray
    flat: np.ndarray
    size: float  # root mean square gradient over that of the uncoupled prior

    @property
    def flat_draws(self) -> int:
        """How many draws are flat in every cell, so that they have no similarity."""
        return int(np.isnan(self.similarity).sum())


class Sweep:
    """Draws of the coupled prior of a problem at several weights of one coupling.

    And at several length scales of the fields that it is ``over``, see `hold`.
    """

    def __init__(
        self,
        problem: JointProblem,
        name: str | None,
        random_seed: int | None,
        over: Sequence[str] = (),
    ) -> None:
        self.coupling = coupling_of(problem, name, maps=True)
        self.unit = 1.0 if np.ndim(self.coupling.weight) else self.coupling.weight
        held = [f"{field}_length_scale_white" for field in over]
        changed = _over_length_scales(problem, self.coupling, over) if over else problem
        self.functions = ModelFunctions(changed.without_data(), held)
        self._rng = np.random.default_rng(random_seed)
        self._density = CompiledDensity(self.functions)
        self.grid = problem.latent[self.coupling.latents[0]].grid

    def hold(self, length_scale: Mapping[str, float]) -> None:
        """Draw at these length scales from now on."""
        for name, value in length_scale.items():
            self.functions.held[f"{name}_length_scale_white"].set_value(np.log(value))

    @cached_property
    def _evaluate(self):
        build = self.functions.build
        fields = [build.values[name] for name in self.coupling.latents]
        return self.functions.over_draws([build.log_priors[self.coupling.name], *fields])

    @cached_property
    def _structure(self) -> SharedStructure:
        return SharedStructure(self.coupling, self.grid)

    @cached_property
    def _log_prior(self):
        return self.functions.over_draws([self.functions.build.log_priors[self.coupling.name]])

    def potentials_at(self, weights: Iterable[float], draws: int) -> Iterator[np.ndarray]:
        """Yield the potential of weight one of draws at ascending weights, (chain, draw)."""
        for points in self.points_at(weights, draws):
            (log_prior,) = self._log_prior(points.reshape(-1, points.shape[2]))
            yield -log_prior.reshape(points.shape[:2]) / self.unit

    def at(self, weights: Iterable[float], draws: int) -> Iterator[_Drawn]:
        """Yield quantities of draws at ascending weights."""
        weights = list(weights)
        for weight, points in zip(weights, self.points_at(weights, draws), strict=False):
            yield self._quantities(weight, points)

    def points_at(self, weights: Iterable[float], draws: int) -> Iterator[np.ndarray]:
        """Yield draws at ascending weights, shape (chain, draw, n).

        Each warms up from the last draws of the one before.
        """
        factor = self.functions.coupling_factors[self.coupling.name]
        points = self.functions.initial + self._rng.standard_normal((CHAINS, self.functions.size))
        coordinates, settings = (
            Coordinates.around(self.functions.initial),
            _nuts.Settings(0.8, PRIOR_DEPTH),
        )
        for weight in weights:
            factor.set_value(weight / self.unit)
            density = self._density.without_data()
            warm = _nuts.warm_up(
                density, coordinates, points, PRIOR_TUNE, seeds_of(self._rng, CHAINS), settings
            )
            drawn = _nuts.advance(
                density, coordinates, warm.chains, draws, seeds_of(self._rng, CHAINS), settings
            )
            points = drawn.points[:, -1]
            yield drawn.points

    def _quantities(self, weight: float, points: np.ndarray) -> _Drawn:
        log_prior, *fields = self._evaluate(points.reshape(-1, points.shape[2]))
        mean, flat, size = self._structure.measure(fields)
        columns = (-log_prior / self.unit, mean, flat)
        potential, mean, flat = (np.reshape(column, points.shape[:2]) for column in columns)
        return _Drawn(weight, potential, mean, flat, size)


def _over_length_scales(problem: JointProblem, coupling: Any, over: Sequence[str]) -> JointProblem:
    """Return the problem with unknown length scales: in white coordinates their logarithm."""
    unknown = Prior(pm.LogNormal, mu=0.0, sigma=1.0)
    return problem.replace(
        latents=[
            replace(m, length_scale=unknown) if m.name in over else m for m in problem.latents
        ],
        couplings=[
            c.replace(normaliser=Omitted(over)) if c is coupling else c for c in problem.couplings
        ],
    )


def coupling_of(problem: JointProblem, name: str | None, maps: bool = False) -> Any:
    """Return the coupling of a name, or the only one, if its weight is positive and known."""
    weighted = {c.name: c for c in problem.couplings if hasattr(c, "weight")}
    if name is None and len(weighted) == 1:
        name = next(iter(weighted))
    if name not in weighted:
        raise ValueError(
            f"there is no coupling {name!r} with a weight; name one of {sorted(weighted)}"
            if weighted
            else "the problem has no coupling with a weight"
        )
    weight = weighted[name].weight
    if isinstance(weight, Prior) or (np.ndim(weight) != 0 and not maps):
        raise ValueError(f"{name}: give a number as weight; others are tried from there")
    if np.ndim(weight) == 0 and not weight > 0:
        raise ValueError(f"{name}: its weight is zero; give any other, from which more are tried")
    return weighted[name]


def mean_and_error(draws: np.ndarray) -> tuple[float, float]:
    """Return mean and Monte Carlo standard error of draws of shape (chain, draw)."""
    ess = float(az.ess(draws, method="mean"))
    return float(draws.mean()), float(draws.std(ddof=1) / np.sqrt(ess))


def _calibrated(table: Sequence[_Drawn], wanted: float, sweep: Sweep) -> xr.Dataset:
    mean, error = np.transpose([mean_and_error(d.similarity) for d in table])
    weight = np.array([d.weight for d in table])
    if mean.max() <= wanted:
        raise ValueError(
            f"{sweep.coupling.name}: at a weight of {weight[-1]:.3g} the similarity is "
            f"{mean[-1]:.3f}, below the {wanted} asked for; smoother fields can be more alike"
        )
    rising = np.maximum.accumulate(mean)
    unit = weight[1]
    kept = np.concatenate([[True], np.diff(rising) > 0])
    place = PchipInterpolator(rising[kept], np.log1p(weight[kept] / unit))(wanted)
    columns = {
        "similarity": mean,
        "similarity_error": error,
        "flat_share": [d.flat.mean() for d in table],
        "potential": [d.potential.mean() for d in table],
        "size": [d.size for d in table],
    }
    dataset = xr.Dataset({k: ("weight", v) for k, v in columns.items()}, {"weight": weight})
    dataset["calibrated"] = float(unit * np.expm1(place))
    name, given, grid = sweep.coupling.name, sweep.coupling.weight, sweep.grid
    if np.ndim(given):
        map_ = dataset["calibrated"].item() * _common.on_grid(name, "weight", given, grid)
        dataset["calibrated_map"] = xr.DataArray(map_, grid.centres, grid.dims)
    return dataset.assign_attrs(
        report="calibrate_coupling", coupling=name, wanted=wanted,
        weight_is="factor of the map of weights" if np.ndim(given) else "weight",
    )  # fmt: skip


def _with_structure(drawn: _Drawn, wanted: float, sweep: Sweep) -> _Drawn:
    """Return the draws if each has a similarity, else raise."""
    if drawn.flat_draws:
        raise ValueError(
            f"{sweep.coupling.name}: at a weight of {drawn.weight:.3g}, {drawn.flat_draws} of "
            f"{drawn.similarity.size} draws of the coupled prior are flat in every cell that "
            "counts, and have no structural similarity, so that its mean is not defined; ask for "
            f"less than {wanted}, take more cells, or shorter length scales"
        )
    return drawn
