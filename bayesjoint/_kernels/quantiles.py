"""Quantile functions as maps from a standard normal deviate, accurate in both tails.

Each map ``m(z) = quantile(Phi(z))`` is written once for two sets of functions: NumPy's with SciPy's
(`NUMBERS`) and those that make graphs.  Above the median it goes from the upper tail, below from
the lower, in logarithms where the tail has a closed form, so that nothing is lost near a
probability of one and both sets are finite at the same z.  A branch that is not taken is kept off
its poles, or its derivative would be NaN.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy import special

FARTHEST = 37.0  # standard normal deviate whose probability is still a positive number
ROOT_2, LOG_2 = np.sqrt(2.0), np.log(2.0)
NODES = np.linspace(-FARTHEST, FARTHEST, 1185)  # of the trapezoidal rule: exact to rounding

NUMBERS = SimpleNamespace(
    exp=np.exp, expm1=np.expm1, log=np.log, log1p=np.log1p, sqrt=np.sqrt, tan=np.tan,
    erf=special.erf, erfc=special.erfc, erfinv=special.erfinv, erfcx=special.erfcx,
    ndtri_exp=special.ndtri_exp, gammaincinv=special.gammaincinv,
    gammainccinv=special.gammainccinv, betaincinv=special.betaincinv, gammaln=special.gammaln,
    switch=np.where, maximum=np.maximum, minimum=np.minimum,
    with_slope=lambda function, log_density, white: function(white),
)  # fmt: skip


def lower_probability(f: Any, z: Any) -> Any:
    """Return ``Phi(z)``, accurate for negative z."""
    return 0.5 * f.erfc(-z / ROOT_2)


def standard_exponential(f: Any, z: Any) -> Any:
    """Return ``-log Phi(-z)``, accurate on both sides."""
    right, left = f.maximum(z, 0.0), f.minimum(z, 0.0)
    of_right = 0.5 * right**2 - f.log(0.5 * f.erfcx(right / ROOT_2))
    return f.switch(z > 0, of_right, -f.log1p(-lower_probability(f, left)))


def _by_halves(f: Any, z: Any, half: Callable) -> Any:
    """Return an odd function from its positive half."""
    return f.switch(z > 0, half(f.maximum(z, 0.0)), -half(-f.minimum(z, 0.0)))


def normal(f, z, mu, sigma):
    """Map to a normal."""
    return mu + sigma * z


def log_normal(f, z, mu, sigma):
    """Log-normal."""
    return f.exp(mu + sigma * z)


def logit_normal(f, z, mu, sigma):
    """Logistic function of a normal."""
    deviate = mu + sigma * z
    falls = f.exp(-f.maximum(deviate, 0.0))
    rises = f.exp(f.minimum(deviate, 0.0))
    return rises / (rises + falls)


def half_normal(f, z, loc, sigma):
    """Absolute value of a normal."""
    right = -f.ndtri_exp(-LOG_2 - standard_exponential(f, f.maximum(z, 0.0)))
    left = ROOT_2 * f.erfinv(lower_probability(f, f.minimum(z, 0.0)))
    return loc + sigma * f.switch(z > 0, right, left)


def moyal(f, z, mu, sigma):
    """Moyal: ``-2 log |N(0, 1)|``, scaled."""
    return mu - 2.0 * sigma * f.log(half_normal(f, -z, 0.0, 1.0))


def exponential(f, z, scale):
    """Exponential, by its mean."""
    return scale * standard_exponential(f, z)


def weibull(f, z, alpha, beta):
    """Weibull."""
    return beta * standard_exponential(f, z) ** (1.0 / alpha)


def pareto(f, z, alpha, m):
    """Pareto."""
    return m * f.exp(standard_exponential(f, z) / alpha)


def gumbel(f, z, mu, beta):
    """Gumbel."""
    return mu - beta * f.log(standard_exponential(f, -z))


def logistic(f, z, mu, s):
    """Logistic."""
    return mu + s * (standard_exponential(f, z) - standard_exponential(f, -z))


def kumaraswamy(f, z, a, b):
    """Kumaraswamy."""
    return (-f.expm1(-standard_exponential(f, z) / b)) ** (1.0 / a)


def laplace(f, z, mu, b):
    """Laplace."""

    def half(x):
        near = -f.log1p(-f.erf(f.minimum(x, 1.0) / ROOT_2))
        return f.switch(x < 1.0, near, standard_exponential(f, x) - LOG_2)

    return mu + b * _by_halves(f, z, half)


def asymmetric_laplace(f, z, b, kappa, mu):
    """Asymmetric Laplace."""
    square = np.asarray(kappa, dtype=float) ** 2
    left = np.log1p(1.0 / square) - standard_exponential(f, -z)
    right = np.log1p(square) - standard_exponential(f, z)
    return mu + f.switch(left < 0, kappa * left, -right / kappa) / b


def cauchy(f, z, alpha, beta):
    """Cauchy."""

    def half(x):
        near = f.tan(0.5 * np.pi * f.erf(f.minimum(x, 1.0) / ROOT_2))
        far = f.minimum(f.maximum(x, 1.0), FARTHEST)
        return f.switch(x < 1.0, near, 1.0 / f.tan(np.pi * lower_probability(f, -far)))

    return alpha + beta * _by_halves(f, z, half)


def half_cauchy(f, z, beta):
    """Absolute value of a Cauchy."""

    def tangent(x):
        kept = f.maximum(f.minimum(x, 0.0), -FARTHEST)
        return f.tan(0.5 * np.pi * lower_probability(f, kept))

    return beta * f.switch(z > 0, 1.0 / tangent(-z), tangent(z))


def uniform(f, z, lower, upper):
    """Uniform."""
    width = np.asarray(upper, dtype=float) - lower
    right = upper - width * lower_probability(f, -f.maximum(z, 0.0))
    return f.switch(z > 0, right, lower + width * lower_probability(f, f.minimum(z, 0.0)))


def triangular(f, z, lower, c, upper):
    """Triangular, highest at c."""
    width = np.asarray(upper, dtype=float) - lower
    left = lower + np.sqrt(width * (c - lower)) * f.exp(-0.5 * standard_exponential(f, -z))
    right = upper - np.sqrt(width * (upper - c)) * f.exp(-0.5 * standard_exponential(f, z))
    return f.switch(lower_probability(f, z) * width < c - lower, left, right)


def truncated_normal(f, z, mu, sigma, lower, upper):
    """Map to a normal between bounds: from the tail that is smaller at z, by its logarithm."""
    low, high = ((np.asarray(bound, dtype=float) - mu) / sigma for bound in (lower, upper))
    from_left = f.ndtri_exp(_log_tail(f, z, low, high))
    from_right = -f.ndtri_exp(_log_tail(f, -z, -high, -low))
    left = _log_tail(f, z, low, high) < _log_tail(f, -z, -high, -low)
    value = mu + sigma * f.switch(left, from_left, from_right)
    return f.minimum(f.maximum(value, lower), upper)  # where rounding leads beyond


def _log_tail(f: Any, z: Any, low: np.ndarray, high: np.ndarray) -> Any:
    """Return the log of ``Phi(low) + (Phi(high) - Phi(low)) Phi(z)``, at most that of one half."""
    at_low, at_high = special.log_ndtr(low), special.log_ndtr(high)
    share = np.exp(at_low - at_high)  # of the tail, that lies below the bounds
    beyond = np.log1p(-share)
    # Near the upper bound the share that is missing counts, else the sum of both parts.
    missing = f.log1p(-f.exp(beyond - standard_exponential(f, f.maximum(z, 0.0))))
    inside = beyond - standard_exponential(f, -f.minimum(z, 0.0))
    larger = f.maximum(inside, np.log(np.maximum(share, np.finfo(float).tiny)))
    total = larger + f.log(share * f.exp(-larger) + f.exp(inside - larger))
    only = np.broadcast_to(share == 0, np.shape(share))
    return f.minimum(at_high + f.switch(z > 0, missing, f.switch(only, inside, total)), -LOG_2)


def gamma(f, z, alpha, scale):
    """Gamma, by shape and scale."""

    def quantile(white):
        right = f.gammainccinv(alpha, lower_probability(f, -_limited(f, f.maximum(white, 0.0))))
        left = f.gammaincinv(alpha, lower_probability(f, _limited(f, f.minimum(white, 0.0))))
        return f.switch(white > 0, right, left)

    def log_density(value):
        return (alpha - 1.0) * f.log(value) - value - special.gammaln(alpha)

    return scale * f.with_slope(quantile, log_density, z)


def inverse_gamma(f, z, alpha, beta):
    """Inverse gamma."""
    return beta / gamma(f, -z, alpha, 1.0)


def beta(f, z, alpha, beta):
    """Beta."""
    left = _lower_beta(f, f.minimum(z, 0.0), alpha, beta)
    return f.switch(z > 0, 1.0 - _lower_beta(f, -f.maximum(z, 0.0), beta, alpha), left)


def _lower_beta(f: Any, z: Any, first: Any, second: Any) -> Any:
    def quantile(white):
        return f.betaincinv(first, second, lower_probability(f, _limited(f, white)))

    def log_density(value):
        shape = (first - 1.0) * f.log(value) + (second - 1.0) * f.log1p(-value)
        return shape - special.betaln(first, second)

    return f.with_slope(quantile, log_density, z)


def student_t(f, z, nu, mu, sigma):
    """Student's t."""

    def half(x):
        square = _square(f, nu, f.erf(x / ROOT_2), 2.0 * lower_probability(f, -_limited(f, x)), x)
        return f.sqrt(square)

    return mu + sigma * f.with_slope(
        lambda white: _by_halves(f, white, half), lambda t: _log_student(f, t, nu), z
    )


def half_student_t(f, z, nu, sigma):
    """Absolute value of Student's t."""
    at_zero = 2.0 * np.exp(_log_student(NUMBERS, 0.0, nu))

    def quantile(white):
        kept = _limited(f, white)
        inside = lower_probability(f, kept)
        square = _square(f, nu, inside, lower_probability(f, -kept), white)
        return f.switch(white < -8.0, inside / at_zero, f.sqrt(square))  # no square underflows

    return sigma * f.with_slope(quantile, lambda t: LOG_2 + _log_student(f, t, nu), z)


def _square(f: Any, nu: Any, inside: Any, outside: Any, z: Any) -> Any:
    """Return the square of t that is exceeded with the probability ``outside``."""
    below = f.betaincinv(0.5, 0.5 * nu, inside)
    above = f.betaincinv(0.5 * nu, 0.5, outside)
    return nu * f.switch(z < 2.0, below / (1.0 - below), (1.0 - above) / above)


def _log_student(f: Any, t: Any, nu: Any) -> Any:
    constant = special.gammaln((nu + 1.0) / 2) - special.gammaln(nu / 2.0)
    # In logarithms of t, whose square may overflow.
    size = f.maximum(f.switch(t > 0, t, -t), 1e-150)
    far = 2.0 * f.log(size) - np.log(nu) + f.log1p(nu * f.exp(-2.0 * f.log(f.maximum(size, 1.0))))
    near = f.log1p(f.minimum(size, 1.0) ** 2 / nu)
    return constant - 0.5 * np.log(np.pi * nu) - 0.5 * (nu + 1.0) * f.switch(size > 1.0, far, near)


def skew_student_t(f, z, a, b, mu, sigma):
    """Skew Student's t (Jones & Faddy)."""

    def half(z, first, second):
        share = _lower_beta(f, f.minimum(z, 0.0), first, second)
        return (2.0 * share - 1.0) / (2.0 * f.sqrt(share * (1.0 - share)))

    return mu + sigma * np.sqrt(1.0 * a + b) * f.switch(z > 0, -half(-z, b, a), half(z, a, b))


def _limited(f: Any, z: Any) -> Any:
    return f.maximum(f.minimum(z, FARTHEST), -FARTHEST)


def variance(quantile: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the variance of each element of a quantity, by its map from z."""
    centre = mean(quantile)
    return mean(lambda z: (quantile(z) - centre) ** 2)


def mean(quantile: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the mean of each element of a quantity, by its map from z."""
    weights = np.exp(-0.5 * NODES**2)
    return np.tensordot(weights / weights.sum(), quantile(NODES), axes=1)
