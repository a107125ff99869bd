"""Priors over numbers, and their map from white coordinates."""

from dataclasses import dataclass, replace
from functools import cached_property
from inspect import Parameter, signature
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
import xarray as xr
from pymc.distributions.distribution import support_point
from pymc.logprob.utils import ParameterValueError
from pytensor.compile.builders import OpFromGraph
from pytensor.gradient import DisconnectedInputError, NullTypeGradError
from pytensor.graph.traversal import ancestors, explicit_graph_inputs
from pytensor.tensor.random.op import RNGConsumerOp
from scipy import stats

from bayesjoint import arrays
from bayesjoint import units as _units
from bayesjoint._families import Known, known_family
from bayesjoint._graph.compile import in_turn, number
from bayesjoint._kernels.quantiles import FARTHEST, mean, variance


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
        When the distribution is discrete, improper or has no derivative, it refuses the parameters,
        or its quantiles within 8 standard deviations are no finite numbers.

    Notes
    -----
    A quantity with this prior is sampled as ``m = quantile(Phi(z))`` with ``z ~ N(0, 1)``, accurate
    in both tails and finite for z up to 8 and far beyond, for all distributions of one number with
    a quantile function in closed form or by incomplete gamma and beta functions (`pm.Truncated`
    normals among them).  Others that have an ``icdf`` go through it: its upper tail loses digits
    from z = 6 on and ends at z = 8.1.  Distributions without one (Dirichlet, LKJ, VonMises ...)
    stay in PyMC's unconstrained coordinates.

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
    labelled: dict[str, arrays.Given]  # those parameters that came with labels

    @in_turn()
    def __init__(self, distribution: type, *, units: str | None = None, **parameters: Any) -> None:
        object.__setattr__(self, "distribution", distribution)
        object.__setattr__(self, "parameters", parameters)
        object.__setattr__(self, "units", _units.spelled(units))
        if not isinstance(distribution, type) or not hasattr(distribution, "dist"):
            raise ValueError(
                f"Prior: {distribution!r} is not a PyMC distribution class; write "
                "bj.Prior(pm.Normal, mu=0, sigma=1)"
            )
        self._check_names()
        labelled = {
            key: replace(given, values=arrays.keep(given.values))
            for key, value in parameters.items()
            if arrays.is_labelled(value) and np.ndim(value)
            for given in [arrays.read(repr(self), key, value)]
        }
        object.__setattr__(self, "labelled", arrays.ReadOnly(labelled))
        numbers = {key: _parameter(self, key, value) for key, value in parameters.items()}
        object.__setattr__(self, "parameters", arrays.ReadOnly(numbers))
        try:
            variable = self.dist()
        except Exception as error:
            raise ValueError(f"{self!r}: PyMC refuses these parameters: {error}") from error
        if variable.type.dtype.startswith(("int", "uint", "bool")):
            raise ValueError(
                f"{self!r}: a discrete distribution has no derivative; use a continuous one"
            )
        if type(variable.owner.op).__name__ in IMPROPER:
            raise ValueError(
                f"{self!r}: an improper distribution has no draws and no width; give a proper one, "
                "as bj.Prior(pm.Normal, mu=..., sigma=...)"
            )
        self._check_parameters(variable)
        if self.is_white:
            self._check_quantiles()
        else:
            self._check_derivative(variable)

    def _check_names(self) -> None:
        """Raise for a name that PyMC would silently ignore."""
        taken = signature(self.distribution.dist).parameters.values()
        known = [parameter.name for parameter in taken if parameter.kind in _NAMED]
        unknown = [name for name in self.parameters if name not in known]
        if known and unknown:
            raise ValueError(f"{self!r}: there is no parameter {unknown[0]!r}; there are {known}")

    def _check_parameters(self, variable: Any) -> None:
        for key, value in self._numbers().items():
            if isinstance(value, float | np.ndarray) and np.any(np.isnan(value)):
                raise ValueError(f"{self!r}: {key} is NaN; give a number")
        try:
            # PyMC checks the values of parameters when it evaluates a log-density.
            with np.errstate(all="ignore"):
                number(pm.logp(variable, support_point(variable)))
        except ParameterValueError as error:
            raise ValueError(f"{self!r}: the parameters must fulfil {error}") from error
        except (AttributeError, NotImplementedError, TypeError):
            return  # several outputs, or no log-density: nothing to check
        except RuntimeError as error:
            raise ValueError(
                f"{self!r}: its log-density cannot be computed ({error}); use another distribution"
            ) from error

    def _check_quantiles(self) -> None:
        """Raise where quantiles overflow, or underflow to zero."""
        values = self.quantile(CHECKED)
        bad = ~np.isfinite(values).reshape(CHECKED.size, -1).all(axis=1)
        if bad.any():
            first = CHECKED[bad][np.argmin(np.abs(CHECKED[bad]))]
            raise ValueError(
                f"{self!r}: its quantile at {first:g} standard normal deviates is no finite "
                "number; give a distribution with lighter tails, as pm.LogNormal, or other "
                "parameters"
            )
        size = np.abs(values[np.abs(CHECKED) <= 1.0]).max(axis=0)
        if np.any(size > LARGEST) or np.any(size < 1.0 / LARGEST):
            extreme = "large" if np.any(size > LARGEST) else "small"
            raise ValueError(
                f"{self!r}: its values are too {extreme} for a computer to square; state the "
                "quantity in other units"
            )
        low = values[CHECKED <= UNDERFLOWN]
        if np.any(np.all(low == 0, axis=0)):
            raise ValueError(
                f"{self!r}: {stats.norm.cdf(UNDERFLOWN):.1g} of its probability and more lies "
                "at numbers too small for a computer (zero); give the logarithm a prior, as in "
                "bj.Prior(pm.LogNormal, mu=..., sigma=...)"
            )

    def _check_derivative(self, variable: Any) -> None:
        """Raise where the log-density of a distribution without white form has no derivative."""
        try:
            value = variable.type()
            density = pm.logp(variable, value)
        except (AttributeError, NotImplementedError, TypeError):
            return
        try:
            pt.grad(density.sum(), value)
        except (NotImplementedError, NullTypeGradError, DisconnectedInputError) as error:
            raise ValueError(
                f"{self!r}: its log-density has no derivative in PyMC; use another distribution"
            ) from error

    def __repr__(self) -> str:
        given = self.parameters | ({"units": repr(self.units)} if self.units else {})
        settings = "".join(f", {key}={value}" for key, value in given.items())
        return f"Prior({self.distribution.__name__}{settings})"

    def aligned(self, owner: str, axes: arrays.Axes) -> "Prior":
        """Return the prior with its labelled parameters in the order of the place it is put.

        Raises
        ------
        ValueError
            When they have other labels or dims.
        """
        if not self.labelled:
            return self
        ordered = {
            key: arrays.aligned(owner, f"{key} of its prior", _labelled(given), axes)
            for key, given in self.labelled.items()
        }
        return Prior(self.distribution, units=self.units, **{**self.parameters, **ordered})

    def dist(self, **settings: Any):
        """Return the distribution as an unnamed PyMC variable."""
        return self.distribution.dist(**self._numbers(), **settings)

    @cached_property
    @in_turn()
    def _known(self) -> Known | None:
        """The family, where its quantile function is known."""
        return known_family(self.dist())

    @cached_property
    @in_turn()
    def is_white(self) -> bool:
        """Whether the quantity can be written as a function of a standard normal variable."""
        return self._known is not None or _has_icdf(self)

    def from_white(self, white: Any):
        """Return the tensor of the quantity, given the tensor of its white variable."""
        if self._known is not None:
            return self._known.graph(white)
        inner = white.type()
        kept = pt.maximum(inner, -FARTHEST)
        # Below one, so that the far tail (z > 8) stays finite.
        probability = pt.minimum(0.5 * pt.erfc(-kept / np.sqrt(2.0)), 1.0 - np.finfo(float).eps)
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

        The derivative of a quantile function itself is costly, and may be undefined at the median.
        """
        (white,), (value,), (cotangent,) = inputs, outputs, cotangents
        density = pt.maximum(pm.logp(self.dist(), value), -1e3)  # finite where rounding leaves it
        return [cotangent * pt.exp(-0.5 * (white**2 + np.log(2 * np.pi)) - density)]

    def values(self, white: np.ndarray) -> np.ndarray:
        """Return the quantity at values of its white variable, element by element."""
        if self._known is not None:
            return self._known.values(white)
        return number(self.from_white(pt.constant(white)))

    def quantile(self, white: np.ndarray) -> np.ndarray:
        """Return the quantity at values of its white variable, shape (*white, *parameters)."""
        white = np.asarray(white, dtype=float)
        if self._known is not None:
            return self._known.quantile(white)
        return self.values(white.reshape((*white.shape, *[1] * self.dist().type.ndim)))

    @property
    def is_normal(self) -> bool:
        """Whether the quantity is a linear function of its white variable."""
        return self._known is not None and self._known.name == "NormalRV"

    @cached_property
    def mean(self) -> np.ndarray | None:
        """Mean of each element; None where it is not known."""
        return _fixed(mean(self.quantile)) if self.is_white else None

    @cached_property
    def variance(self) -> np.ndarray | None:
        """Variance of each element, infinite where there is none; None where it is not known."""
        if self._known is not None:
            return _fixed(self._known.variance())
        return _fixed(variance(self.quantile)) if self.is_white else None

    @cached_property
    @in_turn()
    def may_be_negative(self) -> bool:
        """Whether values below zero have a probability."""
        if self._known is not None and self._known.family.whole_line:
            return True
        if self.is_white:
            return bool(np.any(self.quantile(np.array(-FARTHEST)) < 0))
        return self._has_density_below_zero()

    def _has_density_below_zero(self) -> bool:
        variable = self.dist()
        if type(variable.owner.op).__name__ in WHOLE_LINE:
            return True  # even where the density far below underflows
        below = -(10.0 ** np.arange(-30.0, 31.0)).reshape(-1, *[1] * variable.type.ndim)
        try:
            return bool(np.any(number(pm.logp(variable, pt.constant(below))) > -np.inf))
        except (AttributeError, NotImplementedError, TypeError, ValueError):
            return False  # of several numbers: what takes one says so

    def _numbers(self) -> dict[str, Any]:
        return {key: _double(key, value) for key, value in self.parameters.items()}

    def log_density(self, value: Any):
        """Return the tensor of the log-density, summed over elements."""
        return pm.logp(self.dist(shape=value.type.shape), value).sum()


IMPROPER = ("FlatRV", "HalfFlatRV")
WHOLE_LINE = ("SkewNormalRV", "ExGaussianRV")
LARGEST = 1e150  # of values: their squares are ordinary numbers
CHECKED = np.linspace(-8.0, 8.0, 33)  # standard normal deviates at which quantiles are looked at
UNDERFLOWN = -4.0  # below which a quantile may not be zero throughout
ENDS = ("lower", "upper")  # parameters that may be None: there is no end
COUNTS = ("n", "steps", "ar_order")  # parameters that stay whole numbers
_NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def _parameter(prior: Prior, key: str, value: Any) -> Any:
    """Return a parameter that nobody else can change; what is no real number raises."""
    if value is None and key not in ENDS:
        raise ValueError(f"{prior!r}: {key} is None; give a number, or leave it out")
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, int | float):
        return arrays.number(repr(prior), key, value) if abs(value) > 2**1000 else value
    if arrays.is_tensor(value):
        if any(hasattr(given.type, "dtype") for given in explicit_graph_inputs([value])):
            raise ValueError(f"{prior!r}: {key} is a tensor without a value; give a number")
        if "dist" not in key and _is_random(value):
            raise ValueError(
                f"{prior!r}: {key} is a random variable; give a number, or make it a latent of "
                "which a map follows"
            )
        return value
    if isinstance(value, list | tuple) and any(map(arrays.is_tensor, value)):
        return tuple(value)  # of distributions
    if _units.stated(value) is not None:
        raise ValueError(
            f"{prior!r}: {key} has units of its own; give numbers in the units of the quantity, or "
            "those of the prior as units="
        )
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ValueError(f"{prior!r}: {key} is masked in places; fill them")
    array = np.array(arrays.as_array(f"{prior!r}: {key}", value))
    if array.dtype.kind == "m":
        raise ValueError(f"{prior!r}: {key} is a time span; give a number, and its units as units=")
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{prior!r}: {key} is {array.dtype}; give real numbers")
    if not array.size:
        raise ValueError(f"{prior!r}: {key} is empty; give one number, or one for each element")
    array.setflags(write=False)
    return array if array.ndim else array.item()


def _fixed(values: Any) -> np.ndarray:
    """Return moments that are kept, and that nobody else can change."""
    kept = np.array(values)
    kept.setflags(write=False)
    return kept


def _is_random(value: Any) -> bool:
    """Return whether a tensor is drawn anew whenever it is asked for."""
    made = (v.owner.op for v in ancestors([value]) if v.owner is not None)
    return any(isinstance(op, RNGConsumerOp) for op in made)


def _labelled(given: arrays.Given) -> Any:
    """Return numbers with the labels they came with."""
    dims, labels = given.dims, given.labels
    if dims is None:
        return pd.Series(given.values, labels[0]) if given.values.ndim == 1 else given.values
    coords = {d: i for d, i in zip(dims, labels, strict=True) if i is not None}
    return xr.DataArray(given.values, coords, dims)


def _double(key: str, value: Any) -> Any:
    """Return plain numbers in double precision; PyTensor would take 0.5 in single."""
    if isinstance(value, bool | str) or key in COUNTS:
        return value
    if isinstance(value, int | float | np.number):
        return np.float64(value)
    if isinstance(value, list | tuple | np.ndarray):
        try:
            return np.asarray(value, dtype=float)
        except (TypeError, ValueError):
            return value  # of distributions
    return value


def _has_icdf(prior: Prior) -> bool:
    try:
        value = pm.icdf(prior.dist(), pt.constant(0.5))
        return bool(np.isfinite(number(value)).all())
    except (NotImplementedError, TypeError, ValueError):
        return False


def _normal_cdf(white):
    return 0.5 * pt.erfc(-white / np.sqrt(2.0))
