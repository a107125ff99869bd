"""The weight of a coupling: what it does to the prior, and what an unknown one needs."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import arviz as az
import numpy as np
import xarray as xr
from scipy.interpolate import PchipInterpolator

from bayesjoint import _nuts
from bayesjoint._coordinates import Coordinates
from bayesjoint._density import CompiledDensity
from bayesjoint._functions import ModelFunctions
from bayesjoint._kernels.differences import slope_matrix
from bayesjoint._kernels.structure import gradients_of, similarity
from bayesjoint._run import PRIOR_DEPTH, PRIOR_TUNE, seeds_of
from bayesjoint.couplings.normaliser import Normaliser, digest
from bayesjoint.problem import JointProblem

CHAINS = 2
FLAT = 0.1**2  # of the mean squared gradient of the uncoupled prior: below, a cell is flat
LADDER = np.sqrt(10.0)  # between one weight and the next
HIGHEST = 1e6  # times the weight at which the potential begins to matter


def tabulate_normaliser(
    problem: JointProblem,
    coupling: str | None = None,
    *,
    up_to: float,
    weights: int = 12,
    draws: int = 1000,
    random_seed: int | None = None,
) -> Normaliser:
    """Tabulate log Z of a coupling, by draws of the coupled prior at several weights.

    Parameters
    ----------
    problem : JointProblem
        With a number as weight of the coupling; its data do not matter.
    coupling : str, optional
        Name of the coupling; not needed where there is one with a weight.
    up_to : float
        Largest weight of the table; the prior of an unknown weight must end there.
    weights : int
        Number of weights between zero and the largest.
    draws : int
        At each weight, in each of two chains.
    random_seed : int, optional
        Makes the table repeatable.

    Returns
    -------
    Normaliser
        For ``dataclasses.replace(coupling, weight=bj.Prior(...), normaliser=table)``.

    Raises
    ------
    ValueError
        When the coupling is not found or its weight is not a number.

    Examples
    --------
    >>> import numpy as np
    >>> import bayesjoint as bj
    >>> grid = bj.Grid(z=np.arange(3.0), x=np.arange(3.0))
    >>> fields = [bj.GaussianField(name, grid, sd=1.0, length_scale=2.0) for name in "ab"]
    >>> coupled = bj.JointProblem(
    ...     latents=fields, modalities=[], couplings=[bj.CrossGradient("a", "b", weight=1.0)]
    ... )
    >>> table = bj.tabulate_normaliser(coupled, up_to=10.0, weights=5, draws=200, random_seed=1)
    >>> bool(table.log_z(10.0) < table.log_z(1.0) < 0.0)
    True
    """
    sweep = _Sweep(problem, coupling, random_seed)
    start = next(iter(sweep.at([0.0], draws)))
    unit = 1.0 / start.potential.mean()
    places = (
        np.log1p(up_to / unit) * (1.0 - np.cos(np.pi * np.arange(1, weights + 1) / weights)) / 2
    )
    nodes = unit * np.expm1(places)
    nodes[-1] = up_to
    drawn = [start, *sweep.at(nodes, draws)]
    mean, error = zip(*(_mean_and_error(d.potential) for d in drawn), strict=True)
    made_for = digest(sweep.coupling, problem.latent, problem.couplings)
    return Normaliser(np.concatenate([[0.0], nodes]), mean, error, made_for)


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
        With any number as weight of the coupling; its data do not matter.
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
        flat fields.  ``calibrated`` is the weight asked for.

    Raises
    ------
    ValueError
        When the similarity is not between that of the uncoupled prior and one, or no weight up to
        a million times the first that matters reaches it.

    Notes
    -----
    Structural similarity: ``1 - sum V |t|^2 / sum V |grad a|^2 |grad b|^2``, t the cross-gradient,
    over cells where both gradients exceed a tenth of their root mean square under the uncoupled
    prior; the flat share is the volume of the others.

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
    if not 0.0 < similarity < 1.0:
        raise ValueError(
            f"calibrate_coupling: a similarity lies between 0 and 1, {similarity} given"
        )
    sweep = _Sweep(problem, coupling, random_seed)
    table = [next(iter(sweep.at([0.0], draws)))]
    if similarity <= table[0].similarity.mean():
        raise ValueError(
            f"{sweep.coupling.name}: the uncoupled prior has a similarity of "
            f"{table[0].similarity.mean():.2f} already; ask for more"
        )
    first = 0.1 / table[0].potential.mean()
    ladder = first * LADDER ** np.arange(np.log(HIGHEST) / np.log(LADDER) + 1)
    beyond = 0
    for drawn in sweep.at(ladder, draws):
        table.append(drawn)
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


class _Sweep:
    """Draws of the coupled prior of a problem at several weights of one coupling."""

    def __init__(self, problem: JointProblem, name: str | None, random_seed: int | None) -> None:
        self.coupling = coupling_of(problem, name)
        self.functions = ModelFunctions(problem.without_data())
        self._rng = np.random.default_rng(random_seed)
        self._density = CompiledDensity(self.functions)
        build, names = self.functions.build, self.coupling.latents
        self._evaluate = self.functions.over_draws(
            [build.log_priors[self.coupling.name], *(build.values[n] for n in names)]
        )
        grid = problem.latent[names[0]].grid
        self._volumes = grid.volumes
        self._matrices = [slope_matrix(centres) for centres in grid.centres.values()]
        guide = getattr(self.coupling, "guide", None)
        self._guide = [] if guide is None else [np.asarray(guide, dtype=float)[None]]
        self._mean_squares: list[tuple[float, float]] = []

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
            factor.set_value(weight / self.coupling.weight)
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
        fields += [np.broadcast_to(guide, fields[0].shape) for guide in self._guide]
        found = [gradients_of(a, b, self._matrices) for a, b in combinations(fields, 2)]
        squares = [(float(g.first.mean()), float(g.second.mean())) for g in found]
        self._mean_squares = self._mean_squares or squares  # of the uncoupled prior
        pairs = zip(found, self._mean_squares, strict=True)
        alike = [similarity(g, self._volumes, (FLAT * a, FLAT * b)) for g, (a, b) in pairs]
        ratios = np.sqrt(np.divide(squares, self._mean_squares))
        size = ratios[:, 0] if self._guide else ratios  # a guide stays as it is
        mean, flat = np.mean(alike, axis=0)
        columns = (-log_prior / self.coupling.weight, mean, flat)
        potential, mean, flat = (np.reshape(column, points.shape[:2]) for column in columns)
        return _Drawn(weight, potential, mean, flat, float(np.mean(size)))


def coupling_of(problem: JointProblem, name: str | None) -> Any:
    """Return the coupling of a name, or the only one, whose weight is a number."""
    weighted = {c.name: c for c in problem.couplings if hasattr(c, "weight")}
    if name is None and len(weighted) == 1:
        name = next(iter(weighted))
    if name not in weighted:
        raise ValueError(
            f"there is no coupling {name!r} with a weight; name one of {sorted(weighted)}"
            if weighted
            else "the problem has no coupling with a weight"
        )
    if np.ndim(weighted[name].weight) != 0 or not isinstance(weighted[name].weight, (int, float)):
        raise ValueError(f"{name}: give a number as weight; others are tried from there")
    return weighted[name]


def _mean_and_error(draws: np.ndarray) -> tuple[float, float]:
    """Return mean and Monte Carlo standard error of draws of shape (chain, draw)."""
    ess = float(az.ess(draws, method="mean"))
    return float(draws.mean()), float(draws.std(ddof=1) / np.sqrt(ess))


def _calibrated(table: Sequence[_Drawn], wanted: float, sweep: _Sweep) -> xr.Dataset:
    mean, error = np.transpose([_mean_and_error(d.similarity) for d in table])
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
    return dataset.assign_attrs(report="calibrate_coupling", coupling=sweep.coupling.name,
                                wanted=wanted)  # fmt: skip
