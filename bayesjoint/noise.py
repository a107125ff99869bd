"""Noise: how the data of one modality scatter about their prediction, independently of others.

Every scale is ``scale * stated sd`` with a known stated sd, so that only one number is unknown.
"""

from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from scipy import stats

from bayesjoint import _validate, arrays
from bayesjoint import units as _units
from bayesjoint._graph.build import ModelBuild
from bayesjoint._replace import Replaceable
from bayesjoint.priors import Prior

FEWEST_EXPECTED = 1e-100  # counts: zero, with a log-density and gradient that stay finite


@dataclass(frozen=True, eq=False)
class NoiseTerms:
    """The noise of one modality inside a model: ``sd = scale * stated``."""

    stated: np.ndarray  # shape of the data
    scale: Any  # scalar tensor

    @property
    def sd(self):
        """Tensor of the standard deviation (the scale of Student's t), shape of the data."""
        return self.scale * self.stated


class Noise(Replaceable):
    """What all noise models share."""

    gaussian = False  # independent and Gaussian
    has_scale = True
    scale_information = 1.0  # Fisher information of log scale relative to the Gaussian's 2 a datum
    correlation_factor: np.ndarray | None = None

    @property
    def is_normal(self) -> bool:
        """Whether it is Gaussian, correlated or not: a discrepancy can be integrated out."""
        return self.gaussian or self.correlation_factor is not None

    def fitted(self, owner: str, data: Any) -> "Noise":
        """Return the noise with its settings in the units of the data and the order they have."""
        return self

    def check(self, owner: str, data: Any) -> None:
        """Raise when the noise does not fit the data."""

    def check_response(self, owner: str, response: np.ndarray) -> None:
        """Raise when the noise cannot act on a response predicted at a prior draw."""

    def terms(self, build: ModelBuild, name: str, data: Any) -> NoiseTerms:
        """Return the terms, adding an unknown scale to the model."""
        sd, scale = getattr(self, "sd", 1.0), getattr(self, "scale", 1.0)
        if isinstance(sd, Prior):
            tensor = build.unknown(
                f"{name}_sd", sd, of_errors=True, units=_units.stated(data) or ""
            )
            return NoiseTerms(self.stated(data), tensor)
        return NoiseTerms(self.stated(data), build.unknown(f"{name}_scale", scale, of_errors=True))

    def stated(self, data: Any) -> np.ndarray:
        """Return the sd that is stated of each datum, ones where it is unknown."""
        sd = getattr(self, "sd", 1.0)
        if isinstance(sd, Prior):
            return np.ones(data.shape)
        return sd_of_data("the noise", sd, data)

    def at(self, places: np.ndarray, data: Any) -> "Noise":
        """Return the noise of some of the data, by their flat places, for data of one dim."""
        sd: Any = getattr(self, "sd", None)
        if isinstance(sd, Prior) or np.ndim(sd) == 0:
            return self
        return self.replace(sd=self.stated(data).ravel()[places])

    def expectation(self, response, discrepancy):
        """Return the tensor of the expected data where a discrepancy is sampled."""
        return response + discrepancy

    def observe(self, name: str, mean, terms: NoiseTerms, observed, dims):
        """Add the observed variable."""
        raise TypeError(f"{type(self).__name__} does not say how data are observed")

    def draw(self, rng: np.random.Generator, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
        """Return replicated data."""
        raise TypeError(f"{type(self).__name__} does not say how data are drawn")

    def log_density(self, data: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
        """Return the pointwise log-density of independent data."""
        raise TypeError(f"{type(self).__name__} has no pointwise density")

    def cdf(self, data: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
        """Return the probability of independent data no larger than those given."""
        raise TypeError(f"{type(self).__name__} has no pointwise distribution")

    def variance(self, response, terms: NoiseTerms):
        """Return the variance that carries the Fisher information on the response."""
        return terms.sd**2


@dataclass(frozen=True, eq=False)
class GaussianNoise(Noise):
    """Independent Gaussian noise.

    Parameters
    ----------
    sd : float, array, DataArray or Prior
        Standard deviation in the units of the data; a prior makes it an unknown, ``<name>_sd``.
    scale : float or Prior
        Factor on a stated ``sd``; a prior makes it an unknown, ``<name>_scale``.

    Raises
    ------
    ValueError
        When sd is missing or not positive, or both sd and scale are priors.

    Examples
    --------
    >>> import bayesjoint as bj
    >>> import pymc as pm
    >>> noise = bj.GaussianNoise(sd=0.05, scale=bj.Prior(pm.LogNormal, mu=0, sigma=1))
    """

    _: KW_ONLY
    sd: Any = None
    scale: float | Prior = 1.0
    gaussian = True

    def __post_init__(self) -> None:
        arrays.keep_settings(self)
        _check_scale(self, "GaussianNoise")

    def fitted(self, owner: str, data: Any) -> "Noise":
        """Return the noise with numbers in the units of the data."""
        return _fitted(self, owner, data)

    def check(self, owner: str, data: Any) -> None:
        """Raise when sd does not fit the data."""
        _check_sd(owner, self.sd, data)

    def observe(self, name: str, mean, terms: NoiseTerms, observed, dims):
        """Add the observed variable."""
        return pm.Normal(name, mu=mean, sigma=terms.sd, observed=observed, dims=dims)

    def draw(self, rng: np.random.Generator, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
        """Return replicated data."""
        return mean + sd * rng.standard_normal(mean.shape)

    def log_density(self, data: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
        """Return the pointwise log-density."""
        return stats.norm.logpdf(data, mean, sd)

    def cdf(self, data: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
        """Return the probability of data no larger."""
        return stats.norm.cdf(data, mean, sd)


@dataclass(frozen=True, eq=False)
class StudentTNoise(Noise):
    """Independent Student-t noise, for data with outliers.

    Parameters
    ----------
    sd : float, array, DataArray or Prior
        Scale of the distribution (its standard deviation is ``sd sqrt(nu / (nu - 2))``).
    nu : float
        Degrees of freedom.
    scale : float or Prior
        Factor on a stated ``sd``.

    Notes
    -----
    Fisher information on the response ``(nu + 1) / ((nu + 3) sd^2)`` (Lange, Little & Taylor 1989).

    Examples
    --------
    >>> import bayesjoint as bj
    >>> noise = bj.StudentTNoise(sd=1e-3, nu=4)
    """

    _: KW_ONLY
    sd: Any = None
    nu: Any = None
    scale: float | Prior = 1.0

    def __post_init__(self) -> None:
        arrays.keep_settings(self)
        _check_scale(self, "StudentTNoise")
        _validate.require_given(
            "StudentTNoise", "nu", self.nu, "4 is heavy-tailed, 30 nearly Gaussian"
        )
        if isinstance(self.nu, Prior):
            raise ValueError("StudentTNoise: nu must be a number; give the scale a prior instead")
        _validate.require_positive("StudentTNoise", "nu", self.nu)
        object.__setattr__(self, "nu", _validate.number("StudentTNoise", "nu", self.nu, "1"))

    @property
    def scale_information(self) -> float:  # type: ignore[override]
        """Fisher information of the log scale, ``nu / (nu + 3)`` times the Gaussian's."""
        return self.nu / (self.nu + 3.0)

    def fitted(self, owner: str, data: Any) -> "Noise":
        """Return the noise with numbers in the units of the data."""
        return _fitted(self, owner, data)

    def check(self, owner: str, data: Any) -> None:
        """Raise when sd does not fit the data."""
        _check_sd(owner, self.sd, data)

    def variance(self, response, terms: NoiseTerms):
        """Return ``sd^2 (nu + 3) / (nu + 1)``."""
        return terms.sd**2 * (self.nu + 3.0) / (self.nu + 1.0)

    def observe(self, name: str, mean, terms: NoiseTerms, observed, dims):
        """Add the observed variable."""
        return pm.StudentT(name, nu=self.nu, mu=mean, sigma=terms.sd, observed=observed, dims=dims)

    def draw(self, rng: np.random.Generator, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
        """Return replicated data."""
        return mean + sd * rng.standard_t(self.nu, mean.shape)

    def log_density(self, data: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
        """Return the pointwise log-density."""
        return stats.t.logpdf(data, self.nu, mean, sd)

    def cdf(self, data: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
        """Return the probability of data no larger."""
        return stats.t.cdf(data, self.nu, mean, sd)


@dataclass(frozen=True, eq=False)
class PoissonNoise(Noise):
    """Counts whose expectation is the response.

    Notes
    -----
    A discrepancy adds to the expectation; where it would take it below zero, nothing is counted.
    Errors that are not small beside the expectation are better stated as a latent of the map, in
    the logarithm of the rate.

    Examples
    --------
    >>> import bayesjoint as bj
    >>> noise = bj.PoissonNoise()
    """

    has_scale = False

    def check(self, owner: str, data: Any) -> None:
        """Raise unless the data are counts."""
        values = data.values[~_validate.is_missing(data.values)]
        if np.any(values < 0) or np.any(values != np.round(values)):
            raise ValueError(f"{owner}: PoissonNoise needs counts, whole numbers of zero or more")
        if np.any(values > arrays.LARGEST_INTEGER):
            raise ValueError(
                f"{owner}: counts up to {values.max():.3g} are too large to be told from the next; "
                "give them Gaussian noise, as with sd=np.sqrt(data)"
            )

    def check_response(self, owner: str, response: np.ndarray) -> None:
        """Raise unless the expected counts are positive."""
        if np.any(response <= 0):
            raise ValueError(
                f"{owner}: PoissonNoise needs a positive expectation, {response.min():g} is "
                "predicted at a prior draw; let the map return a rate, as in pt.exp(log_rate)"
            )

    def variance(self, response, terms: NoiseTerms):
        """Return the expectation."""
        return response

    def observe(self, name: str, mean, terms: NoiseTerms, observed, dims):
        """Add the observed variable."""
        return pm.Poisson(name, mu=mean, observed=observed, dims=dims)

    def expectation(self, response, discrepancy):
        """Return their sum, no less than zero."""
        return pt.maximum(response + discrepancy, FEWEST_EXPECTED)

    def draw(self, rng: np.random.Generator, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
        """Return replicated data."""
        drawn = rng.poisson(_expected(np.nan_to_num(mean))).astype(float)
        return np.where(np.isnan(mean), np.nan, drawn)

    def log_density(self, data: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
        """Return the pointwise log-density."""
        return stats.poisson.logpmf(data, _expected(mean))

    def cdf(self, data: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
        """Return a probability between those of fewer and of no more counts.

        Drawn once a datum (seed 0), so that it is uniform for counts as the model predicts them.
        """
        expected = _expected(mean)
        share = np.random.default_rng(0).uniform(size=np.shape(data))
        return stats.poisson.cdf(data - 1, expected) + share * stats.poisson.pmf(data, expected)


@dataclass(frozen=True, eq=False)
class CorrelatedNoise(Noise):
    """Gaussian noise with a known covariance, or a known correlation and unknown scale.

    Parameters
    ----------
    covariance : matrix, DataArray or DataFrame, shape (n, n)
        Covariance of the ravelled data; one with labels goes by those of the data.
    scale : float or Prior
        Factor on the standard deviation; a prior makes it an unknown, ``<name>_scale``.

    Raises
    ------
    ValueError
        When the covariance is not symmetric and positive definite.

    Examples
    --------
    >>> import numpy as np
    >>> import bayesjoint as bj
    >>> noise = bj.CorrelatedNoise(covariance=0.5 * np.eye(3) + 0.5)
    """

    _: KW_ONLY
    covariance: Any = None
    scale: float | Prior = 1.0
    matrix: np.ndarray = field(init=False, repr=False)  # in the order of the data

    def __post_init__(self) -> None:
        _validate.require_given(
            "CorrelatedNoise", "covariance", self.covariance, "give the covariance of the data"
        )
        arrays.keep_settings(self)
        _validate.require_positive("CorrelatedNoise", "scale", self.scale)
        _validate.require_scalar("CorrelatedNoise", "scale", self.scale)
        _validate.keep_number(self, "CorrelatedNoise", "scale")
        given = arrays.matrix("CorrelatedNoise", "covariance", self.covariance, None, None)
        object.__setattr__(self, "matrix", arrays.keep(given))
        if not arrays.is_labelled(self.covariance):  # with labels, the data give the order
            _ = self.correlation_factor

    @cached_property
    def correlation_factor(self) -> np.ndarray:  # type: ignore[override]
        """Lower Cholesky factor of the covariance; the data are whitened by its inverse."""
        return arrays.keep(_validate.covariance_factor("CorrelatedNoise: covariance", self.matrix))

    def fitted(self, owner: str, data: Any) -> "Noise":
        """Return the noise with its covariance in the order and the units of the data."""
        if data.ndim != 1:
            raise ValueError(f"{owner}: CorrelatedNoise needs data of one dimension; stack them")
        given = arrays.read(owner, "the covariance", self.covariance)
        if given.values.shape != (data.size, data.size) and given.labels == (None, None):
            raise ValueError(
                f"{owner}: the covariance has {len(given.values)} rows, there are {data.size} data"
            )
        axes, units = arrays.Axes.of(data), _units.stated(data)
        matrix = arrays.matrix(
            owner, "the covariance", self.covariance, axes, axes,
            units=_units.product(units, units),
        )  # fmt: skip
        if np.array_equal(matrix, self.matrix):
            _ = self.correlation_factor
            return self
        noise = self.replace()
        object.__setattr__(noise, "matrix", arrays.keep(matrix))
        noise.__dict__.pop("correlation_factor", None)
        _ = noise.correlation_factor
        return noise

    def at(self, places: np.ndarray, data: Any) -> "CorrelatedNoise":
        """Return the noise of some of the data: the marginal covariance."""
        key = places.tobytes()
        if key not in self._parts:
            covariance = self.matrix[np.ix_(places, places)]
            self._parts[key] = self.replace(covariance=covariance)
        return self._parts[key]

    @cached_property
    def _parts(self) -> dict[bytes, "CorrelatedNoise"]:
        """Those made, since the factor of each is dear."""
        return {}

    def observe(self, name: str, mean, terms: NoiseTerms, observed, dims):
        """Add the observed variable."""
        chol = terms.scale * pt.constant(self.correlation_factor)
        return pm.MvNormal(name, mu=mean, chol=chol, observed=observed, dims=dims)

    def draw(self, rng: np.random.Generator, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
        """Return replicated data; ``sd`` is the scale."""
        return mean + sd * (self.correlation_factor @ rng.standard_normal(mean.size)).reshape(
            mean.shape
        )


def _expected(mean: np.ndarray) -> np.ndarray:
    return np.maximum(mean, FEWEST_EXPECTED)


def _check_scale(noise: Any, owner: str) -> None:
    _validate.require_given(
        owner, "sd", noise.sd, "give it in the units of the data, or a prior over it"
    )
    _validate.require_positive(owner, "sd", _without_gaps(owner, noise.sd))
    _validate.require_positive(owner, "scale", noise.scale)
    _validate.require_scalar(owner, "scale", noise.scale)
    _validate.keep_number(noise, owner, "scale")
    if isinstance(noise.sd, Prior) and isinstance(noise.scale, Prior):
        raise ValueError(
            f"{owner}: sd and scale are both unknown; only their product can be known, give one"
        )


def _fitted(noise: Any, owner: str, data: Any) -> Any:
    """Return noise with its numbers in the units of the data; arrays keep their labels."""
    changes = {"scale": _validate.number(owner, "the noise scale", noise.scale, "1")}
    number = isinstance(noise.sd, Prior) or (
        arrays.read(owner, "the noise sd", noise.sd, missing=True).values.ndim == 0
    )
    if number:
        changes["sd"] = _validate.number(owner, "the noise sd", noise.sd, _units.stated(data))
    return noise.replace(**changes)


def _check_sd(owner: str, sd: Any, data: Any) -> None:
    if isinstance(sd, Prior):
        return
    values = sd_of_data(owner, sd, data)
    without = ~np.isfinite(values) & ~_validate.is_missing(data.values)
    if np.any(without):
        labelled = hasattr(sd, "dims")
        there, cure = ("at their coordinates", "the coordinates of the data") if labelled else (
            "(it is NaN)", "a number for each datum that was observed"
        )  # fmt: skip
        raise ValueError(
            f"{owner}: {np.sum(without)} of {data.size} data have no noise sd {there}; give sd "
            f"{cure}"
        )


def sd_of_data(owner: str, sd: Any, data: Any) -> np.ndarray:
    """Return the noise sd of each datum, in the shape and units of the data.

    One with labels goes by those of the data.
    """
    return arrays.aligned(
        owner, "the noise sd", sd, arrays.Axes.of(data), units=_units.stated(data),
        differences=True, missing=True, trailing=True,
    )  # fmt: skip


def _without_gaps(owner: str, sd: Any) -> Any:
    """Return an sd without its NaN, which may stand where data are missing: `_check_sd` tells."""
    if sd is None or isinstance(sd, Prior):
        return sd
    values = arrays.read(owner, "sd", sd, missing=True).values
    known = values[~np.isnan(values)]
    return known if values.ndim and known.size else values
