"""Time of the log-density and its gradient with a correlated discrepancy on many data.

Two modalities of 5,000 data at the same times, constant noise, unknown scale and correlation, fixed
length scale: exactly, mode by mode; by the leading modes, with the error in the log-density; and
two modalities on a lattice of 100 places by 100 times.  Prints medians of 20 calls.

    python tests/bench_discrepancy.py [DATA]
"""

import sys
import time

import numpy as np
import pymc as pm
import xarray as xr

import bayesjoint as bj
from bayesjoint._density import CompiledDensity
from bayesjoint._functions import ModelFunctions

CALLS = 20


def series(count, rng):
    """Return a straight line seen by two instruments, as problem with given discrepancy."""
    times = np.linspace(0.0, 10.0, count)
    design = np.stack([np.ones(count), times], axis=1)
    line = bj.Parameter("line", bj.Prior(pm.Normal, mu=0.0, sigma=1.0), coords={"part": [0, 1]})
    modalities = [
        bj.Modality(
            name,
            xr.DataArray(rng.normal(size=count), {"time": (f"t_{name}", times)}, f"t_{name}"),
            bj.linear_map(design, "line"),
            bj.GaussianNoise(sd=0.5),
        )
        for name in ("first", "second")
    ]
    return line, modalities


def discrepancy(rank=None, **settings):
    return bj.JointDiscrepancy(
        sd=dict.fromkeys(("first", "second"), bj.Prior(pm.HalfNormal, sigma=1.0)),
        correlation=bj.Prior(pm.Uniform, lower=-1.0, upper=1.0),
        rank=rank,
        **settings,
    )


def lattice(rng):
    axes = {"time": np.arange(100.0), "place": np.arange(100.0)}
    line = bj.Parameter("line", bj.Prior(pm.Normal, mu=0.0, sigma=1.0), coords={"part": [0, 1]})
    design = np.stack([np.ones(10_000), np.repeat(axes["time"], 100)], axis=1)
    modalities = [
        bj.Modality(
            name,
            xr.DataArray(rng.normal(size=(100, 100)), axes, ("time", "place")),
            bj.linear_map(design, "line"),
            bj.GaussianNoise(sd=0.5),
        )
        for name in ("first", "second")
    ]
    return bj.JointProblem(
        latents=[line],
        modalities=modalities,
        discrepancy=discrepancy(on=("time", "place"), length_scale={"time": 10.0, "place": 20.0}),
    )


def measure(name, problem, point=None):
    start = time.perf_counter()
    functions = ModelFunctions(problem)
    density = CompiledDensity(functions, "numba")
    made = time.perf_counter() - start
    point = functions.initial if point is None else point
    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        value, _ = density(point)
        times.append(time.perf_counter() - start)
    print(
        f"{name:45s} {1e3 * np.median(times):8.1f} ms a gradient, made in {made:.0f} s", flush=True
    )
    return value


def main(count=5_000):
    rng = np.random.default_rng(1)
    line, modalities = series(count, rng)
    make = lambda rank, smoothness: bj.JointProblem(  # noqa: E731
        latents=[line],
        modalities=modalities,
        discrepancy=discrepancy(rank, on="time", length_scale=1.0, smoothness=smoothness),
    )
    for smoothness in (1.5, 2.5):
        exact = measure(f"2 x {count}, smoothness {smoothness}, exact", make(None, smoothness))
        for rank in (200, 400, 800, 1_200):
            value = measure(f"2 x {count}, {rank} modes", make(rank, smoothness))
            print(f"{'':45s} log-density off by {abs(float(value) - float(exact)):.1e}")
    measure("2 x 10,000 on a lattice, exact", lattice(rng))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
