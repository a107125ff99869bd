"""Sampled and integrated out, a discrepancy is one posterior: NUTS on both forms of each kernel."""

import arviz_stats as azs
import numpy as np
import pytest

import bayesjoint as bj
from tests.test_discrepancy import CASES, CORRELATED, problem_of

KERNELS = [
    "paired by index",
    "in two coordinates",
    "periodic",
    "drift",
    "product over coordinates",
    "in time with loadings",
    "three modalities, matrix",
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "noise"), [*((name, None) for name in KERNELS), ("in time with loadings", CORRELATED)]
)
def test_latent_and_marginal_form_are_one_posterior(name, noise):
    """Seeds 1 and 2; means and sd of both parameters within 4.5 Monte Carlo errors."""
    names, settings, _, _ = CASES[name]
    found = {}
    for seed, form in enumerate(("marginal", "latent"), start=1):
        problem = problem_of(bj.JointDiscrepancy(form=form, **settings), names, noise)
        tree = bj.sample(problem, draws=1_000, tune=300, chains=2, random_seed=seed, progress=False)
        assert ("sampled" in tree["linearization"].attrs["discrepancy_forms"][0]) == (
            form == "latent"
        )
        draws = tree["posterior"].to_dataset()[["m"]]
        for method in ("mean", "sd"):
            value = getattr(draws, "std" if method == "sd" else "mean")(("chain", "draw"))
            found[form, method] = value["m"].values, azs.mcse(draws, method=method)["m"].values
    for method in ("mean", "sd"):
        (first, error), (second, other) = found["marginal", method], found["latent", method]
        assert np.abs((first - second) / np.hypot(error, other)).max() < 4.5
