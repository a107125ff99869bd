"""Priors against scipy: the map from white coordinates, its tails and its derivative."""

import pickle

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pymc.pytensorf import rewrite_pregrad
from pytensor.gradient import pushforward
from scipy import special, stats

import bayesjoint as bj
from bayesjoint._graph.compile import INTERPRETED
from bayesjoint.problem import build
from tests.helpers import evaluator, log_density

Z = np.array([-8.0, -5.0, -2.0, -0.3, 0.0, 1e-3, 1.0, 3.0, 5.0, 8.0])

ACCURATE = {
    "normal": (bj.Prior(pm.Normal, mu=3.0, sigma=0.5), stats.norm(3.0, 0.5)),
    "normal by precision": (bj.Prior(pm.Normal, mu=3.0, tau=4.0), stats.norm(3.0, 0.5)),
    "standard normal": (bj.Prior(pm.Normal), stats.norm()),
    "log-normal": (bj.Prior(pm.LogNormal, mu=1.0, sigma=0.3), stats.lognorm(0.3, scale=np.e)),
    "half-normal": (bj.Prior(pm.HalfNormal, sigma=2.0), stats.halfnorm(scale=2.0)),
    "exponential": (bj.Prior(pm.Exponential, lam=4.0), stats.expon(scale=0.25)),
    "exponential by scale": (bj.Prior(pm.Exponential, scale=0.25), stats.expon(scale=0.25)),
    "truncated normal": (
        bj.Prior(pm.TruncatedNormal, mu=1.0, sigma=2.0, lower=-1.0, upper=5.0),
        stats.truncnorm(-1.0, 2.0, 1.0, 2.0),
    ),
    "truncated on one side": (
        bj.Prior(pm.TruncatedNormal, mu=0.5, sigma=0.2, lower=0.0),
        stats.truncnorm(-2.5, np.inf, 0.5, 0.2),
    ),
    "truncated far from its mean": (
        bj.Prior(pm.TruncatedNormal, mu=0.0, sigma=1.0, lower=7.0, upper=9.0),
        stats.truncnorm(7.0, 9.0),
    ),
    "inverse gamma": (
        bj.Prior(pm.InverseGamma, alpha=3.0, beta=0.15),
        stats.invgamma(3.0, scale=0.15),
    ),
    "uniform": (bj.Prior(pm.Uniform, lower=-2.0, upper=5.0), stats.uniform(-2.0, 7.0)),
}
THROUGH_ICDF = {
    "gamma": (bj.Prior(pm.Gamma, alpha=2.0, beta=3.0), stats.gamma(2.0, scale=1 / 3)),
    "beta": (bj.Prior(pm.Beta, alpha=2.0, beta=3.0), stats.beta(2.0, 3.0)),
    "Student t": (bj.Prior(pm.StudentT, nu=4, mu=1.0, sigma=2.0), stats.t(4, 1.0, 2.0)),
    "Cauchy": (bj.Prior(pm.Cauchy, alpha=0.0, beta=1.0), stats.cauchy(0.0, 1.0)),
    "Weibull": (bj.Prior(pm.Weibull, alpha=2.0, beta=1.5), stats.weibull_min(2.0, scale=1.5)),
}


def white_map(prior, z):
    return prior.from_white(pt.constant(np.asarray(z))).eval(mode=INTERPRETED)


def quantiles(reference, z):
    """Each tail from its own side, so that nothing is lost near probability one."""
    z = np.asarray(z)
    lower = reference.ppf(stats.norm.cdf(z))
    if isinstance(reference.dist, type(stats.halfnorm)):  # whose ppf cancels near zero
        lower = reference.kwds["scale"] * np.sqrt(2.0) * special.erfinv(stats.norm.cdf(z))
    return np.where(z <= 0, lower, reference.isf(stats.norm.sf(z)))


@pytest.mark.parametrize("name", ACCURATE)
def test_white_map_agrees_with_scipy_far_into_both_tails(name):
    prior, reference = ACCURATE[name]
    assert prior.is_white
    # Of these the reference loses digits further out.
    z = Z[np.abs(Z) <= 5] if "truncated" in name or "precision" in name else Z
    np.testing.assert_allclose(white_map(prior, z), quantiles(reference, z), rtol=1e-10)


def test_truncation_keeps_the_upper_tail():
    """The chance of exceeding m(z) is that of exceeding z, up to the part cut off."""
    prior, _ = ACCURATE["truncated on one side"]
    exceeding = stats.norm(0.5, 0.2).sf(white_map(prior, 8.0)) / stats.norm(0.5, 0.2).sf(0.0)
    assert exceeding == pytest.approx(stats.norm.sf(8.0), rel=1e-9)


def test_a_scale_with_an_inverse_gamma_prior_stays_off_zero():
    z = np.array([-37.0, -20.0, -10.0])
    expected = 0.15 / special.gammainccinv(3.0, stats.norm.cdf(z))
    np.testing.assert_allclose(white_map(ACCURATE["inverse gamma"][0], z), expected)


@pytest.mark.parametrize("name", THROUGH_ICDF)
def test_other_distributions_go_through_their_quantile_function(name):
    prior, reference = THROUGH_ICDF[name]
    assert prior.is_white
    z = np.array([-5.0, -3.0, -1.0, 0.0, 1.0, 3.0])
    np.testing.assert_allclose(white_map(prior, z), quantiles(reference, z), rtol=1e-8)


@pytest.mark.parametrize("name", THROUGH_ICDF)
def test_the_far_tail_stays_finite(name):
    assert np.all(np.isfinite(white_map(THROUGH_ICDF[name][0], [9.0, 12.0, 30.0])))


@pytest.mark.parametrize("name", [*ACCURATE, *THROUGH_ICDF])
def test_derivative_is_the_ratio_of_densities(name):
    """dm/dz = phi(z) / p(m), by the change of variables."""
    prior, reference = (ACCURATE | THROUGH_ICDF)[name]
    z = np.array([-6.0, -2.0, -0.5, 0.0, 0.5, 2.0, 3.0])
    white = pt.vector("white")
    # As PyMC does before it takes the gradient of a model.
    value = rewrite_pregrad(prior.from_white(white))
    slopes = [pt.grad(value.sum(), white), pushforward(value, white, pt.ones_like(white))]
    expected = stats.norm.pdf(z) / reference.pdf(quantiles(reference, z))
    for found in pytensor.function([white], slopes, mode=INTERPRETED)(z):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("name", [*ACCURATE, *THROUGH_ICDF])
def test_log_density_is_summed_over_elements(name):
    prior, reference = (ACCURATE | THROUGH_ICDF)[name]
    values = reference.ppf([0.2, 0.5, 0.9])
    found = prior.log_density(pt.constant(values)).eval(mode=INTERPRETED)
    np.testing.assert_allclose(found, reference.logpdf(values).sum(), rtol=1e-6)


def test_vector_parameters_give_each_element_its_own_prior():
    prior = bj.Prior(pm.Normal, mu=[0.0, 10.0], sigma=[1.0, 2.0])
    np.testing.assert_allclose(white_map(prior, [1.0, -1.0]), [1.0, 8.0])


@pytest.mark.parametrize(
    "prior",
    [bj.Prior(pm.VonMises, mu=0.0, kappa=1.0), bj.Prior(pm.SkewNormal, mu=0, sigma=1, alpha=-2)],
)
def test_without_a_quantile_function_the_distribution_itself_is_sampled(prior):
    assert not prior.is_white
    angle = bj.Parameter("angle", prior)
    model = bj.build_model(bj.JointProblem(latents=[angle], modalities=[]))
    assert [v.name for v in model.free_RVs] == ["angle"]


def test_dirichlet_stays_in_unconstrained_coordinates():
    share = bj.Parameter(
        "share", bj.Prior(pm.Dirichlet, a=np.ones(3)), coords={"part": list("abc")}
    )
    made = build(bj.JointProblem(latents=[share], modalities=[]))
    assert [v.name for v in made.model.free_RVs] == ["share"]
    assert [u.white for u in made.unknowns] == [False]
    assert made.model.named_vars_to_dims["share"] == ("part",)


def test_white_variable_is_standard_normal_in_the_model():
    depth = bj.Parameter("depth", bj.Prior(pm.LogNormal, mu=1.0, sigma=0.3))
    made = build(bj.JointProblem(latents=[depth], modalities=[]))
    assert log_density(made.model)(depth_white=1.7) == pytest.approx(stats.norm.logpdf(1.7))
    value, prior = evaluator(made, [made.values["depth"], made.log_priors["depth"]])(
        depth_white=1.7
    )
    assert value == pytest.approx(np.exp(1.0 + 0.3 * 1.7))
    assert prior == pytest.approx(stats.lognorm(0.3, scale=np.e).logpdf(value))


def test_priors_pickle():
    prior = pickle.loads(pickle.dumps(bj.Prior(pm.Gamma, alpha=2.0, beta=3.0)))
    assert repr(prior) == "Prior(Gamma, alpha=2.0, beta=3.0)"
    assert white_map(prior, 0.0) == pytest.approx(stats.gamma(2.0, scale=1 / 3).median())


@pytest.mark.parametrize(
    ("distribution", "parameters", "message"),
    [
        (dict, {}, "not a PyMC distribution class; write bj.Prior"),
        (pm.Normal, {"mu": 0.0, "sigma": -1.0}, "must fulfil sigma > 0"),
        (pm.HalfNormal, {"sigma": 0.0}, "must fulfil sigma > 0"),
        (pm.Gamma, {"alpha": 2.0, "beta": -3.0}, "must fulfil alpha > 0, beta > 0"),
        (pm.Uniform, {"lower": 1.0, "upper": 0.0}, "must fulfil lower <= upper"),
        (pm.Normal, {"mu": np.nan, "sigma": 1.0}, "mu is NaN; give a number"),
        (pm.Normal, {"mu": 0.0, "sd": 2.0}, "no parameter 'sd'; there are .*'sigma'"),
        (pm.Gamma, {"alpha": 2.0}, "PyMC refuses these parameters"),
        (pm.Geometric, {"p": 0.3}, "discrete distribution has no derivative; use a continuous"),
    ],
)
def test_errors(distribution, parameters, message):
    with pytest.raises(ValueError, match=message):
        bj.Prior(distribution, **parameters)
