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


def test_runs_that_lack_part_of_a_tail_are_found_out():
    """Of 60 runs of two chains: those of low sd that r-hat and the bulk would call good."""
    random = np.random.default_rng(SEED)
    runs = [run(2, 1000, 100, random) for _ in range(RUNS)]
    reports = [judged(values) for values in runs]
    missed = [
        (values, report)
        for values, report in zip(runs, reports, strict=True)
        if values.std() < 0.85 and before(report) and np.any(values < NECK)
    ]
    found = [report for _, report in missed if report.attrs["verdict"] != "good"]
    assert len(missed) >= 3
    assert len(found) >= 0.6 * len(missed)  # measured in 150 runs: 6 of 8
    assert all("A tail of v has only" in report.attrs["text"] for report in found)


@pytest.mark.parametrize(("chains", "draws"), [(2, 1000), (4, 1000), (4, 250)])
def test_independent_draws_are_good(chains, draws):
    """Of 100 quantities; measured in 40 runs of 200: no false alarm but in 4 of 250 draws."""
    random = np.random.default_rng(SEED)
    dims = ("chain", "draw", "x")
    values = random.standard_normal((chains, draws, 100))
    report = diagnose(xr.DataTree.from_dict({"posterior": xr.Dataset({"f": (dims, values)})}))
    assert report.attrs["verdict"] == "good", report.attrs["text"]


def test_one_chain_that_stays_in_a_tail_is_named():
    """All chains together have enough draws in both tails, chain 2 has not."""
    random = np.random.default_rng(SEED)
    values = random.standard_normal((4, 2000))
    level = np.sort(values[2])  # its lowest draws one after another, once
    low = level[:110]
    rest = random.permutation(level[110:])
    values[2] = np.concatenate([rest[:900], low, rest[900:]])
    report = judged(values)
    assert float(report["ess_tail"]) > 400 and float(report["ess_bulk"]) > 400
    assert float(report["ess_tail_chain"]) < 25
    assert report.attrs["verdict"] == "fair" and "in chain 2" in report.attrs["text"]


def test_few_draws_have_no_tails():
    report = judged(np.random.default_rng(SEED).standard_normal((2, 3)))
    assert np.isnan(float(report["ess_tail_chain"]))
    assert "tail of" not in report.attrs["text"]
