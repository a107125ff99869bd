"""Priors over numbers, and their map from white coordinates."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from inspect import Parameter, signature
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pymc.distributions.distribution import support_point
from pymc.logprob.utils import ParameterValueError
from pytensor.compile.builders import OpFromGraph

from bayesjoint._graph.compile import in_turn, number


@dataclass(frozen=True, eq=False, init=False)
class Prior:
    """A PyMC distribution and its parameters, accepted wherever a number may be unknown.

    Parameters
    ----------
    distribution : type
        A class of PyMC, for instance ``pm.HalfNormal``.
    units : str, optional
        Units of the quantity, where they are not those of the place the prior is put: a length
        scale along times needs them.
    **parameters
        Its parameters, numbers or arrays.

    Raises
    ------
    ValueError
        When the distribution is discrete or refuses the parameters.

    Notes
    -----
    A quantity with this prior is sampled as ``m = quantile(Phi(z))`` with ``z ~ N(0, 1)``, in a
    form that stays accurate in the tails for the normal, truncated normal, log-normal, half-normal,
    exponential, inverse gamma (alpha, beta) and uniform distributions, and through PyMC's own
    ``icdf`` for others (its upper tail loses digits from z = 6 on and ends at z = 8.1).
    Distributions without one (Dirichlet, LKJ ...) stay in PyMC's unconstrained coordinates.

    Examples
    --------
    >>> import bayesjoint as bj
    >>> import pymc as pm
    >>> bj.Prior(pm.LogNormal, mu=0.0, sigma=0.5)
    Prior(LogNormal, mu=0.0, sigma=0.5)
    """

    distribution: Any
    parameters: dict[str, Any]
    units: str | None

    @in_turn()
    def __init__(self, distribution: type, *, units: str | None = None, **parameters: Any) -> None:
        object.__setattr__(self, "distribution", distribution)
        object.__setattr__(self, "parameters", parameters)
        object.__setattr__(self, "units", units)
        if not hasattr(distribution, "dist"):
            raise ValueError(
                f"Prior: {distribution!r} is not a PyMC distribution class; write "
                "bj.Prior(pm.Normal, mu=0, sigma=1)"
            )
        self._check_names()
        numbers = {key: _parameter(self, key, value) for key, value in parameters.items()}
        object.__setattr__(self, "parameters", numbers)
        try:
            variable = self.dist()
        except Exception as error:
            raise ValueError(f"{self!r}: PyMC refuses these parameters: {error}") from error
        if variable.type.dtype.startswith(("int", "uint", "bool")):
            raise ValueError(
                f"{self!r}: a discrete distribution has no derivative; use a continuous one"
            )
        self._check_parameters(variable)

    def _check_names(self) -> None:
        """Raise for a name that PyMC would silently ignore."""
        taken = signature(self.distribution.dist).parameters.values()
        known = [parameter.name for parameter in taken if parameter.kind in _NAMED]
        unknown = [name for name in self.parameters if name not in known]
        if known and unknown:
            raise ValueError(f"{self!r}: there is no parameter {unknown[0]!r}; there are {known}")

    def _check_parameters(self, variable: Any) -> None:
        for key, value in self.parameters.items():
            if isinstance(value, (int, float, list, tuple, np.ndarray)) and np.any(np.isnan(value)):
                raise ValueError(f"{self!r}: {key} is NaN; give a number")
        try:
            # PyMC checks the values of parameters when it evaluates a log-density.
            with np.errstate(all="ignore"):
                number(pm.logp(variable, support_point(variable)))
        except ParameterValueError as error:
            raise ValueError(f"{self!r}: the parameters must fulfil {error}") from error
        except (AttributeError, NotImplementedError, TypeError):
            return  # several outputs, or no log-density: nothing to check

    def __repr__(self) -> str:
        given = self.parameters | ({"units": repr(self.units)} if self.units else {})
        settings = "".join(f", {key}={value}" for key, value in given.items())
        return f"Prior({self.distribution.__name__}{settings})"

    def dist(self, **settings: Any):
        """Return the distribution as an unnamed PyMC variable."""
        return self.distribution.dist(**self._numbers(), **settings)

    @cached_property
    @in_turn()
    def is_white(self) -> bool:
        """Whether the quantity can be written as a function of a standard normal variable."""
        return self._rule() is not None or _has_icdf(self)

    def from_white(self, white: Any):
        """Return the tensor of the quantity, given the tensor of its white variable."""
        rule = self._rule()
        if rule is not None:
            return rule(white, **self._numbers())
        inner = white.type()
        # Below one, so that the far tail (z > 8) stays finite.
        probability = pt.minimum(_normal_cdf(inner), 1.0 - np.finfo(float).eps)
        quantile = OpFromGraph(
            [inner],
            [pm.icdf(self.dist(), probability)],
            inline=True,
            pullback=self._pull_back,
            name="quantile",
        )
        return quantile(white)

    def _pull_back(self, inputs: list, outputs: list, cotangents: list) -> list:
        """Return the cotangent times ``dm/dz = phi(z) / p(m)``.

        The derivative of a quantile function itself is costly, and undefined at the median of
        Student's t.
        """
        (white,), (value,), (cotangent,) = inputs, outputs, cotangents
        density = pt.maximum(pm.logp(self.dist(), value), -1e3)  # finite where rounding leaves it
        return [cotangent * pt.exp(-0.5 * (white**2 + np.log(2 * np.pi)) - density)]

    def _numbers(self) -> dict[str, Any]:
        return {key: _double(value) for key, value in self.parameters.items()}

    def _rule(self) -> Callable | None:
        """Return the map that is accurate in the tails, where it knows the parameters given."""
        rule = _QUANTILES.get(self.distribution)
        known = rule is not None and set(self.parameters) <= set(signature(rule).parameters)
        return rule if known else None

    def log_density(self, value: Any):
        """Return the tensor of the log-density, summed over elements."""
        return pm.logp(self.dist(shape=value.type.shape), value).sum()


_NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def _parameter(prior: Prior, key: str, value: Any) -> Any:
    """Return a parameter that nobody else can change; what is no real number raises."""
    if value is None or isinstance(value, (bool, int, float, str)) or hasattr(value, "owner"):
        return value
    if hasattr(value, "magnitude"):
        raise ValueError(
            f"{prior!r}: {key} has units of its own; give numbers in the units of the quantity, or "
            "those of the prior as units="
        )
    array = np.array(value)
    if array.dtype.kind == "m":
        raise ValueError(f"{prior!r}: {key} is a time span; give a number, and its units as units=")
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{prior!r}: {key} is {array.dtype}; give real numbers")
    array.setflags(write=False)
    return array if array.ndim else array.item()


def _double(value: Any) -> Any:
    """Return plain numbers in double precision; PyTensor would take 0.5 in single."""
    if isinstance(value, float):
        return np.float64(value)
    return np.asarray(value, dtype=float) if isinstance(value, (list, tuple)) else value


def _has_icdf(prior: Prior) -> bool:
    try:
        value = pm.icdf(prior.dist(), pt.constant(0.5))
        return bool(np.isfinite(number(value)).all())
    except (NotImplementedError, TypeError, ValueError):
        return False


def _normal_cdf(white):
    return 0.5 * pt.erfc(-white / np.sqrt(2.0))


FARTHEST = 37.0  # standard normal deviate whose probability is still a positive number


def _normal(white, mu=0.0, sigma=1.0):
    return mu + sigma * white


def _log_normal(white, mu=0.0, sigma=1.0):
    return pt.exp(mu + sigma * white)


def _half_normal(white, sigma=1.0):
    # Each branch is accurate in its own tail; the other argument is kept off its pole.
    right = pt.erfcinv(0.5 * pt.erfc(pt.maximum(white, 0.0) / np.sqrt(2.0)))
    left = pt.erfinv(_normal_cdf(pt.minimum(white, 0.0)))
    return sigma * np.sqrt(2.0) * pt.switch(white > 0, right, left)


def _exponential(white, lam=None, scale=None):
    mean = 1.0 / lam if scale is None else scale
    right = -pt.log(0.5 * pt.erfc(pt.maximum(white, 0.0) / np.sqrt(2.0)))
    left = -pt.log1p(-_normal_cdf(pt.minimum(white, 0.0)))
    return mean * pt.switch(white > 0, right, left)


def _inverse_gamma(white, alpha, beta=1.0):
    # PyMC's loses the lower tail, where it takes the quantile at one less the probability: zero.
    right = pt.gammaincinv(alpha, _normal_cdf(-pt.maximum(white, 0.0)))
    left = pt.gammainccinv(alpha, _normal_cdf(pt.maximum(pt.minimum(white, 0.0), -FARTHEST)))
    return beta / pt.switch(white > 0, right, left)


def _uniform(white, lower=0.0, upper=1.0):
    return lower + (upper - lower) * _normal_cdf(white)


def _truncated_normal(white, mu=0.0, sigma=1.0, lower=-np.inf, upper=np.inf):
    # Below the median from the left tail, above it from the right, each accurate there.
    low, high = (lower - mu) / sigma, (upper - mu) / sigma
    left = _normal_cdf(low) + (_normal_cdf(high) - _normal_cdf(low)) * _normal_cdf(white)
    right = _normal_cdf(-high) + (_normal_cdf(-low) - _normal_cdf(-high)) * _normal_cdf(-white)
    from_left = -pt.erfcinv(2.0 * pt.minimum(left, 0.5))
    from_right = pt.erfcinv(2.0 * pt.minimum(right, 0.5))
    return mu + sigma * np.sqrt(2.0) * pt.switch(left < right, from_left, from_right)


_QUANTILES: dict[type, Callable] = {
    pm.Normal: _normal,
    pm.LogNormal: _log_normal,
    pm.HalfNormal: _half_normal,
    pm.Exponential: _exponential,
    pm.InverseGamma: _inverse_gamma,
    pm.Uniform: _uniform,
    pm.TruncatedNormal: _truncated_normal,
}
