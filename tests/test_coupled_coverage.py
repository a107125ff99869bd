"""Truths drawn from a coupled prior: ranks in their posteriors are uniform, 90 % intervals cover.

Two crosshole tomographies of 8 by 6 cells with a cross-gradient that matters: it lifts the prior
mean of the structural similarity from 0.53 to 0.86.  Truths are draws of the coupled prior, data
their predictive draws, and every replicate is sampled (simulation-based calibration: Talts et al.
2018, arXiv 1804.06788).  Cells of one replicate depend on each other, replicates do not: each
quantity is one number a replicate.
"""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import block_diag
from scipy.stats import binomtest, kstest

import bayesjoint as bj
from bayesjoint._kernels.structure import gradients_of, similarity
from models import crosshole
from tests.gaussian import GaussianCase, field_factor

REPLICATES = 60
APART = 20  # draws of the coupled prior between two truths; every second one is effective
CHANCE = 1e-4  # of a false alarm, of each of ten p-values
GRID = crosshole.section_grid(nx=8, nz=6)
CENTRES = list(GRID.centres.values())
CELL = (2, 3)
QUANTITIES = ("mean seismic", "mean radar", "cell seismic", "cell radar", "similarity")


def coupled_problem():
    """The data are there to be replaced; fields are departures from the prior mean."""
    made = crosshole.problem(nx=8, nz=6, weight=1.0, noise=0.1)
    return made.replace(latents=[replace(field, mean=0.0) for field in made.latents])


def truths_and_data(problem, count, seed):
    """Return truths from the coupled prior and their data, one dataset each."""
    tree = bj.sample(
        problem, draws=10, chains=2, prior_draws=count * APART, random_seed=seed, progress=False
    )
    return [
        tuple(
            tree[group].to_dataset().isel(chain=i % 2, draw=(i // 2 + 1) * APART - 1, drop=True)
            for group in ("prior", "prior_predictive")
        )
        for i in range(count)
    ]


def quantities(seismic, radar):
    """Return what is tested of draws (draw, depth, x) of both fields, shape (quantity, draw)."""
    means = [field.mean(axis=(1, 2)) for field in (seismic, radar)]
    cells = [field[:, *CELL] for field in (seismic, radar)]
    alike = similarity(gradients_of(seismic, radar, CENTRES), GRID.volumes, (0.0, 0.0))[0]
    return np.stack([*means, *cells, alike])


def ranks_of(truth, *draws):
    """Return the posterior probability that each quantity lies below its truth."""
    true = quantities(*(truth[name].values[None] for name in crosshole.PRIOR))
    return (quantities(*draws) < true).mean(axis=1)


def ranks_in_samples(problem, cases, seed):
    """Return the ranks in posteriors that `bj.sample` draws, shape (replicate, quantity)."""
    ranks = []
    for i, (truth, data) in enumerate(cases):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of single divergences
            tree = bj.sample(
                problem.with_data(data), draws=400, tune=200, chains=2, random_seed=seed + i,
                progress=False, prior_draws=2,
            )  # fmt: skip
        drawn = (tree["posterior"][name].values for name in crosshole.PRIOR)
        ranks.append(ranks_of(truth, *(field.reshape(-1, *GRID.shape) for field in drawn)))
    return np.array(ranks)


def ranks_without_coupling(problem, cases, seed):
    """Return the ranks in the posteriors without coupling, which are Gaussian."""
    rng = np.random.default_rng(seed)
    case = GaussianCase(
        problem.replace(couplings=()),
        {field.name: field_factor(field) for field in problem.latents},
        block_diag(*crosshole.matrices(GRID).values()),
        np.diag(np.concatenate([np.full(m.data.size, m.noise.sd**2) for m in problem.modalities])),
        np.zeros(0),
    )
    ranks = []
    for truth, data in cases:
        stacked = np.concatenate([data[name].values for name in problem.modality])
        mean, covariance = replace(case, data=stacked).posterior()
        draws = rng.multivariate_normal(mean, covariance, size=800, method="cholesky")
        parts = (part.reshape(-1, *GRID.shape) for part in np.split(draws, 2, axis=1))
        ranks.append(ranks_of(truth, *parts))
    return np.array(ranks)


def p_values(ranks):
    """Return exact binomial p-values of coverage, and those of uniform ranks, (2, quantity)."""
    covered = ((ranks > 0.05) & (ranks < 0.95)).sum(axis=0)
    found = [
        [binomtest(int(hits), len(ranks), 0.9).pvalue for hits in covered],
        [kstest(column, "uniform").pvalue for column in ranks.T],
    ]
    for name, hits, *p in zip(QUANTITIES, covered, *found, strict=True):
        print(f"{name}: {hits} of {len(ranks)} covered, p {p[0]:.2g}; uniform ranks, p {p[1]:.2g}")
    return np.array(found)


@pytest.fixture(scope="module")
def problem():
    return coupled_problem()


@pytest.fixture(scope="module")
def cases(problem):
    return truths_and_data(problem, REPLICATES, seed=10)


@pytest.mark.slow  # eight minutes: every replicate compiles its own graphs
def test_truths_of_the_coupled_prior_are_covered(problem, cases):
    assert p_values(ranks_in_samples(problem, cases, seed=1_000)).min() > CHANCE


@pytest.mark.slow
def test_without_the_coupling_they_are_not(problem, cases):
    """The similarity is taken for lower than it is; nothing else need show."""
    found = p_values(ranks_without_coupling(problem, cases, seed=3))
    assert found[:, QUANTITIES.index("similarity")].max() < 1e-6
