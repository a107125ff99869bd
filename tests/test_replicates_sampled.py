"""Replicates analysed by sampling, against the closed form of a Gaussian problem."""

from concurrent.futures import Executor

import cloudpickle
import numpy as np
import pymc as pm
import pytest
from scipy import stats

import bayesjoint as bj
from bayesjoint.studies._local_problem import LocalProblem
from bayesjoint.studies._replicates_sampled import replicate
from tests.helpers import data

COUNT, PRIOR_SD, NOISE_SD = 5, 2.0, 0.3
FAST = {"draws": 500, "tune": 200, "chains": 2, "backend": "interpreted"}


def sensors(correlation, noise=None):
    """Return two sensors that read one level, so many times each, with errors of sd one."""
    noise = noise or bj.GaussianNoise(sd=NOISE_SD)
    return bj.JointProblem(
        latents=[bj.Parameter("level", bj.Prior(pm.Normal, mu=0, sigma=PRIOR_SD), units="K")],
        modalities=[
            bj.Modality(
                name, data(np.zeros(COUNT), f"i_{name}"),
                bj.linear_map(np.ones((COUNT, 1)), "level", name=name), noise,
            )
            for name in ("first", "second")
        ],
        discrepancy=bj.JointDiscrepancy(
            sd={"first": 1.0, "second": 1.0}, correlation=correlation
        ),
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("known", [0.9, 0.0])
def test_a_replicate_is_analysed_as_the_closed_form_says(known):
    """All the data say is their mean, of variance (1 + correlation + noise) / (2 n)."""
    truth, model = sensors(0.9), sensors(known)
    rows = LocalProblem(model, None, "test").rows
    seed = np.random.SeedSequence(5)
    pickled = cloudpickle.dumps((truth, model, rows, 0.9, FAST))
    ((error, sd, deviation),) = replicate((pickled, seed))
    simulated = bj.simulate(truth, random_seed=int(seed.generate_state(2)[0]))
    variance = (1.0 + known + NOISE_SD**2) / (2 * COUNT)
    posterior = 1.0 / (PRIOR_SD**-2 + 1.0 / variance)
    mean = np.concatenate([simulated["first"], simulated["second"]]).mean()
    expected = posterior / variance * mean - float(simulated["level"])
    # Effective draws of squares and tails are two fifths of the draws.
    draws = 0.4 * FAST["draws"] * FAST["chains"]
    assert abs(error[0] - expected) < 4.5 * np.sqrt(posterior / draws)
    ends = np.sqrt(2 * 0.05 * 0.95 / draws) / stats.norm.pdf(1.645) / (2 * 1.645)  # of quantiles
    assert sd[0] == pytest.approx(np.sqrt(posterior), rel=4.5 * ends)
    score = -expected / np.sqrt(posterior)
    share = np.sqrt(stats.norm.cdf(score) * stats.norm.sf(score) / draws)
    assert abs(deviation[0] - score) < 4.5 * share / stats.norm.pdf(score)


class Counting(Executor):
    """Runs what it is given at once, and counts it."""

    def __init__(self):
        self.tasks = []

    def map(self, function, tasks):
        self.tasks += tasks
        return [function(task) for task in tasks]


@pytest.mark.slow
def test_heavy_tails_are_sampled_by_an_executor():
    executor = Counting()
    cost = bj.discrepancy_cost(
        sensors(0.5, bj.StudentTNoise(sd=NOISE_SD, nu=4)), [0.8, 1.5], at={"level": 0.0},
        replicates=2, random_seed=1, nuts={**FAST, "draws": 100}, executor=executor,
    )  # fmt: skip
    assert cost.attrs["method"] == "sampled"
    assert len(executor.tasks) == 2 * cost.sizes["case"]
    assert cost["valid"].values.tolist() == [True, False]
    row = cost.sel(correlation=0.8).isel(parameter=0)
    assert set(row["coverage"].values) <= {0.0, 0.5, 1.0}
    # Which truth, and what is known of its errors, tell: sure without them, less so with.
    width = row["width"].to_series()
    assert width["none"] < width["independent"] < width["joint"]
    assert cost["coverage_expected"].isnull().all()
    assert cost.sel(correlation=1.5)["width"].isnull().all()


def test_an_executor_without_sampling_is_refused():
    with pytest.raises(ValueError, match="executor= runs replicates that are sampled; give nuts="):
        bj.discrepancy_cost(sensors(0.5), [0.1], executor=Counting())
    tailed = sensors(0.5, bj.StudentTNoise(sd=NOISE_SD, nu=4))
    with pytest.raises(ValueError, match="not Gaussian; give nuts= to sample each replicate"):
        bj.discrepancy_cost(tailed, [0.1], at={"level": 0.0})
