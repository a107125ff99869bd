"""Benchmark of sampling, run by `make bench`: the preconditioned sampler beside plain ones.

The reference is models/gravity_traveltime.py on 12 by 8 cells: two fields, 192 unknowns, 3 % noise,
a cross-gradient.  All samplers draw from the same posterior, two chains of 500 draws after 500 of
warm-up, with their defaults otherwise:

* ``pm.sample`` on ``bj.build_model(problem)``: NUTS with an adapted diagonal metric,
* nutpie's low-rank adaptation of the metric, on the same model,
* ``bj.sample``: NUTS in the coordinates of the likelihood-informed spectrum.

Seconds are of sampling, warm-up included, compilation (and the search for the mode) not.  Close
other programs first: two chains need two idle processors.
"""

import logging
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # chains share the processors
sys.path.insert(0, str(Path(__file__).parents[1]))  # models/ is not installed

import arviz as az
import nutpie
import pymc as pm
import xarray as xr
from rich import box
from rich.console import Console
from rich.table import Table

import bayesjoint as bj
from models import gravity_traveltime

RESULT = Path(__file__).with_suffix(".txt")
PACKAGES = ("pymc", "pytensor", "nutpie", "numba", "numpy", "arviz")
CHAINS = {"chains": 2, "cores": 2, "draws": 500, "tune": 500}
SEED = 1
GOAL = 100  # times the effective draws a second of pm.sample


@dataclass(frozen=True)
class Result:
    """What one sampler did."""

    sampler: str
    ess: float
    seconds: float
    steps: float
    divergences: int

    @property
    def rate(self) -> float:
        """Effective draws a second, of the cell that has fewest."""
        return self.ess / self.seconds


def plain(problem: bj.JointProblem) -> Result:
    """Run ``pm.sample`` on the plain model."""
    tree = pm.sample(model=bj.build_model(problem), random_seed=SEED, progressbar=False, **CHAINS)
    inside = tree["posterior"].attrs.get("inference_library", "pymc")
    return _result(f"pm.sample ({inside})", tree, tree["posterior"].attrs["sampling_time"])


def low_rank(problem: bj.JointProblem) -> Result:
    """Run nutpie's low-rank adaptation on the plain model."""
    compiled = nutpie.compile_pymc_model(bj.build_model(problem))
    start = time.perf_counter()
    tree = nutpie.sample(compiled, adaptation="low_rank", seed=SEED, progress_bar=False, **CHAINS)
    return _result("nutpie, low-rank", tree, time.perf_counter() - start)


def preconditioned(problem: bj.JointProblem) -> Result:
    """Run ``bj.sample``."""
    tree = bj.sample(problem, random_seed=SEED, progress=False, **CHAINS)
    return _result("bj.sample", tree, tree["posterior"].attrs["sampling_time"])


def _result(sampler: str, tree: xr.DataTree, seconds: float) -> Result:
    fields = tree["posterior"].to_dataset()[["density", "slowness"]]
    ess = min(float(smallest) for smallest in az.ess(fields).min().data_vars.values())
    stats = tree["sample_stats"]
    return Result(
        sampler, ess, seconds, float(stats["n_steps"].mean()), int(stats["diverging"].sum())
    )


def table_of(results: list[Result]) -> Table:
    """Return the results as a table; ratios are to the first."""
    title = "Gravity and travel times, 192 unknowns, 2 chains x (500 + 500) draws"
    table = Table(title=title, box=box.SIMPLE)
    table.add_column("sampler", no_wrap=True)
    for heading in ("min ESS", "seconds", "ESS/s", "steps", "diverging", "ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    for r in results:
        numbers = (f"{r.ess:.0f}", f"{r.seconds:.2f}", f"{r.rate:.4g}", f"{r.steps:.1f}")
        table.add_row(r.sampler, *numbers, str(r.divergences), f"{r.rate / results[0].rate:.3g}")
    return table


def machine() -> str:
    """Return the machine and the versions, in general words."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    load = (
        f"load {os.getloadavg()[0]:.1f} at the end" if hasattr(os, "getloadavg") else "load unknown"
    )
    return (
        f"{os.cpu_count()} processors ({platform.machine()}, {platform.system()}), {load}\n"
        f"Python {platform.python_version()}, {packages}"
    )


def main(samplers: tuple[Callable, ...] = (plain, low_rank, preconditioned)) -> None:
    """Run all samplers, print the table and keep it."""
    logging.getLogger("pymc").setLevel(logging.ERROR)
    problem, screen = gravity_traveltime.problem(), Console()
    results = []
    for sampler in samplers:
        with screen.status(str(sampler.__doc__)):
            results.append(sampler(problem))
    ratio = results[-1].rate / results[0].rate
    verdict = f"{ratio:.0f} times the effective draws a second of pm.sample; the goal is {GOAL}"
    with RESULT.open("w", encoding="utf-8") as file:
        for console in (screen, Console(file=file, width=100)):
            console.print(table_of(results), machine(), verdict, sep="\n")


if __name__ == "__main__":
    main()
