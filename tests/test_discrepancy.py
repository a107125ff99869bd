"""Discrepancies: every form is the multivariate normal it stands for.

The reference is always the dense covariance of all data, written out below; the marginal form is
compared through its log-density, the latent form through ``B diag(scale)^2 B^T``.
"""

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from scipy import sparse, stats
from scipy.linalg import block_diag
from scipy.spatial.distance import cdist

import bayesjoint as bj
from bayesjoint._compiled.densities import log_likelihood_at
from bayesjoint._compiled.draws import DrawEvaluator
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._compiled.latent_space import LatentSpace
from bayesjoint._graph.compile import INTERPRETED
from bayesjoint._kernels.matern import matern_correlation
from bayesjoint.problem import build
from tests.helpers import (
    STANDARD,
    correlation_of,
    data,
    evaluator,
    gradient_and_differences,
    jacobian_of,
    log_likelihood,
)

RNG = np.random.default_rng(5)
SIZES = {"a": 4, "b": 6, "c": 4}
SDS = {"a": 0.2, "b": 0.3, "c": 0.5}
DESIGNS = {name: RNG.normal(size=(size, 2)) for name, size in SIZES.items()}
VALUES = {name: RNG.normal(size=size) for name, size in SIZES.items()}
WHITE = np.array([0.4, -0.9])
TIMES = {"a": [0.0, 1.0, 2.5, 4.0], "b": [0.5, 1.0, 2.0, 3.0, 5.0, 8.0], "c": [1.0, 2.0, 3.0, 4.0]}
PLACES = {name: RNG.uniform(0, 5, size=(size, 2)) for name, size in SIZES.items()}
CORRELATION = np.array([[1.0, 0.6, -0.2], [0.6, 1.0, 0.3], [-0.2, 0.3, 1.0]])


def logarithmic(median):
    return bj.Prior(pm.LogNormal, mu=np.log(median), sigma=0.5)


def modality(name, noise=None, forward=None, **settings):
    dim = f"i_{name}"
    coords = {
        "time": (dim, TIMES[name]),
        "easting": (dim, PLACES[name][:, 0]),
        "northing": (dim, PLACES[name][:, 1]),
    }
    forward = forward or bj.linear_map(DESIGNS[name], "m")
    noise = noise or bj.GaussianNoise(sd=SDS[name])
    return bj.Modality(name, data(VALUES[name], dim, coords), forward, noise, **settings)


def problem_of(discrepancy, names="ac", noise=None):
    latent = bj.Parameter("m", STANDARD, coords={"part": [0, 1]})
    modalities = [modality(name, (noise or {}).get(name)) for name in names]
    return bj.JointProblem(latents=[latent], modalities=modalities, discrepancy=discrepancy)


def noise_covariance(names):
    return np.diag(np.concatenate([np.full(SIZES[n], SDS[n] ** 2) for n in names]))


def residuals(names):
    return np.concatenate([VALUES[n] - DESIGNS[n] @ WHITE for n in names])


def kernel(points, length, smoothness=1.5):
    return matern_correlation(cdist(points, points) / length, smoothness)


def periodic(points, period, length):
    return np.exp(-2 * np.sin(np.pi * cdist(points, points) / period) ** 2 / length**2)


def drift(points, origin, length):
    return np.outer(points - origin, points - origin) / length**2


def points_of(names, on):
    if on == "time":
        return np.concatenate([TIMES[n] for n in names])[:, None]
    return np.concatenate([PLACES[n] for n in names])


def scaled(names, sd, correlation):
    """Return the covariance between modalities, spread over their data."""
    mixing = np.outer([sd[n] for n in names], [sd[n] for n in names]) * correlation
    of_datum = np.repeat(np.arange(len(names)), [SIZES[n] for n in names])
    return mixing[np.ix_(of_datum, of_datum)]


def paired(names, sd, correlation):
    mixing = np.outer([sd[n] for n in names], [sd[n] for n in names]) * correlation
    return np.kron(mixing, np.eye(SIZES[names[0]]))


PAIR = {"a": 0.7, "c": 0.4}
MIXED = {"a": 0.7, "b": 0.4}
THREE = {"a": 0.7, "b": 0.4, "c": 0.9}


def common(rho, count=2):
    return rho + (1 - rho) * np.eye(count)


LOADINGS = np.repeat([1.0, -0.5], [4, 6])
# name: (modalities, settings, dense covariance of the discrepancy, white unknowns)
CASES = {
    "paired by index, independent": ("ac", {"sd": PAIR}, paired("ac", PAIR, np.eye(2)), {}),
    "paired by index": (
        "ac",
        {"sd": PAIR, "correlation": 0.8},
        paired("ac", PAIR, common(0.8)),
        {},
    ),
    "paired by index, opposed": (
        "ac",
        {"sd": PAIR, "correlation": -0.9},
        paired("ac", PAIR, common(-0.9)),
        {},
    ),
    "paired by index, one error": (
        "ac",
        {"sd": PAIR, "correlation": 1.0},
        paired("ac", PAIR, common(1.0)),
        {},
    ),
    "in time, one error, opposed": (
        "ab",
        {"sd": MIXED, "correlation": -1.0, "on": "time", "length_scale": 2.0},
        scaled("ab", MIXED, common(-1.0)) * kernel(points_of("ab", "time"), 2.0),
        {},
    ),
    "of one modality of two": ("ac", {"sd": {"c": 0.4}}, np.diag([0.0] * 4 + [0.16] * 4), {}),
    "in the order of sd": (
        "ac",
        {"sd": {"c": 0.4, "a": 0.7}, "correlation": 0.8},
        paired("ac", PAIR, common(0.8)),
        {},
    ),
    "paired with loadings": (
        "ac",
        {"sd": 0.7, "loadings": {"a": 1.0, "c": -2.0}},
        np.kron(0.49 * np.array([[1.0, -2.0], [-2.0, 4.0]]), np.eye(4)),
        {},
    ),
    "in time, unequal numbers": (
        "ab",
        {"sd": MIXED, "correlation": 0.5, "on": "time", "length_scale": 2.0},
        scaled("ab", MIXED, common(0.5)) * kernel(points_of("ab", "time"), 2.0),
        {},
    ),
    "in time, rough": (
        "ab",
        {"sd": MIXED, "correlation": 0.5, "on": "time", "length_scale": 2.0, "smoothness": 0.5},
        scaled("ab", MIXED, common(0.5)) * kernel(points_of("ab", "time"), 2.0, 0.5),
        {},
    ),
    "in two coordinates": (
        "ab",
        {"sd": MIXED, "correlation": -0.5, "on": ("easting", "northing"), "length_scale": 1.5},
        scaled("ab", MIXED, common(-0.5)) * kernel(points_of("ab", "space"), 1.5),
        {},
    ),
    "in time with loadings": (
        "ab",
        {"sd": 0.7, "loadings": {"a": 1.0, "b": -0.5}, "on": "time", "length_scale": 2.0},
        0.49 * np.outer(LOADINGS, LOADINGS) * kernel(points_of("ab", "time"), 2.0),
        {},
    ),
    "periodic": (
        "ab",
        {
            "sd": MIXED,
            "correlation": 0.5,
            "on": "time",
            "kernel": "periodic",
            "period": 3.0,
            "length_scale": 1.2,
        },
        scaled("ab", MIXED, common(0.5)) * periodic(points_of("ab", "time"), 3.0, 1.2),
        {},
    ),
    "drift": (
        "ab",
        {
            "sd": MIXED,
            "correlation": 0.5,
            "on": "time",
            "kernel": "drift",
            "origin": 1.0,
            "length_scale": 2.0,
        },
        scaled("ab", MIXED, common(0.5)) * drift(points_of("ab", "time"), 1.0, 2.0),
        {},
    ),
    "product over coordinates": (
        "ab",
        {
            "sd": MIXED,
            "correlation": 0.5,
            "on": ("easting", "northing"),
            "length_scale": {"easting": 1.5, "northing": 3.0},
        },
        scaled("ab", MIXED, common(0.5))
        * kernel(points_of("ab", "space")[:, :1], 1.5)
        * kernel(points_of("ab", "space")[:, 1:], 3.0),
        {},
    ),
    "product of unlike functions, unknown length scale": (
        "ab",
        {
            "sd": MIXED,
            "correlation": 0.5,
            "on": ("easting", "northing"),
            "kernel": {"easting": "periodic", "northing": "matern"},
            "period": 3.0,
            "length_scale": {"easting": 1.2, "northing": logarithmic(2.0)},
        },
        scaled("ab", MIXED, common(0.5))
        * periodic(points_of("ab", "space")[:, :1], 3.0, 1.2)
        * kernel(points_of("ab", "space")[:, 1:], 2.0 * np.exp(-0.4)),
        {"discrepancy_length_scale_northing": -0.8},
    ),
    "three modalities, matrix": (
        "abc",
        {"sd": THREE, "correlation": CORRELATION, "on": "time", "length_scale": 2.0},
        scaled("abc", THREE, CORRELATION) * kernel(points_of("abc", "time"), 2.0),
        {},
    ),
    "three modalities, common number": (
        "abc",
        {"sd": THREE, "correlation": -0.4, "on": "time", "length_scale": 2.0},
        scaled("abc", THREE, common(-0.4, 3)) * kernel(points_of("abc", "time"), 2.0),
        {},
    ),
    "unknown sd": (
        "ac",
        {"sd": {"a": logarithmic(0.5), "c": 0.4}, "correlation": 0.8},
        paired("ac", {"a": 0.5 * np.exp(0.35), "c": 0.4}, common(0.8)),
        {"discrepancy_sd_a": 0.7},
    ),
    "unknown correlation": (
        "ac",
        {"sd": PAIR, "correlation": bj.Prior(pm.Uniform, lower=-0.5, upper=1.0)},
        paired("ac", PAIR, common(-0.5 + 1.5 * stats.norm.cdf(0.3))),
        {"discrepancy_correlation": 0.3},
    ),
    "unknown length scale": (
        "ab",
        {"sd": MIXED, "correlation": 0.5, "on": "time", "length_scale": logarithmic(2.0)},
        scaled("ab", MIXED, common(0.5)) * kernel(points_of("ab", "time"), 2.0 * np.exp(-0.4)),
        {"discrepancy_length_scale": -0.8},
    ),
    "everything unknown": (
        "abc",
        {
            "sd": {name: logarithmic(sd) for name, sd in THREE.items()},
            "correlation": bj.Prior(pm.Uniform, lower=-0.5, upper=1.0),
            "on": ("easting", "northing"),
            "length_scale": logarithmic(2.0),
        },
        scaled(
            "abc",
            {"a": 0.7 * np.exp(0.1), "b": 0.4 * np.exp(-0.2), "c": 0.9 * np.exp(0.3)},
            common(-0.5 + 1.5 * stats.norm.cdf(0.4), 3),
        )
        * kernel(points_of("abc", "space"), 2.0 * np.exp(0.25)),
        {
            "discrepancy_sd_a": 0.2,
            "discrepancy_sd_b": -0.4,
            "discrepancy_sd_c": 0.6,
            "discrepancy_correlation": 0.4,
            "discrepancy_length_scale": 0.5,
        },
    ),
    "unknown sd of a common cause": (
        "ab",
        {
            "sd": logarithmic(0.7),
            "loadings": {"a": 1.0, "b": -0.5},
            "on": "time",
            "length_scale": 2.0,
        },
        0.49 * np.exp(0.6) * np.outer(LOADINGS, LOADINGS) * kernel(points_of("ab", "time"), 2.0),
        {"discrepancy_sd": 0.6},
    ),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def white_of(unknowns):
    return {f"{name}_white": value for name, value in unknowns.items()}


def test_marginal_density_is_that_of_the_dense_covariance(case):
    names, settings, covariance, unknowns = case
    problem = problem_of(bj.JointDiscrepancy(form="marginal", **settings), names)
    found = log_likelihood(problem)(m_white=WHITE, **white_of(unknowns))
    total = covariance + noise_covariance(names)
    expected = stats.multivariate_normal(cov=total).logpdf(residuals(names))
    assert found == pytest.approx(expected, rel=1e-7)


def test_latent_form_has_the_same_covariance(case):
    names, settings, covariance, unknowns = case
    made = build(problem_of(bj.JointDiscrepancy(form="latent", **settings), names))
    sampled = [n for n in names if f"{n}_discrepancy" in made.model.named_vars]
    assert sampled == [n for n in names if n in settings.get("loadings", settings["sd"])]
    output = pt.concatenate([made.model[f"{n}_discrepancy"] for n in sampled])
    factor = jacobian_of(made, output, "discrepancy_white", **white_of(unknowns))
    kept = np.concatenate([np.full(SIZES[n], n in sampled) for n in names])
    expected = covariance[np.ix_(kept, kept)]
    np.testing.assert_allclose(factor @ factor.T, expected, rtol=1e-8, atol=1e-9)


def test_latent_discrepancy_is_added_to_the_mean():
    settings = {"sd": PAIR, "correlation": 0.8, "form": "latent"}
    problem = problem_of(bj.JointDiscrepancy(**settings))
    made = build(problem)
    white = RNG.normal(size=8)
    parts = [made.model[f"{n}_discrepancy"] for n in "ac"]
    shifts = evaluator(made, parts)(m_white=WHITE, discrepancy_white=white)
    found = log_likelihood(problem)(m_white=WHITE, discrepancy_white=white)
    expected = stats.norm(0, np.repeat([SDS["a"], SDS["c"]], 4)).logpdf(
        residuals("ac") - np.concatenate(shifts)
    )
    assert found == pytest.approx(expected.sum())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["paired by index", "everything unknown"])
@pytest.mark.parametrize("form", ["marginal", "latent"])
def test_gradient_agrees_with_finite_differences(name, form):
    names, settings, _, unknowns = CASES[name]
    model = bj.build_model(problem_of(bj.JointDiscrepancy(form=form, **settings), names))
    point = {"m_white": WHITE, **white_of(unknowns)}
    found, differences = gradient_and_differences(model, **point)
    np.testing.assert_allclose(found, differences, rtol=1e-6, atol=1e-6)


def test_several_discrepancies_add_up():
    drift = {"sd": 0.7, "loadings": {"a": 1.0, "b": -0.5}, "on": "time", "length_scale": 2.0}
    site = {"sd": {"b": logarithmic(0.4)}, "on": ("easting", "northing"), "length_scale": 1.5}
    covariance = 0.49 * np.outer(LOADINGS, LOADINGS) * kernel(points_of("ab", "time"), 2.0)
    local = 0.16 * np.exp(0.5) * kernel(PLACES["b"], 1.5)
    covariance = covariance + block_diag(np.zeros((4, 4)), local)
    discrepancies = [
        bj.JointDiscrepancy(name="drift", **drift),
        bj.JointDiscrepancy(name="site", **site),
    ]
    problem = problem_of(discrepancies, "ab")
    found = log_likelihood(problem)(m_white=WHITE, site_sd_b_white=0.5)
    total = covariance + noise_covariance("ab")
    expected = stats.multivariate_normal(cov=total).logpdf(residuals("ab"))
    assert found == pytest.approx(expected, rel=1e-8)


def test_marginal_beside_latent_discrepancy():
    """One sampled, one integrated out; the sampled one shifts the mean of the other's data."""
    first = bj.JointDiscrepancy(name="first", sd=PAIR, correlation=0.8, form="latent")
    second = bj.JointDiscrepancy(name="second", sd={"a": 0.3}, form="marginal")
    problem = problem_of([first, second])
    made = build(problem)
    white = RNG.normal(size=8)
    shifts = evaluator(made, [made.model[f"{n}_discrepancy"] for n in "ac"])(first_white=white)
    found = log_likelihood(problem)(m_white=WHITE, first_white=white)
    sd = np.sqrt(np.repeat([SDS["a"] ** 2 + 0.3**2, SDS["c"] ** 2], 4))
    expected = stats.norm(0, sd).logpdf(residuals("ac") - np.concatenate(shifts)).sum()
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("scale", ["sd", "scale"])
def test_unknown_noise_beside_a_marginal_discrepancy(scale):
    if scale == "sd":
        noise = {"a": bj.GaussianNoise(sd=logarithmic(0.2))}
    else:
        noise = {"a": bj.GaussianNoise(sd=0.2, scale=logarithmic(1.0))}
    discrepancy = bj.JointDiscrepancy(sd=PAIR, correlation=0.8, form="marginal")
    found = log_likelihood(problem_of(discrepancy, noise=noise))
    variance = np.repeat([0.04 * np.exp(1.0), SDS["c"] ** 2], 4)
    total = paired("ac", PAIR, common(0.8)) + np.diag(variance)
    expected = stats.multivariate_normal(cov=total).logpdf(residuals("ac"))
    assert found(m_white=WHITE, **{f"a_{scale}_white": 1.0}) == pytest.approx(expected)


def test_data_of_two_dimensions():
    """Stations by days: the coordinate of a station serves all its days."""
    values, days = RNG.normal(size=(3, 2)), [0.0, 1.0]
    position = [0.0, 1.0, 3.0]
    observed = data(values, ("station", "day"), {"day": days, "position": ("station", position)})
    design = RNG.normal(size=(6, 2))
    latent = bj.Parameter("m", STANDARD, coords={"part": [0, 1]})
    network = bj.Modality("y", observed, bj.linear_map(design, "m"), bj.GaussianNoise(sd=0.3))
    kinds = {"on": ("position", "day"), "sd": {"y": 0.8}, "length_scale": 2.0}
    points = np.array([(p, d) for p in position for d in days])
    residual = values.ravel() - design @ WHITE
    covariance = 0.64 * kernel(points, 2.0) + 0.09 * np.eye(6)
    expected = stats.multivariate_normal(cov=covariance).logpdf(residual)
    for form in ("marginal", "latent"):
        discrepancy = bj.JointDiscrepancy(form=form, **kinds)
        problem = bj.JointProblem(latents=[latent], modalities=[network], discrepancy=discrepancy)
        made = build(problem)
        if form == "marginal":
            assert log_likelihood(problem)(m_white=WHITE) == pytest.approx(expected)
            continue
        output = made.model["y_discrepancy"]
        assert made.model.named_vars_to_dims["y_discrepancy"] == ("station", "day")
        factor = jacobian_of(made, output, "discrepancy_white")
        np.testing.assert_allclose(factor @ factor.T, 0.64 * kernel(points, 2.0), atol=1e-9)


# Model space: the error of a shared map, seen through each observation operator.

POINTS = RNG.uniform(0, 5, size=(5, 2))
PHYSICS = RNG.normal(size=(10, 2))  # two components at five points
OPERATORS = {"a": RNG.normal(size=(4, 10)), "b": sparse.csr_array(RNG.normal(size=(6, 10)))}
SPACE = ("easting", "northing")
MODEL_SPACE = np.kron(kernel(POINTS, 2.0), np.eye(2))  # components are independent
SEEN = np.concatenate([OPERATORS["a"], OPERATORS["b"].toarray()])


def displacement():
    coords = {"easting": POINTS[:, 0], "northing": POINTS[:, 1]}
    return bj.pytensor_map(lambda m: pt.dot(PHYSICS, m).reshape((5, 2)), "m", coords=coords)


def model_space_problem(form="auto", sd=0.8, forward=None, extra=(), **settings):
    forward = forward or displacement()
    discrepancy = bj.JointDiscrepancy(
        of=forward, sd=sd, on=SPACE, **({"length_scale": 2.0} | settings), form=form
    )
    latent = bj.Parameter("m", STANDARD, coords={"part": [0, 1]})
    modalities = [modality(n, forward=forward, observe=OPERATORS[n]) for n in "ab"]
    return bj.JointProblem(
        latents=[latent], modalities=[*modalities, *extra], discrepancy=discrepancy
    )


@pytest.mark.parametrize(
    ("sd", "white", "value"),
    [(0.8, {}, 0.8), (logarithmic(0.8), {"discrepancy_sd_white": 0.4}, 0.8 * np.exp(0.2))],
)
def test_model_space_gives_the_covariance_seen_through_the_operators(sd, white, value):
    """Cross-covariance ``H_i C H_j^T`` between the two modalities, exactly."""
    seen = value**2 * SEEN @ MODEL_SPACE @ SEEN.T
    residual = np.concatenate([VALUES["a"], VALUES["b"]]) - SEEN @ PHYSICS @ WHITE
    expected = stats.multivariate_normal(cov=seen + noise_covariance("ab")).logpdf(residual)
    problem = model_space_problem("marginal", sd)
    assert log_likelihood(problem)(m_white=WHITE, **white) == pytest.approx(expected, rel=1e-8)
    made = build(model_space_problem("latent", sd))
    output = pt.concatenate([made.model[f"{n}_discrepancy"] for n in "ab"])
    factor = jacobian_of(made, output, "discrepancy_white", **white)
    np.testing.assert_allclose(factor @ factor.T, seen, rtol=1e-8, atol=1e-8)


def test_model_space_touches_only_modalities_of_its_map():
    """Also without an operator: the whole output is data."""
    problem = model_space_problem(extra=[modality("c")])
    (discrepancy,) = problem.discrepancies
    assert discrepancy.touches(problem.modality) == ["a", "b"]
    forward = displacement()
    whole = bj.Modality(
        "all", data(np.zeros((5, 2)), ("site", "component")), forward, bj.GaussianNoise(sd=1.0)
    )
    latent = bj.Parameter("m", STANDARD, coords={"part": [0, 1]})
    made = build(
        bj.JointProblem(
            latents=[latent],
            modalities=[whole],
            discrepancy=bj.JointDiscrepancy(
                of=forward, sd=0.8, on=SPACE, length_scale=2.0, form="latent"
            ),
        )
    )
    factor = jacobian_of(made, made.model["all_discrepancy"], "discrepancy_white")
    np.testing.assert_allclose(factor @ factor.T, 0.64 * MODEL_SPACE, atol=1e-9)


# Reduced rank.


@pytest.mark.parametrize(("length", "tolerance"), [(2.0, 0.02), (4.0, 0.01)])
def test_reduced_rank_is_near_the_exact_process(length, tolerance):
    """Cells of a fifth or a tenth of the length scale, a margin of two length scales."""
    margin, cell = 2 * length, 0.4
    grid = bj.Grid(time=np.arange(-margin, 8.0 + margin + cell, cell))
    settings = {"sd": MIXED, "correlation": 0.5, "on": "time", "length_scale": length, "grid": grid}
    made = build(problem_of(bj.JointDiscrepancy(form="latent", **settings), "ab"))
    output = pt.concatenate([made.model[f"{n}_discrepancy"] for n in "ab"])
    factor = jacobian_of(made, output, "discrepancy_white")
    expected = scaled("ab", MIXED, common(0.5)) * kernel(points_of("ab", "time"), length)
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    np.testing.assert_allclose(factor @ factor.T / scale, expected / scale, atol=tolerance)
    # Their mean variance is exact.
    relative = np.diag(factor @ factor.T) / np.diag(expected)
    assert relative.mean() == pytest.approx(1.0, rel=1e-10)


def test_reduced_rank_with_unknown_length_scale_and_few_modes():
    """The same process whether the length scale is known or unknown; marginal as latent."""
    grid = bj.Grid(northing=np.arange(-4.0, 10.0), easting=np.arange(-4.0, 10.0))
    fixed = {"sd": MIXED, "correlation": 0.5, "on": SPACE, "grid": grid, "rank": 80}
    length = 3.0 * np.exp(0.25)
    made = build(problem_of(bj.JointDiscrepancy(form="latent", length_scale=length, **fixed), "ab"))
    output = pt.concatenate([made.model[f"{n}_discrepancy"] for n in "ab"])
    assert made.model["discrepancy_white"].type.shape == (160,)
    factor = jacobian_of(made, output, "discrepancy_white")
    covariance = factor @ factor.T
    exact = scaled("ab", MIXED, common(0.5)) * kernel(points_of("ab", "space"), length)
    sds = np.sqrt(np.diag(covariance) / np.diag(exact))
    np.testing.assert_allclose(sds, 1.0, atol=0.05)  # a margin of one length scale leaves 4 %
    np.testing.assert_allclose(correlation_of(covariance), correlation_of(exact), atol=0.03)
    unknown = bj.JointDiscrepancy(form="marginal", length_scale=logarithmic(3.0), **fixed)
    found = log_likelihood(problem_of(unknown, "ab"))
    expected = stats.multivariate_normal(cov=covariance + noise_covariance("ab"))
    at = found(m_white=WHITE, discrepancy_length_scale_white=0.5)
    assert at == pytest.approx(expected.logpdf(residuals("ab")), rel=1e-8)


# Which form, and draws.


@pytest.mark.parametrize(
    ("noise", "marginal"),
    [
        ({}, True),
        ({"a": bj.StudentTNoise(sd=0.2, nu=4)}, False),
        ({"c": bj.CorrelatedNoise(covariance=np.eye(4))}, True),
    ],
)
def test_auto_integrates_out_where_all_noise_is_gaussian(noise, marginal):
    model = bj.build_model(problem_of(bj.JointDiscrepancy(sd=PAIR), noise=noise))
    assert ("discrepancy_white" not in model.named_vars) == marginal


ROOT = np.linalg.cholesky(0.03 * kernel(np.arange(6.0)[:, None], 1.5) + 0.05 * np.eye(6))
CORRELATED = {"b": bj.CorrelatedNoise(covariance=ROOT @ ROOT.T)}
SCALED = {"b": bj.CorrelatedNoise(covariance=ROOT @ ROOT.T, scale=logarithmic(0.7))}


def correlated_noise(scale):
    return block_diag(noise_covariance("a"), scale**2 * ROOT @ ROOT.T)


@pytest.mark.slow
@pytest.mark.parametrize("length", [2.0, logarithmic(2.0)])
def test_correlated_noise_is_integrated_out_with_the_discrepancy(length):
    settings = {"sd": MIXED, "correlation": 0.8, "on": "time", "length_scale": length}
    problem = problem_of(bj.JointDiscrepancy(**settings), "ab", SCALED)
    (stated,) = bj.linearize(problem)["linearization"].attrs["discrepancy_forms"]
    assert "integrated out exactly" in stated
    covariance = scaled("ab", MIXED, common(0.8)) * kernel(points_of("ab", "time"), 2.0)
    expected = stats.multivariate_normal(cov=covariance + correlated_noise(0.7 * np.exp(0.2)))
    found = log_likelihood(problem)(m_white=WHITE, b_scale_white=0.4)
    assert found == pytest.approx(expected.logpdf(residuals("ab")), rel=1e-8)
    functions = ModelFunctions(problem)
    point = LatentSpace(functions).point_of_values(
        {"m": WHITE, "b_scale": 0.7 * np.exp(0.2)}
        | ({"discrepancy_length_scale": 2.0} if length != 2.0 else {})
    )
    assert log_likelihood_at(functions, point) == pytest.approx(found, rel=1e-7)
    analytic, numerical = gradient_and_differences(bj.build_model(problem), m_white=WHITE)
    np.testing.assert_allclose(analytic, numerical, rtol=1e-6, atol=1e-6)


def test_a_discrepancy_beside_correlated_noise_is_drawn_given_the_data():
    """Seed 1; 2,000 draws at one point: mean within 4.5 Monte Carlo errors, sd within 4.5 / 63."""
    settings = {"sd": MIXED, "correlation": 0.8, "on": "time", "length_scale": 2.0}
    functions = ModelFunctions(problem_of(bj.JointDiscrepancy(**settings), "ab", CORRELATED))
    points = np.tile(np.concatenate([WHITE]), (1, 2_000, 1))
    table = DrawEvaluator(functions).table(points)
    drawn = table.posterior(np.random.default_rng(1))
    draws = np.concatenate([drawn[f"{n}_discrepancy"].values[0] for n in "ab"], axis=1)
    covariance = scaled("ab", MIXED, common(0.8)) * kernel(points_of("ab", "time"), 2.0)
    gain = covariance @ np.linalg.inv(covariance + correlated_noise(1.0))
    sd = np.sqrt(np.diag(covariance - gain @ covariance))
    z = (draws.mean(axis=0) - gain @ residuals("ab")) / (sd / np.sqrt(2_000))
    assert np.abs(z).max() < 4.5
    np.testing.assert_allclose(draws.std(axis=0) / sd, 1.0, atol=4.5 / np.sqrt(4_000))


@pytest.mark.parametrize("noise", [None, CORRELATED])
def test_draws_of_the_marginal_form_have_its_covariance(noise):
    """Seed 1; the tolerance is 4.5 times the Monte Carlo error of each entry."""
    settings = {"sd": MIXED, "correlation": 0.8, "on": "time", "length_scale": 2.0}
    model = build(problem_of(bj.JointDiscrepancy(form="marginal", **settings), "ab", noise)).model
    count = 8_000
    variables = [model[name] for name in ("a", "b", "m")]
    *draws, m = pm.draw(variables, draws=count, random_seed=1, mode=INTERPRETED)
    errors = [draw - m @ DESIGNS[name].T for name, draw in zip("ab", draws, strict=True)]
    found = np.concatenate(errors, axis=1)
    covariance = scaled("ab", MIXED, common(0.8)) * kernel(points_of("ab", "time"), 2.0)
    covariance = covariance + (correlated_noise(1.0) if noise else noise_covariance("ab"))
    variance = np.diag(covariance)
    monte_carlo = np.sqrt((covariance**2 + np.outer(variance, variance)) / count)
    assert np.abs((found.T @ found / count - covariance) / monte_carlo).max() < 4.5
