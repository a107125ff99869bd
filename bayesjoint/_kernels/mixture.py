"""Gaussian mixtures of several properties: densities, memberships, and their Rosenblatt map.

The map ``u -> x`` gives each vector of independent standard normal numbers the mixture as its
distribution: the first property is the quantile of its own mixture at ``Phi(u_1)``, each further
one that of its mixture given those before it (Rosenblatt 1952, doi 10.1214/aoms/1177729394).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from scipy.special import log_ndtr, logsumexp, ndtr, ndtri_exp

STEPS, ACCURACY = 200, 1e-13  # of the search for a quantile, relative, in units of u
NEARLY = 1e-9  # from here one step of Newton's method makes the rest
PLAIN = -20.0  # u from which probabilities are added as they are
LOG_ROOT = 0.5 * np.log(2.0 * np.pi)


class Quantile(NamedTuple):
    """Quantiles of mixtures, shape (...), and their derivatives, the last three (..., unit)."""

    value: np.ndarray
    by_u: np.ndarray
    by_log_weight: np.ndarray
    by_mean: np.ndarray
    by_sd: np.ndarray


def quantile(
    u: np.ndarray, log_weights: np.ndarray, means: np.ndarray, sds: np.ndarray
) -> Quantile:
    """Return x with ``sum_k w_k Phi((x - mean_k) / sd_k) = Phi(u)``.

    Parameters
    ----------
    u : ndarray, shape (...)
    log_weights, means, sds : ndarray, shape (..., unit)
        Weights add up to one.

    Notes
    -----
    Both tails are found by logarithms of probabilities below one half.  Derivatives are those of
    the implicit function; that by log weights holds along changes that leave their sum at one.
    """
    upper = np.where(u > 0, -1.0, 1.0)
    t, m = upper * u, upper[..., None] * means
    y = _from_below(t, log_weights, m, sds)
    e = (y[..., None] - m) / sds
    terms = log_weights - 0.5 * e**2 - LOG_ROOT - np.log(sds)
    log_density = logsumexp(terms, axis=-1)
    shares = np.exp(terms - log_density[..., None])
    below = np.exp(log_weights + log_ndtr(e) - log_density[..., None])
    by_u = np.exp(-0.5 * t**2 - LOG_ROOT - log_density)
    sign = upper[..., None]
    return Quantile(upper * y, by_u, -sign * below, shares, sign * shares * e)


def _from_below(t: np.ndarray, log_weights: np.ndarray, means: np.ndarray, sds: np.ndarray):
    """Return the quantile at ``Phi(t)``, t at most zero, by Newton's method kept in a bracket.

    On ``-sqrt(-2 log F)``, which is nearly linear in the tail of a normal distribution.
    """
    ends, weights = means + sds * t[..., None], np.exp(log_weights)
    low, high = ends.min(axis=-1), ends.max(axis=-1)
    goal, y = -np.sqrt(-2.0 * log_ndtr(t)), np.sum(weights * ends, axis=-1)
    done = low >= high
    y = np.where(done, low, y)
    by_logs = np.min(t, initial=0.0) < PLAIN
    given = (log_weights, weights, means, sds)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for _ in range(STEPS):
            log_below, ratio = _by_logs(y, *given) if by_logs else _plainly(y, *given)
            root = np.sqrt(-2.0 * np.minimum(log_below, -1e-300))
            gap = -root - goal
            low, high = np.where(gap < 0, y, low), np.where(gap < 0, high, y)
            moved = y - gap * root * ratio
            inside, off = (moved > low) & (moved < high), np.abs(gap) / (1.0 - goal)
            halfway = np.where(off <= ACCURACY, y, 0.5 * (low + high))
            y = np.where(done, y, np.where(inside, moved, halfway))
            done |= (off <= np.where(inside, NEARLY, ACCURACY)) | (low >= high) | np.isnan(gap)
            if np.all(done):
                break
    return y


def _plainly(y: np.ndarray, _: np.ndarray, weights: np.ndarray, means: np.ndarray, sds: np.ndarray):
    """Return ``log F`` and ``F / f``; faster, where probabilities do not underflow."""
    e = (y[..., None] - means) / sds
    below = np.sum(weights * ndtr(e), axis=-1)
    density = np.sum(weights / sds * np.exp(-0.5 * e**2), axis=-1)
    return np.log(below), below / density * np.exp(LOG_ROOT)


def _by_logs(y: np.ndarray, log_weights: np.ndarray, _: np.ndarray, means: np.ndarray, sds):
    """Return ``log F`` and ``F / f``, however small they are."""
    e = (y[..., None] - means) / sds
    log_below = logsumexp(log_weights + log_ndtr(e), axis=-1)
    log_density = logsumexp(log_weights - 0.5 * e**2 - LOG_ROOT - np.log(sds), axis=-1)
    return log_below, np.exp(log_below - log_density)


def standardised(
    x: np.ndarray, log_weights: np.ndarray, means: np.ndarray, sds: np.ndarray
) -> np.ndarray:
    """Return u with ``Phi(u) = sum_k w_k Phi((x - mean_k) / sd_k)``: the inverse of `quantile`."""
    e = (x[..., None] - means) / sds
    below = logsumexp(log_weights + log_ndtr(e), axis=-1)
    above = logsumexp(log_weights + log_ndtr(-e), axis=-1)
    return np.where(below < above, 1.0, -1.0) * ndtri_exp(np.minimum(below, above))


def correlation_matrices(correlation: Any, properties: int) -> np.ndarray:
    """Return the matrices of one number for all pairs, one a unit, a matrix, or one a unit."""
    given = np.asarray(correlation, dtype=float)
    if given.ndim < 2:
        same = np.eye(properties)
        given = same + given[..., None, None] * (1.0 - same)
    return given[..., :properties, :properties]


def correlation_factors(correlation: Any, units: int, properties: int) -> np.ndarray:
    """Return the Cholesky factors of correlations within units, (unit, property, property)."""
    lower = np.linalg.cholesky(correlation_matrices(correlation, properties))
    return np.broadcast_to(lower, (units, properties, properties))


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """A mixture of units, each a normal distribution of all properties.

    Parameters
    ----------
    proportions : ndarray, shape (unit,)
    means, sds : ndarray, shape (unit, property)
    factors : ndarray, shape (unit, property, property)
        Cholesky factors of the correlation matrices.
    """

    proportions: np.ndarray
    means: np.ndarray
    sds: np.ndarray
    factors: np.ndarray

    @property
    def size(self) -> int:
        """Number of properties."""
        return self.means.shape[1]

    @cached_property
    def overall_sds(self) -> np.ndarray:
        """Standard deviation of each property over all units."""
        second = self.proportions @ (self.sds**2 + self.means**2)
        return np.sqrt(second - (self.proportions @ self.means) ** 2)

    @cached_property
    def _inverses(self) -> np.ndarray:
        return np.linalg.inv(self.factors)

    def whitened(self, x: np.ndarray) -> np.ndarray:
        """Return ``C_k^-1 (x - mean_k) / sd_k`` of the leading properties of x (cell, property).

        Shape (cell, unit, property).
        """
        count = x.shape[1]
        e = (x[:, None, :] - self.means[:, :count]) / self.sds[:, :count]
        return np.einsum("kij,nkj->nki", self._inverses[:, :count, :count], e)

    def _log_terms(self, x: np.ndarray) -> np.ndarray:
        """Return log of proportion times density, shape (cell, unit)."""
        count = x.shape[1]
        scales = self.sds[:, :count] * np.diagonal(self.factors, axis1=1, axis2=2)[:, :count]
        e = self.whitened(x)
        density = -0.5 * np.sum(e**2, axis=-1) - np.log(scales).sum(axis=1) - count * LOG_ROOT
        with np.errstate(divide="ignore"):
            return np.log(self.proportions) + density

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Return the log-density of the leading properties, shape (cell,)."""
        return logsumexp(self._log_terms(x), axis=1)

    def responsibilities(self, x: np.ndarray) -> np.ndarray:
        """Return the probability of each unit given properties, shape (cell, unit)."""
        terms = self._log_terms(x)
        return np.exp(terms - logsumexp(terms, axis=1, keepdims=True))

    def given(self, before: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the mixture of the next property, given those before it, shape (cell, property).

        Log weights, means and sds, each (cell, unit).
        """
        index = before.shape[1]
        terms = self._log_terms(before)
        row, sd = self.factors[:, index], self.sds[:, index]
        e = self.whitened(before)
        means = self.means[:, index] + sd * np.sum(row[:, :index] * e, axis=-1)
        log_weights = terms - logsumexp(terms, axis=1, keepdims=True)
        return log_weights, means, np.broadcast_to(sd * row[:, index], means.shape)

    def forward(self, u: np.ndarray) -> np.ndarray:
        """Return properties (cell, property) from standard normal numbers of that shape."""
        x = np.zeros((u.shape[0], 0))
        for index in range(u.shape[1]):
            x = np.column_stack([x, quantile(u[:, index], *self.given(x)).value])
        return x

    def standard(self, x: np.ndarray) -> np.ndarray:
        """Return the standard normal number of the last property of x (cell, property)."""
        return standardised(x[:, -1], *self.given(x[:, :-1]))

    def inverse(self, x: np.ndarray) -> np.ndarray:
        """Return the standard normal numbers of properties (cell, property)."""
        return np.column_stack([self.standard(x[:, : i + 1]) for i in range(x.shape[1])])

    def local(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return how the last property of x changes with its own number, and with those before.

        Shapes (cell,) and (property before, cell): derivatives at fixed values of the others.
        """
        before, index = x[:, :-1], x.shape[1] - 1
        log_weights, means, sds = self.given(before)
        at = quantile(standardised(x[:, -1], log_weights, means, sds), log_weights, means, sds)
        # (unit, whitened property, property): the change of whitened properties
        moved = self._inverses[:, :index, :index] / self.sds[:, None, :index]
        terms = -np.einsum("nkj,kjq->nkq", self.whitened(before), moved)
        mean = np.einsum("nk,nkq->nq", np.exp(log_weights), terms)
        of_means = self.sds[:, index, None] * np.einsum(
            "kj,kjq->kq", self.factors[:, index, :index], moved
        )
        slopes = np.einsum("nk,nkq->qn", at.by_log_weight, terms - mean[:, None, :])
        return at.by_u, slopes + of_means.T @ at.by_mean.T
