"""Benchmark of shared edges, run by `make bench`: total variation beside heavy-tailed increments.

models/crosshole.py on 12 by 8 cells, two fields, 192 unknowns, 3 % noise: two blocks that both
properties share.  `JointTotalVariation` and `JointSparsity` (nu = 1) at weights where they bite,
paired by a prior quantity: their draws have a half, a quarter or a ninth of the root mean square
gradient that they have without a coupling (column "gradient").  Three seeds, each of noise and
sampler both; a row holds means over them, for gradients an effective draw the range too.

Columns: effective draws (bulk, of the cell that has fewest) a second of sampling, warm-up included;
gradients for each; divergences; posterior mean of the misfit over the number of data; errors of the
posterior means relative to the true departures; the share of the blocks' cells that lie within
their 90 % intervals.  Gradients do not depend on the machine or its load, seconds do.

Measured: total variation samples better.  At one epsilon and prior gradient heavy tails take 3 to 5
times its gradients for an effective draw (30, 23 and 28 beside 8, 7 and 5).  Epsilon weighs as much
as the form: total variation at 0.3 takes 22, heavy tails at 2 take 12.  The gradients buy
something: with a site for each cell heavy tails find the blocks (errors of 0.30 and 0.22; 0.70 and
0.49 without coupling), while total variation does no better than no coupling, and at a ninth no
longer fits the data.  Both are too sure of the blocks: a third of their cells at most is covered.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # chains share the processors
sys.path.insert(0, str(Path(__file__).parents[1]))  # models/ is not installed

import numpy as np
import xarray as xr
from bench_sampling import CHAINS, machine, smallest_ess
from rich import box
from rich.console import Console
from rich.table import Table

import bayesjoint as bj
from bayesjoint._kernels.structure import gradients_of
from models import crosshole

RESULT = Path(__file__).with_suffix(".txt")
CELLS = {"nx": 12, "nz": 8}
GRID = crosshole.section_grid(**CELLS)
TRUTH = crosshole.truth(GRID)
FIELDS = list(crosshole.PRIOR)
SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Case:
    """A prior of edges with its settings."""

    name: str
    kind: type | None = None
    epsilon: float = 0.0
    weight: float = 0.0

    def problem(self, seed: int) -> bj.JointProblem:
        """Return the joint problem."""
        made = crosshole.problem(**CELLS, coupling="none", seed=seed)
        if self.kind is None:
            return made
        edges = self.kind(*FIELDS, weight=self.weight, epsilon=self.epsilon)
        return made.replace(couplings=[edges])


NONE = Case("no coupling")
CASES = (
    NONE,
    Case("total variation", bj.JointTotalVariation, 1.0, 30.0),  # half the gradient
    Case("heavy tails", bj.JointSparsity, 1.0, 27.0),
    Case("total variation", bj.JointTotalVariation, 0.3, 88.0),  # a quarter
    Case("total variation", bj.JointTotalVariation, 1.0, 98.0),
    Case("heavy tails", bj.JointSparsity, 1.0, 50.0),
    Case("heavy tails", bj.JointSparsity, 2.0, 77.0),
    Case("total variation", bj.JointTotalVariation, 1.0, 320.0),  # a ninth
    Case("heavy tails", bj.JointSparsity, 1.0, 96.0),  # one for each cell
)


def measure(case: Case, seed: int) -> dict[str, float]:
    """Sample one case and return its numbers."""
    problem = case.problem(seed)
    tree = bj.sample(problem, random_seed=seed, progress=False, **CHAINS)
    draws, stats = tree["posterior"].to_dataset(), tree["sample_stats"]
    ess, error = smallest_ess(tree, FIELDS), crosshole.relative_error(mean_of(draws), TRUTH)
    return {
        "gradient": gradient_of(tree["prior"].to_dataset()),
        "rate": ess / draws.attrs["sampling_time"],
        "cost": float(stats["n_steps"].sum()) / ess,
        "divergences": float(stats["diverging"].sum()),
        "misfit": misfit_of(problem, draws),
        **error,
        "covered": covered(draws),
    }


def mean_of(draws: xr.Dataset) -> xr.Dataset:
    """Return the posterior means of the fields."""
    return draws[FIELDS].mean(("chain", "draw"))


def gradient_of(draws: xr.Dataset) -> float:
    """Return the root mean square gradient of both fields, in prior sd a metre."""
    fields = [draws[n].values.reshape(-1, *GRID.shape) / crosshole.PRIOR[n]["sd"] for n in FIELDS]
    found = gradients_of(*fields, list(GRID.centres.values()))
    return float(np.sqrt(np.mean(found.first + found.second)))


def misfit_of(problem: bj.JointProblem, draws: xr.Dataset) -> float:
    """Return the posterior mean of chi squared over the number of data."""
    squares = [
        ((draws[f"{m.name}_response"] - m.data) / m.noise.sd) ** 2 for m in problem.modalities
    ]
    return float(np.mean([square.mean() for square in squares]))  # as many data of each


def covered(draws: xr.Dataset) -> float:
    """Return the share of the blocks' cells within their 90 % intervals, of both fields."""
    shares = []
    for name in FIELDS:
        low, high = draws[name].quantile([0.05, 0.95], ("chain", "draw"))
        within = (low <= TRUTH[name]) & (TRUTH[name] <= high)
        shares.append(float(within.where(TRUTH[name] != crosshole.PRIOR[name]["mean"]).mean()))
    return float(np.mean(shares))  # the blocks have the same cells in both


COLUMNS = {
    "gradient": ("gradient", ".2f"), "rate": ("ESS/s", ".0f"), "cost": ("grad/ESS", ".1f"),
    "divergences": ("div.", ".1f"), "misfit": ("misfit", ".2f"), "seismic": ("seismic", ".2f"),
    "radar": ("radar", ".2f"), "covered": ("90 %", ".0%"),
}  # fmt: skip


def table_of(results: dict[Case, list[dict[str, float]]]) -> Table:
    """Return means over the seeds; gradients of the prior relative to no coupling."""
    title = f"Edges shared by two fields, {len(SEEDS)} seeds, 2 chains x 500 draws"
    table = Table(title=title, box=box.SIMPLE, collapse_padding=True)
    table.add_column("prior", no_wrap=True)
    for heading in ("weight", "epsilon", *(heading for heading, _ in COLUMNS.values())):
        table.add_column(heading, justify="right", no_wrap=True)
    free = np.mean([run["gradient"] for run in results[NONE]])
    for case, runs in results.items():
        means = {name: np.mean([run[name] for run in runs]) for name in COLUMNS}
        means["gradient"] /= free
        cells = {name: format(means[name], form) for name, (_, form) in COLUMNS.items()}
        costs = [run["cost"] for run in runs]
        cells["cost"] += f" ({min(costs):.1f}-{max(costs):.1f})"
        settings = (f"{case.weight:g}", f"{case.epsilon:g}") if case.kind else ("", "")
        table.add_row(case.name, *settings, *cells.values())
    return table


def main() -> None:
    """Run all cases, print the table and keep it."""
    screen, results = Console(width=110), {}
    for case in CASES:
        with screen.status(str(case)):
            results[case] = [measure(case, seed) for seed in SEEDS]
    with RESULT.open("w", encoding="utf-8") as file:
        for console in (screen, Console(file=file, width=110)):
            console.print(table_of(results), machine(), sep="\n")


if __name__ == "__main__":
    main()
