"""The suspiciousness of consistent data, and tension under correlated errors, in dense algebra."""

import numpy as np
import pymc as pm
import pytest
import xarray as xr

import bayesjoint as bj
from tests.gaussian import gaussian_case
from tests.helpers import STANDARD, data

N, CELLS = 12, 12


@pytest.fixture(scope="module")
def case():
    return gaussian_case(shape=(3, 4), n=N)


def forms(case):
    """Return (sensitivity, prior) of the joint and of the split problem."""
    joint = (case.jacobian, case.prior)
    density = case.prior[:CELLS, :CELLS]
    zero = np.zeros((N, CELLS))
    gravity = np.concatenate([case.jacobian[:N, :CELLS], zero])
    arrivals = np.concatenate([np.zeros((N, 2 * CELLS)), case.jacobian[N:]])
    prior = np.zeros((3 * CELLS, 3 * CELLS))
    prior[:CELLS, :CELLS], prior[CELLS:, CELLS:] = density, case.prior
    return joint, (np.concatenate([gravity, arrivals], axis=1), prior)


def explained(case, sensitivity, prior, y):
    """Return mean log-likelihood and ``2 Var ln L`` over the posterior, up to a constant."""
    information = sensitivity.T @ np.linalg.solve(case.covariance, sensitivity)
    posterior = np.linalg.inv(np.linalg.inv(prior) + information)
    mean = posterior @ sensitivity.T @ np.linalg.solve(case.covariance, y)
    left = y - sensitivity @ mean
    slope = sensitivity.T @ np.linalg.solve(case.covariance, left)
    shares = posterior @ information
    expected = -0.5 * (left @ np.linalg.solve(case.covariance, left) + np.trace(shares))
    return expected, np.trace(shares @ shares) + 2.0 * slope @ posterior @ slope


@pytest.mark.slow
def test_tension_under_correlated_errors_is_that_of_dense_algebra(case):
    report = bj.tension(bj.linearize(case.problem), bj.linearize(case.problem.split()))
    joint, split = (explained(case, *form, case.data) for form in forms(case))
    np.testing.assert_allclose(report["ln_suspiciousness"], joint[0] - split[0], rtol=1e-8)
    np.testing.assert_allclose(report["d"], split[1] - joint[1], rtol=1e-8)
    # Only arrivals have the slowness: density alone is compared.
    assert all(str(label).startswith("density[") for label in report["parameter"].values)


def test_mean_and_variance_of_the_null_distribution_are_those_of_its_quadratic_form(case):
    null = bj.tension_null(case.problem, replicates=20_000, random_seed=0)
    (joint, prior), (split, prior_split) = forms(case)
    drawn = joint @ prior @ joint.T + case.covariance

    def form(sensitivity, prior):
        gain = prior @ sensitivity.T
        left = np.linalg.solve(sensitivity @ gain + case.covariance, case.covariance)
        quadratic = left.T.T @ np.linalg.solve(case.covariance, left.T)
        return quadratic, np.trace(np.eye(2 * N) - left)

    (first, trace), (second, trace_split) = form(joint, prior), form(split, prior_split)
    change = drawn @ (first - second)
    mean = -0.5 * (np.trace(change) + trace - trace_split)
    variance = 0.5 * np.trace(change @ change)
    weights, offset = null["weights"].values, float(null["offset"])
    np.testing.assert_allclose(offset - 0.5 * weights.sum(), mean, rtol=1e-6)
    np.testing.assert_allclose(0.5 * np.sum(weights**2), variance, rtol=1e-6)
    error = np.sqrt(variance / null.sizes["replicate"])
    assert abs(float(null["ln_suspiciousness"].mean()) - mean) < 4 * error


def scattered(latents, columns, **changes):
    """Two modalities of unknown noise that read all latents."""
    rng = np.random.default_rng(2)
    modalities = [
        bj.Modality(
            m, data(rng.normal(size=5), f"{m}_point"),
            bj.linear_map({v.name: rng.normal(size=(5, columns)) for v in latents}),
            bj.GaussianNoise(sd=bj.Prior(pm.LogNormal, mu=0.0, sigma=0.3)),
        )
        for m in ("first", "second")
    ]  # fmt: skip
    return bj.JointProblem(latents=latents, modalities=modalities, **changes)


def agree(problem):
    """Check that separate fits and the split one say the same where errors are independent."""
    tree = bj.linearize(problem)
    separate = {k: bj.linearize(p) for k, p in problem.separate().items()}
    apart, split = (bj.tension(tree, s) for s in (separate, bj.linearize(problem.split())))
    for name in ("ln_suspiciousness", "d"):
        np.testing.assert_allclose(apart[name], split[name], atol=1e-4)
    return tree


def test_unknown_scales_are_held_at_the_point_of_a_tree():
    problem = scattered([bj.Parameter(name, STANDARD) for name in "ab"], 1)
    tree = bj.linearize(problem)
    null = bj.tension_null(problem, tree, replicates=100, random_seed=1)
    assert null.attrs["exact"] == 0
    assert null.sizes["component"] == 4  # directions that the copies can fit


@pytest.mark.slow
def test_couplings_are_repeated_in_the_split_problem():
    grid = bj.Grid(depth=np.arange(3.0), x=np.arange(3.0))
    fields = [bj.GaussianField(n, grid, sd=1.0, length_scale=2.0) for n in "ab"]
    problem = scattered(fields, 9, couplings=[bj.CrossGradient("a", "b", weight=3.0)])
    null = bj.tension_null(problem, agree(problem), replicates=100, random_seed=1)
    assert null.attrs["exact"] == 0
    searched = bj.tension_null(problem, replicates=100, random_seed=1)
    np.testing.assert_allclose(searched["weights"], null["weights"], atol=1e-4)


def pair(**changes):
    latent = bj.Parameter("level", STANDARD)
    modality = bj.Modality(
        "old", data([0.1], "t"), bj.linear_map(np.ones((1, 1)), "level"), bj.GaussianNoise(sd=0.5)
    )
    return bj.JointProblem(**{"latents": [latent], "modalities": [modality]} | changes)


def test_faults():
    with pytest.raises(ValueError, match="has 1 modality; two or more can contradict"):
        bj.tension_null(pair())
    two = [
        bj.Modality(
            n, data([0.1], f"{n}_t"), bj.linear_map(np.ones((1, 1)), "level"),
            bj.GaussianNoise(sd=0.5), power=p,
        )
        for n, p in {"old": 1.0, "new": 0.5}.items()
    ]  # fmt: skip
    with pytest.raises(ValueError, match="modality 'new' is tempered .power 0.5"):
        bj.tension_null(pair(modalities=two))
    untempered = pair(modalities=[two[0], bj.Modality("new", *_parts(two[1]))])
    with pytest.raises(ValueError, match="at= is no tree of this problem at one point"):
        bj.tension_null(untempered, xr.DataTree())
    with pytest.raises(ValueError, match="at is of type float"):
        bj.tension_null(untempered, 3.0)


def _parts(modality):
    return modality.data, modality.forward, modality.noise


@pytest.mark.slow
def test_draws_of_joint_and_split_problem_give_the_closed_form(case):
    settings = {"draws": 1500, "chains": 2, "progress": False, "backend": "interpreted"}
    joint = bj.sample(case.problem, random_seed=1, **settings)
    split = bj.sample(case.problem.split(), random_seed=2, **settings)
    report = bj.tension(joint, split)
    one, other = (explained(case, *form, case.data) for form in forms(case))
    for name, expected in (("ln_suspiciousness", one[0] - other[0]), ("d", other[1] - one[1])):
        assert abs(float(report[name]) - expected) < 4 * float(report[f"{name}_mcse"]), name
    preview = bj.tension(bj.linearize(case.problem), bj.linearize(case.problem.split()))
    gap = abs(report["difference"] - preview["difference"]).max()
    assert float(gap) < 5 * np.sqrt(2 / 1000)  # of means from a thousand effective draws each
