"""One coupled problem on a grid and on one twice as fine: the posterior keeps its structure."""

import numpy as np
import pytest
import xarray as xr

import bayesjoint as bj

EXTENT = {"z": 12.0, "x": 16.0}
COARSE = {"z": 6, "x": 8}  # cells: four to a length scale along x
DATA = 12


def problem(refined, form):
    """Blurred averages of two fields; what is observed does not depend on the grid."""
    rng = np.random.default_rng(2)
    centres = {
        dim: (np.arange(refined * count) + 0.5) * EXTENT[dim] / (refined * count)
        for dim, count in COARSE.items()
    }
    grid = bj.Grid(**centres)
    z, x = (axis.ravel() for axis in np.meshgrid(*centres.values(), indexing="ij"))
    latents, modalities = [], []
    for name in "ab":
        at, observed = rng.uniform([1, 1], [11, 15], size=(DATA, 2)), rng.normal(size=DATA)
        apart = (z - at[:, :1]) ** 2 + (x - at[:, 1:]) ** 2
        blur = np.exp(-apart / 8.0)
        blur /= blur.sum(axis=1, keepdims=True)
        latents.append(bj.GaussianField(name, grid, sd=1.0, length_scale=8.0, smoothness=2.5))
        data = xr.DataArray(observed, dims=f"datum_{name}")
        modalities.append(
            bj.Modality(f"y_{name}", data, bj.linear_map(blur, name), bj.GaussianNoise(sd=0.3))
        )
    coupling = bj.CrossGradient("a", "b", weight=3.0, form=form)
    return bj.JointProblem(latents=latents, modalities=modalities, couplings=[coupling])


@pytest.mark.slow
@pytest.mark.parametrize("form", ["forward", "central"])
def test_similarity_at_a_fixed_weight_does_not_depend_on_the_grid(form):
    """Within 5 %; seed 1, with a Monte Carlo error of each mean of about 0.5 %."""
    means = []
    for refined in (1, 2):
        tree = bj.sample(
            problem(refined, form), draws=1_500, tune=400, chains=2, random_seed=1, progress=False
        )
        means.append(float(bj.alignment(tree)["similarity"].mean()))
    print(form, means)
    assert means[1] == pytest.approx(means[0], rel=0.05)
