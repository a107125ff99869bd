"""Every distribution of one number works in both tails or is refused; scales are positive."""

import inspect

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pymc.distributions import continuous
from pymc.pytensorf import rewrite_pregrad
from scipy import integrate, special, stats

import bayesjoint as bj
from bayesjoint._graph.compile import INTERPRETED
from tests.helpers import STANDARD, data

Z = np.linspace(-8.0, 8.0, 33)
LOWER, UPPER = stats.norm.cdf(Z), stats.norm.sf(Z)

# Parameters of each, and the tail probabilities below and above a value.
WHITE = {
    "Normal": ({"mu": 1.0, "sigma": 2.0}, stats.norm(1.0, 2.0)),
    "LogNormal": ({"mu": 1.0, "sigma": 0.5}, stats.lognorm(0.5, scale=np.e)),
    "LogitNormal": ({"mu": 0.3, "sigma": 1.5}, None),
    "HalfNormal": ({"sigma": 2.0}, stats.halfnorm(scale=2.0)),
    "TruncatedNormal": ({"mu": 1.0, "sigma": 2.0, "lower": 0.5, "upper": 4.0}, None),
    "Uniform": ({"lower": -1.0, "upper": 3.0}, stats.uniform(-1.0, 4.0)),
    "Triangular": ({"lower": 0.0, "c": 0.3, "upper": 2.0}, stats.triang(0.15, 0.0, 2.0)),
    "Exponential": ({"lam": 3}, stats.expon(scale=1 / 3)),
    "Gamma": ({"mu": 2.0, "sigma": 1.5}, stats.gamma(16 / 9, scale=1.125)),
    "ChiSquared": ({"nu": 3}, stats.chi2(3)),
    "InverseGamma": ({"alpha": 3.0, "beta": 0.5}, stats.invgamma(3.0, scale=0.5)),
    "Beta": ({"alpha": 0.5, "beta": 3.0}, stats.beta(0.5, 3.0)),
    "Kumaraswamy": ({"a": 2.0, "b": 3.0}, None),
    "Weibull": ({"alpha": 2.0, "beta": 1.5}, stats.weibull_min(2.0, scale=1.5)),
    "Pareto": ({"alpha": 3.0, "m": 0.5}, stats.pareto(3.0, scale=0.5)),
    "Gumbel": ({"mu": 1.0, "beta": 2.0}, stats.gumbel_r(1.0, 2.0)),
    "Logistic": ({"mu": 1.0, "s": 2.0}, stats.logistic(1.0, 2.0)),
    "Laplace": ({"mu": 1.0, "b": 2.0}, stats.laplace(1.0, 2.0)),
    "AsymmetricLaplace": (
        {"b": 0.5, "kappa": 1.4, "mu": 1.0},
        stats.laplace_asymmetric(1.4, 1.0, 2.0),
    ),
    "Moyal": ({"mu": 1.0, "sigma": 2.0}, stats.moyal(1.0, 2.0)),
    "StudentT": ({"nu": 4, "mu": 1.0, "sigma": 2.0}, stats.t(4, 1.0, 2.0)),
    "HalfStudentT": ({"nu": 5, "sigma": 2.0}, None),
    "SkewStudentT": ({"a": 2.0, "b": 3.0, "mu": 1.0, "sigma": 2.0}, stats.jf_skew_t(2, 3, 1, 2)),
    "Cauchy": ({"alpha": 1.0, "beta": 2.0}, stats.cauchy(1.0, 2.0)),
    "HalfCauchy": ({"beta": 2.0}, stats.halfcauchy(scale=2.0)),
}
SAMPLED_ITSELF = {
    "ExGaussian": {"mu": 0.0, "sigma": 1.0, "nu": 1.0},
    "Interpolated": {"x_points": np.linspace(0, 1, 11), "pdf_points": np.ones(11)},
    "Rice": {"nu": 1.0, "sigma": 1.0},
    "SkewNormal": {"mu": 0.0, "sigma": 1.0, "alpha": 2.0},
    "VonMises": {"mu": 0.0, "kappa": 1.0},
    "Wald": {"mu": 1.0, "lam": 1.0},
}
REFUSED = {
    "Flat": ({}, "improper distribution has no draws.*give a proper one"),
    "HalfFlat": ({}, "improper distribution has no draws.*give a proper one"),
    "PolyaGamma": ({"h": 1.0, "z": 0.0}, "log-density cannot be computed.*use another"),
}


def tails(name, m):
    """Return the probabilities below and above m, of those that scipy has not or not accurately."""
    reference = WHITE[name][1]
    if name == "LogitNormal":
        t = (special.logit(m) - 0.3) / 1.5
        return stats.norm.cdf(t), stats.norm.sf(t)
    if name == "TruncatedNormal":
        whole = stats.norm(1.0, 2.0)
        mass = whole.cdf(4.0) - whole.cdf(0.5)
        return (whole.cdf(m) - whole.cdf(0.5)) / mass, (whole.sf(m) - whole.sf(4.0)) / mass
    if name == "Kumaraswamy":
        above = np.exp(3.0 * np.log1p(-(m**2)))
        return -np.expm1(3.0 * np.log1p(-(m**2))), above
    if name == "HalfStudentT":
        square = (m / 2.0) ** 2
        below = special.betainc(0.5, 2.5, square / (5.0 + square))
        return below, special.betainc(2.5, 0.5, 5.0 / (5.0 + square))
    if name == "Triangular":
        below, above = m**2 / 0.6, (2.0 - m) ** 2 / 3.4
        return np.where(m < 0.3, below, 1.0 - above), np.where(m < 0.3, 1.0 - below, above)
    return reference.cdf(m), reference.sf(m)


def test_all_continuous_distributions_of_pymc_are_walked():
    known = {
        found.__name__
        for name, found in inspect.getmembers(continuous, inspect.isclass)
        if issubclass(found, continuous.Continuous) and hasattr(pm, name)
    }
    others = {"ChiSquared", "LogitNormal"}  # which PyMC makes of a gamma and of a normal
    assert (known | others) - {"Continuous"} == set(WHITE) | set(SAMPLED_ITSELF) | set(REFUSED)


@pytest.mark.parametrize("name", WHITE)
def test_quantiles_are_right_in_both_tails(name):
    prior = bj.Prior(getattr(pm, name), **WHITE[name][0])
    assert prior.is_white
    found = prior.quantile(Z)
    assert np.all(np.isfinite(found)) and np.all(np.diff(found) >= 0)
    below, above = tails(name, found)
    # The tail probability of m moves by p(m) times the rounding of m.
    density = np.exp(pm.logp(prior.dist(), found).eval(mode=INTERPRETED))
    rounding = 8 * np.finfo(float).eps * np.where(np.isfinite(density), density, 0) * abs(found)
    left, right = (Z <= 0) & (LOWER > 1e-13), (Z > 0) & (UPPER > 1e-13)
    close = 1e-9 if name == "TruncatedNormal" else 1e-10
    assert np.all(np.abs(below - LOWER)[left] <= close * LOWER[left] + rounding[left])
    assert np.all(np.abs(above - UPPER)[right] <= close * UPPER[right] + rounding[right])


@pytest.mark.parametrize("name", WHITE)
def test_graphs_give_the_same_numbers_with_their_derivatives(name):
    prior = bj.Prior(getattr(pm, name), **WHITE[name][0])
    white = pt.vector("white")
    value = rewrite_pregrad(prior.from_white(white))
    outputs = [value, pt.grad(value.sum(), white)]
    found, slope = pytensor.function([white], outputs, mode=INTERPRETED)(Z)
    np.testing.assert_allclose(found, prior.quantile(Z), rtol=1e-12, atol=1e-14)
    assert np.all(np.isfinite(slope)) and np.all(slope >= 0)
    inside = np.abs(Z) <= 5
    expected = stats.norm.pdf(Z) / np.exp(pm.logp(prior.dist(), found).eval(mode=INTERPRETED))
    np.testing.assert_allclose(slope[inside], expected[inside], rtol=2e-6)


@pytest.mark.parametrize("name", SAMPLED_ITSELF)
def test_without_a_quantile_function_the_distribution_is_sampled_itself(name):
    assert not bj.Prior(getattr(pm, name), **SAMPLED_ITSELF[name]).is_white


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_sampled_is_refused(name):
    parameters, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        bj.Prior(getattr(pm, name), **parameters)


@pytest.mark.parametrize("name", [n for n in WHITE if n not in ("Cauchy", "HalfCauchy")])
def test_variances(name):
    prior = bj.Prior(getattr(pm, name), **WHITE[name][0])
    reference = WHITE[name][1]
    if reference is None:
        mean, square = (
            integrate.quad(
                lambda z, k=k: prior.quantile(np.array(z)) ** k * stats.norm.pdf(z), -12, 12,
                epsabs=1e-13, limit=200,
            )[0]
            for k in (1, 2)
        )  # fmt: skip
        expected = square - mean**2
    else:
        expected = reference.var()
    assert float(prior.variance) == pytest.approx(expected, rel=1e-7)


def test_there_is_no_variance_where_tails_are_too_heavy():
    for prior in (
        bj.Prior(pm.HalfCauchy, beta=1.0),
        bj.Prior(pm.StudentT, nu=2.0, mu=0, sigma=1),
        bj.Prior(pm.InverseGamma, alpha=2.0, beta=1.0),
    ):
        assert prior.variance == np.inf


@pytest.mark.parametrize(("lower", "upper"), [(30.0, np.inf), (-np.inf, -30.0), (8.0, 9.0)])
def test_a_normal_truncated_far_in_its_tail(lower, upper):
    """Beyond 30 the excess is all but exponential: quantiles against the log of the tail."""
    prior = bj.Prior(pm.TruncatedNormal, mu=0.0, sigma=1.0, lower=lower, upper=upper)
    found = prior.quantile(Z)
    assert np.all(np.isfinite(found)) and np.all((found >= lower) & (found <= upper))
    sign = 1.0 if lower > 0 else -1.0
    near, far = (lower, upper) if lower > 0 else (-upper, -lower)
    log_near, log_far = stats.norm.logsf(near), stats.norm.logsf(far)
    above = np.exp(stats.norm.logsf(sign * found) - log_near) - np.exp(log_far - log_near)
    expected = (UPPER if sign > 0 else LOWER) * -np.expm1(log_far - log_near)
    inside = sign * Z < 4
    np.testing.assert_allclose(above[inside], expected[inside], rtol=2e-11)


@pytest.mark.parametrize(
    ("prior", "settings", "message"),
    [
        (
            pm.Gamma,
            {"alpha": 0.01, "beta": 1.0},
            r"too small for a computer \(zero\); give the log",
        ),
        (pm.InverseGamma, {"alpha": 0.01, "beta": 0.01}, "no finite number; give a distribution"),
        (pm.LogNormal, {"mu": 0.0, "sigma": 100.0}, "no finite number; give a distribution"),
        (pm.Normal, {"mu": np.inf, "sigma": 1.0}, "no finite number; give a distribution"),
        (pm.Weibull, {"alpha": 0.01, "beta": 1.0}, "no finite number|too small"),
    ],
)
def test_quantiles_that_are_no_numbers_are_refused(prior, settings, message):
    with pytest.raises(ValueError, match=message):
        bj.Prior(prior, **settings)


# ---- scales -------------------------------------------------------------------------------------

WHOLE_LINE = [
    bj.Prior(pm.Normal, mu=10.0, sigma=0.01),
    bj.Prior(pm.StudentT, nu=4, mu=10.0, sigma=0.01),
    bj.Prior(pm.Uniform, lower=-1e-9, upper=1.0),
    bj.Prior(pm.SkewNormal, mu=10.0, sigma=0.1, alpha=2.0),
    bj.Prior(pm.Moyal, mu=1e6, sigma=1.0),
    bj.Prior(pm.TruncatedNormal, mu=1.0, sigma=1.0, lower=-0.5),
]
POSITIVE = [
    bj.Prior(pm.HalfNormal, sigma=1.0),
    bj.Prior(pm.LogNormal, mu=0.0, sigma=1.0),
    bj.Prior(pm.Uniform, lower=0.0, upper=1.0),
    bj.Prior(pm.TruncatedNormal, mu=1.0, sigma=1.0, lower=0.0),
    bj.Prior(pm.Truncated, dist=pm.Normal.dist(1.0, 1.0), lower=0.0),
    bj.Prior(pm.Wald, mu=1.0, lam=1.0),
    bj.Prior(pm.Rice, nu=1.0, sigma=1.0),
]
GRID = bj.Grid(x=np.arange(4.0))
SCALES = {
    "GaussianNoise sd": lambda p: bj.GaussianNoise(sd=p),
    "GaussianNoise scale": lambda p: bj.GaussianNoise(sd=1.0, scale=p),
    "StudentTNoise sd": lambda p: bj.StudentTNoise(sd=p, nu=4),
    "StudentTNoise scale": lambda p: bj.StudentTNoise(sd=1.0, nu=4, scale=p),
    "CorrelatedNoise scale": lambda p: bj.CorrelatedNoise(covariance=np.eye(2), scale=p),
    "GaussianField sd": lambda p: bj.GaussianField("f", GRID, sd=p, length_scale=1.0),
    "GaussianField length_scale": lambda p: bj.GaussianField("f", GRID, sd=1.0, length_scale=p),
    "JointDiscrepancy sd": lambda p: bj.JointDiscrepancy(sd={"m": p}),
    "JointDiscrepancy length_scale": lambda p: bj.JointDiscrepancy(
        sd={"m": 1.0}, on="x", length_scale=p
    ),
    "JointDiscrepancy length_scale of one coordinate": lambda p: bj.JointDiscrepancy(
        sd={"m": 1.0}, on=("x", "y"), length_scale={"x": p, "y": 1.0}
    ),
    "JointDiscrepancy sd of the cause": lambda p: bj.JointDiscrepancy(
        sd=p, loadings={"m": 1.0, "n": 2.0}
    ),
    "JointDiscrepancy sd of a covariance": lambda p: bj.JointDiscrepancy(
        covariance={("m", "m"): np.eye(2)}, sd=p
    ),
    "PropertyMixture sds": lambda p: bj.PropertyMixture(
        "units", labels=["a", "b"], proportions=[0.5, 0.5], means={"f": [0.0, 1.0]}, sds={"f": p},
    ),
}  # fmt: skip


@pytest.mark.parametrize("setting", SCALES)
@pytest.mark.parametrize("prior", WHOLE_LINE, ids=repr)
def test_a_scale_that_may_be_negative_is_refused(setting, prior):
    with pytest.raises(ValueError, match=r"must be positive, and Prior.*HalfNormal"):
        SCALES[setting](prior)


@pytest.mark.parametrize("setting", SCALES)
@pytest.mark.parametrize("prior", POSITIVE, ids=repr)
def test_a_positive_scale_is_accepted(setting, prior):
    SCALES[setting](prior)


@pytest.mark.parametrize("coupling", [bj.CrossGradient, bj.JointTotalVariation])
def test_a_weight_that_may_be_negative_is_refused(coupling):
    extra = {} if coupling is bj.CrossGradient else {"epsilon": 0.1}
    with pytest.raises(ValueError, match=r"must be positive, and Prior|needs the normaliser"):
        coupling("f", "g", weight=STANDARD, **extra)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bj.JointDiscrepancy(sd=1.0, loadings={"a": np.nan}), "of 'a' is nan; give"),
        (lambda: bj.JointDiscrepancy(sd=1.0, loadings={"a": np.inf}), "of 'a' is inf; give"),
        (lambda: bj.JointDiscrepancy(sd=1.0, loadings={"a": STANDARD}), "must be known"),
        (
            lambda: bj.JointDiscrepancy(
                sd={"m": 1.0}, on="x", kernel="periodic", length_scale=1.0, period=STANDARD
            ),
            "period must be known, Prior",
        ),
        (
            lambda: bj.Modality(
                "m", data([1.0]), bj.linear_map(np.eye(1), "f"), bj.GaussianNoise(sd=1.0),
                power=STANDARD,
            ),
            "power must be known, Prior",
        ),
        (
            lambda: bj.GaussianField("f", GRID, sd=1.0, length_scale=1.0, smoothness=STANDARD),
            "smoothness must be known, Prior",
        ),
    ],
)  # fmt: skip
def test_settings_that_must_be_known_or_finite(make, message):
    with pytest.raises(ValueError, match=message):
        make()
