"""The null distribution of ln S with all fits repeated on simulated data."""

import pickle
from concurrent.futures import Executor
from dataclasses import replace

import numpy as np
import pymc as pm
import pytest
import scipy.stats
import xarray as xr
from scipy.optimize import minimize

import bayesjoint as bj
from bayesjoint._compiled.densities import log_likelihood_at
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint.studies import _null_refits, null_distribution
from bayesjoint.studies._null_refits import Refits, Task
from tests.chance import uniform
from tests.helpers import data

COUNT, WIDE, LENGTH = 8, 3.0, 2.0
NAMES = ("old", "new")
TIME = np.arange(float(COUNT))
DESIGN = np.stack([np.ones(COUNT), (TIME - TIME.mean()) / TIME.std()], axis=1)
SIZE = bj.Prior(pm.LogNormal, mu=0.0, sigma=1.0)


def instruments():
    """Two instruments see a level and a trend, eight times each; nothing of the errors is known."""
    level_and_trend = {"level": DESIGN[:, :1], "trend": DESIGN[:, 1:]}
    return bj.JointProblem(
        latents=[bj.Parameter(n, bj.Prior(pm.Normal, mu=0.0, sigma=WIDE)) for n in level_and_trend],
        modalities=[
            bj.Modality(
                name, data(np.zeros(COUNT), "time", {"time": TIME}),
                bj.linear_map(level_and_trend), bj.GaussianNoise(sd=SIZE),
            )
            for name in NAMES
        ],
        discrepancy=bj.JointDiscrepancy(
            sd=dict.fromkeys(NAMES, SIZE), correlation=bj.Prior(pm.Uniform, lower=-1, upper=1),
            on="time", length_scale=LENGTH,
        ),
    )  # fmt: skip


class Closed:
    """The same in closed form: the trend at given errors, the errors by a search of our own."""

    def __init__(self, copies):
        empty = np.zeros_like(DESIGN)
        blocks = [[DESIGN, empty], [empty, DESIGN]] if copies else [[DESIGN], [DESIGN]]
        self.design = WIDE * np.block(blocks)
        away = np.abs(TIME[:, None] - TIME) / LENGTH * np.sqrt(3.0)
        self.process = (1.0 + away) * np.exp(-away)

    def covariance(self, white):
        """Return that of the errors, at standard normal coordinates of their five settings."""
        first, second, *sd = np.exp(white[:4])
        number = 2.0 * scipy.stats.norm.cdf(white[4]) - 1.0
        shared = np.outer(sd, sd) * np.array([[1.0, number], [number, 1.0]])
        own = np.repeat([first**2, second**2], COUNT)
        return np.kron(shared, self.process) + np.diag(own)

    def _misfit(self, white, y):
        covariance = self.covariance(white)
        whole = covariance + self.design @ self.design.T
        quadratic = y @ np.linalg.solve(whole, y)
        return 0.5 * (quadratic + np.linalg.slogdet(covariance)[1] + white @ white)

    def explained(self, y):
        """Return the mean log-likelihood over the Gaussian at the maximum."""
        white = minimize(self._misfit, np.zeros(5), args=(y,), options={"gtol": 1e-6}).x
        covariance = self.covariance(white)
        information = self.design.T @ np.linalg.solve(covariance, self.design)
        trend = np.linalg.solve(
            information + np.eye(len(information)), self.design.T @ np.linalg.solve(covariance, y)
        )
        best = scipy.stats.multivariate_normal(cov=covariance).logpdf(y - self.design @ trend)
        steps = 1e-5 * np.eye(5)
        changes = [
            np.linalg.solve(
                covariance, (self.covariance(white + s) - self.covariance(white - s)) / 2e-5
            )
            for s in steps
        ]
        of_errors = np.array([[0.5 * np.sum(a * b.T) for b in changes] for a in changes])
        values = np.concatenate([np.linalg.eigvalsh(m) for m in (information, of_errors)])
        return best - 0.5 * np.sum(values / (1.0 + values))


@pytest.fixture(scope="module")
def refits():
    problem = instruments()
    return Refits.of(Task(problem, ModelFunctions(problem).initial, 1))


def with_data(problem, values):
    return problem.with_data(
        xr.Dataset({name: (problem.modality[name].data.dims, v) for name, v in values.items()})
    )


@pytest.mark.slow
def test_a_replicate_has_the_suspiciousness_that_tension_reports(refits):
    seed = np.random.SeedSequence(1)
    _, values = refits.simulated(seed)
    problem = instruments().with_data(values)
    report = bj.tension(bj.linearize(problem), bj.linearize(problem.split()))
    # One search starts at the truth, the other at the prior median; both end 1e-5 nats below.
    assert refits.ln_suspiciousness(seed) == pytest.approx(
        float(report["ln_suspiciousness"]), abs=1e-3
    )
    y = np.concatenate([values[name] for name in NAMES])
    closed = Closed(copies=False).explained(y) - Closed(copies=True).explained(y)
    assert refits.ln_suspiciousness(seed) == pytest.approx(closed, abs=1e-3)


class Counting(Executor):
    """Runs in this process what it was given, pickled as for another, and counts it."""

    count = 0

    def map(self, function, *iterables, **_):
        tasks = [pickle.dumps((function, task)) for task in zip(*iterables, strict=True)]
        self.count += len(tasks)
        return [run(*task) for run, task in map(pickle.loads, tasks)]


@pytest.mark.slow
def test_a_replicate_follows_from_its_seed_and_number():
    problem, executor = instruments(), Counting()
    first = bj.tension_null(problem, refit=True, replicates=2, random_seed=3)
    more = bj.tension_null(problem, refit=True, replicates=3, random_seed=3, executor=executor)
    assert executor.count == 3
    np.testing.assert_array_equal(
        first["ln_suspiciousness"], more["ln_suspiciousness"].isel(replicate=slice(2))
    )
    assert len(set(more["ln_suspiciousness"].values)) == 3
    assert more.attrs["exact"] == 0 and more.attrs["failed"] == 0
    assert "discrepancy_correlation" in more.attrs["hyperparameters"]


@pytest.mark.slow
def test_replicates_that_fail_are_counted(monkeypatch):
    search, calls = _null_refits.maximum_a_posteriori, []

    def first_fails(*arguments):
        calls.append(arguments)
        found = search(*arguments)
        return found if len(calls) > 1 else replace(found, converged=False)

    problem = instruments()
    tree, split = bj.linearize(problem), bj.linearize(problem.split())
    monkeypatch.setattr(_null_refits, "maximum_a_posteriori", first_fails)
    null = bj.tension_null(problem, at=tree, refit=True, replicates=3, random_seed=1)
    assert null.attrs["failed"] == 1
    assert np.isnan(null["ln_suspiciousness"].values).tolist() == [True, False, False]
    assert "did not converge" in str(null["failure"].values[0])
    report = bj.tension(tree, split, null)
    assert report.attrs["p_value_smallest"] == pytest.approx(1 / 3)
    said = " ".join(report.attrs["words"])
    assert "Compared with 2 simulated consistent data sets, all fits repeated for each" in said
    assert "1 more could not be fitted" in said
    calls.clear()
    with pytest.raises(ValueError, match="all 1 replicates failed, the first: NotFitted: the sea"):
        bj.tension_null(problem, at=tree, refit=True, replicates=1, random_seed=1)


def test_faults():
    with pytest.raises(ValueError, match="executor= runs fits to simulated data; give refit=True"):
        bj.tension_null(instruments(), executor=Counting())
    with pytest.raises(ValueError, match="replicates must be a positive whole number"):
        bj.tension_null(instruments(), replicates=0)
    tailed = instruments()
    modalities = [
        bj.Modality(m.name, m.data, m.forward, bj.StudentTNoise(sd=1.0, nu=4))
        for m in tailed.modalities
    ]
    with pytest.raises(ValueError, match="'old' has noise that is not Gaussian beside a discrep"):
        bj.tension_null(tailed.replace(modalities=modalities), refit=True)


def thick(problem):
    """Return a discrepancy of more modes than there are data."""
    return problem.replace(discrepancy=[_given(f"part{i}") for i in range(2)])


def _given(name):
    covariance = {("old", "old"): np.eye(COUNT), ("new", "new"): 2.0 * np.eye(COUNT)}
    return bj.JointDiscrepancy(sd=SIZE, covariance=covariance, name=name)


def counts(problem):
    modality = bj.Modality(
        "counts", data(np.arange(4.0), "bin"), bj.pytensor_map(
            lambda level, trend: level**2 + trend**2 + np.ones(4), ["level", "trend"]
        ), bj.PoissonNoise(),
    )  # fmt: skip
    return problem.replace(modalities=[modality], discrepancy=None)


@pytest.mark.slow
@pytest.mark.parametrize("change", [lambda p: p, thick, counts])
def test_data_are_replaced_in_compiled_functions(change):
    problem, rng = change(instruments()), np.random.default_rng(2)
    functions = ModelFunctions(problem)
    point = functions.initial + 0.1 * rng.standard_normal(functions.size)
    before = functions.density(point)[0]
    other = {m.name: rng.poisson(3.0, m.data.shape) for m in problem.modalities}
    functions.observe(with_data(problem, other))
    fresh = ModelFunctions(with_data(problem, other))
    assert functions.density(point)[0] == pytest.approx(fresh.density(point)[0], rel=1e-12)
    assert functions.density(point)[0] != before
    likelihood = log_likelihood_at(functions, point)
    assert likelihood == pytest.approx(log_likelihood_at(fresh, point), rel=1e-12)
    # The density is that likelihood, of another code, and the prior of standard normal numbers.
    prior = scipy.stats.norm.logpdf(point).sum()
    assert functions.density(point)[0] == pytest.approx(likelihood + prior, rel=1e-9)


@pytest.mark.slow
def test_p_values_of_consistent_data_are_uniform_under_the_refitted_null_alone(refits):
    """All unknowns from the prior (seed 7): 120 data sets, the first 40 with 19 replicates each."""
    rng, prior = np.random.default_rng(7), refits.joint.functions.initial
    fits, spaces = (refits.joint, refits.split), (refits.joint.space, refits.split.space)
    refitted, held = [], []
    for number in range(120):
        truth = prior + rng.standard_normal(prior.size)
        drawn = refits.evaluator.table(truth[None, None]).posterior_predictive(rng)
        values = drawn.isel(chain=0, draw=0, drop=True)
        together, apart = (f.explained(values, f.functions.initial, 1) for f in fits)
        best = _null_refits.maximum_a_posteriori(refits.joint.functions, 1).point
        null = null_distribution.at_point(*spaces, best, 2_000, number)
        held.append(float(np.mean(null["ln_suspiciousness"] <= together - apart)))
        if number < 40:
            moved, seeds = refits.at(best), np.random.SeedSequence(number).spawn(19)
            low = sum(moved.ln_suspiciousness(seed) <= together - apart for seed in seeds)
            refitted.append((low + rng.uniform()) / 20.0)
    assert uniform(refitted)
    assert scipy.stats.kstest(held, "uniform").pvalue < 1e-3
    assert np.mean(np.array(held) < 0.05) > 0.1
