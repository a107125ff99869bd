"""The weight of a coupling: calibrated, or unknown with the normaliser of the coupled prior."""

import numpy as np
import pymc as pm
import pytest
from scipy.interpolate import CubicSpline
from scipy.stats import kstest

import bayesjoint as bj
from bayesjoint._functions import ModelFunctions
from bayesjoint.coupling_weight import _Sweep

GRID = bj.Grid(depth=np.arange(4.0), x=np.arange(5.0))
LARGEST = 300.0
UNKNOWN = bj.Prior(pm.LogNormal, mu=np.log(8.0), sigma=1.0)


def problem(weight=1.0, sd=(2.0, 0.5), length_scale=2.0, **settings):
    fields = [
        bj.GaussianField(name, GRID, sd=s, length_scale=length_scale)
        for name, s in zip("ab", sd, strict=True)
    ]
    coupling = bj.CrossGradient("a", "b", weight=weight, **settings)
    return bj.JointProblem(latents=fields, modalities=[], couplings=[coupling])


@pytest.fixture(scope="module")
def table():
    return bj.tabulate_normaliser(problem(), up_to=LARGEST, weights=10, draws=500, random_seed=3)


def gaussian(weight, scales):
    """Return mean potential and log Z of ``w sum k z^2 / 2`` over standard normal z."""
    factor = 1.0 + np.multiply.outer(weight, scales)
    return 0.5 * (scales / factor).sum(axis=-1), -0.5 * np.log(factor).sum(axis=-1)


def test_log_z_and_its_error_are_those_of_a_gaussian():
    scales, rng = np.tile([1.0, 0.3, 0.1, 0.03], 8), np.random.default_rng(1)
    weight = np.concatenate([[0.0], np.geomspace(0.05, 500.0, 14)])
    mean, at = gaussian(weight, scales)[0], np.array([0.1, 1.0, 10.0, 100.0, 500.0])
    shifts = []
    for _ in range(100):
        noisy = bj.couplings.Normaliser(
            weight, mean * (1 + 0.01 * rng.standard_normal(15)), mean * 0.01
        )
        error = noisy.log_z(at) - gaussian(at, scales)[1]
        shifts.append(error / noisy.standard_error(at))
    # 100 replicates: sd of a mean 0.1, of an sd 0.07; the series leaves out less than its error.
    assert np.abs(np.mean(shifts, axis=0)).max() < 0.5
    np.testing.assert_allclose(np.std(shifts, axis=0), 1.0, atol=0.3)


def test_the_slope_of_log_z_is_the_mean_potential(table):
    weight, step = table.weight[2:-1], 1e-4
    slope = (table.log_z(weight * (1 + step)) - table.log_z(weight * (1 - step))) / (
        2 * step * weight
    )
    # Chi-squared of the fit with fewer degrees of freedom than weights.
    assert np.sum(((slope + table.mean[2:-1]) / table.error[2:-1]) ** 2) < 30.0


def densities_given_fields(points, normaliser, z):
    """Return the log-density of the model at white coordinates z of the weight, fields known.

    Fields observed without noise are the data that say most of the weight.
    """
    unknown = problem(weight=UNKNOWN, normaliser=normaliser)
    functions = ModelFunctions(unknown.without_data())
    flat = np.zeros(functions.size)
    densities = np.zeros((len(points), z.size))
    for row, point in enumerate(points):
        flat[functions.slices["a_white"]], flat[functions.slices["b_white"]] = np.split(point, 2)
        for column, value in enumerate(z):
            flat[functions.slices["cross_gradient_a_b_weight_white"]] = value
            densities[row, column] = functions.density(flat)[0]
    return densities


def ranks_of(truth, z, densities):
    """Return the posterior probability that the weight lies below its truth."""
    fine = np.linspace(z[0], z[-1], 2001)
    smooth = CubicSpline(z, densities, axis=1)(fine)
    share = np.exp(smooth - smooth.max(axis=1, keepdims=True)).cumsum(axis=1)
    return [np.interp(t, fine, row / row[-1]) for t, row in zip(truth, share, strict=True)]


@pytest.mark.slow  # half a minute: the coupled prior is sampled at fifty weights
def test_ranks_of_an_unknown_weight_are_uniform_and_without_normaliser_they_are_not(table):
    rng = np.random.default_rng(7)
    truth = np.sort(rng.standard_normal(50))  # white coordinate of the weight
    weights = 8.0 * np.exp(truth)
    points = [points[0, -1] for points in _Sweep(problem(), None, 11).points_at(weights, 1)]
    z = np.linspace(-4.5, 4.5, 37)
    densities = densities_given_fields(points, table, z)
    right = ranks_of(truth, z, densities)
    naive = ranks_of(truth, z, densities + table.log_z(8.0 * np.exp(z)))
    assert kstest(right, "uniform").pvalue > 0.01
    assert kstest(naive, "uniform").pvalue < 1e-6


def test_calibration_finds_the_weight_of_a_similarity():
    found = bj.calibrate_coupling(problem(), similarity=0.7, draws=300, random_seed=1)
    assert (found["similarity"].values[1:-1] < 0.75).any()
    weight = float(found["calibrated"])
    drawn = next(iter(_Sweep(problem(), None, 2).at([weight], 1000)))
    # Errors of 600 and 2,000 draws.
    assert drawn.similarity.mean() == pytest.approx(0.7, abs=0.02)
    assert float(found["size"][-1]) < 0.8  # fields are flattened, not only aligned


WRONG = {
    "a bare prior": (lambda t: problem(weight=UNKNOWN), "needs the normaliser"),
    "other priors": (
        lambda t: problem(weight=UNKNOWN, normaliser=t, length_scale=3.0), "other settings",
    ),
    "another form": (
        lambda t: problem(weight=UNKNOWN, normaliser=t, form="central"), "other settings",
    ),
    "a prior beyond the table": (
        lambda t: problem(weight=bj.Prior(pm.LogNormal, mu=4.0, sigma=1.0), normaliser=t),
        "tabulate it further",
    ),
    "no such coupling": (
        lambda t: bj.tabulate_normaliser(problem(), "other", up_to=1.0), "name one of",
    ),
    "a similarity of one": (
        lambda t: bj.calibrate_coupling(problem(), similarity=1.0), "between 0 and 1",
    ),
    "an unknown length scale": (
        lambda t: problem(length_scale=bj.Prior(pm.LogNormal, mu=0.0, sigma=0.5)),
        "unknown length_scale of 'a' needs the normaliser",
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_bad_input_is_told(wrong, table):
    make, message = WRONG[wrong]
    with pytest.raises(ValueError, match=message):
        make(table)


def test_sd_may_be_unknown_and_does_not_change_the_normaliser(table):
    """The coupling is dimensionless: with the current sd, Z does not depend on it."""
    sd = bj.Prior(pm.LogNormal, mu=0.0, sigma=0.5)
    functions = ModelFunctions(problem(weight=3.0, sd=(sd, 0.5)).without_data())
    point = np.random.default_rng(2).standard_normal(functions.size)
    of_coupling = functions.compile([functions.build.log_priors["cross_gradient_a_b"]])
    moved = point.copy()
    moved[functions.slices["a_sd_white"]] += 1.0
    assert of_coupling(point)[0] == pytest.approx(of_coupling(moved)[0], rel=1e-12)
