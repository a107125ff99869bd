"""Where chains run: in threads of this process, or in processes of their own.

A black box holds the interpreter while it works, so that chains in threads take turns.  Processes
cost some seconds to start, which only a slow black box pays back.
"""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

import numpy as np

from bayesjoint._compiled.coordinates import Coordinates
from bayesjoint._compiled.density import CompiledDensity, has_black_box
from bayesjoint._compiled.failures import reset
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._graph.simulators import Failures
from bayesjoint._sampler import interrupts
from bayesjoint._sampler import nuts as _nuts
from bayesjoint._sampler.nuts import Chain, Draws, Settings

STEPS = 8  # gradients a draw, to guess how long a run takes
WORTH = 30.0  # s of a run in threads from which processes start

Runner = Callable[..., Draws]


def runner_for(functions: ModelFunctions, chains: int, draws: int, cores: int | None) -> "Runner":
    """Return the function ``(action, *arguments, **settings)`` that runs actions of `nuts`."""
    workers = min(chains, cores or os.cpu_count() or 1)
    if not has_black_box(functions.problem) or workers == 1:
        return _in_threads(functions.density)
    seconds = _seconds_of_a_call(functions) * STEPS * chains * draws
    if seconds < WORTH:
        return _in_threads(functions.density)
    return _in_processes(functions, workers)


def _seconds_of_a_call(functions: ModelFunctions) -> float:
    functions.density(functions.initial)
    began = time.perf_counter()
    functions.density(functions.initial)
    return time.perf_counter() - began


def _in_threads(density: Any) -> Runner:
    def run(action, *arguments, **settings):
        return action(density, *arguments, **settings)

    return run


def _in_processes(functions: ModelFunctions, workers: int) -> Runner:
    import cloudpickle
    from loky import get_reusable_executor

    problem_bytes, counts = cloudpickle.dumps(functions.problem), functions.counts
    executor = get_reusable_executor(max_workers=workers)

    def run(action, coordinates, chains, count, seeds, settings, watch=None, **more):
        more.pop("peek", None)
        with tempfile.TemporaryDirectory() as folder:
            stop = Path(folder) / "stop"
            futures = [
                executor.submit(
                    _one_chain, problem_bytes, action.__name__, coordinates, [chain], count, [seed],
                    settings, more, stop,
                )
                for chain, seed in zip(chains, seeds, strict=True)
            ]  # fmt: skip
            parts = _results(futures, stop)
        for _, counted in parts:
            for ours, theirs in zip(counts, counted, strict=True):
                ours.add(theirs)
        return _together([part for part, _ in parts])

    return run


def _results(futures: list[Future], stop: Path) -> list[tuple[Draws, list[Failures]]]:
    """Wait for workers; after an interrupt they are asked to stop, by a file."""
    try:
        running = set(futures)
        while running:
            running = wait(running, timeout=interrupts.LOOK).not_done
            if interrupts.asked():
                stop.touch()
        return [future.result() for future in futures]
    finally:
        stop.touch()
        wait(futures)  # the file must be there until all have seen it


_models: dict[int, tuple[ModelFunctions, CompiledDensity]] = {}  # of this worker, by its bytes


def _one_chain(
    problem_bytes: bytes,
    action: str,
    coordinates: Coordinates,
    chains: Sequence[Chain] | np.ndarray,
    count: int,
    seeds: Sequence[int],
    settings: Settings,
    more: dict[str, Any],
    stop: Path,
) -> tuple[Draws, list[Failures]]:
    """Run one chain in a worker, whose density is compiled at the first call; count failures."""
    import pickle

    interrupts.obey(stop)
    key = hash(problem_bytes)
    if key not in _models:
        _models.clear()
        functions = ModelFunctions(pickle.loads(problem_bytes))
        _models[key] = functions, CompiledDensity(functions, "interpreted")
    functions, density = _models[key]
    reset(functions.counts)
    run = getattr(_nuts, action)
    drawn = run(density, coordinates, np.asarray(chains) if action == "warm_up" else chains,
                count, seeds, settings, **more)  # fmt: skip
    return drawn, functions.counts


def _together(parts: list[Draws]) -> Draws:
    """Return the draws of all chains, as many as the shortest has."""
    count = min(part.points.shape[1] for part in parts)
    told = min(part.stats.sizes["draw"] for part in parts)  # of a warm-up, more than are kept
    return Draws(
        np.concatenate([part.points[:, :count] for part in parts]),
        _nuts.joined([part.stats.isel(draw=slice(0, told)) for part in parts]),
        max(part.seconds for part in parts),
        [part.chains[0] for part in parts],
        all(part.complete for part in parts),
    )
