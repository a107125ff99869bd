"""Actions of the local precision on rows against the dense matrices."""

import numpy as np
import pymc as pm
import pytest
import xarray as xr

import bayesjoint as bj
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._compiled.prior import prior_precision
from bayesjoint._local.actions import LocalActions
from bayesjoint._local.curvature import sampled_precision
from bayesjoint._local.information import local_information
from tests.gaussian import gaussian_case


def coupled_problem(shape=(4, 5), n=12, weight=20.0, seed=3):
    """Two coupled fields seen by one linear modality each, one of unknown noise scale."""
    rng = np.random.default_rng(seed)
    grid = bj.Grid(depth=np.arange(float(shape[0])), x=np.arange(float(shape[1])))
    fields = [bj.GaussianField(name, grid, sd=1.0, length_scale=2.0) for name in ("a", "b")]
    noise = {
        "first": bj.GaussianNoise(sd=bj.Prior(pm.LogNormal, mu=-1.5, sigma=0.3)),
        "second": bj.GaussianNoise(sd=0.2),
    }
    modalities = [
        bj.Modality(
            name,
            xr.DataArray(rng.normal(size=n), dims=f"{name}_datum"),
            bj.linear_map(rng.normal(size=(n, grid.size)) / np.sqrt(grid.size), field),
            noise[name],
        )
        for name, field in zip(noise, ("a", "b"), strict=True)
    ]
    return bj.JointProblem(
        latents=fields, modalities=modalities, couplings=[bj.CrossGradient("a", "b", weight=weight)]
    )


PROBLEMS = {
    "coupling and unknown noise": coupled_problem,
    "discrepancy, latent": lambda: gaussian_case("latent", shape=(3, 4), n=6).problem,
    "discrepancy, marginal": lambda: gaussian_case("marginal", shape=(3, 4), n=6).problem,
}


@pytest.fixture(scope="module", params=PROBLEMS.values(), ids=PROBLEMS)
def functions(request):
    return ModelFunctions(request.param())


@pytest.fixture
def point(functions):
    return functions.initial + 0.5 * np.random.default_rng(1).normal(size=functions.size)


def test_actions_match_the_local_information(functions, point):
    actions, eye = LocalActions(functions, point), np.eye(functions.size)
    local = local_information(functions, point)
    np.testing.assert_allclose(actions.push(eye).T, local.jacobian, atol=1e-10)
    np.testing.assert_allclose(actions.pull(np.eye(functions.data.size)), local.jacobian)
    np.testing.assert_allclose(actions.data(eye), local.total, atol=1e-8)
    np.testing.assert_allclose(actions.coupling(eye), local.coupling, atol=1e-8)
    whole = prior_precision(functions, point) + local.total + local.coupling
    np.testing.assert_allclose(actions.excess(eye) + eye, whole, atol=1e-8)


def test_excess_of_the_sampled_density_matches(functions, point):
    eye = np.eye(functions.size)
    excess = LocalActions(functions, point, sampled=True).excess(eye)
    np.testing.assert_allclose(excess + eye, sampled_precision(functions, point), atol=1e-8)
