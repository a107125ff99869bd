"""Benchmark of many data sets of one problem, run by `make bench`: what compiling once saves.

Three problems with simulated data, each sampled for 2 chains of 300 draws: first, with other data
by ``problem.with_data``, and with those data as a new problem, which compiles again.  Seconds of
processor time, the fastest of three; Numba's cache on disk is warm for all, as in a second session.
The draws of both ways are the same, bit for bit: tests/test_pool.py.
"""

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))  # models/ is not installed

import numpy as np
import pymc as pm
import xarray as xr
from bench_sampling import machine
from rich import box
from rich.console import Console
from rich.table import Table

import bayesjoint as bj
from models import crosshole

RESULT = Path(__file__).with_suffix(".txt")
REPEATS = 3
SETTINGS = {"draws": 300, "tune": 200, "chains": 2, "cores": 1, "random_seed": 1,
            "progress": False, "prior_draws": 20}  # fmt: skip


def sensors() -> bj.JointProblem:
    """Two sensors with errors in common, one unknown, one scale of the noise."""
    times = {"time": np.arange(40.0)}
    return bj.JointProblem(
        latents=[bj.Parameter("level", bj.Prior(pm.Normal, mu=0, sigma=1))],
        modalities=[
            bj.Modality(
                name, xr.DataArray(np.zeros(40), times, "time"),
                bj.linear_map(np.ones((40, 1)), "level"),
                bj.GaussianNoise(sd=0.3, scale=bj.Prior(pm.LogNormal, mu=0, sigma=0.3)),
            )
            for name in ("first", "second")
        ],
        discrepancy=bj.JointDiscrepancy(
            sd={"first": 0.5, "second": 0.5}, correlation=0.8, on="time", length_scale=4.0
        ),
    )  # fmt: skip


PROBLEMS = {
    "two sensors, common errors": sensors,
    "crosshole, 8 by 6 cells, cross-gradient": lambda: crosshole.problem(nx=8, nz=6, weight=1.0),
    "crosshole, 24 by 16 cells, no coupling": lambda: crosshole.problem(coupling="none"),
}


def seconds(problem: bj.JointProblem) -> float:
    """Return the processor time of one run."""
    start = time.process_time()
    bj.sample(problem, **SETTINGS)
    return time.process_time() - start


def row(make) -> list[float]:
    """Return seconds of the first run, with other data, and with those as a new problem."""
    first, other, anew = [], [], []
    for seed in range(REPEATS):
        problem = make()
        data = bj.simulate(problem, random_seed=seed)[list(problem.modality)]
        problem = replace(problem)  # nothing is compiled for it
        first.append(seconds(problem))
        other.append(seconds(problem.with_data(data)))
        anew.append(seconds(replace(problem.with_data(data))))
    return [min(times) for times in (first, other, anew)]


def main() -> None:
    """Print and keep the table."""
    columns = ["problem", "first, s", "other data, s", "as a new problem, s", "ratio"]
    table = Table(*columns, box=box.SIMPLE)
    for name, make in PROBLEMS.items():
        first, other, anew = row(make)
        table.add_row(name, f"{first:.2f}", f"{other:.2f}", f"{anew:.2f}", f"{anew / other:.1f}")
    with RESULT.open("w") as file:
        for console in (Console(), Console(file=file, width=100)):
            console.print(machine())
            console.print(table)


if __name__ == "__main__":
    main()
