"""Mixtures of rock units for several tests, and an independent quantile."""

import numpy as np
import xarray as xr
from scipy.optimize import brentq
from scipy.stats import norm

import bayesjoint as bj
from tests.structural import GRIDS

MEANS = {"a": [-1.0, 2.0], "b": [3.0, 0.0], "c": [0.0, 0.5]}
SDS = {"a": [0.7, 0.5], "b": [0.5, 0.3], "c": 1.0}
LABELS = ["sediment", "basement"]


def rocks(names="ab", **changes):
    settings = {
        "labels": LABELS,
        "proportions": [0.4, 0.6],
        "means": {name: MEANS[name] for name in names},
        "sds": {name: SDS[name] for name in names},
        "correlation": [0.5, -0.3] if len(names) == 2 else 0.2,
    }
    return bj.PropertyMixture("rocks", **{**settings, **changes})


def field(name, grid=GRIDS["2-D"], **settings):
    scale = 0.3 * max(grid.extent)
    return bj.GaussianField(name, grid, **{"sd": 1.0, "length_scale": scale, **settings})


def problem(coupling, *, grid=GRIDS["2-D"], observed="a", names=None, fields=None):
    rng = np.random.default_rng(3)
    matrix = rng.standard_normal((8, grid.size)) / np.sqrt(grid.size)
    data = xr.DataArray(rng.standard_normal(8), dims="station")
    seen = bj.Modality("seen", data, bj.linear_map(matrix, observed), bj.GaussianNoise(sd=0.5))
    latents = fields or [field(name, grid) for name in names or coupling.latents]
    return bj.JointProblem(latents=latents, modalities=[seen], couplings=[coupling])


def searched(u, weights, means, sds):
    """Return the quantile by a bracketing search on log-probabilities of the nearer tail."""
    ends, side = means + sds * u, 1.0 if u <= 0 else -1.0
    if np.ptp(ends) == 0:
        return ends[0]

    def excess(y):
        tails = norm.logcdf(side * (y - means) / sds)
        return np.logaddexp.reduce(np.log(weights) + tails) - norm.logcdf(side * u)

    return brentq(excess, ends.min() - 1e-9, ends.max() + 1e-9, xtol=1e-300, rtol=1e-15)
