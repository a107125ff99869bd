"""A tail that no chain has seen shows in the slopes of the log-density: Stein's identities.

Draws here are exact ones of a density cut off, with the slopes of the whole density: nothing in
them tells that there is more.
"""

import numpy as np
import pytest
import xarray as xr
from scipy.stats import norm, truncnorm

from bayesjoint.reports import diagnose
from bayesjoint.reports._stein import departures

NECK = -1.0  # sd
SEED = 6
CELLS = 9
SCALE = 1.5  # of Neal's v


def judged(places, slopes, products=None, **stats):
    """Return the report on draws (chain, draw, coordinate) that come with slopes."""
    dims = ("chain", "draw")
    names = [f"v{i}" for i in range(places.shape[2])]
    posterior = {name: (dims, places[:, :, i]) for i, name in enumerate(names)}
    if products is None:
        products = np.zeros((*places.shape[:2], 0))
    slopes = {
        **dict.fromkeys(("slope", "own_slope"), ((*dims, "coordinate"), slopes)),
        "place": ((*dims, "coordinate"), places), "product": ((*dims, "block"), products),
    }  # fmt: skip
    blocks = [f"f{i}" for i in range(products.shape[2])]
    groups = {
        "posterior": xr.Dataset(posterior),
        "slopes": xr.Dataset(slopes, {"coordinate": names, "block": blocks}),
    }
    if stats:
        groups["sample_stats"] = xr.Dataset({k: (dims, v) for k, v in stats.items()})
    return diagnose(xr.DataTree.from_dict(groups))


def funnel(lower, chains, draws, random):
    """Return v over its sd and the slopes along it, of Neal's funnel (2003) with v above a bound.

    ``v = 1.5 z``, z standard normal, and nine x of variance e^v: the slope along z at fixed x.
    """
    size = (chains, draws, 1)
    z = truncnorm.rvs(lower, np.inf, size=size, random_state=random)
    squares = random.chisquare(CELLS, size=size)  # of x in units of their sd
    return z, -z + 0.5 * SCALE * (squares - CELLS)


def test_a_neck_that_no_chain_has_entered_is_found_out():
    """Of 20 runs all: their sd is 21 % low, r-hat and the sizes are those of independent draws."""
    random = np.random.default_rng(SEED)
    for _ in range(20):
        report = judged(*funnel(NECK, 2, 1000, random))
        assert report["r_hat"] <= 1.01 and report["ess_bulk"] >= 400
        assert report["r_hat_tail"] <= 1.02 and report["ess_tail"] >= 400
        assert report.attrs["verdict"] == "fair"
        assert "The draws of v0 do not cover its density" in report.attrs["text"]


def test_the_numbers_are_those_of_a_normal_density_cut_off():
    """Mean slope ``phi / (1 - Phi)``; the product is the variance and the shift's, up to errors."""
    random = np.random.default_rng(SEED)
    z = truncnorm.rvs(NECK, np.inf, size=(4, 5000, 1), random_state=random)
    found = departures_of(z, -z)
    ratio = norm.pdf(NECK) / norm.sf(NECK)
    sd = truncnorm.std(NECK, np.inf)
    assert found.shift == pytest.approx(-ratio * sd, abs=5 * sd**2 / np.sqrt(z.size))
    assert found.variance == pytest.approx(sd**2, abs=5 * np.sqrt(2 / z.size))
    assert found.variance == pytest.approx(z.var(), rel=1e-12)  # -(z - c) s of a normal density
    assert found.poor


def departures_of(places, slopes):
    dims = ("chain", "draw")
    variables = {
        **dict.fromkeys(("slope", "own_slope"), ((*dims, "coordinate"), slopes)),
        "place": ((*dims, "coordinate"), places),
        "product": ((*dims, "block"), np.zeros((*places.shape[:2], 0))),
    }
    coords = {"coordinate": [f"v{i}" for i in range(places.shape[2])]}
    return departures(xr.DataTree.from_dict({"slopes": xr.Dataset(variables, coords)}))


@pytest.mark.slow
@pytest.mark.parametrize(("chains", "draws"), [(2, 1000), (4, 250)])
def test_whole_funnels_are_good(chains, draws):
    """Of 200 runs of 10 quantities less than 2 % are doubted, of which one is Neal's v."""
    random = np.random.default_rng(SEED)
    doubted = 0
    for _ in range(200):
        z, slopes = funnel(-np.inf, chains, draws, random)
        others = random.standard_normal((chains, draws, 9))
        found = departures_of(np.concatenate([z, others], 2), np.concatenate([slopes, -others], 2))
        doubted += found.poor
    assert doubted <= 4
