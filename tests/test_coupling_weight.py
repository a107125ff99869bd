"""The weight of a coupling: calibrated, or unknown with the normaliser of the coupled prior."""

import numpy as np
import pymc as pm
import pytest
import xarray as xr
from scipy.interpolate import CubicSpline
from scipy.stats import chi2, kstest, norm

import bayesjoint as bj
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint.couplings._group import digest
from bayesjoint.studies._shared_structure import SharedStructure
from bayesjoint.studies.coupling_weight import Sweep, mean_and_error
from tests.chance import CHANCE, largest_z, uniform

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


@pytest.mark.slow
def test_the_slope_of_log_z_is_the_mean_potential(table):
    weight, step = table.weight[2:-1], 1e-4
    slope = (table.log_z(weight * (1 + step)) - table.log_z(weight * (1 - step))) / (
        2 * step * weight
    )
    # A fit moves towards the means: at most chi-squared with as many degrees of freedom.
    score = np.sum(((slope + table.mean[2:-1]) / table.error[2:-1]) ** 2)
    assert score < chi2.isf(CHANCE, weight.size)


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
    # White coordinates of the weight, one in each fiftieth of its prior: fifty drawn at random may
    # be no fair sample of it themselves (of seed 7, p = 0.015), and so would be their ranks.
    truth = norm.ppf((np.arange(50) + np.random.default_rng(7).random(50)) / 50)
    weights = 8.0 * np.exp(truth)
    points = [points[0, -1] for points in Sweep(problem(), None, 11).points_at(weights, 1)]
    z = np.linspace(-4.5, 4.5, 37)
    densities = densities_given_fields(points, table, z)
    right = ranks_of(truth, z, densities)
    naive = ranks_of(truth, z, densities + table.log_z(8.0 * np.exp(z)))
    assert uniform(right)
    assert kstest(naive, "uniform").pvalue < 1e-6


@pytest.mark.slow
def test_calibration_finds_the_weight_of_a_similarity():
    """In the errors of draws there, and of the ones it was read from (seeds 1 and 2)."""
    found = bj.calibrate_coupling(problem(), similarity=0.7, draws=300, random_seed=1)
    assert (found["similarity"].values[1:-1] < 0.75).any()
    weight = float(found["calibrated"])
    drawn = next(iter(Sweep(problem(), None, 2).at([weight], 1000)))
    mean, error = mean_and_error(drawn.similarity)
    # Between two rows of the table: no worse than the worse one.  Both together some 0.008.
    after = int(np.searchsorted(found["weight"], weight))
    error = np.hypot(error, found["similarity_error"].values[after - 1 : after + 1].max())
    assert mean == pytest.approx(0.7, abs=largest_z() * error)
    assert float(found["size"][-1]) < 0.8  # fields are flattened, not only aligned


def guided(guide, grid=GRID, weight=1.0, **settings):
    field = bj.GaussianField("a", grid, sd=1.0, length_scale=2.0)
    coupling = bj.CrossGradient("a", guide=guide, weight=weight, **settings)
    return bj.JointProblem(latents=[field], modalities=[], couplings=[coupling])


IMAGE = np.random.default_rng(5).normal(size=GRID.shape)
MASK = np.indices(GRID.shape)[1] < 3


def test_the_guide_is_measured_as_the_coupling_takes_it():
    """With named dims in another order, and NaN where the mask leaves cells out."""
    draws = np.random.default_rng(7).normal(size=(20, *GRID.shape))
    turned = xr.DataArray(np.where(MASK, IMAGE, np.nan), dims=GRID.dims).T
    plain, labelled = (
        SharedStructure(guided(g, mask=MASK).couplings[0], GRID).measure([draws])
        for g in (IMAGE, turned)
    )
    for a, b in zip(plain, labelled, strict=True):
        np.testing.assert_array_equal(a, b)


def test_similarity_is_measured_where_the_coupling_counts_cells():
    draws = np.random.default_rng(6).normal(size=(20, *GRID.shape))
    box = bj.Grid(depth=GRID.centres["depth"], x=GRID.centres["x"][:3])
    coupling, inner = (
        guided(i, grid, **s).couplings[0]
        for i, grid, s in ((IMAGE, GRID, {"mask": MASK}), (IMAGE[:, :3], box, {}))
    )
    within = SharedStructure(coupling, GRID).measure([draws])
    of_box = SharedStructure(inner, box).measure([draws[..., :3]])
    for a, b in zip(within, of_box, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    kept = np.where(GRID.centres["x"] == 4.0, 0.0, 7.0) * np.ones(GRID.shape)
    weighted = SharedStructure(guided(IMAGE, weight=kept).couplings[0], GRID).measure([draws])
    even = SharedStructure(guided(IMAGE).couplings[0], GRID).measure([draws])
    assert np.abs(weighted[0] - even[0]).max() > 0.01
    moved = draws.copy()
    moved[..., 4] = moved[..., 3]  # no other cell looks back to the last one
    assert np.all(SharedStructure(coupling, GRID).measure([moved])[0] == within[0])


@pytest.mark.slow
def test_a_map_of_weights_is_calibrated_by_a_factor():
    turned = xr.DataArray(np.where(MASK, IMAGE, np.nan), dims=GRID.dims).T
    given = xr.DataArray(1.0 + np.indices(GRID.shape)[0], dims=GRID.dims)
    coupled = guided(turned, weight=given.T, mask=MASK)
    found = bj.calibrate_coupling(coupled, similarity=0.7, draws=100, random_seed=1)
    assert found.attrs["weight_is"] == "factor of the map of weights"
    xr.testing.assert_allclose(
        found["calibrated_map"].drop_vars(GRID.dims), found["calibrated"] * given
    )
    with_map = coupled.couplings[0].replace(weight=found["calibrated_map"])
    _, drawn = Sweep(coupled.replace(couplings=[with_map]), None, 2).at([0.0, 1.0], 500)
    # Errors of 200 and 1,000 draws.
    assert drawn.similarity.mean() == pytest.approx(0.7, abs=0.04)


def test_a_table_knows_a_guide_whatever_the_order_of_its_dims():
    square = xr.DataArray(IMAGE[:, :4], dims=GRID.dims)
    image, turned, another = (
        digest(bj.CrossGradient("a", guide=guide, weight=1.0), problem().latent, [])
        for guide in (square, square.T, square.rename(depth="x", x="depth"))
    )
    assert image == turned != another


@pytest.mark.slow
def test_draws_that_are_flat_everywhere_are_told():
    """In a corner of three cells every hundredth draw of the prior is flat."""
    corner = np.zeros(GRID.shape, dtype=bool)
    corner[0, :2] = corner[1, 0] = True
    with pytest.raises(ValueError, match=r"draws of the coupled prior are flat in every cell that"):
        bj.calibrate_coupling(guided(IMAGE, mask=corner), similarity=0.95, random_seed=1)


ONE_FIELD = bj.JointProblem(
    latents=[bj.GaussianField("a", GRID, sd=1.0, length_scale=2.0)],
    modalities=[],
    couplings=[bj.JointTotalVariation("a", weight=1.0, epsilon=1.0)],
)
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
    "a weight of zero": (
        lambda t: bj.calibrate_coupling(problem(weight=0.0), similarity=0.7), "its weight is zero",
    ),
    "a map for a table": (
        lambda t: bj.tabulate_normaliser(problem(weight=np.ones(GRID.shape)), up_to=1.0),
        "give a number as weight",
    ),
    "one field": (lambda t: bj.calibrate_coupling(ONE_FIELD, similarity=0.7), "needs two fields"),
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
