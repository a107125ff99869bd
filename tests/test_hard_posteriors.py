"""Posteriors far from Gaussian, where preconditioning helps little: right, or it says so.

Every one has two unknowns and is integrated on a grid.
"""

import warnings

import arviz as az
import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
import xarray as xr
from scipy.stats import binom

import bayesjoint as bj
from tests.chance import CHANCE, largest_t

LARGEST_Z = 4.5  # in Monte Carlo errors
SEEDS = range(1, 9)


def observed(data, function, priors, sd):
    """Return the problem of data (n,) that see a function of scalars with normal priors."""
    latents = [
        bj.Parameter(name, bj.Prior(pm.Normal, mu=0.0, sigma=width))
        for name, width in priors.items()
    ]
    forward = bj.pytensor_map(function, list(priors), name="map")
    data = xr.DataArray(data, dims="place")
    modality = bj.Modality("data", data, forward, bj.GaussianNoise(sd=sd))
    return bj.JointProblem(latents=latents, modalities=[modality])


def moments(weight, **values):
    """Return mean and sd of every quantity under weights on a grid."""
    weight = weight / weight.sum()
    mean = {name: float(np.sum(weight * value)) for name, value in values.items()}
    return {
        name: (mean[name], float(np.sqrt(np.sum(weight * (value - mean[name]) ** 2))))
        for name, value in values.items()
    }


def funnel(sd):
    """``x | v ~ N(0, (e^-v + 1e-2)^-1)``: Neal's funnel, planted by the likelihood.

    Along ``v``, normal but for the volume of x, the width of x changes by orders of magnitude.
    """
    problem = observed(
        [0.0], lambda v, x: pt.exp(-v / 2).reshape((1,)) * x, {"v": sd, "x": 10.0}, sd=1.0
    )
    v = np.linspace(-10 * sd, 10 * sd, 20_001)
    variance = 1.0 / (np.exp(-v) + 1e-2)
    weight = np.sqrt(variance) * np.exp(-0.5 * (v / sd) ** 2)
    spread = float(np.sqrt(np.sum(weight * variance) / weight.sum()))
    return problem, {**moments(weight, v=v), "x": (0.0, spread)}


def on_grid(function, noise, x, y):
    x, y = np.meshgrid(x, y, indexing="ij")
    log = -0.5 * (x**2 + y**2 + ((1.0 - function(x, y)) / noise) ** 2)
    return x, y, np.exp(log - log.max())


def on_banana(bend, noise):
    axes = np.linspace(-5.0, 5.0, 4_001), np.linspace(-8.0, 6.0, 8_001)
    return on_grid(lambda x, y: y + bend * x**2, noise, *axes)


def banana(bend, noise):
    """A datum sees ``y + bend x^2``."""
    problem = observed(
        [1.0], lambda x, y: (y + bend * x**2).reshape((1,)), {"x": 1.0, "y": 1.0}, sd=noise
    )
    x, y, weight = on_banana(bend, noise)
    return problem, moments(weight, x=x, y=y)


def product(noise):
    """A datum sees ``e^v z``: the wider v, the narrower z."""
    problem = observed(
        [1.0], lambda v, z: (pt.exp(v) * z).reshape((1,)), {"v": 1.0, "z": 1.0}, sd=noise
    )
    axes = np.linspace(-6.0, 6.0, 6_001), np.linspace(-6.0, 6.0, 6_001)
    v, z, weight = on_grid(lambda v, z: np.exp(v) * z, noise, *axes)
    return problem, moments(weight, v=v, z=z)


def largest_z(tree, exact):
    """Return the largest score of means and standard deviations."""
    draws = tree["posterior"].to_dataset()[list(exact)]
    found = draws.mean(("chain", "draw")), draws.std(("chain", "draw"), ddof=1)
    errors = [az.mcse(draws, method=method) for method in ("mean", "sd")]
    return max(
        abs(float(found[i][name]) - value) / float(errors[i][name])
        for name, pair in exact.items()
        for i, value in enumerate(pair)
    )


QUARTERS = (0.25, 0.5, 0.75)


def quartiles(weight, values):
    """Return the quartiles of a quantity under weights on ascending values."""
    below = np.cumsum(weight) - 0.5 * weight
    return np.interp(QUARTERS, below / weight.sum(), values)


def largest_z_of_shares(tree, exact):
    """Return the largest score of the shares of draws below exact quartiles.

    A tail that is missed hardly changes them, and their errors know of all that does.
    """
    scores = []
    for name, places in exact.items():
        for share, place in zip(QUARTERS, places, strict=True):
            below = (tree["posterior"].to_dataset()[[name]] < place).astype(float)
            error = float(az.mcse(below, method="mean")[name])
            scores.append(abs(float(below[name].mean()) - share) / error)
    return max(scores)


def drawn(problem, seed, draws=2_000):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of divergences; the verdict tells of them
        return bj.sample(
            problem, draws=draws, random_seed=seed, progress=False, prior_draws=10, backend="numba"
        )


def test_funnel():
    """The log of the scale of x moves over six units (seed 1).

    The largest score of 24 other seeds is 2.8: errors are about right here.
    """
    problem, exact = funnel(sd=1.5)
    tree = drawn(problem, seed=1)
    assert largest_z(tree, exact) < LARGEST_Z
    # The warm-up saw that it is a funnel: it was repeated with more than the default of 0.8.
    assert tree["posterior"].attrs["target_accept"] > 0.8


@pytest.mark.slow
def test_banana_and_that_preconditioning_does_not_help():
    """Seed 1; moments of one run in nine are beyond their errors, which know of no missed tail.

    Errors of the shares are some 2 %: a tenth of the draws on the wrong side is noticed.
    """
    problem, _ = banana(bend=0.5, noise=0.1)
    tree = drawn(problem, seed=1)
    x, y, weight = on_banana(bend=0.5, noise=0.1)
    exact = {
        "x": quartiles(weight.sum(axis=1), x[:, 0]), "y": quartiles(weight.sum(axis=0), y[0])
    }  # fmt: skip
    assert largest_z_of_shares(tree, exact) < LARGEST_Z
    assert "its spectrum helps little" in tree["posterior"].attrs["diagnostics"]


CURES = ("draw longer", "as many draws", "raise target_accept", "narrower prior")
CASES = {
    "funnel": lambda: funnel(sd=1.5),
    "wide funnel": lambda: funnel(sd=3.0),
    "banana": lambda: banana(bend=0.5, noise=0.1),
    "banana of two maxima": lambda: banana(bend=1.0, noise=0.1),
    "thin banana": lambda: banana(bend=0.5, noise=0.02),
    "product": lambda: product(noise=0.1),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_no_run_is_both_wrong_and_good(case):
    """Eight seeds: where the verdict is good the moments are right; elsewhere it names a cure.

    Chance passes the limit with 32 right scores once in 4,600 times; of good runs of the funnel and
    the banana, eight of 48, the largest is 2.8.
    """
    problem, exact = case()
    for seed in SEEDS:
        tree = drawn(problem, seed)
        attrs = tree["posterior"].attrs
        if attrs["verdict"] == "good":
            assert largest_z(tree, exact) < LARGEST_Z, seed
        else:
            assert any(cure in attrs["diagnostics"].lower() for cure in CURES), seed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["funnel", "banana"])
def test_runs_scatter_about_the_truth_whatever_their_verdicts(name):
    """Sixteen seeds: the mean over runs, in errors from their own scatter; and theirs are honest.

    The largest of four scores of a run is 1.4 in the median where its errors are right, that of
    sixteen runs has an sd of 0.2.  One banana in nine misses a tail, which its errors cannot know
    (6 of 56 seeds have scores of 5 to 9): such a run is not called good.  Moments that are off by
    a sixth of their sd, and sds that are off by as much, are noticed.
    """
    problem, exact = CASES[name]()
    trees = [drawn(problem, seed) for seed in range(1, 17)]
    draws = [tree["posterior"].to_dataset()[list(exact)] for tree in trees]
    for quantity, (mean, sd) in exact.items():
        found = np.array([[float(d[quantity].mean()), float(d[quantity].std())] for d in draws])
        error = found.std(axis=0, ddof=1) / np.sqrt(len(found))
        away = np.abs(found.mean(axis=0) - [mean, sd])
        assert np.all(away < largest_t(16, 2 * len(exact)) * error), quantity
    z = np.array([largest_z(tree, exact) for tree in trees])
    assert np.median(z) < 2.2
    verdicts = np.array([tree["posterior"].attrs["verdict"] for tree in trees])
    missed = verdicts[z > LARGEST_Z]
    assert missed.size <= binom.isf(CHANCE, 16, 6 / 56) and "good" not in missed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wide funnel", "thin banana"])
def test_the_cure_that_is_named_cures(name):
    """target_accept=0.99 and 5,000 draws a chain (seed 1)."""
    problem, exact = CASES[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        tree = bj.sample(
            problem, draws=5_000, random_seed=1, progress=False, prior_draws=10, target_accept=0.99
        )
    assert largest_z(tree, exact) < LARGEST_Z
