"""Peelle's puzzle: what each model of the errors answers, against closed forms."""

import arviz as az
import numpy as np
import pytest
from scipy import stats

import bayesjoint as bj
from case_studies import discrepancy_puzzles as study
from models import peelle as model


def mean_and_sd(problem):
    """Return theta and its sd at the maximum, which is all where everything is Gaussian."""
    ds = bj.linearize(problem)["linearization"]
    left = 1.0 / (1.0 + float(ds["eigenvalues"].max()))
    return float(ds["theta"]), float(ds["prior_sd"][0]) * np.sqrt(left)


def test_covariance_built_from_the_data_gives_less_than_either():
    # By hand: V = [[0.1125, 0.06], [0.06, 0.05]], det V = 0.002025, 1' adj(V) 1 = 0.0425.
    mean, sd = mean_and_sd(model.problem(errors="additive_from_data"))
    assert mean == pytest.approx(15 / 17, abs=1e-6)  # 0.88235
    assert sd == pytest.approx(np.sqrt(0.002025 / 0.0425), abs=1e-5)  # 0.21828; prior sd 100
    assert study.least_squares(np.array([1.5, 1.0]), study.covariance([1.5, 1.0])) == (
        pytest.approx(15 / 17),
        pytest.approx(np.sqrt(0.002025 / 0.0425)),
    )


def test_covariance_built_from_the_prediction_gives_the_mean():
    mean, sd = mean_and_sd(model.problem(errors="additive_from_model"))
    assert mean == pytest.approx(1.25, abs=2e-6)
    assert sd == pytest.approx(1.25 * np.sqrt(0.2**2 + 0.1**2 / 2), abs=1e-5)


def test_factors_give_the_geometric_mean():
    mean, sd = mean_and_sd(model.problem(errors="lognormal"))
    weight = 9.0 / (9.0 + 0.2**2 + 0.1**2 / 2)  # against the prior, sd 3
    assert mean == pytest.approx(1.5 ** (weight / 2), abs=1e-6)
    assert sd == pytest.approx(mean * np.sqrt(0.045 * weight), abs=1e-6)


@pytest.fixture(scope="module")
def multiplicative():
    return bj.sample(
        model.problem(), draws=1000, chains=2, random_seed=1, prior_draws=20, progress=False
    )


def by_quadrature():
    """Return mean and sd of log theta: the likelihood depends on theta and the factor's product."""
    product = np.linspace(0.5, 2.0, 20_001)
    own = [0.15, 0.10]
    density = np.exp(stats.norm.logpdf([[1.5], [1.0]], product, np.array(own)[:, None]).sum(axis=0))
    logs = np.log(product)
    density *= stats.norm.pdf(logs, 0.0, np.hypot(3.0, 0.2)) / product
    density /= density.sum()
    weight = 9.0 / 9.04  # log theta given the product: Gaussian
    mean = (density * logs).sum()
    variance = (density * (logs - mean) ** 2).sum()
    return weight * mean, np.sqrt(weight**2 * variance + 0.04 * weight)


def test_common_error_as_a_factor_answers_between_the_data(multiplicative):
    """Mean and sd of log theta within four Monte Carlo errors (2 chains of 1,000, seed 1)."""
    logs = np.log(multiplicative["posterior/theta"])
    mean, sd = by_quadrature()
    assert abs(float(logs.mean()) - mean) < 4 * float(az.mcse(logs, method="mean"))
    assert float(logs.std()) == pytest.approx(sd, abs=4 * float(az.mcse(logs, method="sd")))
    assert 1.0 < float(np.exp(logs.median())) < 1.5


def test_the_report_says_that_theta_and_the_factor_trade_off(multiplicative):
    correlation = bj.identifiability(multiplicative)["correlation"]
    found = float(correlation.sel(parameter="theta", parameter_other="factor"))
    assert found < -0.85  # sd of the factor 0.2, of the product 0.072


def test_more_measurements_are_as_welcome():
    data = {"a": 1.5, "b": 1.0, "c": 1.2}
    errors = study.covariance(list(data.values()))
    mean, sd = mean_and_sd(model.problem(data, errors="additive_from_data"))
    expected = study.least_squares(np.array(list(data.values())), errors)
    assert (mean, sd) == (pytest.approx(expected[0], abs=1e-5), pytest.approx(expected[1], 1e-4))


def test_what_is_no_puzzle_is_told():
    with pytest.raises(ValueError, match="errors 'shared' are unknown"):
        model.problem(errors="shared")
    with pytest.raises(ValueError, match="two or more positive measurements"):
        model.problem({"first": 1.5})
    with pytest.raises(ValueError, match="by name"):
        model.problem([1.5, 1.0])


def test_intervals_of_pairs_that_differ_hold_the_truth_or_not():
    """Of 100,000 pairs (seed 1) some 500 differ so: binomial standard error 0.022."""
    table = study.peelle_coverage(100_000)
    assert (table["covered"].drop("additive_from_data") > 0.9).all()
    assert table.loc["additive_from_data", "outside, far apart"] == 1.0
    apart = table["covered, far apart"]
    assert apart["additive_from_data"] < 0.5
    assert apart["lognormal"] > 0.85
    assert table.loc["additive_from_data", "bias"] < -0.03  # 100,000: standard error 0.0007
    assert abs(table.loc["lognormal", "bias"]) < 0.01
