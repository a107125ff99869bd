"""An unknown length scale under a potential: log Z over it, against determinants and by ranks."""

import pickle

import arviz as az
import numpy as np
import pymc as pm
import pytest
import xarray as xr
from scipy.interpolate import CubicSpline
from scipy.special import logsumexp
from scipy.stats import kstest, norm

import bayesjoint as bj
from bayesjoint._compiled.density import CompiledDensity
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._sampler.run import prior_points
from bayesjoint.couplings import Normaliser
from bayesjoint.couplings._group import digest
from bayesjoint.studies.coupling_weight import Sweep
from tests.chance import largest_t, uniform

GRID = bj.Grid(depth=np.arange(4.0), x=np.arange(5.0))
IMAGE = np.add.outer(np.arange(4.0), 0.5 * np.arange(5.0) ** 1.5)
LOW, HIGH, LARGEST, WEIGHT = 1.0, 5.0, 100.0, 20.0
UNIFORM = bj.Prior(pm.Uniform, lower=LOW, upper=HIGH)
NAME = "cross_gradient_a_guide"


def guided(length_scale=2.0, weight=WEIGHT, sd=2.0, mean=0.0, modalities=(), **settings):
    """A field along a known image: the potential is quadratic."""
    field = bj.GaussianField("a", GRID, sd=sd, length_scale=length_scale, mean=mean)
    coupling = bj.CrossGradient("a", guide=IMAGE, weight=weight, **settings)
    return bj.JointProblem(latents=[field], modalities=list(modalities), couplings=[coupling])


def exact(weight, length_scale):
    """Return mean potential and log Z of ``w |A z|^2 / 2``: half a trace, half a determinant."""
    functions = ModelFunctions(guided(float(length_scale), weight=1.0))
    squares = np.linalg.svd(functions.jacobian(functions.initial), compute_uv=False) ** 2
    factor = 1.0 + np.multiply.outer(weight, squares)
    return 0.5 * (squares / factor).sum(axis=-1), -0.5 * np.log(factor).sum(axis=-1)


def nodes(low, high, count):
    share = (1.0 - np.cos(np.pi * np.arange(count) / (count - 1))) / 2
    return low + (high - low) * share


@pytest.fixture(scope="module")
def places():
    """Weight, length scale and exact mean potential where a table has its places."""
    rows = []
    for length in np.exp(nodes(np.log(LOW), np.log(HIGH), 7)):
        unit = 1.0 / exact(0.0, length)[0]
        weight = unit * np.expm1(nodes(0.0, np.log1p(LARGEST / unit), 9))
        rows += zip(weight, np.full(9, length), exact(weight, length)[0], strict=True)
    return np.transpose(rows)


def table_of(places, error=0.01, noise=0.0, made_for=""):
    weight, length, mean = places
    shifted = mean * (1.0 + error * noise)
    return Normaliser(weight, shifted, mean * error, made_for, length_scale={"a": length})


@pytest.fixture(scope="module")
def table(places):
    plain = guided()
    made_for = digest(plain.couplings[0], plain.latent, plain.couplings, ["a"])
    return table_of(places, made_for=made_for)


OFF = np.meshgrid([1.0, 10.0, 100.0], [1.0, 1.15, 1.7, 2.6, 4.2, 5.0])


@pytest.mark.slow
def test_log_z_and_its_error_are_those_of_a_determinant(places):
    rng = np.random.default_rng(1)
    truth = np.array([exact(w, n)[1] for w, n in zip(*map(np.ravel, OFF), strict=True)])
    shifts = []
    for _ in range(100):
        noisy = table_of(places, noise=rng.standard_normal(places.shape[1]))
        at = OFF[0].ravel(), {"a": OFF[1].ravel()}
        shifts.append((noisy.log_z(*at) - truth) / noisy.standard_error(*at))
    # 100 replicates: sd of a mean 0.1, of an sd 0.07; the series leaves out less than its error.
    assert np.abs(np.mean(shifts, axis=0)).max() < 0.5
    np.testing.assert_allclose(np.std(shifts, axis=0), 1.0, atol=0.3)


def test_a_table_may_be_over_two_length_scales():
    """Potential ``w sum k z^2 / 2`` over standard normal z, k falling with both."""

    def gaussian(weight, first, second):
        squares = np.array([1.0, 0.5, 0.1, 0.02]) / (first**2 * (1.0 + second**2))
        return 0.5 * np.sum(squares / (1 + weight * squares)), -0.5 * np.log1p(
            weight * squares
        ).sum()

    rows = []
    for first in np.exp(nodes(0.0, np.log(4.0), 6)):
        for second in np.exp(nodes(np.log(0.5), np.log(2.0), 6)):
            unit = 1.0 / gaussian(0.0, first, second)[0]
            for weight in unit * np.expm1(nodes(0.0, np.log1p(200.0 / unit), 9)):
                rows.append((weight, gaussian(weight, first, second)[0], first, second))
    weight, mean, *lengths = np.transpose(rows)
    rng, shifts = np.random.default_rng(2), []
    at = np.array([3.0, 150.0]), {"a": np.array([1.3, 3.1]), "b": np.array([0.7, 1.6])}
    truth = [gaussian(w, a, b)[1] for w, a, b in zip(at[0], *at[1].values(), strict=True)]
    for _ in range(40):
        noisy = mean * (1.0 + 0.01 * rng.standard_normal(mean.size))
        over = dict(zip("ab", lengths, strict=True))
        table = Normaliser(weight, noisy, 0.01 * mean, length_scale=over)
        shifts.append((table.log_z(*at) - truth) / table.standard_error(*at))
    # 40 replicates: sd of a mean 0.16, of an sd 0.11; the series leaves out less than its error.
    assert np.abs(np.mean(shifts, axis=0)).max() < 1.0
    np.testing.assert_allclose(np.std(shifts, axis=0), 1.0, atol=0.4)


@pytest.fixture(scope="module", params=["known weight", "unknown weight"])
def functions(request, table):
    weight = bj.Prior(pm.LogNormal, mu=2.0, sigma=0.5) if "un" in request.param else WEIGHT
    return ModelFunctions(guided(UNIFORM, weight, normaliser=table).without_data())


@pytest.mark.slow
def test_the_density_has_log_z_with_its_error(functions, table):
    build, where = functions.build, functions.slices[f"{NAME}_normaliser_white"]
    errors = where.stop - where.start
    points = np.tile(np.random.default_rng(4).standard_normal(functions.size), (errors + 1, 1))
    points[:, where] = np.eye(errors + 1, errors, -1)  # no error, then each by itself
    unknown = [build.values[n] for n in ("a_length_scale", f"{NAME}_weight") if n in build.values]
    density, potential, length, *weights = functions.over_draws(
        [build.log_priors[f"{NAME}_normaliser"], build.log_priors[NAME], *unknown]
    )(points)
    constants = -0.5 * errors * np.log(2 * np.pi) - 0.5 * (points[:, where] ** 2).sum(axis=1)
    log_z = constants - density
    at = weights[0][0] if weights else WEIGHT, {"a": length[0]}
    assert log_z[0] == pytest.approx(float(table.log_z(*at)), rel=1e-10)
    whole = norm.logpdf(points[0]).sum() + potential[0] - log_z[0]
    assert functions.density(points[0])[0] == pytest.approx(float(whole), rel=1e-12)
    size = np.linalg.norm(log_z[1:] - log_z[0])
    assert size == pytest.approx(float(table.standard_error(*at)), rel=1e-3)


@pytest.mark.slow
def test_the_gradient_is_that_of_differences(functions):
    point = 0.5 * np.random.default_rng(5).standard_normal(functions.size)
    gradient, step = functions.density(point)[1], 1e-5
    for k, slope in enumerate(gradient):
        moved = np.where(np.arange(point.size) == k, step, 0.0)
        above, below = (functions.density(p)[0] for p in (point + moved, point - moved))
        assert slope == pytest.approx((above - below) / (2 * step), rel=1e-5, abs=1e-6)


@pytest.mark.slow
def test_a_tabulated_normaliser_is_the_determinant():
    table = bj.tabulate_normaliser(
        guided(), length_scale=(LOW, HIGH), weights=6, length_scales=5, draws=1200, random_seed=1
    )
    assert table.largest == WEIGHT
    lengths = np.array([1.0, 1.4, 2.3, 3.6, 5.0])
    for share in (0.1, 1.0):
        truth = [exact(share * WEIGHT, length)[1] for length in lengths]
        shift = table.log_z(share * WEIGHT, {"a": lengths}) - truth
        error = table.standard_error(share * WEIGHT, {"a": lengths})
        assert np.abs(shift / error).max() < 4.0 and error.max() < 0.5  # measured: 0.24


# ---- ranks ----------------------------------------------------------------------------------


UNKNOWNS = {"a_length_scale", f"{NAME}_weight"}


def factors_of(field, lengths):
    return [field.matern_factor(field.sd, n).times(np.eye(GRID.size)) for n in lengths]


def densities_given_fields(problem, truths, lengths, weights=(0.0,)):
    """Return the log-density of fields, which are known, shape (row, weight, length scale).

    Fields observed without noise are the data that say most of a length scale, here that of the
    first; weights are white coordinates.  The priors of both are left out.
    """
    functions = ModelFunctions(problem)
    terms = {k: v for k, v in functions.build.log_priors.items() if k not in UNKNOWNS}
    evaluate = functions.over_draws([sum(terms.values())])
    first, *others = problem.latents
    flat = np.zeros((len(truths), functions.size))
    for other in others:
        (factor,) = factors_of(other, [other.length_scale])
        flat[:, functions.slices[f"{other.name}_white"]] = white_of(truths, other.name, factor)
    densities = np.zeros((len(truths), len(weights), len(lengths)))
    for column, factor in enumerate(factors_of(first, lengths)):
        uniform = (lengths[column] - LOW) / (HIGH - LOW)
        flat[:, functions.slices["a_length_scale_white"]] = norm.ppf(uniform)
        flat[:, functions.slices["a_white"]] = white_of(truths, "a", factor)
        for row, weight in enumerate(weights):
            flat[:, functions.slices.get(f"{NAME}_weight_white", slice(0))] = weight
            densities[:, row, column] = evaluate(flat)[0] - np.linalg.slogdet(factor)[1]
    return densities


def white_of(truths, name, factor):
    return np.linalg.solve(factor, np.transpose([truth[name].ravel() for truth in truths])).T


def ranks_of(truth, lengths, densities):
    """Return the posterior probability that the length scale lies below its truth."""
    fine = np.linspace(lengths[0], lengths[-1], 2001)
    smooth = CubicSpline(lengths, densities, axis=1)(fine)
    share = np.exp(smooth - smooth.max(axis=1, keepdims=True)).cumsum(axis=1)
    return [np.interp(t, fine, row / row[-1]) for t, row in zip(truth, share, strict=True)]


def spread_over_the_prior(count, seed):
    """Return length scales, one in each part of their prior: a fair sample of it."""
    rng = np.random.default_rng(seed)
    return LOW + (HIGH - LOW) * (np.arange(count) + rng.random(count)) / count


LENGTHS = np.geomspace(LOW * 1.0001, HIGH * 0.9999, 33)


def gaussian_truths(weights, lengths, seed):
    """Return fields of the coupled prior along the known image, which is Gaussian."""
    known, rng = ModelFunctions(guided(2.0, weight=1.0)), np.random.default_rng(seed)
    (field,) = known.problem.latents
    (factor,) = factors_of(field, [2.0])
    slopes, truths = known.jacobian(known.initial) @ np.linalg.inv(factor), []
    for weight, factor in zip(weights, factors_of(field, lengths), strict=True):
        precision = np.eye(GRID.size) + weight * factor.T @ slopes.T @ slopes @ factor
        white = np.linalg.solve(np.linalg.cholesky(precision).T, rng.standard_normal(GRID.size))
        truths.append({"a": factor @ white})
    return truths


def test_ranks_are_uniform_where_the_coupled_prior_is_gaussian(table):
    truth = spread_over_the_prior(200, 7)
    truths = gaussian_truths(np.full(200, WEIGHT), truth, 8)
    problem = guided(UNIFORM, normaliser=table)
    densities = densities_given_fields(problem, truths, LENGTHS)[:, 0]
    naive = densities + table.log_z(WEIGHT, {"a": LENGTHS})
    assert uniform(ranks_of(truth, LENGTHS, densities))
    assert kstest(ranks_of(truth, LENGTHS, naive), "uniform").pvalue < 1e-6


@pytest.mark.slow
def test_ranks_are_uniform_where_weight_and_length_scale_are_unknown(table):
    rng, count = np.random.default_rng(9), 200
    length = spread_over_the_prior(count, 3)
    white = norm.ppf((rng.permutation(count) + rng.random(count)) / count)
    truths = gaussian_truths(np.exp(2.0 + 0.5 * white), length, 10)
    weight = bj.Prior(pm.LogNormal, mu=2.0, sigma=0.5)
    problem, z = guided(UNIFORM, weight, normaliser=table), np.linspace(-4.0, 4.0, 17)
    joint = densities_given_fields(problem, truths, LENGTHS, z)
    joint += norm.logpdf(z)[:, None]
    of_weight = logsumexp(joint + np.log(np.gradient(LENGTHS)), axis=2)
    right = [ranks_of(length, LENGTHS, logsumexp(joint, axis=1)), ranks_of(white, z, of_weight)]
    assert uniform(*right)


def averaged(table):
    """The guided problem with one weak datum."""
    datum = xr.DataArray([0.0], dims="datum_")
    forward = bj.linear_map(np.full((1, GRID.size), 1 / GRID.size), "a")
    modality = bj.Modality("average", datum, forward, bj.GaussianNoise(sd=1.0))
    return guided(UNIFORM, modalities=[modality], normaliser=table)


@pytest.mark.slow
def test_draws_of_the_joint_prior_have_the_stated_length_scale(table):
    functions = ModelFunctions(guided(UNIFORM, normaliser=table))
    density, rng = CompiledDensity(functions), np.random.default_rng(6)
    white = prior_points(functions, density, rng, 20_000)[  # effective: 140 to 800, four seeds
        ..., functions.slices["a_length_scale_white"]
    ]
    drawn = LOW + (HIGH - LOW) * norm.cdf(white[..., 0])
    error = drawn.std() / np.sqrt(float(az.ess(drawn)))
    stated = (LOW + HIGH) / 2
    assert abs(drawn.mean() - stated) < 4.0 * error
    # Without log Z, long scales have nearly all of the prior.
    even = np.linspace(LOW, HIGH, 200)
    naive = np.average(even, weights=np.exp(table.log_z(WEIGHT, {"a": even})))
    assert naive - stated > 5.0 * error


@pytest.mark.slow
def test_a_run_stores_what_belongs_to_an_unknown_length_scale(table):
    problem = averaged(table)
    tree = bj.sample(pickle.loads(pickle.dumps(problem)), draws=200, random_seed=1)
    # Evenly spread over its prior: twenty values, each somewhere in its own part.
    error = (HIGH - LOW) / 20 / np.sqrt(12 * 20)
    assert abs(float(tree["prior"]["a_length_scale"].mean()) - (LOW + HIGH) / 2) < 4.0 * error
    assert f"{NAME}_normaliser" in tree["log_prior"]
    assert "a_length_scale" in bj.identifiability(tree)["parameter"]


def coupled(length_scale=2.0, weight=WEIGHT, **settings):
    fields = [
        bj.GaussianField(name, GRID, sd=sd, length_scale=scale)
        for name, sd, scale in (("a", 2.0, length_scale), ("b", 0.5, 2.0))
    ]
    coupling = bj.CrossGradient("a", "b", weight=weight, **settings)
    return bj.JointProblem(latents=fields, modalities=[], couplings=[coupling])


@pytest.mark.slow  # twenty seconds: forty chains of the coupled prior
def test_simulated_truths_have_the_stated_length_scale_and_fields_that_go_with_it(table):
    known = ModelFunctions(guided(4.0, weight=1.0))
    (field,) = known.problem.latents
    to_white = np.linalg.inv(factors_of(field, [4.0])[0])
    slopes = known.jacobian(known.initial) @ to_white
    problem = averaged(table)
    drawn = [bj.simulate(problem, random_seed=seed) for seed in range(20)]
    # Drawn by itself from its prior: the errors of 20 draws.
    lengths = [float(truth["a_length_scale"]) for truth in drawn]
    assert uniform((np.array(lengths) - LOW) / (HIGH - LOW))
    given = [
        bj.simulate(problem, truth={"a_length_scale": 4.0}, random_seed=seed) for seed in range(20)
    ]
    assert all(float(truth["a_length_scale"]) == pytest.approx(4.0) for truth in given)
    costs = [0.5 * np.sum((slopes @ truth["a"].values.ravel()) ** 2) for truth in given]
    error = np.std(costs, ddof=1) / np.sqrt(20)
    assert abs(np.mean(costs) - exact(WEIGHT, 4.0)[0]) < largest_t(20) * error


@pytest.mark.slow  # a minute and a half: the coupled prior is sampled at 120 places
def test_ranks_of_an_unknown_length_scale_are_uniform_and_without_normaliser_they_are_not():
    table = bj.tabulate_normaliser(
        coupled(), length_scale={"a": (LOW, HIGH)}, weights=9, draws=1000, random_seed=3
    )
    truth, truths = spread_over_the_prior(50, 7), []
    sweep = Sweep(coupled(), None, 11, ["a"])
    values = sweep.functions.over_draws([sweep.functions.build.values[n] for n in "ab"])
    for length in truth:
        sweep.hold({"a": length})
        (points,) = sweep.points_at([WEIGHT], 1)
        truths.append(dict(zip("ab", (field[0] for field in values(points[0])), strict=True)))
    problem = coupled(UNIFORM, normaliser=table)
    densities = densities_given_fields(problem, truths, LENGTHS)[:, 0]
    naive = densities + table.log_z(WEIGHT, {"a": LENGTHS})
    assert uniform(ranks_of(truth, LENGTHS, densities))
    assert kstest(ranks_of(truth, LENGTHS, naive), "uniform").pvalue < 1e-6


@pytest.mark.slow  # two minutes: tables of 40 and 200 places
def test_a_table_over_both_length_scales_holds_that_over_one():
    one = bj.tabulate_normaliser(
        coupled(), length_scale={"a": (LOW, 3.0)}, weights=7, length_scales=5, draws=500,
        random_seed=4,
    )  # fmt: skip
    both = bj.tabulate_normaliser(
        coupled(), length_scale=(LOW, 3.0), weights=7, length_scales=5, draws=500, random_seed=5
    )
    lengths = np.array([1.0, 1.5, 2.2, 3.0])
    at, second = (WEIGHT, {"a": lengths}), {"a": lengths, "b": np.full(4, 2.0)}
    error = np.hypot(one.standard_error(*at), both.standard_error(WEIGHT, second))
    assert np.abs((one.log_z(*at) - both.log_z(WEIGHT, second)) / error).max() < 4.0
    # The coupling treats both fields alike.
    swapped = (
        {"a": np.array([1.2]), "b": np.array([2.7])},
        {"a": np.array([2.7]), "b": np.array([1.2])},
    )
    values, errors = (
        [np.squeeze(f(WEIGHT, place)) for place in swapped]
        for f in (both.log_z, both.standard_error)
    )
    assert abs(values[0] - values[1]) < 4.0 * np.hypot(*errors)


# ---- what is refused ------------------------------------------------------------------------

UNKNOWN = bj.Prior(pm.LogNormal, mu=0.0, sigma=0.5)
SLOPED = np.broadcast_to(np.arange(5.0), GRID.shape)
SCALED = {"normalisation": "range", "scales": {"a": 4.0, "guide": 3.0}}


def refused(table, **changes):
    """Make the guided problem with an unknown length scale and other settings."""
    return guided(**{"length_scale": UNIFORM, "normaliser": table, **changes})


def with_others(couplings, **lengths):
    fields = [
        bj.GaussianField(name, GRID, sd=1.0, length_scale=lengths.get(name, 2.0)) for name in "abc"
    ]
    return bj.JointProblem(latents=fields, modalities=[], couplings=couplings)


def along(name, **settings):
    return bj.CrossGradient(name, guide=IMAGE, weight=WEIGHT, **settings)


def relation(**settings):
    return bj.PropertyRelation("b", given="a", function=lambda a: a**2, **settings)


PAIR = bj.CrossGradient("a", "b", weight=1.0)
EDGES = bj.JointTotalVariation("a", "b", "c", weight=1.0, epsilon=1.0)
WRONG = {
    "a bare prior": (lambda t: refused(None), "tabulate_normaliser\\(problem, 'cross_gradient_a_g"),
    "a table over weights": (
        lambda t: refused(Normaliser(np.arange(5.0), np.ones(5), np.ones(5))),
        "unknown length_scale of 'a' needs the normaliser",
    ),
    "a prior without end": (lambda t: refused(t, length_scale=UNKNOWN), "a prior that ends there"),
    "a prior beyond": (
        lambda t: refused(t, length_scale=bj.Prior(pm.Uniform, lower=1.0, upper=6.0)),
        "from 1 to 6, the normaliser from 1 to 5",
    ),
    "a number beyond": (
        lambda t: refused(t, length_scale=6.0, weight=UNKNOWN), "from 6 to 6, the normaliser from",
    ),
    "a length scale along each dimension": (
        lambda t: refused(t, length_scale={"depth": 2.0, "x": 3.0}, weight=UNKNOWN),
        "over one length scale of 'a', which has another along",
    ),
    "a weight beyond": (lambda t: refused(t, weight=2 * LARGEST), "one weight of all cells, up to"),
    "weights of cells": (lambda t: refused(t, weight=SLOPED), "one weight of all cells, up to"),
    "another image": (lambda t: refused(t, mask=GRID.volumes > 0), "made for other settings"),
    "another mean": (lambda t: refused(t, mean=SLOPED), "made for other settings"),
    "an sd that counts": (lambda t: refused(t, **SCALED), "made for other settings"),
    "an sd under a mean that varies": (
        lambda t: guided(sd=UNKNOWN, mean=SLOPED), "an unknown sd of 'a' needs the normaliser",
    ),
    "a floor that moves": (
        lambda t: refused(t, normalisation="gradient"), "'a', which moves the floor, needs the",
    ),
    "another field": (
        lambda t: with_others([along("b", normaliser=t)], b=UNIFORM), "unknown length_scale of 'b'",
    ),
    "no such field": (
        lambda t: bj.JointProblem(
            latents=[bj.GaussianField("b", GRID, sd=1.0, length_scale=2.0)], modalities=[],
            couplings=[along("b", normaliser=t)],
        ),
        "over the length scale of 'a', which is no latent",
    ),
    "two potentials": (
        lambda t: with_others([along("a", normaliser=t), PAIR], a=UNIFORM),
        "log Z of both together is not tabulated",
    ),
    "what follows from an unknown length scale": (
        lambda t: with_others([along("b"), relation()], a=UNIFORM),
        "a_length_scale of relation_b is unknown",
    ),
    "what follows from an unknown sd": (
        lambda t: bj.JointProblem(
            latents=[
                bj.GaussianField("a", GRID, sd=UNKNOWN, length_scale=2.0),
                bj.GaussianField("b", GRID, sd=1.0, length_scale=2.0),
            ],
            modalities=[], couplings=[along("b"), relation()],
        ),
        "a_sd of relation_b is unknown",
    ),
    "nothing to tabulate over": (
        lambda t: bj.tabulate_normaliser(guided()), "log Z of known ones is a constant",
    ),
    "three length scales": (
        lambda t: bj.tabulate_normaliser(with_others([EDGES]), length_scale=(1.0, 2.0)),
        "would have too many places; name at most 2",
    ),
    "a table of two potentials": (
        lambda t: bj.tabulate_normaliser(
            with_others([along("a"), PAIR]), "cross_gradient_a_b", length_scale={"a": (1.0, 2.0)}
        ),
        "its fields meet those of cross_gradient_a_guide",
    ),
    "a field that is not coupled": (
        lambda t: bj.tabulate_normaliser(with_others([PAIR]), length_scale={"c": (1.0, 2.0)}),
        "'c' has none",
    ),
    "a range that is none": (
        lambda t: bj.tabulate_normaliser(guided(), length_scale=(2.0, 1.0)), "two positive numbers",
    ),
    "too few places": (
        lambda t: bj.tabulate_normaliser(guided(), length_scale=(1.0, 2.0), length_scales=3),
        "a table needs 4 weights and length scales or more, 12 and 3 given",
    ),
    "too few length scales": (
        lambda t: Normaliser(
            np.tile(np.arange(4.0), 3), np.ones(12), np.ones(12),
            length_scale={"a": np.repeat([1.0, 2.0, 3.0], 4)},
        ),
        "four positive length scales of 'a'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_what_has_no_normaliser_is_told(wrong, table):
    make, message = WRONG[wrong]
    with pytest.raises(ValueError, match=message):
        make(table)


def test_what_does_not_change_log_z_may_be_unknown(table):
    latents = refused(table, sd=UNKNOWN, mean=bj.Prior(pm.Normal, mu=0.0, sigma=1.0)).latents
    assert latents[0].sd is UNKNOWN
    held = refused(table).hold({"a_length_scale": 3.0})
    assert ModelFunctions(held).names == ["a_white"]


def test_the_table_goes_with_its_field_under_another_name(table):
    coupling = refused(table).couplings[0].renamed({"a": "density"})
    assert coupling.normaliser.log_z(2.0, {"density": 3.0}) == table.log_z(2.0, {"a": 3.0})


def test_edges_take_a_normaliser_by_replace(table):
    edges = EDGES.replace(normaliser=table, weight=UNKNOWN)
    assert edges.normaliser is table and edges.latents == ("a", "b", "c")
