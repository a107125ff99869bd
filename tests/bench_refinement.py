"""Benchmark of refinement, run by `make bench`: one survey, ever finer grids.

models/gravity_traveltime.py with blurred edges, so that every grid can fit the 636 data.  Each grid
runs in a process of its own, two chains with the draws streamed to a store, and tells: unknowns,
pairs of the spectrum above 0.1, seconds to the end (compilation included), steps a draw, gradients
for each effective draw of the cell that has fewest and of the middle one, and the peak memory.

Gradients do not depend on the machine or its load; seconds do.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # chains share the processors
sys.path.insert(0, str(Path(__file__).parents[1]))  # models/ is not installed

import numpy as np
from bench_sampling import machine
from rich import box
from rich.console import Console
from rich.table import Table

import bayesjoint as bj
from models import gravity_traveltime

RESULT = Path(__file__).with_suffix(".txt")
DRAWS = {16: 500, 32: 500, 64: 500, 128: 250}  # of each of two chains, by cells along an axis
EDGE = 50.0  # blur of the truth, m
SEED = 1


def run(cells: int) -> dict[str, float]:
    """Sample one grid and return its numbers."""
    import arviz as az

    problem = gravity_traveltime.problem(nx=cells, nz=cells, edge=EDGE)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        tree = bj.sample(
            problem, draws=DRAWS[cells], chains=2, random_seed=SEED, progress=False,
            store=Path(folder) / "run.zarr",
        )  # fmt: skip
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        fields = tree["posterior"].to_dataset()[["density", "slowness"]].load()
        ess = np.concatenate([v.values.ravel() for v in az.ess(fields).data_vars.values()])
        linear, stats = tree["linearization"], tree["sample_stats"]
        gradients = float(stats["n_steps"].sum())
        tails = az.ess(fields, method="tail").min()
        return {
            "unknowns": 2 * cells**2,
            "pairs": int((linear["eigenvalues"] > 0.1).sum()),
            "chi2": float(linear["chi2"].sum()),
            "seconds": seconds,
            "steps": float(stats["n_steps"].mean()),
            "ess": float(ess.min()),
            "tail": min(float(smallest) for smallest in tails.data_vars.values()),
            "fewest": gradients / float(ess.min()),
            "middle": gradients / float(np.median(ess)),
            "r_hat": float(tree["posterior"].attrs["r_hat"]),
            "peak": peak,
        }


COLUMNS = {
    "unknowns": "d", "pairs": "d", "chi2": ".0f", "seconds": ".0f", "steps": ".1f", "ess": ".0f",
    "tail": ".0f", "fewest": ".1f", "middle": ".1f", "r_hat": ".3f", "peak": ".0f",
}  # fmt: skip
HEADINGS = {
    "ess": "min ESS",
    "tail": "tail ESS",
    "fewest": "grad/ESS",
    "middle": "median",
    "peak": "peak MB",
}


def table_of(results: list[dict[str, float]]) -> Table:
    """Return the numbers of all grids as a table."""
    table = Table(title="One survey of 636 data, 2 chains, grids refined", box=box.SIMPLE)
    for name in COLUMNS:
        table.add_column(HEADINGS.get(name, name), justify="right")
    for result in results:
        table.add_row(*(format(result[name], form) for name, form in COLUMNS.items()))
    return table


def main() -> None:
    """Run every grid in its own process, print the table and keep it."""
    screen, results = Console(), []
    for cells in DRAWS:
        with screen.status(f"{cells} by {cells} cells"):
            command = [sys.executable, __file__, str(cells)]
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        results.append(json.loads(told.splitlines()[-1]))
        with RESULT.open("w", encoding="utf-8") as file:
            print_all(Console(file=file, width=100), results)
    print_all(screen, results)


def print_all(console: Console, results: list[dict[str, float]]) -> None:
    """Print table, machine and the growth of gradients from grid to grid."""
    each = [result["fewest"] for result in results]
    console.print(table_of(results), machine(), f"grad/ESS: {max(each) / min(each):.2f} from the "
                  "smallest to the largest", sep="\n")  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(run(int(sys.argv[1]))))
    else:
        main()
