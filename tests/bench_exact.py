"""Benchmark against exact draws, run by `make bench`: a linear Gaussian problem, 2,000 unknowns.

The posterior is Gaussian, so that each exact draw costs one triangular solve with the Cholesky
factor of its precision; the factorisation is left out.  ``bj.sample`` knows nothing of that.  Both
use one processor; seconds of ``bj.sample`` are of drawing, the warm-up left out.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
from pathlib import Path

import arviz as az
import numpy as np
import xarray as xr
from bench_sampling import machine
from rich.console import Console
from scipy.linalg import solve_triangular

import bayesjoint as bj

RESULT = Path(__file__).with_suffix(".txt")
SHAPE, DATA, DRAWS = (40, 50), 300, 1_000


def gaussian_problem() -> bj.JointProblem:
    """Return one field seen by 300 blurred data."""
    rng = np.random.default_rng(1)
    grid = bj.Grid(depth=np.arange(float(SHAPE[0])), x=np.arange(float(SHAPE[1])))
    field = bj.GaussianField("field", grid, sd=1.0, length_scale=6.0)
    at = rng.uniform(0, SHAPE, size=(DATA, 2))
    depth, x = np.meshgrid(np.arange(SHAPE[0]), np.arange(SHAPE[1]), indexing="ij")
    apart = (depth.ravel() - at[:, :1]) ** 2 + (x.ravel() - at[:, 1:]) ** 2
    blur = np.exp(-apart / 8.0)
    data = xr.DataArray(rng.normal(size=DATA), dims="place")
    seen = bj.Modality("seen", data, bj.linear_map(blur, "field"), bj.GaussianNoise(sd=0.3))
    return bj.JointProblem(latents=[field], modalities=[seen])


def exact_rate(linear: xr.Dataset) -> float:
    """Return exact draws a second from the factor of the posterior precision."""
    duals, values = linear["dual_vectors"].values, linear["eigenvalues"].values
    precision = np.eye(duals.shape[0]) + (duals * values) @ duals.T
    lower = np.asfortranarray(np.linalg.cholesky(precision))  # as LAPACK wants it: no copies
    rng = np.random.default_rng(2)
    start = time.perf_counter()
    for _ in range(DRAWS):
        white = rng.standard_normal(duals.shape[0])
        solve_triangular(lower, white, lower=True, trans=1, check_finite=False)
    return DRAWS / (time.perf_counter() - start)


def sampled_rate(problem: bj.JointProblem) -> tuple[float, float]:
    """Return effective draws a second of drawing, and steps a draw."""
    timing = {}
    for draws in (1, DRAWS):  # the difference is without the warm-up
        tree = bj.sample(problem, draws, chains=1, cores=1, random_seed=1, progress=False)
        timing[draws] = tree["posterior"].attrs["sampling_time"]
    ess = float(az.ess(tree["posterior"].to_dataset()[["field"]])["field"].min())
    steps = float(tree["sample_stats"]["n_steps"].mean())
    return ess / (timing[DRAWS] - timing[1]), steps


def main() -> None:
    """Run both, print their rates and keep them."""
    problem = gaussian_problem()
    exact = exact_rate(bj.linearize(problem)["linearization"].to_dataset())
    sampled, steps = sampled_rate(problem)
    lines = (
        f"linear Gaussian, 2,000 unknowns, {DATA} data, one processor",
        f"exact draws, one triangular solve each: {exact:.0f} a second",
        f"bj.sample: {sampled:.0f} effective draws a second (smallest of all cells), "
        f"{steps:.1f} steps a draw",
        f"ratio: 1/{exact / sampled:.1f}",
    )
    with RESULT.open("w", encoding="utf-8") as file:
        for console in (Console(), Console(file=file, width=100)):
            console.print(*lines, machine(), sep="\n")


if __name__ == "__main__":
    main()
