"""NUTS in given coordinates, run by nutpie: warm-up, and draws that continue where others ended.

nutpie takes the metric of a run from the gradient at its first point and adapts it from there; it
knows no given metric.  A chain that is continued must not adapt again, or its draws would depend on
where it was cut.  So the coordinates of a continued run are scaled by that very gradient, which
makes nutpie's metric the one that the warm-up had learnt, exactly; `tests/test_nuts.py` holds it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from nutpie import sample as nutpie_sample
from threadpoolctl import threadpool_limits

from bayesjoint._compiled.coordinates import Coordinates, pull_back
from bayesjoint._compiled.density import MAP_FAILS
from bayesjoint._sampler import interrupts
from bayesjoint._sampler.traces import Trace, read

LEAST_GRADIENT = 1e-12  # a coordinate with less has no metric of its own
JITTER = 0.1  # of the step, so that no trajectory fits a period
LONGEST_STEP = np.pi / 3  # of a turn; a half turn in one step would only change signs
POLL = 1.0  # s between looks at running chains, at least
LOOKS = 20.0  # times what a look takes, between two


@dataclass(frozen=True, eq=False)
class Settings:
    """Settings of NUTS."""

    target_accept: float = 0.8
    max_depth: int = 10
    cores: int | None = None
    longest_step: float = LONGEST_STEP


@dataclass(frozen=True, eq=False)
class Chain:
    """All that continues a chain: where it is, its step, and the scales that it learnt.

    Attributes
    ----------
    point : ndarray, shape (n,)
        Flat point of the last draw.
    step : float
    scale : ndarray, shape (n,)
        Metric: standard deviation of each preconditioned coordinate.
    """

    point: np.ndarray
    step: float
    scale: np.ndarray


@dataclass(frozen=True, eq=False)
class Draws:
    """Draws of all chains.

    Attributes
    ----------
    points : ndarray, shape (chain, draw, n)
        In the flat coordinates of the model.
    stats : Dataset
        Statistics of each draw.
    seconds : float
    chains : list of Chain
        Where each chain is now.
    complete : bool
        False after an interrupt.
    """

    points: np.ndarray
    stats: xr.Dataset
    seconds: float
    chains: list[Chain]
    complete: bool


def warm_up(
    density: Any,
    coordinates: Coordinates,
    starts: np.ndarray,
    tune: int,
    seeds: Sequence[int],
    settings: Settings,
    watch: Callable | None = None,
) -> Draws:
    """Return chains that have learnt step and scale from starts (chain, n), and their last draw."""
    density = _recentred(density, coordinates)
    models = [density.at(coordinates, coordinates.from_point(start)) for start in starts]
    options = {"tune": tune, "draws": 1, "save_warmup": True}
    with _told(density):
        traces, seconds, complete = _run(models, seeds, settings, watch, [options] * len(models))
    if not complete:
        raise KeyboardInterrupt("interrupted during the warm-up, before the first draw")
    chains = [_learnt(trace) for trace in traces]
    points = np.stack([chain.point for chain in chains])[:, None]
    stats = joined([_warm_up_stats(trace) for trace in traces])
    return Draws(points, stats, seconds, chains, True)


def advance(
    density: Any,
    coordinates: Coordinates,
    chains: Sequence[Chain],
    draws: int,
    seeds: Sequence[int],
    settings: Settings,
    watch: Callable | None = None,
    peek: Callable | None = None,
) -> Draws:
    """Return draws that continue chains, with their steps and scales as they are.

    The first transition is nutpie's obligatory warm-up draw; it is a valid transition like any
    other and is left out only because nutpie files it elsewhere.
    """
    density, models, options = _recentred(density, coordinates), [], []
    for chain in chains:
        fixed = _with_metric(density, coordinates, chain)
        models.append(density.at(fixed, fixed.from_point(chain.point)))
        options.append(
            {"tune": 1, "draws": draws, "step_size_adapt_method": repr(float(chain.step)),
             "save_warmup": False}
        )  # fmt: skip
    with _told(density):
        traces, seconds, complete = _run(models, seeds, settings, watch, options, peek)
    count = min((len(trace.draws) for trace in traces), default=0)
    if len(traces) < len(chains) or not count:
        nothing = np.zeros((len(chains), 0, chains[0].point.size))
        return Draws(nothing, xr.Dataset(), seconds, list(chains), False)
    stacked = np.stack([trace.draws[:count] for trace in traces])
    moved = [Chain(stacked[i, -1], chain.step, chain.scale) for i, chain in enumerate(chains)]
    stats = joined([trace.stats(trace.tuning, trace.tuning + count) for trace in traces])
    return Draws(stacked, stats, seconds, moved, complete)


@contextmanager
def _told(density: Any) -> Iterator[None]:
    """Raise what stopped the sampler from inside as it was."""
    fatal = getattr(density, "fatal", ())
    if fatal:
        fatal.clear()
    try:
        yield
    finally:
        if fatal:
            raise fatal[0]


def _recentred(density: Any, coordinates: Coordinates) -> Any:
    """Return the density in the coordinates that the affine change starts from."""
    return density if coordinates.given is None else density.given(coordinates.given)


def _with_metric(density: Any, coordinates: Coordinates, chain: Chain) -> Coordinates:
    """Return coordinates in which nutpie's first metric is the scale of the chain.

    nutpie gives coordinate i the standard deviation ``|g_i|^-1/2``.  With ``u = xi / d`` its metric
    in xi is ``d |d g|^-1/2``, which is the scale for ``d = scale^2 |g|``.
    """
    gradient = density(chain.point)[1]
    factors = coordinates.factors
    pulled = pull_back(gradient, np.ones(gradient.size), *factors)
    return coordinates.with_scale(chain.scale**2 * np.maximum(np.abs(pulled), LEAST_GRADIENT))


def _learnt(trace: Trace) -> Chain:
    """Return the chain at the end of a warm-up."""
    return Chain(trace.points[-1].copy(), trace.last("step_size_bar"), trace.scales.copy())


def _run(models, seeds, settings, watch, options, peek=None) -> tuple[list[Trace], float, bool]:
    """Run one sampler a chain, as many at a time as there are cores; an interrupt keeps draws.

    After one there may be fewer results than chains.
    """
    traces: list[Trace] = []
    complete = True
    at_once = settings.cores or len(models)
    if at_once < len(models):  # a look compares all chains, of which some have not begun
        peek = None
    start = time.perf_counter()
    # Chains share the processors; each with threads of its own for linear algebra would crowd them.
    with threadpool_limits(limits=1 if len(models) > 1 else None):
        for first in range(0, len(models), at_once):
            running = [
                _start(models[i], seeds[i], settings, watch and watch(i), options[i])
                for i in range(first, min(first + at_once, len(models)))
            ]
            done, complete = _wait(running, peek)
            traces += done
            if not complete:
                break
    return traces, time.perf_counter() - start, complete


def _start(model, seed, settings, callback, options):
    # Steps are exact for a standard normal density, which the preconditioned one nearly is: what is
    # exact costs no energy error, however many dimensions it has.
    return nutpie_sample(
        model, chains=1, cores=1, seed=seed, progress_bar=False, blocking=False,
        progress_callback=callback, progress_rate=500, store_mass_matrix=options["save_warmup"],
        step_size_jitter=JITTER, target_accept=settings.target_accept,
        maxdepth=settings.max_depth, exact_normal_trajectory=True,
        max_step_size=settings.longest_step, return_raw_trace=True, **options,
    )  # fmt: skip


def _wait(running, peek: Callable | None) -> tuple[list[Trace], bool]:
    """Wait for all samplers; ``peek`` is shown their draws so far from time to time."""
    traces: list[Trace] = []
    due, costs = time.monotonic() + POLL, []
    try:
        while len(traces) < len(running):
            if interrupts.asked():
                cut = [read(sampler.abort()) for sampler in running[len(traces) :]]
                return [*traces, *cut], False
            try:
                traces.append(read(running[len(traces)].wait(timeout=interrupts.LOOK)))
            except TimeoutError:
                if time.monotonic() >= due:
                    costs.append(_peek(peek, traces, running[len(traces) :]))
                    # The first look also compiles what it needs: it says nothing of the others.
                    due = time.monotonic() + max(POLL, LOOKS * min(costs[1:], default=0.0))
    except BaseException:
        for sampler in running[len(traces) :]:
            sampler.cancel()
        raise
    return traces, True


def _peek(peek: Callable | None, done: list[Trace], running: list) -> float:
    """Show draws so far; return how long that took, s."""
    began = time.perf_counter()
    if peek is not None:
        parts = [trace.draws for trace in [*done, *(read(s.inspect()) for s in running)]]
        count = min(len(part) for part in parts)
        peek(np.stack([part[:count] for part in parts]))
    return time.perf_counter() - began


def _warm_up_stats(trace: Trace) -> xr.Dataset:
    """Return statistics, and which divergences are steps to points where a map fails."""
    failed = np.char.find(trace.messages(0, trace.tuning), MAP_FAILS) >= 0
    return trace.stats(0, trace.tuning).assign(map_fails=(("chain", "draw"), failed[None]))


def joined(parts: list[xr.Dataset]) -> xr.Dataset:
    """Return statistics of several chains as one dataset."""
    return xr.concat(parts, dim="chain", coords="minimal", compat="override")
