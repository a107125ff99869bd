"""The slopes of the log-density that are kept of a run: those of what chains move in."""

import numpy as np
import pymc as pm
import pytest
import xarray as xr

import bayesjoint as bj
from bayesjoint._compiled.coordinates import Coordinates
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._compiled.slopes import ENOUGH, MOST, slopes, thinning, watched

CELLS = 30
NOISE = 0.5
SETTINGS = {"chains": 2, "random_seed": 3, "progress": False, "prior_draws": 4}


def problem():
    """A field of 30 cells with an unknown sd, and a scalar, under linear data."""
    field = bj.GaussianField(
        "f", bj.Grid(x=np.arange(CELLS) * 1.0), length_scale=4.0,
        sd=bj.Prior(pm.LogNormal, mu=0.0, sigma=0.5),
    )  # fmt: skip
    shift = bj.Parameter("shift", bj.Prior(pm.Normal, mu=0.0, sigma=1.0))
    data = xr.DataArray(np.sin(np.arange(CELLS) / 4.0), dims="station")
    forward = bj.linear_map({"f": np.eye(CELLS), "shift": np.ones((CELLS, 1))})
    modality = bj.Modality("m", data, forward, bj.GaussianNoise(sd=NOISE))
    return bj.JointProblem(latents=[field, shift], modalities=[modality])


@pytest.fixture(scope="module")
def functions():
    return ModelFunctions(problem())


@pytest.fixture(scope="module")
def coordinates(functions):
    """Coordinates that stretch three directions, around a point."""
    random = np.random.default_rng(1)
    vectors = np.linalg.qr(random.standard_normal((functions.size, 3)))[0]
    centre = 0.1 * random.standard_normal(functions.size)
    return Coordinates.around(centre, vectors, np.array([-0.9, -0.5, -0.2]))


def test_slopes_are_directional_derivatives_of_the_density(functions, coordinates):
    """Central differences of the log-density along each direction, which moves z_j by one."""
    seen = watched(functions, coordinates, [np.linspace(0.5, 2.0, functions.size)])
    np.testing.assert_allclose(seen.directions[seen.places, np.arange(len(seen.names))], 1.0)
    points = coordinates.points(np.random.default_rng(2).standard_normal((3, functions.size)))
    found = seen.of(functions.density, points)
    np.testing.assert_array_equal(found["place"], points[:, seen.places])
    for point, slope in zip(points, found["slope"], strict=True):
        for along, value in zip(seen.directions.T, slope, strict=True):
            above, below = (functions.density(point + h * along)[0] for h in (1e-5, -1e-5))
            assert value == pytest.approx((above - below) / 2e-5, rel=1e-5, abs=1e-5)


def test_directions_are_the_covariance_that_the_sampler_assumes(functions, coordinates):
    scales = np.random.default_rng(3).uniform(0.5, 2.0, (2, functions.size))
    seen, vectors = watched(functions, coordinates, scales), coordinates.vectors
    half = np.eye(functions.size) + (vectors * coordinates.stretch) @ vectors.T
    covariance = (half * np.mean(scales**2, axis=0)) @ half
    wanted = covariance[:, seen.places] / covariance[seen.places, seen.places]
    np.testing.assert_allclose(seen.directions, wanted, rtol=0, atol=0.02)  # a negligible trace


def test_large_unknowns_are_watched_in_part_and_summed(functions, coordinates):
    seen = watched(functions, coordinates, [np.ones(functions.size)])
    assert {n: seen.names.count(n) for n in dict.fromkeys(seen.names)} == {
        "f_sd": 1, "f": MOST, "shift": 1,
    }  # fmt: skip
    assert list(seen.blocks) == ["f"]
    points = np.random.default_rng(4).standard_normal((2, 7, functions.size))
    ds = slopes(seen, functions.density, points, step=3, first=5)["slopes"]
    assert ds["draw"].values.tolist() == [6, 9] and ds.attrs["thinned"] == 3
    gradient = functions.density(points[1, 4])[1]
    products = (points[1, 4] - coordinates.centre) * gradient
    wanted = products[functions.slices["f_white"]].mean()
    assert float(ds["product"].isel(chain=1, draw=1, block=0)) == pytest.approx(wanted, rel=1e-12)
    assert slopes(seen, functions.density, points[:, :1], step=3, first=5) == {}


def test_slopes_take_a_tenth_of_the_time_of_a_run_or_less():
    assert thinning(2000, steps=7.0, workers=1) == 2
    assert thinning(2000, steps=7.0, workers=2) == 3
    assert thinning(2000, steps=1023.0, workers=4) == 1
    assert thinning(10 * ENOUGH, steps=1023.0, workers=4) == 10


@pytest.mark.slow
def test_a_run_keeps_slopes_and_its_verdict_knows_them():
    """A linear problem: fields are recentred or not, Stein's identities hold (seed 3)."""
    tree = bj.sample(problem(), draws=500, tune=300, cores=1, backend="interpreted", **SETTINGS)
    assert set(tree["slopes"]["coordinate"].values) == {"f_sd", "f", "shift"}
    attrs = tree["posterior"].attrs
    assert abs(attrs["stein_score"]) < 3.5
    assert attrs["stein_variance"] == pytest.approx(1.0, abs=0.4)
    assert "do not cover" not in attrs["diagnostics"]
