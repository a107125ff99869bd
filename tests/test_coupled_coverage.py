"""Truths drawn from a coupled prior are covered at the stated rate; many problems as one model.

Copies of one small problem share nothing: one simulation draws all truths from the coupled prior,
and one run samples all posteriors.
"""

import numpy as np
import pytest
import xarray as xr

import bayesjoint as bj

COPIES, DATA = 16, 4
GRID = {"depth": np.arange(3.0), "x": np.arange(4.0)}
COUPLINGS = {
    "cross-gradient": lambda a, b: bj.CrossGradient(a, b, weight=3.0),
    "sparsity": lambda a, b: bj.JointSparsity(a, b, weight=1.0, epsilon=0.3, nu=2.0),
}


def copies(coupling):
    rng = np.random.default_rng(4)
    grid, latents, modalities, couplings = bj.Grid(**GRID), [], [], []
    for i in range(COPIES):
        pair = [f"a{i}", f"b{i}"]
        latents += [bj.GaussianField(name, grid, sd=1.0, length_scale=2.0) for name in pair]
        couplings.append(coupling(*pair))
        for name in pair:
            data = xr.DataArray(np.zeros(DATA), dims=f"datum_{name}")
            matrix = rng.normal(size=(DATA, grid.size)) / np.sqrt(grid.size)
            forward = bj.linear_map(matrix, name)
            modalities.append(bj.Modality(f"y_{name}", data, forward, bj.GaussianNoise(sd=0.2)))
    return bj.JointProblem(latents=latents, modalities=modalities, couplings=couplings)


@pytest.mark.slow
@pytest.mark.parametrize("name", COUPLINGS)
def test_intervals_cover_truths_of_the_coupled_prior(name):
    """Seeds 1 and 2.  Within 3 standard errors of 90 %, between the independent copies."""
    problem = copies(COUPLINGS[name])
    truth = bj.simulate(problem, random_seed=1)
    tree = bj.sample(
        problem.with_data(truth[list(problem.modality)]),
        draws=500, tune=300, chains=2, random_seed=2, progress=False,
    )  # fmt: skip
    posterior = tree["posterior"].to_dataset()
    inside = np.zeros((COPIES, 2, 12))
    for i in range(COPIES):
        for j, letter in enumerate("ab"):
            low, high = posterior[f"{letter}{i}"].quantile([0.05, 0.95], ("chain", "draw"))
            field = truth[f"{letter}{i}"]
            inside[i, j] = ((low <= field) & (field <= high)).values.ravel()
    share = inside.mean(axis=(1, 2))
    print(name, share.mean(), share.std() / np.sqrt(COPIES), bj.diagnose(tree).attrs["verdict"])
    assert abs(share.mean() - 0.9) < 3 * share.std(ddof=1) / np.sqrt(COPIES)
