"""Families of distributions whose quantile functions are known, by PyMC's random variables."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.compile.builders import OpFromGraph
from pytensor.graph.basic import Constant
from scipy import special

from bayesjoint._graph.compile import number
from bayesjoint._kernels import quantiles as q


@dataclass(frozen=True)
class Family:
    """A family of distributions.

    Attributes
    ----------
    quantile : callable
        Of `bayesjoint._kernels.quantiles`; takes the parameters in PyMC's order.
    whole_line : bool
        Whether values below any bound have a probability.
    variance : callable, optional
        Closed form, needed where the tails are heavy; else from the quantile function.
    """

    quantile: Callable
    whole_line: bool = False
    variance: Callable | None = None


@dataclass(frozen=True)
class Known:
    """A distribution of a family: the name of its variable's class, parameters as numbers."""

    name: str
    parameters: tuple[np.ndarray, ...]

    @property
    def family(self) -> Family:
        """The family."""
        return FAMILIES[self.name]

    def graph(self, white: Any) -> Any:
        """Return the tensor of the quantity at the tensor of its white variable."""
        return self.family.quantile(TENSORS, white, *self.parameters)

    def values(self, white: np.ndarray) -> np.ndarray:
        """Return the quantity at white values, element by element."""
        with np.errstate(all="ignore"):
            return self.family.quantile(NUMBERS, white, *self.parameters)

    def quantile(self, white: np.ndarray) -> np.ndarray:
        """Return the quantity at white values, shape (*white, *parameters)."""
        ndim = max((p.ndim for p in self.parameters), default=0)
        return self.values(white.reshape((*white.shape, *[1] * ndim)))

    def variance(self) -> np.ndarray:
        """Return the variance, infinite where the tails are too heavy for one."""
        with np.errstate(all="ignore"):
            if self.family.variance is not None:
                return np.asarray(self.family.variance(*self.parameters))
            return q.variance(self.quantile)


NUMBERS = q.NUMBERS


def known_family(variable: Any) -> Known | None:
    """Return the family and parameters of a PyMC variable; None where its quantile is unknown."""
    operation = variable.owner.op
    name = type(operation).__name__
    if name not in FAMILIES:
        return None
    return Known(name, tuple(_value(p) for p in operation.dist_params(variable.owner)))


def _value(parameter: Any) -> np.ndarray:
    value = parameter.data if isinstance(parameter, Constant) else number(parameter)
    return np.asarray(value, dtype=float)


def _with_slope(function: Callable, log_density: Callable, white: Any) -> Any:
    """Return a quantile function of the tensor of z with the derivative ``phi(z) / p(m)``.

    The derivative of an inverse of an incomplete function is costly, and undefined for some.
    """

    def pull_back(inputs: list, outputs: list, cotangents: list) -> list:
        (z,), (value,), (cotangent,) = inputs, outputs, cotangents
        slope = pt.exp(-0.5 * (z**2 + np.log(2 * np.pi)) - log_density(value))
        inside = pt.and_(pt.gt(z, -q.FARTHEST), pt.lt(z, q.FARTHEST))
        return [cotangent * pt.switch(inside, slope, 0.0)]

    inner = white.type()
    quantile = OpFromGraph(
        [inner], [function(inner)], inline=True, pullback=pull_back, name="quantile"
    )
    return quantile(white)


TENSORS = SimpleNamespace(
    **{name: getattr(pt, name) for name in vars(NUMBERS) if name != "with_slope"},
    with_slope=_with_slope,
)


def _of_log_normal(mu, sigma):
    return np.expm1(sigma**2) * np.exp(2.0 * mu + sigma**2)


def _of_student(nu, mu, sigma):
    return sigma**2 * np.where(nu > 2, nu / (nu - 2.0), np.inf)


def _of_half_student(nu, sigma):
    ratio = np.exp(special.gammaln((nu + 1.0) / 2) - special.gammaln(nu / 2.0))
    mean = 2.0 * np.sqrt(nu / np.pi) * ratio / (nu - 1.0)
    return sigma**2 * np.where(nu > 2, nu / (nu - 2.0) - mean**2, np.inf)


def _of_skew_student(a, b, mu, sigma):
    first = (a - b) * np.sqrt(a + b) / 2 * np.exp(
        special.gammaln(a - 0.5) + special.gammaln(b - 0.5)
        - special.gammaln(a) - special.gammaln(b)
    )  # fmt: skip
    second = (a + b) / 4 * ((a - b) ** 2 + a + b - 2.0) / ((a - 1.0) * (b - 1.0))
    return sigma**2 * np.where(np.minimum(a, b) > 1, second - first**2, np.inf)


def _of_pareto(alpha, m):
    return np.where(alpha > 2, m**2 * alpha / ((alpha - 1.0) ** 2 * (alpha - 2.0)), np.inf)


def _of_inverse_gamma(alpha, beta):
    return np.where(alpha > 2, beta**2 / ((alpha - 1.0) ** 2 * (alpha - 2.0)), np.inf)


def _of_triangular(lower, c, upper):
    return ((c - lower) ** 2 + (upper - lower) * (upper - c)) / 18


def _infinite(*parameters):
    return np.full(np.broadcast_shapes(*(p.shape for p in parameters)), np.inf)


FAMILIES = {
    "NormalRV": Family(q.normal, True, lambda mu, sigma: sigma**2),
    "LogNormalRV": Family(q.log_normal, variance=_of_log_normal),
    "LogitNormal": Family(q.logit_normal),
    "HalfNormalRV": Family(q.half_normal),
    "TruncatedNormalRV": Family(q.truncated_normal),
    "UniformRV": Family(q.uniform, variance=lambda lower, upper: (upper - lower) ** 2 / 12),
    "TriangularRV": Family(q.triangular, variance=_of_triangular),
    "ExponentialRV": Family(q.exponential, variance=lambda scale: scale**2),
    "GammaRV": Family(q.gamma, variance=lambda alpha, scale: alpha * scale**2),
    "InvGammaRV": Family(q.inverse_gamma, variance=_of_inverse_gamma),
    "BetaRV": Family(q.beta, variance=lambda a, b: a * b / ((a + b) ** 2 * (a + b + 1.0))),
    "KumaraswamyRV": Family(q.kumaraswamy),
    "WeibullBetaRV": Family(q.weibull),
    "ParetoRV": Family(q.pareto, variance=_of_pareto),
    "GumbelRV": Family(q.gumbel, True),
    "LogisticRV": Family(q.logistic, True),
    "LaplaceRV": Family(q.laplace, True, lambda mu, b: 2.0 * b**2),
    "AsymmetricLaplaceRV": Family(
        q.asymmetric_laplace, True, lambda b, kappa, mu: (kappa**2 + kappa**-2) / b**2
    ),
    "MoyalRV": Family(q.moyal, True),
    "StudentTRV": Family(q.student_t, True, _of_student),
    "HalfStudentTRV": Family(q.half_student_t, variance=_of_half_student),
    "SkewStudentTRV": Family(q.skew_student_t, True, _of_skew_student),
    "CauchyRV": Family(q.cauchy, True, _infinite),
    "HalfCauchyRV": Family(q.half_cauchy, variance=_infinite),
}
