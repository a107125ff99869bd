"""Benchmark of correlated discrepancies on many data, run by `make bench`.

Two modalities of 5,000 data at the same times, constant noise, unknown scales and correlation,
fixed length scale, a tenth of the extent: one log-density with its gradient, exactly, mode by mode;
by the leading modes, as many as bring the log-density within 1e-3 nats; and two modalities on a
lattice of 100 places by 100 times.  Before these a sweep over the correlation.  The data are twice
as noisy as is assumed, which makes the modes left out weigh more.

Medians of 20 calls on one processor, in seconds of its own time, so that other work beside it
weighs less.

    python tests/bench_discrepancy.py [DATA]
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pymc as pm
import xarray as xr
from bench_sampling import machine
from rich.console import Console

import bayesjoint as bj
from bayesjoint._compiled.density import CompiledDensity
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._local.approximations import errors_at_data

RESULT = Path(__file__).with_suffix(".txt")
CALLS = 20
ERROR = 1e-3  # nats
NAMES = ("first", "second")
LINE = bj.Parameter("line", bj.Prior(pm.Normal, mu=0.0, sigma=1.0), coords={"part": [0, 1]})


def seen(values: np.ndarray, times: np.ndarray, **axes: np.ndarray) -> list[bj.Modality]:
    """Return a straight line in time seen by two instruments."""
    design = np.stack([np.ones(times.size), times], axis=1)
    return [
        bj.Modality(
            name, xr.DataArray(part, axes, list(axes)), bj.linear_map(design, "line"),
            bj.GaussianNoise(sd=0.5),
        )
        for name, part in zip(NAMES, values, strict=True)
    ]  # fmt: skip


def unknown(**settings) -> bj.JointDiscrepancy:
    """Return a discrepancy of unknown scales and correlation."""
    sds = dict.fromkeys(NAMES, bj.Prior(pm.HalfNormal, sigma=1.0))
    correlation = bj.Prior(pm.Uniform, lower=-1.0, upper=1.0)
    return bj.JointDiscrepancy(sd=sds, correlation=correlation, **settings)


def series(count: int) -> list[bj.Modality]:
    """Return two modalities at the same times, from 0 to 10."""
    times = np.linspace(0.0, 10.0, count)
    return seen(np.random.default_rng(1).normal(size=(2, count)), times, time=times)


def lattice() -> bj.JointProblem:
    """Return two modalities at 100 places and times, errors a product of both."""
    axes = {"time": np.arange(100.0), "place": np.arange(100.0)}
    values = np.random.default_rng(1).normal(size=(2, 100, 100))
    errors = unknown(on=("time", "place"), length_scale={"time": 10.0, "place": 20.0})
    return bj.JointProblem(
        latents=[LINE],
        modalities=seen(values, np.repeat(axes["time"], 100), **axes),
        discrepancy=errors,
    )


def seconds(problem: bj.JointProblem) -> float:
    """Return how long one log-density takes with its gradient."""
    functions = ModelFunctions(problem)
    density, times = CompiledDensity(functions, "numba"), []
    density(functions.initial)
    for _ in range(CALLS):
        start = time.process_time()
        density(functions.initial)
        times.append(time.process_time() - start)
    return float(np.median(times))


def log_likelihood(functions: ModelFunctions) -> float:
    """Return the log-density of the data at the start."""
    predicted = functions.outputs(functions.initial)[: functions.data.size]
    return functions.errors(functions.initial).log_density(functions.data - predicted)


def leading(problem_of: Callable[[int | None], bj.JointProblem]) -> tuple[int, float, float]:
    """Return the least of 100, 200 .. modes that reach the error; errors stated and found.

    Stated at these data, not of data of the model: their misfit is that of a start.
    """
    exact, rank, found = log_likelihood(ModelFunctions(problem_of(None))), 0, np.inf
    while abs(found) > ERROR:
        rank += 100
        functions = ModelFunctions(problem_of(rank))
        (stated,) = errors_at_data(functions, functions.initial).values()
        found = exact - log_likelihood(functions)
    return rank, stated, found


def gradients(count: int, smoothness: float) -> str:
    """Return what one gradient costs, exactly and by the leading modes."""
    modalities = series(count)

    def problem_of(rank: int | None) -> bj.JointProblem:
        errors = unknown(on="time", length_scale=1.0, smoothness=smoothness, rank=rank)
        return bj.JointProblem(latents=[LINE], modalities=modalities, discrepancy=errors)

    rank, stated, found = leading(problem_of)
    exact, reduced = seconds(problem_of(None)), seconds(problem_of(rank))
    return (
        f"smoothness {smoothness}: exact {1e3 * exact:.1f} ms a gradient; by {rank:,} modes "
        f"{1e3 * reduced:.1f} ms, a ratio of {exact / reduced:.1f}\n"
        f"    log-density off by {found:.1e} nats, {stated:.1e} stated"
    )


def sweep(count: int) -> str:
    """Return what a sweep over 41 correlations costs, and finding the modes before it."""
    errors = bj.JointDiscrepancy(
        sd=dict.fromkeys(NAMES, 0.5), correlation=0.5, on="time", length_scale=1.0
    )
    problem = bj.JointProblem(latents=[LINE], modalities=series(count), discrepancy=errors)
    times = []
    for _ in range(2):  # the first finds the modes, which are kept
        start = time.process_time()
        bj.discrepancy_sweep(problem, np.linspace(-0.99, 0.99, 41))
        times.append(time.process_time() - start)
    return f"41 correlations swept in {times[1]:.1f} s, and {times[0] - times[1]:.0f} s for modes"


def main(count: int = 5_000) -> None:
    """Run all, print the numbers and keep them."""
    lines = [f"2 x {count:,} data at the same times, length scale a tenth of the extent"]
    lines += [sweep(count), *(gradients(count, smoothness) for smoothness in (2.5, 1.5))]
    lines += [f"2 x 10,000 data on a lattice: exact {1e3 * seconds(lattice()):.1f} ms a gradient"]
    with RESULT.open("w", encoding="utf-8") as file:
        for console in (Console(), Console(file=file, width=100)):
            console.print(*lines, machine(), sep="\n")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
