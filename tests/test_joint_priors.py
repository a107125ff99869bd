"""Joint priors of fields: correlated fields and relations, against their closed forms."""

import pickle

import numpy as np
import pymc as pm
import pytest
import xarray as xr

import bayesjoint as bj
from bayesjoint._compiled.density import CompiledDensity
from bayesjoint._compiled.draws import DrawEvaluator
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._sampler.run import prior_points
from bayesjoint.problem import build

GRID = bj.Grid(depth=np.array([5.0, 15.0, 30.0, 50.0]), x=np.arange(5.0, 60.0, 10.0))
CELLS, DATA, NOISE = GRID.size, 15, 0.5
CORRELATION = np.array([[1.0, -0.8, 0.3], [-0.8, 1.0, 0.1], [0.3, 0.1, 1.0]])
SDS = {"a": 2.0, "b": 0.5, "c": 1.0}


def straight(a, slope):
    return slope * a


def plane(a, b):
    return a - 0.3 * b


def squared(a, offset):
    return (a - offset) ** 2


def field(name, **settings):
    return bj.GaussianField(name, GRID, **{"sd": SDS[name], "length_scale": 25.0, **settings})


def problem(*couplings, observed="a", names="cba", **settings):
    """Return one linear data set of a field, on which others depend through couplings alone."""
    rng = np.random.default_rng(3)
    matrix = rng.standard_normal((DATA, CELLS)) / np.sqrt(CELLS)
    data = xr.DataArray(rng.standard_normal(DATA), dims="station")
    seen = bj.Modality("seen", data, bj.linear_map(matrix, observed), bj.GaussianNoise(sd=NOISE))
    return bj.JointProblem(
        latents=[field(name, **settings) for name in names],
        modalities=[seen],
        couplings=couplings,
    )


def roots(problem):
    """Return L of each field's own prior: of the scatter, where a relation shapes it."""
    return {name: f.factor({}).times(np.eye(CELLS)) for name, f in problem.latent.items()}


def correlated_covariance(problem, names, correlation):
    factor = roots(problem)
    order = [list(problem.latent).index(n) for n in names]
    blocks = [[None] * len(names) for _ in names]
    for i, first in zip(order, names, strict=True):
        for j, second in zip(order, names, strict=True):
            rho = correlation[names.index(first), names.index(second)]
            blocks[i][j] = rho * factor[first] @ factor[second].T
    return np.block(blocks)


def related_covariance(problem, slope):
    factor = roots(problem)  # latents b, a
    root = np.block([[factor["b"], slope * factor["a"]], [np.zeros((CELLS, CELLS)), factor["a"]]])
    return root @ root.T


def chained_covariance(problem):
    """Return that of c = a - 0.3 b + scatter, b = 2 a + scatter; latents c, b, a."""
    factor, none = roots(problem), np.zeros((CELLS, CELLS))
    root = np.block(
        [
            [factor["c"], -0.3 * factor["b"], 0.4 * factor["a"]],
            [none, factor["b"], 2.0 * factor["a"]],
            [none, none, factor["a"]],
        ]
    )
    return root @ root.T


CASES = {
    "two fields": (
        problem(bj.CorrelatedFields("a", "b", correlation=-0.8), names="ba"),
        lambda p: correlated_covariance(p, "ab", np.array([[1.0, -0.8], [-0.8, 1.0]])),
    ),
    "three fields": (
        problem(bj.CorrelatedFields("a", "b", "c", correlation=CORRELATION)),
        lambda p: correlated_covariance(p, "abc", CORRELATION),
    ),
    "other length scales": (
        bj.JointProblem(
            latents=[field("a", length_scale=40.0), field("b", length_scale=10.0)],
            modalities=problem(names="ab", observed="a").modalities,
            couplings=[bj.CorrelatedFields("b", "a", correlation=0.9)],
        ),
        lambda p: correlated_covariance(p, "ba", np.array([[1.0, 0.9], [0.9, 1.0]])),
    ),
    "relation": (
        problem(
            bj.PropertyRelation("b", given="a", function=straight, coefficients={"slope": -0.3}),
            names="ba",
        ),
        lambda p: related_covariance(p, -0.3),
    ),
    "mixture of one unit": (
        problem(
            bj.PropertyMixture(
                "rocks",
                labels=["all"],
                proportions=[1.0],
                means={"a": [0.0], "b": [0.0]},
                sds={name: SDS[name] for name in "ab"},
                correlation=-0.8,
            ),
            names="ba",
            sd=1.0,
        ),
        lambda p: correlated_covariance(
            problem(names="ba"), "ab", np.array([[1.0, -0.8], [-0.8, 1.0]])
        ),
    ),
    "relation of a relation": (
        problem(
            bj.PropertyRelation("c", given=("a", "b"), function=plane),
            bj.PropertyRelation("b", given="a", function=straight, coefficients={"slope": 2.0}),
            names="cba",
        ),
        chained_covariance,
    ),
}


@pytest.fixture(params=CASES, scope="module")
def case(request):
    made, covariance = CASES[request.param]
    return made, covariance(made), bj.linearize(made)["linearization"]


def posterior(problem, covariance):
    """Return posterior mean and covariance by direct algebra, all cells stacked."""
    matrix = np.zeros((DATA, covariance.shape[0]))
    where = list(problem.latent).index("a") * CELLS
    matrix[:, where : where + CELLS] = problem.modality["seen"].forward.matrices[0]
    gain = covariance @ matrix.T
    gain = np.linalg.solve(matrix @ gain + NOISE**2 * np.eye(DATA), gain.T).T
    return gain @ problem.modality["seen"].data.values, covariance - gain @ matrix @ covariance


def stacked(linear, problem):
    return np.concatenate([linear[name].values.ravel() for name in problem.latent])


@pytest.mark.slow
def test_the_mode_is_that_of_the_joint_prior(case):
    made, covariance, linear = case
    mean, _ = posterior(made, covariance)
    np.testing.assert_allclose(stacked(linear, made), mean, atol=1e-9)


def test_variances_are_those_of_the_joint_prior(case):
    made, covariance, linear = case
    _, after = posterior(made, covariance)
    np.testing.assert_allclose(linear["prior_sd"] ** 2, np.diag(covariance), rtol=1e-9)
    values, vectors = linear["eigenvalues"].values, linear["physical_vectors"].values
    reduced = np.diag(covariance) - vectors**2 @ (values / (1 + values))
    np.testing.assert_allclose(reduced, np.diag(after), rtol=1e-7, atol=1e-9)


def test_the_resolution_matrix_is_that_of_the_joint_prior(case):
    made, covariance, linear = case
    _, after = posterior(made, covariance)
    values = linear["eigenvalues"].values
    found = (linear["physical_vectors"].values * (values / (1 + values))) @ linear[
        "physical_duals"
    ].values.T
    expected = np.eye(covariance.shape[0]) - np.linalg.solve(covariance, after).T
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_prior_distance_is_that_of_the_joint_prior(case):
    made, covariance, linear = case
    mean, _ = posterior(made, covariance)
    distance = mean @ np.linalg.solve(covariance, mean)
    assert float(linear["prior_distance"]) == pytest.approx(distance, rel=1e-6)


def test_a_point_is_found_again_from_its_values(case):
    made, _, linear = case
    again = bj.linearize(made, at={name: linear[name] for name in made.latent})["linearization"]
    np.testing.assert_allclose(again["white_point"], linear["white_point"], atol=1e-7)


def test_the_model_draws_from_the_joint_prior(case):
    made, covariance, _ = case
    functions = ModelFunctions(made.without_data())
    count, rng = 4000, np.random.default_rng(5)
    density = CompiledDensity(functions, "interpreted")
    table = DrawEvaluator(functions).table(prior_points(functions, density, rng, count))
    draws = np.concatenate([table.values[n].reshape(count, -1) for n in made.latent], axis=1)
    sd = np.sqrt(np.diag(covariance))
    found, expected = np.corrcoef(draws.T), covariance / np.outer(sd, sd)
    # The largest of n^2 / 2 correlations, each with error (1 - r^2) / sqrt(count).
    assert np.abs(found - expected).max() < 5.0 / np.sqrt(count)


@pytest.mark.filterwarnings("ignore:no modality reaches")
def test_separate_problems_keep_what_a_modality_needs():
    relation = bj.PropertyRelation("b", given="a", function=straight, coefficients={"slope": 2.0})
    alone = problem(relation, observed="b").separate()["seen"]
    assert list(alone.latent) == ["b", "a"]
    assert alone.couplings == (relation,)
    three = problem(bj.CorrelatedFields("a", "b", "c", correlation=CORRELATION))
    both = three.modality["seen"]
    two = bj.Modality(
        "two", both.data, bj.linear_map(dict.fromkeys("ac", np.ones((DATA, CELLS)))), both.noise
    )
    (kept,) = three.replace(modalities=[both, two]).separate()["two"].couplings
    assert kept.names == ("a", "c")
    np.testing.assert_array_equal(kept.correlation, CORRELATION[np.ix_([0, 2], [0, 2])])


@pytest.mark.slow
def test_an_unknown_correlation_is_sampled_with_the_fields():
    even = bj.Prior(pm.Uniform, lower=-1.0, upper=1.0)
    made = problem(bj.CorrelatedFields("a", "b", correlation=even), names="ab")
    at = {"a": np.ones(GRID.shape), "b": np.ones(GRID.shape), "correlation_a_b": 0.5}
    linear = bj.linearize(made, at=at)["linearization"]
    fixed = bj.CorrelatedFields("a", "b", correlation=0.5)
    expected = bj.linearize(made.replace(couplings=[fixed]), at=at)["linearization"]
    assert list(linear["latent"].values) == ["a", "b", "correlation_a_b"]
    np.testing.assert_allclose(linear["prior_sd"][: 2 * CELLS], expected["prior_sd"], rtol=1e-9)
    np.testing.assert_allclose(linear["prior_norm"][:2], expected["prior_norm"], rtol=1e-6)


def test_a_correlation_matrix_may_be_unknown():
    unknown = bj.Prior(pm.LKJCorr, eta=2.0, n=3)
    made = build(problem(bj.CorrelatedFields("a", "b", "c", correlation=unknown)))
    assert made.values["correlation_a_b_c"].type.shape == (3,)
    (dim,) = made.unknowns[0].dims
    assert list(made.model.coords[dim]) == ["a, b", "a, c", "b, c"]


def test_unknown_coefficients_are_sampled_with_the_fields():
    offset = bj.Prior(pm.Normal, mu=1.0, sigma=0.2)
    relation = bj.PropertyRelation(
        "b", given="a", function=squared, coefficients={"offset": offset}
    )
    linear = bj.linearize(problem(relation, names="ba"))["linearization"]
    value, sd = linear["a"].values.ravel(), linear["prior_sd"].values
    slope = 2 * (value - float(linear["b_offset"]))
    expected = SDS["b"] ** 2 + slope**2 * (SDS["a"] ** 2 + 0.2**2)
    np.testing.assert_allclose(sd[:CELLS] ** 2, expected, rtol=1e-8)


def test_a_truth_may_give_what_others_follow_from():
    relation = bj.PropertyRelation("b", given="a", function=straight, coefficients={"slope": 2.0})
    made = problem(relation, names="ba")
    given = np.ones(GRID.shape)
    drawn = [bj.simulate(made, truth={"a": given}, random_seed=s)["b"].mean() for s in range(6)]
    assert np.mean(drawn) == pytest.approx(2.0, abs=4 * SDS["b"] / np.sqrt(6))
    with pytest.raises(ValueError, match="give all or none"):
        bj.simulate(made, truth={"b": given})


@pytest.mark.filterwarnings("ignore:no modality reaches")
def test_they_pickle():
    made = problem(
        bj.PropertyRelation("b", given="a", function=straight, coefficients={"slope": 2.0}),
        bj.CorrelatedFields("a", "c", correlation=0.5),
    )
    again = pickle.loads(pickle.dumps(made))
    expected = bj.linearize(made)["linearization"]["eigenvalues"]
    found = bj.linearize(again)["linearization"]["eigenvalues"]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def mixes(a):
    return a[::-1]


def infinite(a):
    return 1.0 / (a - a)


def flat(a):
    return a.ravel()


LINE = {"given": "a", "function": straight, "coefficients": {"slope": 1.0}}
WRONG = {
    "no correlation": (lambda: bj.CorrelatedFields("a", "b"), "correlation is not given"),
    "one field": (lambda: bj.CorrelatedFields("a", correlation=0.5), "two fields or more"),
    "a field twice": (lambda: bj.CorrelatedFields("a", "a", correlation=0.5), "used twice"),
    "no matrix": (
        lambda: bj.CorrelatedFields("a", "b", correlation=[[1.0, 2.0], [2.0, 1.0]]),
        "not positive semi-definite",
    ),
    "a common correlation of three": (
        lambda: bj.CorrelatedFields("a", "b", "c", correlation=-0.6), "not positive semi-definite",
    ),
    "a field that another one is": (
        lambda: bj.CorrelatedFields("a", "b", correlation=-1.0), r"a bj.PropertyRelation of the",
    ),
    "one unknown number of three": (
        lambda: bj.CorrelatedFields(
            "a", "b", "c", correlation=bj.Prior(pm.Uniform, lower=-1, upper=1)
        ),
        "LKJCorr",
    ),
    "a matrix of another size": (
        lambda: bj.CorrelatedFields("a", "b", correlation=CORRELATION), "shape",
    ),
    "itself": (lambda: bj.PropertyRelation("b", **{**LINE, "given": "b"}), "for itself"),
    "mixed cells": (
        lambda: problem(bj.PropertyRelation("b", given="a", function=mixes)), "mixes the cells",
    ),
    "an infinite value": (
        lambda: problem(bj.PropertyRelation("b", given="a", function=infinite)), "not finite",
    ),
    "other dimensions": (
        lambda: problem(bj.PropertyRelation("b", given="a", function=flat)), "gives shape",
    ),
    "a missing coefficient": (
        lambda: problem(bj.PropertyRelation("b", given="a", function=straight)),
        "does not take",
    ),
    "a circle": (
        lambda: problem(
            bj.PropertyRelation("b", **LINE), bj.PropertyRelation("a", **{**LINE, "given": "b"})
        ),
        "in a circle",
    ),
    "shaped twice": (
        lambda: problem(
            bj.PropertyRelation("b", **LINE), bj.CorrelatedFields("b", "c", correlation=0.1)
        ),
        "already shaped",
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:no modality reaches")
@pytest.mark.parametrize("wrong", WRONG)
def test_bad_input_is_told(wrong):
    make, message = WRONG[wrong]
    with pytest.raises(ValueError, match=message):
        make()


def information_at(problem, value):
    """Return the expected information gain and whether it is local, all fields at one value."""
    tree = bj.linearize(problem, at={name: np.full(GRID.shape, value) for name in problem.latent})
    report = bj.information(tree)
    return float(report["eig"]), report.attrs["local"]


def test_fields_of_known_correlation_are_the_same_everywhere_and_say_so():
    coupled = problem(bj.CorrelatedFields("a", "b", correlation=-0.8), names="ba")
    rng = np.random.default_rng(4)
    matrices = {name: rng.standard_normal((DATA, CELLS)) / np.sqrt(CELLS) for name in "ba"}
    (seen,) = coupled.modalities
    both = bj.Modality("seen", seen.data, bj.linear_map(matrices), bj.GaussianNoise(sd=NOISE))
    coupled = coupled.replace(modalities=[both])
    covariance = correlated_covariance(coupled, "ab", np.array([[1.0, -0.8], [-0.8, 1.0]]))
    forward = np.concatenate(list(matrices.values()), axis=1)
    signal = forward @ covariance @ forward.T / NOISE**2
    exact = 0.5 * np.linalg.slogdet(np.eye(DATA) + signal)[1]
    for value in (0.0, 1.7):
        eig, local = information_at(coupled, value)
        assert eig == pytest.approx(exact, rel=1e-8) and local == 0


@pytest.mark.slow
def test_other_couplings_make_a_problem_local():
    coupled = problem(bj.CrossGradient("a", "b", weight=3.0), names="ba")
    assert information_at(coupled, 0.0)[1] == 1
    unknown = bj.CorrelatedFields("a", "b", correlation=bj.Prior(pm.Uniform, lower=-1, upper=1))
    tree = bj.linearize(problem(unknown, names="ba"), starts=1)
    assert tree["linearization"].attrs["local"] == 1
