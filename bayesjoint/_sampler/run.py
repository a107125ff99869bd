"""A run of the sampler: it begins or is taken up again, and goes on checkpoint by checkpoint."""

import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from bayesjoint._compiled import mahalanobis as _mahalanobis
from bayesjoint._compiled import slopes as _slopes
from bayesjoint._compiled.coordinates import Coordinates
from bayesjoint._compiled.densities import likelihoods, thinning
from bayesjoint._compiled.density import CompiledDensity
from bayesjoint._compiled.draws import DrawEvaluator
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._compiled.latent_space import LatentSpace
from bayesjoint._compiled.recentring import Given
from bayesjoint._local.rechecks import recheck
from bayesjoint._sampler import given as _given
from bayesjoint._sampler import interrupts as _interrupts
from bayesjoint._sampler import nuts as _nuts
from bayesjoint._sampler import spectrum as _spectrum
from bayesjoint._sampler import starts as _starts
from bayesjoint._sampler.chains import Runner, runner_for
from bayesjoint._sampler.identity import fingerprint, layout
from bayesjoint._sampler.progress import Followed

ACCEPT = 0.8
MORE_CAREFUL = (0.9, 0.95, 0.99)  # one step up after divergences, two after many
MANY = 0.02  # share of divergences
REFRESH_ABOVE = 16.0  # steps a draw: trees of depth five and more
RECENTRED_STEP = np.pi / 6  # longest one: hyperparameters are not normal, others would allow more
PRIOR_TUNE, PRIOR_DEPTH = 300, 8
TRIAL_TUNE, TRIAL_DEPTH = 100, 6  # of the warm-up that tells whether to recentre
MODES = ("mode_of_chain", "mode_weights")  # told where there are several
RECENTRED = "recentred"  # whether fields were
STARTS, WARM_UP, REFRESH, DRAWS, PREDICTIONS, PRIOR, TRIAL = range(7)  # streams of random numbers


@dataclass(eq=False)
class Run:
    """Chains of a problem on their way.

    Attributes
    ----------
    functions : ModelFunctions
        With its compiled density.
    runner : callable
        Of `bayesjoint._sampler.chains`.
    settings : Settings
    entropy : int
        All random numbers of the run follow from it, and from the number of the checkpoint.
    coordinates : Coordinates
    chains : list of Chain
        Where each chain is.
    done, checkpoints : int
        Draws of each chain, and checkpoints, so far.
    facts : dict
        What is told of the run: seconds, tuning steps, refreshes, steps of the warm-up.
    """

    functions: ModelFunctions
    runner: Runner
    settings: _nuts.Settings
    entropy: int
    coordinates: Coordinates
    chains: list[_nuts.Chain]
    facts: dict[str, Any]
    done: int = 0
    checkpoints: int = 0
    keep_white: bool = False
    thinning: int = 1
    lengths_every: int = 1
    slopes_every: int = 1
    evaluator: DrawEvaluator = field(init=False)

    def __post_init__(self) -> None:
        self.evaluator = self.functions.once(DrawEvaluator)
        if self.coordinates.given is not None:
            self.settings = replace(self.settings, longest_step=RECENTRED_STEP)

    @property
    def density(self) -> Any:
        """The density of what chains move in."""
        return self.functions.density.given(self.coordinates.given)

    @cached_property
    def watched(self) -> _slopes.Watched:
        """The coordinates whose slopes are kept."""
        scales = [chain.scale for chain in self.chains]
        return _slopes.watched(self.functions, self.coordinates, scales)

    def points(self, rows: np.ndarray) -> np.ndarray:
        """Return the flat points of what chains move in, shape (chain, draw, n)."""
        given, recentring = self.coordinates.given, self.functions.recentring
        if given is None or recentring is None:
            return rows
        return recentring.points(rows.reshape(-1, rows.shape[2]), given).reshape(rows.shape)

    def random(self, stream: int, number: int = 0) -> np.random.Generator:
        """Return the random numbers of one purpose."""
        return np.random.default_rng([self.entropy, stream, number])

    def draw(self, output: Any, draws: int, every: int, followed: Followed) -> None:
        """Make draws up to a number, written to the output after every so many."""
        while self.done < draws and not _interrupts.asked():
            count = min(every, draws - self.done)
            seeds = seeds_of(self.random(DRAWS, self.checkpoints), len(self.chains))
            part = self.runner(
                _nuts.advance, self.coordinates, self.chains, count, seeds, self.settings,
                watch=followed.watch, peek=followed.peek,
            )  # fmt: skip
            if part.points.shape[1]:
                self._take(part, output, followed)
            if not part.complete:
                return

    def _take(self, part: _nuts.Draws, output: Any, followed: Followed) -> None:
        self.facts["sampling_time"] += part.seconds
        groups = self._groups(part)
        self.chains, self.done = part.chains, self.done + part.points.shape[1]
        self.checkpoints += 1
        output.append(groups, self._record(), self.done)
        followed.advanced(part.points, part.stats["diverging"].values.sum(axis=1))

    def _groups(self, part: _nuts.Draws) -> dict[str, xr.Dataset]:
        """Return some more draws of every group that grows."""
        rng = self.random(PREDICTIONS, self.checkpoints)
        table = self.evaluator.table(self.points(part.points))
        numbers = {"chain": np.arange(len(self.chains)),
                   "draw": self.done + np.arange(part.points.shape[1])}  # fmt: skip
        groups = {
            "posterior": table.posterior(rng, self.keep_white).assign_attrs(self.facts),
            "sample_stats": part.stats,
            "posterior_predictive": table.posterior_predictive(rng),
            "log_prior": table.log_prior(),
        }
        groups = {name: dataset.assign_coords(numbers) for name, dataset in groups.items()}
        groups |= _mahalanobis.mahalanobis(
            table, groups["posterior_predictive"], self.lengths_every, self.done
        )
        groups |= _slopes.slopes(
            self.watched, self.density, part.points, self.slopes_every, self.done
        )
        return groups | likelihoods(table, self.thinning, self.done)

    def _record(self) -> xr.Dataset:
        """Return where the chains are, as one checkpoint."""
        return xr.Dataset(
            {
                "point": (("checkpoint", "chain", "unknown"), [[c.point for c in self.chains]]),
                "sampling_time": ("checkpoint", [self.facts["sampling_time"]], {"units": "s"}),
            }
        )

    def sampler(self) -> xr.Dataset:
        """Return what the chains move with, to be stored."""
        return xr.Dataset(
            {
                "centre": ("unknown", self.coordinates.centre),
                "vectors": (("unknown", "direction"), self.coordinates.vectors),
                "stretch": ("direction", self.coordinates.stretch),
                "scale": (("chain", "unknown"), [c.scale for c in self.chains]),
                "step": ("chain", [c.step for c in self.chains]),
                **recorded(self.coordinates.given),
            },
            attrs={
                **self.facts, "entropy": str(self.entropy), "thinned": self.thinning,
                "lengths_every": self.lengths_every, "slopes_every": self.slopes_every,
                "keep_white": int(self.keep_white),
                "layout": layout(self.functions),
                "fingerprint": fingerprint(self.functions, self.coordinates.centre),
            },
        )  # fmt: skip


def begin(
    functions: ModelFunctions,
    modes: np.ndarray,
    settings: _nuts.Settings,
    *,
    random_seed: int | None,
    chains: int,
    tune: int,
    draws: int,
    keep_white: bool,
    followed: Followed,
    careful: bool,
) -> Run:
    """Return a run whose chains have warmed up around the modes, shape (mode, n).

    ``careful`` allows more warm-ups, that aim at a higher acceptance each.
    """
    entropy = np.random.SeedSequence(random_seed).entropy
    starts = _starts.spread(functions, modes, chains)
    runner = runner_for(functions, chains, tune + draws, settings.cores)

    def around(given: Given | None, tops: np.ndarray) -> tuple[Run, np.ndarray]:
        spectrum = _spectrum.average_coordinates(functions, tops, given)
        coordinates = Coordinates.around(tops[0], *spectrum, given)
        run = Run(
            functions, runner, settings, int(entropy), coordinates, [], {},  # type: ignore[arg-type]
            keep_white=keep_white, thinning=thinning(functions, chains * draws),
            lengths_every=_mahalanobis.thinning(chains * draws),
        )  # fmt: skip
        white = run.random(STARTS).standard_normal((chains, functions.size))
        places = coordinates.points(white) + (tops - tops[0])[starts.of_chain]
        return run, _starts.possible(run.density, places, tops[starts.of_chain])

    run, places = around(None, starts.modes)
    recentring, seconds, recentred = functions.recentring, 0.0, False
    if recentring is not None:
        seconds, recentred = _tried(run, places)
        if recentred:
            run, places = around(*_given.recentred(functions, recentring, starts.modes))
    _warm_up(run, places, tune, followed, careful)
    ends = run.points(np.stack([[chain.point for chain in run.chains]]))[0]
    space = functions.once(LatentSpace)
    for point in ends[: _starts.LOOKED_AT]:
        recheck(space, point, "at the end of the warm-up")
    run.facts |= {"sampling_time": run.facts["sampling_time"] + seconds, RECENTRED: int(recentred)}
    workers = min(chains, settings.cores or os.cpu_count() or 1)
    run.slopes_every = _slopes.thinning(chains * draws, run.facts["warm_up_steps"], workers)
    if len(starts.modes) > 1:
        told = starts.of_chain.tolist(), starts.weights.tolist()
        run.facts |= dict(zip(MODES, told, strict=True))
    followed.warmed_up()
    return run


def _tried(run: Run, places: np.ndarray) -> tuple[float, bool]:
    """Return the seconds that a short warm-up took, and whether fields had better be recentred.

    Recentred gradients cost more, by the cube of the number of directions that the data inform.
    """
    settings = replace(run.settings, max_depth=TRIAL_DEPTH)
    seeds = seeds_of(run.random(TRIAL), len(places))
    trial = run.runner(_nuts.warm_up, run.coordinates, places, TRIAL_TUNE, seeds, settings)
    return trial.seconds, steps_of(trial) > REFRESH_ABOVE or divergences_of(trial) > 0


def _warm_up(run: Run, places: np.ndarray, tune: int, followed: Followed, careful: bool) -> None:
    """Warm up the chains of a run, again where the spectrum misleads or draws diverge."""
    warm = _warmed_up(run, places, WARM_UP, tune, followed)
    seconds, refreshes, rung = warm.seconds, 0, 0
    while True:
        wild = divergences_of(warm) if careful and rung < len(MORE_CAREFUL) else 0.0
        if not wild and (refreshes or steps_of(warm) <= REFRESH_ABOVE):
            break
        places = warm.points[:, -1]
        given = run.coordinates.given
        spectrum = _spectrum.average_coordinates(run.functions, places, given)
        run.coordinates = Coordinates.around(run.coordinates.centre, *spectrum, given)
        if wild:
            rung = min(rung + 1 + (wild > MANY), len(MORE_CAREFUL))
            run.settings = replace(run.settings, target_accept=MORE_CAREFUL[rung - 1])
        warm = _warmed_up(run, places, REFRESH, tune, followed, refreshes)
        seconds, refreshes = seconds + warm.seconds, refreshes + 1
    run.chains = warm.chains
    run.facts = {
        "sampling_time": seconds, "tuning_steps": tune, "refreshes": refreshes,
        "warm_up_steps": steps_of(warm),
        "target_accept": run.settings.target_accept, "inference_library": "bayesjoint",
    }  # fmt: skip


def _warmed_up(
    run: Run, places: np.ndarray, stream: int, tune: int, followed: Followed, number: int = 0
) -> _nuts.Draws:
    seeds = seeds_of(run.random(stream, number), len(places))
    return run.runner(
        _nuts.warm_up, run.coordinates, places, tune, seeds, run.settings, watch=followed.watch
    )


def steps_of(warm: _nuts.Draws) -> float:
    """Return the mean number of steps of a draw in the second half of a warm-up."""
    steps = warm.stats["n_steps"]
    return float(steps.isel(draw=slice(steps.sizes["draw"] // 2, None)).mean())


def divergences_of(warm: _nuts.Draws) -> float:
    """Return the share of divergences in the second half of a warm-up.

    Without steps to points where a map fails: there no smaller step helps.
    """
    diverging = warm.stats["diverging"] & ~warm.stats["map_fails"]
    return float(diverging.isel(draw=slice(diverging.sizes["draw"] // 2, None)).mean())


def recorded(given: Given | None) -> dict[str, Any]:
    if given is None:
        return {}
    return {"given_rows": (("datum", "cell"), given.rows), "given_data": ("datum", given.data)}


def given_of(sampler: xr.Dataset) -> Given | None:
    if "given_rows" not in sampler:
        return None
    rows, data = (np.ascontiguousarray(sampler[f"given_{v}"].values) for v in ("rows", "data"))
    return Given(rows, data)


def prior_points(
    functions: ModelFunctions, density: CompiledDensity, rng: np.random.Generator, count: int
) -> np.ndarray:
    """Return draws of the coupled prior in flat coordinates, shape (chain, draw, n)."""
    if not functions.build.residuals and all(u.white for u in functions.build.unknowns):
        return rng.standard_normal((1, count, functions.size))
    half, prior = -(-count // 2), density.without_data()
    settings = _nuts.Settings(0.8, PRIOR_DEPTH)
    coordinates = Coordinates.around(functions.initial)
    starts = functions.initial + rng.standard_normal((2, functions.size))
    warm = _nuts.warm_up(prior, coordinates, starts, PRIOR_TUNE, seeds_of(rng, 2), settings)
    return _nuts.advance(prior, coordinates, warm.chains, half, seeds_of(rng, 2), settings).points


def seeds_of(rng: np.random.Generator, count: int) -> list[int]:
    """Return seeds for nutpie."""
    return [int(seed) for seed in rng.integers(2**31, size=count)]
