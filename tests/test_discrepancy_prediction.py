"""The discrepancy at new places, against the closed form with dense covariances."""

import numpy as np
import pymc as pm
import pytest
import xarray as xr
from scipy.linalg import block_diag

import bayesjoint as bj
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._compiled.latent_space import LatentSpace
from bayesjoint._kernels.correlations import Term, product
from bayesjoint.studies.discrepancy_prediction import Conditional
from tests.helpers import STANDARD, data

RNG = np.random.default_rng(12)
TIMES = {"a": np.array([0.0, 1.0, 2.5, 4.0]), "b": np.array([0.5, 1.0, 2.0, 3.0, 5.0])}
ALL = np.concatenate([*TIMES.values()])[:, None]
NEW = np.array([-1.0, 1.0, 3.5, 9.0])
VALUES = {name: RNG.normal(size=len(times)) for name, times in TIMES.items()}
SDS = {"b": 0.4, "a": 0.7}  # in another order than the modalities
NOISE = {"a": 0.3, "b": 0.2}
ROOT = np.linalg.cholesky(0.02 + 0.03 * np.eye(5))
KERNELS = {
    "matern": {"length_scale": 2.0},
    "periodic": {"kernel": "periodic", "period": 3.0, "length_scale": 1.0},
    "drift": {"kernel": "drift", "origin": -2.0, "length_scale": 4.0},
}
TERMS = {
    "matern": Term((0,)),
    "periodic": Term((0,), "periodic", period=3.0),
    "drift": Term((0,), "drift", origin=-2.0),
}


def problem_of(discrepancy, noise=None, times=TIMES):
    modalities = [
        bj.Modality(
            name, data(VALUES[name], f"i_{name}", {"time": (f"i_{name}", at)}, units="K"),
            bj.linear_map(np.ones((len(at), 1)), "m"),
            (noise or {}).get(name, bj.GaussianNoise(sd=NOISE[name])),
        )
        for name, at in times.items()
    ]  # fmt: skip
    latent = bj.Parameter("m", STANDARD)
    return bj.JointProblem(latents=[latent], modalities=modalities, discrepancy=discrepancy)


def in_time(**settings):
    return bj.JointDiscrepancy(
        **{"sd": SDS, "correlation": 0.6, "on": "time", "length_scale": 2.0} | settings
    )


def conditional(problem, known, at=None):
    functions = ModelFunctions(problem)
    point = LatentSpace(functions).point_of_values({"m": 0.0} | (at or {}))
    return Conditional.of(functions, point, known, NEW[:, None])


def dense(kernel, cross, among, noise):
    """Return gain (data, modality x place) and covariance; modalities of the result as in SDS."""
    mixing = np.array([[0.16, 0.6 * 0.28], [0.6 * 0.28, 0.49]])  # b, a
    of_data = np.repeat([1, 0], [4, 5])
    total = mixing[np.ix_(of_data, of_data)] * kernel + noise
    joined = np.concatenate([mixing[of_data][:, [i]] * cross for i in range(2)], axis=1)
    gain = np.linalg.solve(total, joined)
    return gain, np.kron(mixing, among) - joined.T @ gain


def independent():
    return np.diag(np.repeat([0.09, 0.04], [4, 5]))


@pytest.mark.parametrize("kind", KERNELS)
def test_it_is_the_conditional_gaussian(kind):
    discrepancy = in_time(**KERNELS[kind])
    found = conditional(problem_of(discrepancy), discrepancy)
    length, both = KERNELS[kind]["length_scale"], np.concatenate([ALL[:, 0], NEW])[:, None]
    kernel = product((TERMS[kind],), both, (length,))
    expected = dense(kernel[:9, :9], kernel[:9, 9:], kernel[9:, 9:], independent())
    np.testing.assert_allclose(found.gain, expected[0], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found.covariance, expected[1], rtol=1e-8, atol=1e-10)


def test_correlated_noise_and_another_discrepancy_are_errors_beside_it():
    discrepancy, apart = in_time(), bj.JointDiscrepancy(sd={"a": 0.5}, name="apart")
    noise = {"b": bj.CorrelatedNoise(covariance=ROOT @ ROOT.T)}
    found = conditional(problem_of([apart, discrepancy], noise), discrepancy)
    kernel = product((TERMS["matern"],), np.concatenate([ALL[:, 0], NEW])[:, None], (2.0,))
    beside = block_diag(0.34 * np.eye(4), ROOT @ ROOT.T)
    gain, covariance = dense(kernel[:9, :9], kernel[:9, 9:], kernel[9:, 9:], beside)
    turned = block_diag(np.eye(4), ROOT)  # the gain is of whitened residuals
    np.testing.assert_allclose(found.gain, turned.T @ gain, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found.covariance, covariance, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    "settings", [{"grid": bj.Grid(time=np.linspace(-3.0, 11.0, 29))}, {"rank": 5}]
)
def test_approximate_processes_agree_with_themselves(settings):
    """At the places of the data the new values are those of the data: Cov(new, y) = K."""
    discrepancy = in_time(**settings)
    problem = problem_of(discrepancy)
    functions = ModelFunctions(problem)
    found = Conditional.of(functions, functions.initial, discrepancy, ALL)
    factor = functions.errors(functions.initial).factor
    expected = np.linalg.solve(factor @ factor.T + independent(), factor @ factor.T)
    of_a, of_b = np.arange(9, 13), np.arange(4, 9)  # columns: b at all places, then a
    np.testing.assert_allclose(found.gain[:, of_a], expected[:, :4], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(found.gain[:, of_b], expected[:, 4:], rtol=1e-7, atol=1e-9)


@pytest.fixture(scope="module")
def predicted():
    """4,000 equal draws of the unknowns, an unknown length scale among them; seed 1."""
    length = bj.Prior(pm.LogNormal, mu=0.0, sigma=0.5)
    problem = problem_of(in_time(length_scale=length))
    names = {"m": 0.3, "discrepancy_length_scale": 2.0}
    draws = {n: (("chain", "draw"), np.full((2, 2_000), v)) for n, v in names.items()}
    tree = xr.DataTree.from_dict({"posterior": xr.Dataset(draws)})
    at = xr.DataArray(np.zeros(4), {"time": ("later", NEW)}, "later")
    return bj.predict_discrepancy(problem, tree, at, draws=4_000, random_seed=1)


@pytest.mark.slow
def test_draws_have_its_mean_and_covariance(predicted):
    """Within 4.5 Monte Carlo errors."""
    kernel = product((TERMS["matern"],), np.concatenate([ALL[:, 0], NEW])[:, None], (2.0,))
    gain, covariance = dense(kernel[:9, :9], kernel[:9, 9:], kernel[9:, 9:], independent())
    residual = np.concatenate([*VALUES.values()]) - 0.3
    draws = np.concatenate([predicted[f"{n}_discrepancy"].values for n in SDS], axis=1)
    count, variance = len(draws), np.diag(covariance)
    away = draws - gain.T @ residual
    assert np.abs(away.mean(axis=0) / np.sqrt(variance / count)).max() < 4.5
    error = np.sqrt((covariance**2 + np.outer(variance, variance)) / count)
    assert np.abs((away.T @ away / count - covariance) / error).max() < 4.5


@pytest.mark.slow
def test_what_is_predicted_is_labelled(predicted):
    assert predicted["a_discrepancy"].dims == ("sample", "later")
    assert predicted["a_discrepancy"].attrs["units"] == "K"
    np.testing.assert_array_equal(predicted["time"], NEW)
    assert predicted.attrs["discrepancy"] == "discrepancy"


def test_a_lattice_of_new_places():
    """Coordinates with dims of their own: the first is the slowest."""
    fixed = {"time": TIMES["a"], "place": np.arange(4.0)}
    values = data(np.zeros(4), "i", {axis: ("i", at) for axis, at in fixed.items()})
    seen = bj.Modality("a", values, bj.linear_map(np.ones((4, 1)), "m"), bj.GaussianNoise(sd=1e-6))
    discrepancy = bj.JointDiscrepancy(sd={"a": 1.0}, on=("time", "place"), length_scale=2.0)
    problem = bj.JointProblem(
        latents=[bj.Parameter("m", STANDARD)], modalities=[seen], discrepancy=discrepancy
    )
    draws = xr.Dataset({"m": (("chain", "draw"), [[0.5]])})
    tree = xr.DataTree.from_dict({"posterior": draws})
    found = bj.predict_discrepancy(problem, tree, fixed, random_seed=1)["a_discrepancy"]
    assert found.dims == ("sample", "time", "place")
    seen_again = [found.values[0, i, i] for i in range(4)]
    np.testing.assert_allclose(seen_again, -0.5, atol=1e-4)


@pytest.mark.parametrize(
    ("discrepancy", "noise", "at", "message"),
    [
        (bj.JointDiscrepancy(sd={"a": 0.5}), None, {"time": [1.0]}, "has no coordinates, so that"),
        (in_time(), {"a": bj.StudentTNoise(sd=1.0, nu=4)}, {"time": [1.0]}, "'a' is not Gaussian"),
        (in_time(), None, {"date": [1.0]}, "at= has no coordinate 'time'"),
        (in_time(grid=bj.Grid(time=np.arange(-2.0, 8.0))), None, {"time": [9.0]}, "does not cover"),
        (None, None, {"time": [1.0]}, "the problem has no discrepancy"),
    ],
)
def test_what_cannot_be_predicted_is_refused(discrepancy, noise, at, message):
    with pytest.raises(ValueError, match=message):
        bj.predict_discrepancy(problem_of(discrepancy, noise), xr.DataTree(), at)
