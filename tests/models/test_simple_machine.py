"""The simple machine: its losses, closed forms, and what each discrepancy makes of theta."""

import arviz as az
import numpy as np
import pytest
import xarray as xr
from scipy.integrate import quad
from scipy.stats import binom

import bayesjoint as bj
from case_studies import discrepancy_puzzles as study
from tests.chance import CHANCE

model = study.machine
SAMPLING = {"draws": 1000, "chains": 4, "random_seed": 1, "target_accept": 0.99}


def interval(draws):
    return np.quantile(draws, [0.025, 0.975])


def test_losses_are_integrals():
    centres = (np.arange(model.CELLS) + 0.5) * model.FARTHEST / model.CELLS
    at = np.array([0.3, 2.0, 4.1])
    losses = model.loss_weights(at) @ np.exp(np.sin(centres))
    exact = [quad(lambda s: s * np.exp(np.sin(s)), 0.0, x)[0] for x in at]
    np.testing.assert_allclose(losses, exact, rtol=0.02)  # of a field that is constant in cells
    with pytest.raises(ValueError, match="from 0 to 6"):
        model.loss_weights(np.array([7.0]))


def test_the_true_loss_is_one_that_the_constraints_allow():
    effort = np.linspace(0.0, 6.0, 601)
    loss = model.THETA * effort - model.true_work(effort)
    assert loss[1] < 1e-3 * effort[1]  # neither value nor slope at 0
    assert np.all(np.diff(loss) > 0)
    bend = np.log(np.gradient(loss, effort)[1:-1] / effort[1:-1])
    assert np.ptp(bend) < np.log(2.0)  # what the prior says of its changes


@pytest.mark.parametrize("seed", range(3))
def test_every_loss_starts_flat_and_grows(seed):
    bend = np.random.default_rng(seed).normal(-2.0, 1.0, model.CELLS)
    loss = model.loss_weights(np.linspace(0.0, 6.0, 601)) @ np.exp(bend)
    assert loss[0] == 0.0
    assert loss[1] < 1e-4 * np.exp(bend[0])  # x^2 / 2 at 0.01
    assert np.all(np.diff(loss) > 0)


def test_no_discrepancy_is_certain_and_wrong():
    """The closed form of one slope with a normal prior; the truth is 70 sd away (seed 1)."""
    problem = model.problem(discrepancy="none")
    ds = bj.linearize(problem)["linearization"]
    effort, work = problem.modality["work"].data.effort.values, problem.modality["work"].data.values
    precision = effort @ effort / model.NOISE**2 + 1.0
    mean = (effort @ work / model.NOISE**2 + 1.0) / precision
    assert float(ds["theta"]) == pytest.approx(mean, rel=1e-8)
    assert float(ds["eigenvalues"][0]) == pytest.approx(precision - 1.0)
    assert abs(mean - model.THETA) * np.sqrt(precision) > 50


@pytest.fixture(scope="module")
def constrained():
    return bj.sample(model.problem(), prior_draws=20, progress=False, **SAMPLING)


def exact(kind):
    """Return draws of theta by importance sampling, and the effective number of nodes."""
    work = model.simulate()["work"]
    nodes = study.prior_of_discrepancy(kind)
    draws, effective = study.theta_draws(work.values[None], work.effort.values, kind, nodes)
    return draws[0], effective[0]


@pytest.mark.slow
def test_constraints_find_theta(constrained):
    """The 95 % interval holds 0.65 (4 chains of 1,000, seed 1)."""
    draws = constrained["posterior/theta"].values
    low, high = interval(draws)
    assert low < model.THETA < high
    assert high - low < 0.1


def test_beyond_the_data_the_constrained_machine_is_the_real_one(constrained):
    low, high = interval(model.real_work(constrained, [6.0]))
    assert low < model.true_work(6.0) < high
    assert high - low < 1.0
    with pytest.raises(ValueError, match="from 0 to 6"):
        model.real_work(constrained, [7.0])


def test_settings_that_make_no_sense_raise():
    with pytest.raises(ValueError, match="discrepancy 'small' is unknown"):
        model.problem(discrepancy="small")
    with pytest.raises(ValueError, match="over the coordinate effort"):
        model.problem(xr.Dataset())
    with pytest.raises(ValueError, match="are the least"):
        model.problem(count=1)


def differ(tree, draws, effective):
    """Return the differences of two means and sds of theta in Monte Carlo errors of both."""
    theta, sd = tree["posterior/theta"], draws.std()
    of_mean = np.hypot(float(az.mcse(theta, method="mean")), sd / np.sqrt(effective))
    of_sd = np.hypot(float(az.mcse(theta, method="sd")), sd / np.sqrt(2 * effective))
    away = [float(theta.mean()) - draws.mean(), float(theta.std()) - sd]
    return np.abs(away) / [of_mean, of_sd]


@pytest.mark.slow
def test_importance_sampling_agrees_with_nuts(constrained):
    """Means and sds of theta, in Monte Carlo errors of both, 3 % of an sd; 15 % is noticed."""
    assert differ(constrained, *exact("constrained")).max() < 4


@pytest.fixture(scope="module")
def uninformative():
    return bj.sample(
        model.problem(discrepancy="uninformative"), prior_draws=20, progress=False, **SAMPLING
    )


@pytest.mark.slow
def test_an_uninformative_discrepancy_is_wide(uninformative):
    """It agrees with importance sampling, and is fifty times as wide as none (seed 1)."""
    assert differ(uninformative, *exact("uninformative"))[0] < 4
    assert 0.05 < float(uninformative["posterior/theta"].std()) < 0.1  # none: 0.0012
    at_largest = uninformative["posterior/work_discrepancy"][..., -1].values.ravel()
    theta = uninformative["posterior/theta"].values.ravel()
    assert np.corrcoef(theta, at_largest)[0, 1] < -0.99  # they are confounded


@pytest.mark.slow
def test_the_process_is_carried_to_other_efforts(uninformative):
    """At an effort that was measured: the mean and sd that the posterior has there already."""
    posterior = uninformative["posterior"].to_dataset().isel(effort=5)
    there = (posterior["work_response"] + posterior["work_discrepancy"]).values
    drawn = model.real_work(uninformative, [float(posterior.effort)])
    assert drawn.mean() == pytest.approx(there.mean(), abs=4 * 0.01 / np.sqrt(1000))
    assert drawn.std() == pytest.approx(there.std(), rel=0.1)
    low, high = interval(model.real_work(uninformative, [6.0]))
    assert low < model.true_work(6.0) < high


@pytest.mark.slow
def test_a_second_instrument_does_not_help(uninformative):
    """The discrepancy belongs to the machine: it does not average out."""
    problem = model.problem(discrepancy="uninformative", instruments=2)
    tree = bj.sample(problem, prior_draws=20, progress=False, **SAMPLING)
    ratio = float(tree["posterior/theta"].std() / uninformative["posterior/theta"].std())
    assert 0.75 < ratio < 1.3


@pytest.mark.slow
def test_how_often_intervals_hold_theta():
    """Of 200 replicates of 11 and 60 data (seed 1), beside a binomial limit of 95 %: 0.88.

    No discrepancy: never.  The others at least that often: truth and prior are no match.
    """
    table = study.machine_coverage(counts=(11, 60))
    assert (table.loc["none", "covered"] == 0.0).all()
    least = binom.ppf(CHANCE / 4, 200, 0.95) / 200
    assert (table.loc["uninformative", "covered"] >= least).all()
    assert (table.loc["constrained", "covered"] >= least).all()
    width = table["upper"] - table["lower"]
    assert width["uninformative", 60] == pytest.approx(width["uninformative", 11], rel=0.1)
    assert width["constrained", 60] < 0.7 * width["constrained", 11]
    assert table.loc["constrained", "effective"].min() > 20
