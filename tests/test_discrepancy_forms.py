"""Which form a discrepancy takes, and forms beyond one process: causes, matrices, lattices."""

import numpy as np
import pymc as pm
import pytest
from scipy import stats
from scipy.linalg import block_diag
from scipy.spatial.distance import cdist

import bayesjoint as bj
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._compiled.latent_space import LatentSpace
from bayesjoint._kernels.matern import matern_correlation
from bayesjoint._local import approximations as _approximations
from bayesjoint.problem import build
from tests.helpers import STANDARD, data, log_likelihood

RNG = np.random.default_rng(11)
TIMES = np.array([0.0, 1.0, 2.5, 4.0, 5.0, 7.0])
LATER = TIMES + 0.4
THREE = {"a": 0.7, "b": 0.4, "c": 0.9}


def seen(name, times=TIMES, noise=None, design=None, **settings):
    dim = f"i_{name}"
    design = np.ones((len(times), 1)) if design is None else design
    values = data(np.sin(np.arange(len(times)) + len(name)), dim, {"time": (dim, times)})
    noise = noise or bj.GaussianNoise(sd=0.3)
    return bj.Modality(name, values, bj.linear_map(design, "m"), noise, **settings)


def problem_of(modalities, discrepancy):
    latent = bj.Parameter("m", STANDARD)
    return bj.JointProblem(latents=[latent], modalities=modalities, discrepancy=discrepancy)


def in_time(names="ab", **settings):
    return bj.JointDiscrepancy(
        sd={n: THREE[n] for n in names}, on="time", length_scale=2.0, **settings
    )


@pytest.mark.parametrize(
    ("modalities", "settings", "words"),
    [
        ([seen("a"), seen("b")], {}, "integrated out exactly, mode by mode of 6 shared places"),
        (
            [seen("a"), seen("b")],
            {"rank": 3},
            "integrated out approximately, by the 3 leading of 6 modes",
        ),
        ([seen("a"), seen("b", LATER)], {}, "integrated out exactly, in 24 modes"),
        ([seen("a"), seen("b", LATER)], {"rank": 5}, "integrated out approximately, in 10 leading"),
        ([seen("a"), seen("b")], {"form": "latent"}, "sampled exactly, in 12 modes, as asked"),
        (
            [seen("a"), seen("b", noise=bj.StudentTNoise(sd=0.3, nu=4))],
            {},
            "since a noise is not Gaussian or tempered",
        ),
        (
            [seen("a"), seen("b", noise=bj.GaussianNoise(sd=np.linspace(0.1, 0.6, 6)))],
            {},
            "integrated out exactly, in 12 modes",
        ),
    ],
)
def test_the_form_and_its_reason_are_stated(modalities, settings, words):
    tree = bj.linearize(problem_of(modalities, in_time(**settings)), at={"m": 0.0})
    (stated,) = tree["linearization"].attrs["discrepancy_forms"]
    assert words in stated
    assert ("nats" in stated) == ("rank" in settings)
    assert ("at these data" in stated) == ("3 leading" in words)


def test_leading_modes_at_places_that_are_not_shared():
    """The stated error bounds that of the log-density."""
    modalities = [seen("a"), seen("b", LATER)]
    problem = problem_of(modalities, in_time(correlation=0.5, rank=9))
    kernel = matern_correlation(cdist(*[np.concatenate([TIMES, LATER])[:, None]] * 2) / 2.0, 1.5)
    values, vectors = np.linalg.eigh(kernel)
    kept = (vectors[:, -9:] * values[-9:]) @ vectors[:, -9:].T
    sds = np.repeat([0.7, 0.4], 6)
    mixing = np.outer(sds, sds) * np.kron([[1, 0.5], [0.5, 1]], np.ones((6, 6)))
    total = mixing * kept + 0.09 * np.eye(12)
    residual = np.concatenate([m.data.values for m in modalities])
    expected = stats.multivariate_normal(cov=total).logpdf(residual)
    assert log_likelihood(problem)(m_white=0.0) == pytest.approx(expected, rel=1e-8)
    error = density_error(mixing * kernel + 0.09 * np.eye(12), total)
    (stated,) = bj.linearize(problem)["linearization"].attrs["discrepancy_forms"]
    bound = float(stated.split("off by about ")[1].split()[0])
    assert 0 < error < 1.1 * bound  # stated to one digit


GRID = bj.Grid(time=np.linspace(-2.0, 9.0, 12))


def density_error(whole, approximate):
    """Return the root mean square of ``log p_whole - log p_approximate`` of two Gaussians."""
    change = np.linalg.solve(approximate, whole) - np.eye(len(whole))
    mean = 0.5 * (np.trace(change) - np.linalg.slogdet(np.eye(len(whole)) + change)[1])
    return np.sqrt(mean**2 + 0.5 * np.trace(change @ change))


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"grid": GRID}, {"grid": GRID, "rank": 5, "form": "latent"}])
def test_the_error_of_a_grid_is_that_of_the_log_density(settings):
    """With an unknown length scale and sd, and another discrepancy, which is not an error of it."""
    modalities = [seen("a"), seen("b", LATER)]
    unknown = bj.JointDiscrepancy(
        sd={"a": 0.7, "b": bj.Prior(pm.HalfNormal, sigma=1.0)}, correlation=0.5, on="time",
        length_scale=bj.Prior(pm.LogNormal, mu=0.0, sigma=1.0), **settings,
    )  # fmt: skip
    apart = bj.JointDiscrepancy(sd={"a": 0.5}, name="apart")
    at = {"m": 0.0, "discrepancy_sd_b": 0.4, "discrepancy_length_scale": 2.0}
    problem = problem_of(modalities, [unknown, apart])
    stated, _ = bj.linearize(problem, at=at)["linearization"].attrs["discrepancy_forms"]
    functions = ModelFunctions(problem.replace(discrepancy=unknown))
    space = LatentSpace(functions)
    factor = functions.errors(space.point_of_values(at)).factor
    times = np.concatenate([TIMES, LATER])[:, None]
    kernel = matern_correlation(cdist(times, times) / 2.0, 1.5)
    sds = np.repeat([0.7, 0.4], 6)
    mixing = np.outer(sds, sds) * np.kron([[1, 0.5], [0.5, 1]], np.ones((6, 6)))
    noise = 0.09 * np.eye(12)
    expected = density_error(mixing * kernel + noise, factor @ factor.T + noise)
    assert expected > 1e-3
    assert f"log-density off by about {expected:.1g} nats" in stated
    covariances = mixing * kernel + noise, factor @ factor.T + noise
    residual = np.concatenate([m.data.values for m in modalities])
    there = np.subtract(*(stats.multivariate_normal(cov=c).logpdf(residual) for c in covariances))
    assert f"at these data by {abs(there):.1g}" in stated


def test_the_error_of_a_grid_in_model_space():
    """A field at four places, seen by two matrices."""
    places = np.array([0.0, 1.0, 2.5, 4.0])
    operators = {"a": RNG.normal(size=(3, 4)), "b": RNG.normal(size=(2, 4))}
    shared = bj.linear_map(np.ones((4, 1)), "m", coords={"x": places})
    modalities = [
        bj.Modality(name, data(np.zeros(len(rows)), f"i_{name}"), shared,
                    bj.GaussianNoise(sd=0.3), observe=rows)
        for name, rows in operators.items()
    ]  # fmt: skip
    grid = bj.Grid(x=np.linspace(-2.0, 6.0, 9))
    discrepancy = bj.JointDiscrepancy(of=shared, sd=0.5, on="x", length_scale=2.0, grid=grid)
    problem = problem_of(modalities, discrepancy)
    (stated,) = bj.linearize(problem)["linearization"].attrs["discrepancy_forms"]
    functions = ModelFunctions(problem)
    factor = functions.errors(functions.initial).factor
    seen_through = np.concatenate([*operators.values()])
    kernel = matern_correlation(cdist(places[:, None], places[:, None]) / 2.0, 1.5)
    noise = 0.09 * np.eye(5)
    exact = 0.25 * seen_through @ kernel @ seen_through.T + noise
    expected = density_error(exact, factor @ factor.T + noise)
    assert f"log-density off by about {expected:.1g} nats" in stated


def test_on_many_places_the_error_of_a_grid_is_that_of_its_covariance(monkeypatch):
    loads = {"a": 0.7, "b": 0.4}
    cause = bj.JointDiscrepancy(loadings=loads, sd=1.0, on="time", length_scale=2.0, grid=GRID)
    problem = problem_of([seen("a"), seen("b", LATER)], cause)
    monkeypatch.setattr(_approximations, "DENSE_LIMIT", 11)  # one less than there are data
    (stated,) = bj.linearize(problem)["linearization"].attrs["discrepancy_forms"]
    functions = ModelFunctions(problem)
    unit = functions.errors(functions.initial).factor / np.repeat([0.7, 0.4], 6)[:, None]
    times = np.concatenate([TIMES, LATER])[:, None]
    error = np.abs(unit @ unit.T - matern_correlation(cdist(times, times) / 2.0, 1.5))
    assert f"covariances off by up to {error.max():.1g} of the variance between 12 of" in stated
    assert f"12 places, variances by up to {np.diag(error).max():.1g}" in stated


@pytest.mark.slow
def test_a_product_of_functions_on_a_lattice_is_dense_algebra():
    """Two modalities on six times by three places, unlike a third beside them."""
    axes = {"time": TIMES, "place": np.array([0.0, 1.0, 3.0])}
    values = {name: RNG.normal(size=(6, 3)) for name in "ab"}
    modalities = [
        bj.Modality(
            name, data(values[name], ("time", "place"), axes),
            bj.linear_map(np.ones((18, 1)), "m"), bj.GaussianNoise(sd=0.3),
        )
        for name in "ab"
    ]  # fmt: skip
    discrepancy = bj.JointDiscrepancy(
        sd={"a": 0.7, "b": bj.Prior(pm.HalfNormal, sigma=1.0)}, correlation=-0.6,
        on=("time", "place"), length_scale={"time": 2.0, "place": 0.8},
        kernel={"time": "matern", "place": "periodic"}, period=4.0,
    )  # fmt: skip
    beside = seen("other", LATER)
    problem = problem_of([modalities[0], beside, modalities[1]], discrepancy)
    in_times = matern_correlation(cdist(TIMES[:, None], TIMES[:, None]) / 2.0, 1.5)
    apart = np.subtract.outer(axes["place"], axes["place"])
    in_places = np.exp(-2 * np.sin(np.pi * apart / 4.0) ** 2 / 0.8**2)
    sd = stats.halfnorm.ppf(stats.norm.cdf(0.3))
    mixing = np.array([[0.49, -0.6 * 0.7 * sd], [-0.6 * 0.7 * sd, sd**2]])
    total = np.kron(mixing, np.kron(in_times, in_places)) + 0.09 * np.eye(36)
    total = block_diag(total, 0.09 * np.eye(6))
    residual = np.concatenate([values["a"].ravel(), values["b"].ravel(), beside.data.values]) - 0.5
    expected = stats.multivariate_normal(cov=total).logpdf(residual)
    found = log_likelihood(problem)(m_white=0.5, discrepancy_sd_b_white=0.3)
    assert found == pytest.approx(expected, rel=1e-9)
    at = {"m": 0.5, "discrepancy_sd_b": sd}
    linear = bj.linearize(problem, at=at)["linearization"]
    ones = np.ones(42)
    eigenvalues = np.sort(linear["eigenvalues"].values)
    assert eigenvalues[-1] == pytest.approx(ones @ np.linalg.solve(total, ones), rel=1e-8)


def thermometer(times, sd=0.05):
    dim = "i_thermometer"
    values = data(np.cos(np.arange(len(times))), dim, {"time": (dim, times)})
    return bj.Modality("thermometer", values, None, bj.GaussianNoise(sd=sd))


@pytest.mark.parametrize("observed", [0, 2, 6])
def test_an_instrument_that_sees_the_cause_alone(observed):
    """The cause unobserved, partly and always observed: posterior sd against dense algebra."""
    loadings = {"a": 1.0, "b": 0.8} | ({"thermometer": 1.0} if observed else {})
    modalities = [seen("a"), seen("b")] + ([thermometer(TIMES[:observed])] if observed else [])
    discrepancy = bj.JointDiscrepancy(loadings=loadings, sd=0.6, on="time", length_scale=2.0)
    problem = problem_of(modalities, discrepancy)
    times = np.concatenate([TIMES, TIMES, TIMES[:observed]])[:, None]
    loads = np.repeat([1.0, 0.8, 1.0], [6, 6, observed])
    noise = np.repeat([0.3, 0.3, 0.05], [6, 6, observed])
    total = 0.36 * np.outer(loads, loads) * matern_correlation(cdist(times, times) / 2.0, 1.5)
    total += np.diag(noise**2)
    design = np.repeat([1.0, 1.0, 0.0], [6, 6, observed])
    precision = 1.0 + design @ np.linalg.solve(total, design)
    tree = bj.linearize(problem)
    contraction = float(bj.identifiability(tree)["contraction"].sel(parameter="m"))
    assert 1.0 - contraction == pytest.approx(1.0 / precision, rel=1e-8)
    assert list(problem.separate()) == ["a", "b"]
    if observed:
        information = bj.information(tree).sel(modality="thermometer")
        assert float(information["eig_alone"]) == pytest.approx(0.0, abs=1e-12)
        assert float(information["eig_conditional"]) > 0.1


def test_coordinates_named_as_a_dim_are_kept_under_a_name_of_their_own():
    """Times of a thermometer on readings, beside data whose dim is time."""
    problem = problem_of(
        [bj.Modality("a", data(np.zeros(6), "time", {"time": TIMES}), bj.linear_map(
            np.ones((6, 1)), "m"), bj.GaussianNoise(sd=0.3)),
         bj.Modality("t", data(np.zeros(2), "time", {"time": TIMES[:2]}).swap_dims(time="reading"),
             None, bj.GaussianNoise(sd=0.1))],
        bj.JointDiscrepancy(loadings={"a": 1.0, "t": 1.0}, sd=0.6, on="time", length_scale=2.0),
    )  # fmt: skip
    simulated = bj.simulate(problem, random_seed=0)
    np.testing.assert_array_equal(simulated["t"]["t_time"], TIMES[:2])
    np.testing.assert_array_equal(simulated["a"]["time"], TIMES)


def test_an_instrument_without_map_needs_a_discrepancy():
    message = "'thermometer': its map 'thermometer' reads no latent, and no discrepancy acts on it"
    with pytest.raises(ValueError, match=message):
        problem_of([seen("a"), thermometer(TIMES)], None)
    with pytest.raises(ValueError, match="there is no map to observe"):
        bj.Modality("t", data([1.0]), None, bj.GaussianNoise(sd=1.0), observe=np.eye(1))


BLOCKS = {"aa": np.diag([0.5, 0.2]), "ab": np.array([[0.1], [0.1]]), "bb": np.array([[0.3]])}
GIVEN = {tuple(pair): block for pair, block in BLOCKS.items()}


@pytest.mark.parametrize("sd", [None, bj.Prior(pm.LogNormal, mu=0.0, sigma=0.5)])
def test_a_given_covariance(sd):
    modalities = [seen("a", TIMES[:2]), seen("b", TIMES[:1])]
    problem = problem_of(modalities, bj.JointDiscrepancy(covariance=GIVEN, sd=sd))
    factor = 1.0 if sd is None else np.exp(0.2)
    stacked = np.block([[BLOCKS["aa"], BLOCKS["ab"]], [BLOCKS["ab"].T, BLOCKS["bb"]]])
    total = factor**2 * stacked + 0.09 * np.eye(3)
    residual = np.concatenate([m.data.values for m in modalities])
    expected = stats.multivariate_normal(cov=total).logpdf(residual)
    white = {} if sd is None else {"discrepancy_sd_white": 0.4}
    assert log_likelihood(problem)(m_white=0.0, **white) == pytest.approx(expected, rel=1e-9)
    (kept,) = problem.without("b").discrepancies
    assert list(kept.covariance) == [("a", "a")]


# Unknown correlation matrices.


@pytest.fixture(scope="module")
def of_matrix():
    prior = bj.Prior(pm.LKJCorr, n=3, eta=2.0)
    return problem_of([seen(n) for n in "abc"], in_time("abc", correlation=prior))


def test_an_unknown_correlation_matrix_has_one_number_a_pair(of_matrix):
    """PyMC's variable is a Cholesky factor: its product must be what mixes the modalities."""
    made = build(of_matrix)
    pairs = np.array([0.5, -0.2, 0.3])
    tree = bj.linearize(of_matrix, at={"m": 0.5, "discrepancy_correlation": pairs})
    linear = tree["linearization"]
    np.testing.assert_allclose(linear["discrepancy_correlation"], pairs, atol=1e-7)
    names = ["a, b", "a, c", "b, c"]
    assert list(linear["discrepancy_correlation_pair"].values) == names
    assert made.model.coords["discrepancy_correlation_pair"] == tuple(names)
    matrix = np.eye(3)
    matrix[np.triu_indices(3, 1)] = matrix.T[np.triu_indices(3, 1)] = pairs
    sds = np.array(list(THREE.values()))
    kernel = matern_correlation(cdist(TIMES[:, None], TIMES[:, None]) / 2.0, 1.5)
    total = np.kron(np.outer(sds, sds) * matrix, kernel) + 0.09 * np.eye(18)
    ones = np.ones(18)
    information = ones @ np.linalg.solve(total, ones)
    assert 1.0 in [pytest.approx(v / information, rel=1e-6) for v in linear["eigenvalues"].values]


def test_fewer_modalities_keep_the_prior_of_their_correlation(of_matrix):
    """Pairs under LKJ(eta) of size n have beta(a, a) on (-1, 1), a = eta - 1 + n / 2."""
    (kept,) = of_matrix.without("b").discrepancies
    prior = kept.correlation
    assert (prior.parameters["n"], prior.parameters["eta"]) == (2, 2.5)
    assert 2.0 - 1 + 3 / 2 == prior.parameters["eta"] - 1 + 2 / 2
    (alone,) = of_matrix.without("b", "c").discrepancies
    assert alone.correlation is None


def test_balance_says_what_an_instrument_of_the_cause_alone_is_for():
    loadings = {"a": 1.0, "b": 0.8, "thermometer": 1.0}
    discrepancy = bj.JointDiscrepancy(loadings=loadings, sd=0.6, on="time", length_scale=2.0)
    problem = problem_of([seen("a"), seen("b"), thermometer(TIMES)], discrepancy)
    words = bj.balance(problem).attrs["words"]
    (found,) = [text for text in words if text.startswith("thermometer carries")]
    assert "alone it would tell nothing, on top of the others" in found
    assert "it sees what the errors of the others share" in found
    blind = problem_of([seen("a"), seen("b"), thermometer(TIMES, sd=1e6)], discrepancy)
    (found,) = [w for w in bj.balance(blind).attrs["words"] if w.startswith("thermometer carries")]
    assert "no unknown moves its data" in found
