"""Benchmark of sampling, run by `make bench`: the preconditioned sampler beside plain ones.

The reference is models/gravity_traveltime.py on 12 by 8 cells: two fields, 192 unknowns, 3 % noise,
a cross-gradient.  All samplers draw from the same posterior, two chains of 500 draws, with their
defaults otherwise; warm-up is 500 draws, for ``bj.sample`` its default, 300:

* ``pm.sample`` on ``bj.build_model(problem)``: NUTS with an adapted diagonal metric,
* nutpie's low-rank adaptation of the metric, on the same model,
* ``bj.sample``: NUTS in the coordinates of the likelihood-informed spectrum.

The same on 24 by 16 cells, 768 unknowns.  The ratio belongs to the problem: the settings of the
reference (weak coupling, wide prior, many data) were chosen among others with the ratio in view.
So the two ends of the coupling are run too: without it the posterior is Gaussian, at 10 far from
it, and there the gain is much smaller.

The table is kept as text, and drawn as bench_sampling.png.

Seconds are of sampling, warm-up included, compilation (and the search for the mode) not.  Close
other programs first: two chains need two idle processors.
"""

import logging
import os
import platform
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # chains share the processors
sys.path.insert(0, str(Path(__file__).parents[1]))  # models/ is not installed

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import nutpie
import pymc as pm
import xarray as xr
from rich import box
from rich.console import Console
from rich.table import Table

import bayesjoint as bj
from models import gravity_traveltime

RESULT, FIGURE = (Path(__file__).with_suffix(suffix) for suffix in (".txt", ".png"))
STYLES = (
    ("bj.sample", "#0072b2", "o"), ("nutpie, low-rank", "#d55e00", "s"),
    ("pm.sample", "#6b7785", "D"),
)  # fmt: skip
PACKAGES = ("pymc", "pytensor", "nutpie", "numba", "numpy", "arviz")
CHAINS = {"chains": 2, "cores": 2, "draws": 500}
TUNE, OURS = 500, 300  # warm-up draws; with 300 nutpie's low-rank adaptation does not settle
SEED = 1


@dataclass(frozen=True)
class Case:
    """A grid and the weight of the cross-gradient."""

    nx: int = 12
    nz: int = 8
    coupling: float = 0.3

    def problem(self) -> bj.JointProblem:
        """Return the joint problem."""
        return gravity_traveltime.problem(nx=self.nx, nz=self.nz, coupling=self.coupling)


CASES = (Case(), Case(24, 16), Case(coupling=0.0), Case(coupling=10.0))


@dataclass(frozen=True)
class Result:
    """What one sampler did."""

    case: Case
    sampler: str
    ess: float
    seconds: float
    steps: float
    divergences: int

    @property
    def rate(self) -> float:
        """Effective draws a second, of the cell that has fewest."""
        return self.ess / self.seconds

    @property
    def gradients(self) -> float:
        """Gradients for each effective draw, warm-up left out; the same on every machine."""
        return self.steps * CHAINS["chains"] * CHAINS["draws"] / self.ess


def plain(case: Case) -> Result:
    """Run ``pm.sample`` on the plain model."""
    model = bj.build_model(case.problem())
    tree = pm.sample(model=model, random_seed=SEED, progressbar=False, tune=TUNE, **CHAINS)
    inside = tree["posterior"].attrs.get("inference_library", "pymc")
    seconds = tree["posterior"].attrs["sampling_time"]
    return _result(case, f"pm.sample ({inside})", tree, seconds)


def low_rank(case: Case) -> Result:
    """Run nutpie's low-rank adaptation on the plain model."""
    model = bj.build_model(case.problem())
    compiled = nutpie.compile_pymc_model(model)
    start = time.perf_counter()
    tree = nutpie.sample(
        compiled, adaptation="low_rank", seed=SEED, progress_bar=False, tune=TUNE, **CHAINS
    )
    return _result(case, "nutpie, low-rank", tree, time.perf_counter() - start)


def preconditioned(case: Case) -> Result:
    """Run ``bj.sample``."""
    problem = case.problem()
    tree = bj.sample(problem, random_seed=SEED, progress=False, tune=OURS, **CHAINS)
    return _result(case, "bj.sample", tree, tree["posterior"].attrs["sampling_time"])


def _result(case: Case, sampler: str, tree: xr.DataTree, seconds: float) -> Result:
    ess = smallest_ess(tree, ["density", "slowness"])
    steps, diverging = (tree["sample_stats"][name] for name in ("n_steps", "diverging"))
    return Result(case, sampler, ess, seconds, float(steps.mean()), int(diverging.sum()))


def smallest_ess(tree: xr.DataTree, names: list[str]) -> float:
    """Return the effective draws (bulk) of the cell that has fewest, of some fields."""
    fields = tree["posterior"].to_dataset()[names]
    return min(float(smallest) for smallest in az.ess(fields).min().data_vars.values())


def table_of(results: list[Result]) -> Table:
    """Return the results as a table; ratios are to pm.sample on the same problem."""
    title = "Gravity and travel times, 2 chains x 500 draws"
    table = Table(title=title, box=box.SIMPLE)
    table.add_column("unknowns", justify="right")
    table.add_column("coupling", justify="right")
    table.add_column("sampler", no_wrap=True)
    for heading in ("min ESS", "seconds", "ESS/s", "steps", "gradients/ESS", "div.", "ratio"):
        table.add_column(heading, justify="right")
    for r in results:
        numbers = (f"{r.ess:.0f}", f"{r.seconds:.2f}", f"{r.rate:.4g}", f"{r.steps:.1f}")
        last = (f"{r.gradients:.4g}", str(r.divergences), f"{ratio_of(r, results):.3g}")
        unknowns = str(2 * r.case.nx * r.case.nz)
        table.add_row(unknowns, f"{r.case.coupling:g}", r.sampler, *numbers, *last)
    return table


def ratio_of(result: Result, results: list[Result]) -> float:
    """Return the rate over that of the first sampler on the same problem."""
    return result.rate / next(r.rate for r in results if r.case == result.case)


def verdict(case: Case, results: list[Result]) -> str:
    """Return in words how much faster the last sampler is than the better of the others."""
    *others, ours = (r.rate for r in results if r.case == case)
    ratio = ours / max(others)
    return (
        f"{2 * case.nx * case.nz} unknowns, coupling {case.coupling:g}: {ours / others[0]:.3g} "
        f"times the ESS/s of pm.sample, {ratio:.3g} times that of the better of the others"
    )


def plot(results: list[Result]) -> None:
    """Draw both rates of every case, one line a sampler, into `FIGURE`."""
    labels = [f"{2 * c.nx * c.nz} unknowns\ncoupling {c.coupling:g}" for c in CASES]
    rates = {"effective draws a second": "rate", "gradients for an effective draw": "gradients"}
    figure, axes = plt.subplots(1, 2, figsize=(9.0, 3.6), layout="constrained", dpi=110)
    for ax, (title, attribute) in zip(axes, rates.items(), strict=True):
        for shift, (name, colour, marker) in zip((-0.3, 0.0, 0.3), STYLES, strict=True):
            values = [getattr(r, attribute) for r in results if r.sampler.startswith(name)]
            at = np.arange(len(CASES)) + shift
            ax.semilogy(at, values, marker, color=colour, label=name, markersize=7)
            for x, value in zip(at, values, strict=True):
                text = f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
                ax.annotate(text, (x, value), (0, 7), textcoords="offset points", ha="center",
                            fontsize=8, color=colour)  # fmt: skip
        ax.set(title=title, xlim=(-0.4, len(CASES) - 0.4))
        ax.set_xticks(range(len(CASES)), labels, fontsize=8)
        ax.margins(y=0.15)
        ax.grid(axis="y", alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3,
                  frameon=False)  # fmt: skip
    figure.savefig(FIGURE)


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


def main() -> None:
    """Run all samplers, print the table and keep it."""
    logging.getLogger("pymc").setLevel(logging.ERROR)
    screen, results = Console(), []
    for case in CASES:
        for sampler in (plain, low_rank, preconditioned):
            with screen.status(f"{case}: {sampler.__doc__}"):
                results.append(sampler(case))
    words = [verdict(case, results) for case in CASES]
    with RESULT.open("w", encoding="utf-8") as file:
        for console in (screen, Console(file=file, width=110)):
            console.print(table_of(results), machine(), *words, sep="\n")
    plot(results)


if __name__ == "__main__":
    main()
