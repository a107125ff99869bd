"""Fields whose prior has unknowns move in coordinates that the hyperparameters leave alone."""

import arviz_stats
import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
import xarray as xr
from scipy.stats import norm

import bayesjoint as bj
from bayesjoint._compiled.conditional import Conditional, conditional, inverse, pulled
from bayesjoint._compiled.density import CompiledDensity
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._graph.compile import INTERPRETED
from bayesjoint._sampler import given as _given
from bayesjoint._sampler.run import given_of, recorded
from bayesjoint.reports import diagnose

GRID = bj.Grid(x=np.arange(5.0, 120.0, 10.0))
CELLS = GRID.size
LARGEST_Z = 4.0  # in Monte Carlo errors
EVEN = bj.Prior(pm.Uniform, lower=-1.0, upper=1.0)
ABOUT_ONE = bj.Prior(pm.LogNormal, mu=0.0, sigma=0.7)
LENGTH = bj.Prior(pm.LogNormal, mu=3.2, sigma=0.5)


def problem(noise, correlation, names="ab", seed=1, true=0.9, **settings):
    """Return fields that are each seen in every cell, with independent errors."""
    known = [bj.GaussianField(name, GRID, sd=1.0, length_scale=25.0) for name in names]
    rng, factor = np.random.default_rng(seed), known[0].factor({}).times(np.eye(CELLS))
    common = np.eye(len(names)) + true * (1 - np.eye(len(names)))
    truth = np.linalg.cholesky(common) @ rng.standard_normal((len(names), CELLS)) @ factor.T
    latents = [
        bj.GaussianField(name, GRID, **{"sd": 1.0, "length_scale": 25.0, **settings})
        for name in names
    ]
    modalities = [
        bj.Modality(
            f"see_{name}",
            xr.DataArray(row + noise * rng.standard_normal(CELLS), dims=f"at_{name}"),
            bj.linear_map(np.eye(CELLS), name), bj.GaussianNoise(sd=noise),
        )
        for name, row in zip(names, truth, strict=True)
    ]  # fmt: skip
    coupling = bj.CorrelatedFields(*names, correlation=correlation)
    return bj.JointProblem(latents=latents, modalities=modalities, couplings=[coupling])


def all_that_is_seen(made, noise):
    """Return the data of all fields in units of their errors."""
    data = np.concatenate([m.data.values for m in made.modalities])
    return _given.Given(np.eye(data.size) / noise, data / noise)


def log_marginal(made, noise, correlation, sd=1.0, length_scale=25.0, mean=0.0):
    """Return the log-likelihood of hyperparameters, the fields integrated out."""
    data = np.concatenate([m.data.values for m in made.modalities]) - mean
    field = bj.GaussianField("own", GRID, sd=sd, length_scale=length_scale)
    factor = field.factor({}).times(np.eye(CELLS))
    covariance = np.kron(correlation, factor @ factor.T) + noise**2 * np.eye(data.size)
    lower = np.linalg.cholesky(covariance)
    return -0.5 * np.sum(np.linalg.solve(lower, data) ** 2) - np.log(np.diag(lower)).sum()


def pair(rho):
    return np.array([[1.0, rho], [rho, 1.0]])


@pytest.fixture
def linear():
    rng = np.random.default_rng(0)
    return rng.standard_normal(5), 3.0 * rng.standard_normal((3, 5)), rng.standard_normal(3)


def test_the_conditional_is_the_posterior_of_linear_data(linear):
    x, matrix, data = linear
    covariance = np.linalg.inv(np.eye(5) + matrix.T @ matrix)
    mean, log_det, lower = conditional(np.zeros(5), matrix, data)
    np.testing.assert_allclose(mean, covariance @ matrix.T @ data, atol=1e-12)
    root = np.stack([conditional(e, matrix, data)[0] - mean for e in np.eye(5)], axis=1)
    np.testing.assert_allclose(root @ root.T, covariance, atol=1e-12)
    assert log_det == pytest.approx(np.linalg.slogdet(root)[1])
    np.testing.assert_allclose(inverse(mean + root @ x, matrix, data, lower), x, atol=1e-12)


def test_the_derivative_of_the_conditional_is_right(linear):
    inputs = [pt.vector("x"), pt.matrix("A"), pt.vector("e")]
    z, log_det, _ = Conditional()(*inputs)
    score = (z * np.array([1.0, -2.0, 0.5, 3.0, 0.2])).sum() + 0.7 * log_det
    value = pytensor.function(inputs, score, mode=INTERPRETED)
    gradients = pytensor.function(inputs, pt.grad(score, inputs), mode=INTERPRETED)(*linear)
    for k, gradient in enumerate(gradients):
        for index in np.ndindex(gradient.shape):
            ends = []
            for step in (1e-6, -1e-6):
                moved = [v.copy() for v in linear]
                moved[k][index] += step
                ends.append(float(value(*moved)))
            assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(gradient[index], abs=1e-7)


CASES = {
    "correlation, sd, length scale and mean": (
        EVEN, "ab",
        {"sd": ABOUT_ONE, "length_scale": LENGTH, "mean": bj.Prior(pm.Normal, mu=0.0, sigma=1.0)},
    ),
    "three correlations": (bj.Prior(pm.LKJCorr, eta=1.0, n=3), "abc", {}),
    "sd alone": (0.5, "ab", {"sd": ABOUT_ONE}),
}  # fmt: skip


def test_values_beyond_all_numbers_are_no_error(linear):
    x, matrix, data = linear
    z, log_det, lower = conditional(x, 1e200 * matrix, data)
    assert np.isnan(z).all() and np.isnan(log_det)
    assert np.isnan(pulled(x, 1e200 * matrix, data, lower, x, 1.0)[1]).all()


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_fields_are_standard_normal_whatever_the_hyperparameters(case):
    correlation, names, settings = CASES[case]
    made = problem(0.01, correlation, names, **settings)
    functions = ModelFunctions(made)
    recentring = functions.recentring
    functions.density = CompiledDensity(functions, "interpreted")
    given = all_that_is_seen(made, 0.01)
    rng = np.random.default_rng(2)
    for _ in range(3):
        x = 0.7 * rng.standard_normal(functions.size)
        gradient = functions.density.given(given)(x)[1]
        # Differences of terms of the size of the data over their noise.
        np.testing.assert_allclose(gradient[recentring.fields], -x[recentring.fields], atol=1e-6)
        (point,) = recentring.points(x[None], given)
        np.testing.assert_allclose(recentring.from_point(point, given), x, atol=1e-9)
    # At the mode given hyperparameters, here x = 0, the linearised data are those of the problem.
    (mode,) = recentring.points(np.zeros((1, functions.size)), given)
    found = _given.given_at(functions, recentring, mode)
    np.testing.assert_allclose(found.rows.T @ found.rows, np.eye(given.data.size) * 1e4, atol=1e-3)
    np.testing.assert_allclose(found.rows.T @ found.data, given.data * 1e2, atol=1e-3)


@pytest.mark.slow
def test_hyperparameters_have_the_density_with_fields_integrated_out():
    made = problem(0.01, EVEN, sd=ABOUT_ONE, length_scale=LENGTH)
    functions = ModelFunctions(made)
    functions.density = CompiledDensity(functions, "interpreted")
    given, off = all_that_is_seen(made, 0.01), []
    names = ("correlation_a_b", "a_sd", "a_length_scale", "b_sd", "b_length_scale")
    for seed in range(4):
        x, hyper = np.zeros(functions.size), 0.5 * np.random.default_rng(seed).standard_normal(3)
        # Both fields have one sd and length scale, so that the closed form is a Kronecker product.
        for name, value in zip(names, hyper[[0, 1, 2, 1, 2]], strict=True):
            x[functions.slices[f"{name}_white"]] = value
        rho = 2 * norm.cdf(hyper[0]) - 1
        exact = log_marginal(
            made, 0.01, pair(rho), np.exp(0.7 * hyper[1]), np.exp(3.2 + 0.5 * hyper[2])
        )
        prior = -0.5 * np.sum(x**2)
        off.append(functions.density.given(given)(x)[0] - exact - prior)
    np.testing.assert_allclose(off, off[0], atol=1e-5)


@pytest.mark.slow
def test_a_correlation_of_precise_fields_is_that_of_quadrature():
    noise = 1e-3
    made = problem(noise, EVEN)
    posterior = bj.sample(made, random_seed=1, progress=False)
    told = diagnose(posterior)
    assert told["divergences"] == 0 and told.attrs["verdict"] == "good"
    assert told["gradients_per_effective_draw"] < 20  # thousands without
    fisher = np.linspace(-8.0, 8.0, 2001)
    rho = np.tanh(fisher)
    logs = [log_marginal(made, noise, pair(r)) + np.log1p(-(r**2)) for r in rho]
    weight = np.exp(np.array(logs) - max(logs))
    weight /= weight.sum()
    drawn = posterior["posterior"].to_dataset()[["correlation_a_b"]]
    for power in (1, 2):
        found = drawn**power
        error = float(arviz_stats.mcse(found, method="mean")["correlation_a_b"])
        z = (float(found["correlation_a_b"].mean()) - weight @ rho**power) / error
        assert abs(z) < LARGEST_Z


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["interpreted", "numba"])
def test_a_recentred_density_leaves_all_others_alone(backend):
    made = problem(0.1, EVEN)
    functions = ModelFunctions(made)
    density, point = CompiledDensity(functions, backend), functions.initial + 0.1
    before = density(point)[0]
    density.given(all_that_is_seen(made, 0.1))(point)
    density.refresh()
    assert density(point)[0] == before
    white = -0.5 * np.sum(point**2 + np.log(2 * np.pi))
    np.testing.assert_allclose(density.without_data()(point)[0], white)


def test_what_recentres_survives_a_store():
    given = _given.Given(np.arange(6.0).reshape(2, 3), np.ones(2))
    again = given_of(xr.Dataset(recorded(given)))
    np.testing.assert_array_equal(again.rows, given.rows)
    np.testing.assert_array_equal(again.data, given.data)
    assert given_of(xr.Dataset(recorded(None))) is None


def test_problems_without_unknowns_of_fields_are_left_alone():
    assert ModelFunctions(problem(0.1, 0.5)).recentring is None
    unknown_mean = problem(0.1, 0.5, mean=bj.Prior(pm.Normal, mu=0.0, sigma=1.0))
    assert ModelFunctions(unknown_mean).recentring is None
