"""Tails have a criterion of their own: chains stuck outside the neck of a funnel, of known density.

The log scale v of Neal's funnel (2003, Ann. Stat. 31:705) is normal.  Chains here move freely in
its body, v above minus one sd, and seldom into the neck, where they stay: stationary, of the exact
density, whatever the time they stay.  A run whose chains have not been in the neck has an sd that
is 21 % low, and nothing in its draws tells.
"""

import numpy as np
import pytest
import xarray as xr
from scipy.stats import norm, truncnorm

from bayesjoint.reports import diagnose
from bayesjoint.reports._tails import sd_error

NECK = -1.0  # sd
SEED = 5
RUNS = 60


def run(chains, draws, stays, random):
    """Return draws of v, shape (chain, draw); ``stays`` steps in the neck on average."""
    inside = norm.cdf(NECK)
    enters = inside / (stays * (1.0 - inside))
    values, where = np.empty((chains, draws)), np.zeros(chains, dtype=bool)
    neck = truncnorm.rvs(-np.inf, NECK, size=chains, random_state=random)
    for i in range(draws):
        chance = random.uniform(size=chains)
        moved = truncnorm.rvs(-np.inf, NECK, size=chains, random_state=random)
        neck = np.where(where & (random.uniform(size=chains) < 0.95), neck, moved)
        where = np.where(where, chance > 1.0 / stays, chance < enters)
        body = truncnorm.rvs(NECK, np.inf, size=chains, random_state=random)
        values[:, i] = np.where(where, neck, body)
    return values


def judged(values):
    dims = ("chain", "draw")
    return diagnose(xr.DataTree.from_dict({"posterior": xr.Dataset({"v": (dims, values)})}))


def before(report):
    """The verdict by r-hat and the bulk alone."""
    return float(report["r_hat"]) <= 1.01 and float(report["ess_bulk"]) >= 400


@pytest.mark.slow
def test_runs_that_lack_part_of_a_tail_are_found_out():
    """Of 60 runs of two chains: those of low sd that r-hat and the bulk alone would call good."""
    random = np.random.default_rng(SEED)
    runs = [run(2, 1000, 300, random) for _ in range(RUNS)]
    low = [v for v in runs if v.std() < 0.85 and np.any(v < NECK)]
    missed = [report for report in map(judged, low) if before(report)]
    found = [report for report in missed if report.attrs["verdict"] != "good"]
    assert len(missed) >= 3
    assert len(found) >= 0.5 * len(missed)
    assert all("A tail of v " in report.attrs["text"] for report in found)


@pytest.mark.parametrize(("chains", "draws"), [(2, 1000), (4, 1000), (4, 500)])
def test_independent_draws_are_good(chains, draws):
    """Of 100 quantities: a tail is called poor in less than 1 of 1,000 runs.

    The r-hat of a tail of h halves of n independent draws exceeds 1.02 where chi-squared with h - 1
    exceeds 0.04 n (h - 1): 60 for 2 chains of 1,000, 70 for 4 of 500.
    """
    random = np.random.default_rng(SEED)
    dims = ("chain", "draw", "x")
    values = random.standard_normal((chains, draws, 100))
    report = diagnose(xr.DataTree.from_dict({"posterior": xr.Dataset({"f": (dims, values)})}))
    assert report.attrs["verdict"] == "good", report.attrs["text"]


def test_a_tail_that_one_half_of_a_chain_saw_is_named():
    """All draws together are normal; the lowest 1.5 % were drawn in one visit of chain 2."""
    random = np.random.default_rng(SEED)
    level = np.sort(random.standard_normal(4000))
    body = random.permutation(level[60:])
    values = np.stack([*body[:3000].reshape(3, 1000), np.concatenate([level[:60], body[3000:]])])
    report = judged(values)
    assert report["r_hat"] < 1.01 and report["ess_bulk"] > 400
    assert report.attrs["verdict"] == "fair"
    assert "A tail of v is not visited alike by all chains" in report.attrs["text"]


def test_few_draws_have_no_tails():
    report = judged(np.random.default_rng(SEED).standard_normal((2, 3)))
    assert np.isnan(float(report["r_hat_tail"]))
    assert "tail of" not in report.attrs["text"]


def test_an_sd_that_rests_on_few_draws_is_told():
    """Log-normal draws of log-sd 1.5: r-hat is right, and the sd 15 % low in two of five runs.

    Of 60 runs all those are found out; of 60 of exponential draws, whose sd is right, none is told.
    """
    random = np.random.default_rng(SEED)
    true = np.exp(1.5**2 / 2) * np.sqrt(np.expm1(1.5**2))
    runs = [np.exp(1.5 * random.standard_normal((2, 1000))) for _ in range(RUNS)]
    low = [report for v in runs if v.std() < 0.85 * true and before(report := judged(v))]
    assert len(low) >= 15
    assert all(report.attrs["verdict"] == "fair" for report in low)
    assert all("The sd of v is known to " in report.attrs["text"] for report in low)
    others = [judged(random.exponential(size=(2, 1000))) for _ in range(RUNS)]
    assert np.mean([report.attrs["verdict"] == "good" for report in others]) > 0.98
    assert float(judged(random.standard_normal((2, 200)))["sd_error"]) == 0.0


@pytest.mark.parametrize("scale", [1e-140, 1.0, 1e140])
def test_the_error_of_an_sd_is_that_of_independent_draws(scale):
    """``sqrt((kurtosis - 1) / 4 n)`` of the sample; its effective size is n to a fifth (seed 5)."""
    values = np.exp(1.5 * np.random.default_rng(SEED).standard_normal((4, 2000)))
    squares = (values - values.mean()) ** 2
    wanted = np.sqrt(((squares**2).mean() / squares.mean() ** 2 - 1) / (4 * values.size))
    draws = xr.DataArray(scale * values[..., None], dims=("chain", "draw", "quantity"))
    assert sd_error(draws)[0] == pytest.approx(wanted, rel=0.1)
