"""Benchmark of unknown hyperparameters of fields under precise data, run by `make bench`.

Fields of 12 cells, each cell seen with independent noise; what their prior leaves open is the
correlation between two or three fields, or sd, length scale and correlation together.  Sampled
without recentring (z alone), and as `bj.sample` does it: a short warm-up in z tells whether the
fields are recentred.  Columns of both: gradients for an effective draw of whatever has fewest,
divergences, the verdict; then effective draws a second against those without recentring.
Gradients do not depend on the machine or its load, seconds do.
"""

import os
import sys
import warnings
from pathlib import Path
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import pymc as pm
from bench_sampling import machine
from rich import box
from rich.console import Console
from rich.table import Table

import bayesjoint as bj
from tests.test_recentring import ABOUT_ONE, EVEN, LENGTH, problem

RESULT = Path(__file__).with_suffix(".txt")
ANY = bj.Prior(pm.LKJCorr, n=3, eta=1.0)
CASES = {
    **{f"correlation of two fields, noise {noise:g}": problem(noise, EVEN)
       for noise in (1.0, 0.1, 0.01, 0.001)},
    "correlations of three fields, noise 0.01": problem(0.01, ANY, names="abc"),
    "sd, length scale and correlation, noise 0.1": problem(
        0.1, EVEN, sd=ABOUT_ONE, length_scale=LENGTH
    ),
    "sd, length scale and correlation, noise 0.01": problem(
        0.01, EVEN, sd=ABOUT_ONE, length_scale=LENGTH
    ),
}  # fmt: skip


def judged(made: bj.JointProblem) -> tuple[list[str], float]:
    """Return the columns of a run, and effective draws a second."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        tree = bj.sample(made, draws=1000, random_seed=1, progress=False)
    told = tree["posterior"].attrs
    cost = told["gradients_per_effective_draw"]
    used = int(tree["sample_stats"]["n_steps"].sum())
    columns = [f"{cost:,.1f}", f"{told['divergences']:.0f}", told["verdict"]]
    return [*columns, "yes" if told["recentred"] else "no"], used / cost / told["sampling_time"]


def main() -> None:
    """Print and keep the table."""
    table = Table("unknown", "gradients", "div.", "verdict", "gradients", "div.", "verdict",
                  "recentred", "ratio", box=box.SIMPLE)  # fmt: skip
    for name, made in CASES.items():
        with mock.patch("bayesjoint._sampler.run._tried", lambda run, places: (0.0, False)):
            (*before, _), slow = judged(made)
        after, fast = judged(made)
        table.add_row(name, *before, *after, f"{fast / slow:.1f}")
    with RESULT.open("w") as file:
        for console in (Console(width=120), Console(file=file, width=120)):
            console.print(machine())
            console.print(table)


if __name__ == "__main__":
    main()
