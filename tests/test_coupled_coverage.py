"""Truths drawn from a coupled prior are covered at the stated rate."""

import numpy as np
import pytest
import xarray as xr

import bayesjoint as bj

REPLICATES, DATA = 10, 4
GRID = bj.Grid(depth=np.arange(3.0), x=np.arange(4.0))
COUPLING = bj.CrossGradient("a", "b", weight=3.0)


def problem(rng):
    """Four averages of each field; the data are zeros, to be replaced."""
    modalities = []
    for name in "ab":
        matrix = rng.normal(size=(DATA, GRID.size)) / np.sqrt(GRID.size)
        data = xr.DataArray(np.zeros(DATA), dims=f"datum_{name}")
        forward = bj.linear_map(matrix, name)
        modalities.append(bj.Modality(f"y_{name}", data, forward, bj.GaussianNoise(sd=0.2)))
    latents = [bj.GaussianField(name, GRID, sd=1.0, length_scale=2.0) for name in "ab"]
    return bj.JointProblem(latents=latents, modalities=modalities, couplings=[COUPLING])


def covered(seed):
    """Return the share of cells whose truth lies within its 90 % interval."""
    made = problem(np.random.default_rng(seed))
    truth = bj.simulate(made, random_seed=seed)
    tree = bj.sample(
        made.with_data(truth[["y_a", "y_b"]]), draws=400, tune=200, chains=2,
        random_seed=1_000 + seed, backend="interpreted", prior_draws=10, progress=False,
    )  # fmt: skip
    draws, shares = tree["posterior"].to_dataset(), []
    for name in "ab":
        low, high = draws[name].quantile([0.05, 0.95], ("chain", "draw"))
        shares.append(float(((low <= truth[name]) & (truth[name] <= high)).mean()))
    return np.mean(shares)


@pytest.mark.slow
def test_intervals_cover_truths_of_the_coupled_prior():
    """Seeds 0 to 9, a problem each.  Within 3 standard errors of 90 %, between the problems."""
    shares = np.array([covered(seed) for seed in range(REPLICATES)])
    print(f"{shares.mean():.3f} +- {shares.std(ddof=1) / np.sqrt(REPLICATES):.3f}")
    assert abs(shares.mean() - 0.9) < 3 * shares.std(ddof=1) / np.sqrt(REPLICATES)
