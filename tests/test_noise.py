"""Noise: log-densities of the model against scipy, and Fisher information against integrals."""

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from scipy import stats
from scipy.integrate import quad

import bayesjoint as bj
from bayesjoint._compiled.density import CompiledDensity
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._graph.compile import INTERPRETED
from bayesjoint.problem import build
from tests.chance import CHANCE, uniform
from tests.helpers import STANDARD, data, evaluator, log_likelihood

RNG = np.random.default_rng(4)
DESIGN = RNG.normal(size=(5, 2))
OBSERVED = RNG.normal(size=5)
WHITE = np.array([0.4, -0.9])
MEAN = DESIGN @ WHITE
SDS = np.array([0.1, 0.2, 0.5, 1.0, 2.0])
ROOT = RNG.normal(size=(5, 5))
COVARIANCE = ROOT @ ROOT.T + np.eye(5)
UNKNOWN = bj.Prior(pm.LogNormal, mu=np.log(0.7), sigma=0.5)


def problem_of(noise, values=OBSERVED, forward=None, **settings):
    observed = values if hasattr(values, "dims") else data(values)
    forward = forward or bj.linear_map(DESIGN, "m")
    modality = bj.Modality("y", observed, forward, noise, **settings)
    latent = bj.Parameter("m", STANDARD, coords={"part": [0, 1]})
    return bj.JointProblem(latents=[latent], modalities=[modality])


def found(noise, values=OBSERVED, forward=None, **point):
    return log_likelihood(problem_of(noise, values, forward))(m_white=WHITE, **point)


def normal(sd):
    return stats.norm(MEAN, sd).logpdf(OBSERVED).sum()


def student(sd):
    return stats.t(4, MEAN, sd).logpdf(OBSERVED).sum()


def correlated(scale):
    return stats.multivariate_normal(MEAN, scale**2 * COVARIANCE).logpdf(OBSERVED)


@pytest.mark.parametrize("sd", [0.3, SDS, data(SDS)])
def test_gaussian(sd):
    assert found(bj.GaussianNoise(sd=sd)) == pytest.approx(normal(getattr(sd, "values", sd)))


@pytest.mark.parametrize("sd", [0.3, SDS, data(SDS)])
def test_student_t(sd):
    noise = bj.StudentTNoise(sd=sd, nu=4)
    assert found(noise) == pytest.approx(student(getattr(sd, "values", sd)))


def test_correlated():
    assert found(bj.CorrelatedNoise(covariance=COVARIANCE)) == pytest.approx(correlated(1.0))
    noise = bj.CorrelatedNoise(covariance=COVARIANCE, scale=3.0)
    assert found(noise) == pytest.approx(correlated(3.0))


def test_poisson():
    counts = np.array([0, 3, 1, 7, 20])
    rate = bj.pytensor_map(lambda m: pt.exp(pt.dot(DESIGN, m)), "m")
    expected = stats.poisson(np.exp(MEAN)).logpmf(counts).sum()
    assert found(bj.PoissonNoise(), counts, rate) == pytest.approx(expected)
    assert found(bj.PoissonNoise(), counts.astype(float), rate) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("noise", "name", "expected"),
    [
        (bj.GaussianNoise(sd=UNKNOWN), "y_sd", normal),
        (bj.StudentTNoise(sd=UNKNOWN, nu=4), "y_sd", student),
        (bj.GaussianNoise(sd=SDS, scale=UNKNOWN), "y_scale", lambda s: normal(s * SDS)),
        (bj.StudentTNoise(sd=SDS, nu=4, scale=UNKNOWN), "y_scale", lambda s: student(s * SDS)),
        (bj.CorrelatedNoise(covariance=COVARIANCE, scale=UNKNOWN), "y_scale", correlated),
    ],
)
def test_unknown_scale(noise, name, expected):
    made = build(problem_of(noise))
    assert [u.name for u in made.unknowns if u.of_errors] == [name]
    value = 0.7 * np.exp(0.5 * 1.3)
    assert evaluator(made, made.values[name])(**{f"{name}_white": 1.3}) == pytest.approx(value)
    assert found(noise, **{f"{name}_white": 1.3}) == pytest.approx(expected(value))


def test_a_labelled_sd_follows_its_labels_not_its_order():
    x = np.array([3.0, 1.0, 2.0])
    observed = data([0.1, 0.2, 0.3], "x", {"x": x})
    sd = data([1.0, 2.0, 3.0], "x", {"x": [1.0, 2.0, 3.0]})
    noise = bj.GaussianNoise(sd=sd)
    expected = stats.norm(DESIGN[:3] @ WHITE, x).logpdf(observed).sum()
    assert found(noise, observed, bj.linear_map(DESIGN[:3], "m")) == pytest.approx(expected)


def test_a_labelled_sd_may_lack_a_dimension_of_the_data():
    observed = data(RNG.normal(size=(3, 2)), ("station", "component"))
    noise = bj.GaussianNoise(sd=data([0.5, 2.0], "component"))
    design = RNG.normal(size=(6, 2))
    mean = (design @ WHITE).reshape(3, 2)
    expected = stats.norm(mean, [0.5, 2.0]).logpdf(observed).sum()
    assert found(noise, observed, bj.linear_map(design, "m")) == pytest.approx(expected)


@pytest.mark.parametrize("power", [1 / 6, 1.0, 2.0])
@pytest.mark.parametrize("noise", [bj.GaussianNoise(sd=0.3), bj.StudentTNoise(sd=0.3, nu=4)])
def test_power_tempers_the_likelihood(noise, power):
    model = bj.build_model(problem_of(noise, power=power))
    density = model.compile_logp(vars=[*model.observed_RVs, *model.potentials], mode=INTERPRETED)
    plain = normal(0.3) if isinstance(noise, bj.GaussianNoise) else student(0.3)
    assert density({"m_white": WHITE}) == pytest.approx(power * plain)


# What the linearisation needs to know of each noise.


def expectation(density, function):
    return quad(lambda y: density.pdf(y) * function(y), -np.inf, np.inf, epsabs=1e-10)[0]


@pytest.mark.parametrize("nu", [1.5, 4.0, 30.0])
def test_fisher_information_of_student_t(nu):
    """Expected squared derivatives of the log-density, by quadrature."""
    sd, density = 0.8, stats.t(nu, 0.0, 0.8)
    noise = bj.StudentTNoise(sd=sd, nu=nu)
    terms = build(problem_of(noise)).noise["y"]
    response = expectation(density, lambda y: ((nu + 1) * y / (nu * sd**2 + y**2)) ** 2)
    variance = noise.variance(None, terms).eval(mode=INTERPRETED)
    np.testing.assert_allclose(1.0 / variance, response, rtol=1e-7)
    of_scale = expectation(density, lambda y: ((nu + 1) * y**2 / (nu * sd**2 + y**2) - 1.0) ** 2)
    assert 2.0 * noise.scale_information == pytest.approx(of_scale, rel=1e-7)


def test_information_of_counts_is_the_inverse_expectation():
    assert bj.PoissonNoise().variance(3.5, None) == 3.5


class UnitNormals:
    """Gives one unit vector of standard normal numbers after the other."""

    def __init__(self, size):
        self.units = iter(np.eye(size))

    def standard_normal(self, shape):
        return next(self.units).reshape(shape)


def test_replicates_have_the_stated_covariance():
    for noise, sd, expected in [
        (bj.GaussianNoise(sd=SDS), SDS, np.diag(SDS**2)),
        (bj.CorrelatedNoise(covariance=COVARIANCE), 2.0, 4.0 * COVARIANCE),
    ]:
        normals = UnitNormals(5)
        factor = np.stack([noise.draw(normals, np.zeros(5), sd) for _ in range(5)], axis=1)
        np.testing.assert_allclose(factor @ factor.T, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bj.GaussianNoise(), "GaussianNoise: sd is not given; give it in the units of the"),
        (lambda: bj.GaussianNoise(sd=-0.1), "sd must be positive, the smallest given is -0.1"),
        (lambda: bj.GaussianNoise(sd=[1.0, 0.0]), "sd must be positive, the smallest given is 0"),
        (lambda: bj.GaussianNoise(sd=np.inf), "sd is not finite; give a positive number"),
        (lambda: bj.GaussianNoise(sd=1.0, scale=-2.0), "scale must be positive"),
        (lambda: bj.GaussianNoise(sd=1.0, scale=[1.0, 2.0]), "scale must be one number or a prior"),
        (
            lambda: bj.GaussianNoise(sd=UNKNOWN, scale=UNKNOWN),
            "sd and scale are both unknown; only",
        ),
        (
            lambda: bj.StudentTNoise(sd=1.0),
            "nu is not given; 4 is heavy-tailed, 30 nearly Gaussian",
        ),
        (lambda: bj.StudentTNoise(sd=1.0, nu=-1), "StudentTNoise: nu must be positive"),
        (
            lambda: bj.StudentTNoise(sd=1.0, nu=UNKNOWN),
            "nu must be a number; give the scale a prior",
        ),
        (lambda: bj.CorrelatedNoise(), "covariance is not given; give the covariance of the data"),
        (lambda: bj.CorrelatedNoise(covariance=np.ones((2, 3))), r"square matrix is needed"),
        (lambda: bj.CorrelatedNoise(covariance=np.eye(2) * np.nan), "covariance is not finite"),
        (lambda: bj.CorrelatedNoise(covariance=[[1, 2], [0, 1]]), "the matrix is not symmetric"),
        (
            lambda: bj.CorrelatedNoise(covariance=[[1, 2], [2, 1]]),
            "not positive definite, its smallest eigenvalue is -1; add independent variance",
        ),
    ],
)
def test_errors_when_noise_is_made(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("noise", "values", "message"),
    [
        (
            bj.GaussianNoise(sd=SDS[:4]),
            OBSERVED,
            r"the noise sd: an array of shape \(4,\) given for the data of shape \(5,\)",
        ),
        (bj.GaussianNoise(sd=data(SDS, "ray")), OBSERVED, "the noise sd: an array"),
        (
            bj.GaussianNoise(sd=data(SDS, "x", {"x": np.arange(1, 6)})),
            data(OBSERVED, "x", {"x": np.arange(5)}),
            "1 of 5 labels of the data are not there",
        ),
        (bj.CorrelatedNoise(covariance=np.eye(4)), OBSERVED, "has 4 rows, there are 5 data"),
        (
            bj.CorrelatedNoise(covariance=np.eye(6)),
            data(np.zeros((3, 2)), ("a", "b")),
            "CorrelatedNoise needs data of one dimension; stack them",
        ),
        (bj.PoissonNoise(), [1.0, 2.5, 0.0, 1.0, 1.0], "PoissonNoise needs counts, whole numbers"),
        (bj.PoissonNoise(), [1, -2, 0, 1, 1], "PoissonNoise needs counts, whole numbers"),
    ],
)
def test_errors_where_noise_does_not_fit_the_data(noise, values, message):
    with pytest.raises(ValueError, match=f"modality 'y': .*{message}"):
        problem_of(noise, values)


def test_counts_need_a_positive_expectation():
    with pytest.raises(
        ValueError, match="'y': PoissonNoise needs a positive expectation, -.* rate"
    ):
        problem_of(bj.PoissonNoise(), [1, 2, 0, 1, 1])


def test_distribution_functions_are_uniform_at_data_of_the_model():
    rng, count = np.random.default_rng(11), 2000
    mean, sd = rng.uniform(2.0, 9.0, count), np.full(count, 0.7)
    for noise in (
        bj.GaussianNoise(sd=0.7),
        bj.StudentTNoise(sd=0.7, nu=4),
        bj.PoissonNoise(),
    ):
        drawn = noise.draw(rng, mean, sd)
        below = noise.cdf(drawn, mean, sd)
        assert uniform(below, chance=CHANCE / 3), type(noise).__name__
    counts = noise.draw(rng, mean, sd)
    share = noise.cdf(counts, mean, sd)
    assert np.all(share <= stats.poisson.cdf(counts, mean))
    assert np.all(share >= stats.poisson.cdf(counts - 1, mean))
    np.testing.assert_array_equal(share, noise.cdf(counts, mean, sd))  # not drawn anew


@pytest.mark.parametrize("backend", ["interpreted", "numba"])
def test_a_scale_that_underflows_is_impossible_and_no_error(backend):
    noise = bj.GaussianNoise(sd=bj.Prior(pm.HalfNormal, sigma=1.0))
    functions = ModelFunctions(problem_of(noise))
    point = functions.initial.copy()
    point[functions.slices["y_sd_white"]] = -50.0
    density = CompiledDensity(functions, backend)
    assert np.isfinite(density(functions.initial)[0])
    assert density(point)[0] == -np.inf


def counted(rate, counts, sd):
    """Counts of a known rate with an error of the physics that is sampled."""
    level = bj.Parameter("level", bj.Prior(pm.Uniform, lower=rate, upper=rate + 0.1))
    forward = bj.linear_map(np.ones((4, 1)), "level")
    modality = bj.Modality("y", data(counts), forward, bj.PoissonNoise())
    errors = bj.JointDiscrepancy(sd={"y": sd})
    return bj.JointProblem(latents=[level], modalities=[modality], discrepancy=errors)


def test_nothing_is_counted_where_a_discrepancy_takes_the_expectation_below_zero():
    likelihood = log_likelihood(counted(2.0, [0, 0, 3, 1], 1.5))
    white = np.array([-2.0, 1.0, 0.5, -1.0])  # the first expects less than zero
    expected = stats.poisson([0.0, 3.55, 2.8, 0.55]).logpmf([0, 0, 3, 1]).sum()
    assert likelihood(discrepancy_white=white) == pytest.approx(expected)
    assert likelihood(discrepancy_white=white[[1, 1, 0, 1]]) < -100.0


@pytest.mark.slow
def test_counts_with_a_discrepancy_larger_than_their_rate_are_simulated():
    drawn = [
        bj.simulate(counted(2.0, [0, 0, 3, 1], 4.0), random_seed=seed)["y"].values
        for seed in range(20)
    ]
    chance = stats.norm.expect(lambda white: np.exp(-np.maximum(2.05 + 4.0 * white, 0.0)))
    share = np.mean(np.concatenate(drawn) == 0)
    assert share == pytest.approx(chance, abs=3 * np.sqrt(chance * (1 - chance) / 80))


def test_the_prior_does_not_heed_data_that_are_impossible_at_a_point():
    functions = ModelFunctions(counts_of_a_line())
    density = CompiledDensity(functions, "interpreted")
    value, _ = density(np.array([-3.0]))
    prior, gradient = density.without_data()(np.array([-3.0]))
    assert value == -np.inf
    assert prior == pytest.approx(stats.norm.logpdf(-3.0))
    np.testing.assert_allclose(gradient, [3.0])


def counts_of_a_line():
    """Counts whose expectation is below zero in one of a hundred draws of the prior."""
    level = bj.Parameter("level", bj.Prior(pm.Normal, mu=5.0, sigma=2.0))
    forward = bj.linear_map(np.ones((2, 1)), "level")
    modality = bj.Modality("y", data([4, 6]), forward, bj.PoissonNoise())
    return bj.JointProblem(latents=[level], modalities=[modality])
