"""Series of Chebyshev polynomials in one or more places between -1 and 1."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from operator import mul
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev
from scipy.linalg import solve_triangular

LEAST = 2  # degree from which the search starts


@dataclass(frozen=True, eq=False)
class Series:
    """Coefficients of products of polynomials, the last axis fastest.

    Attributes
    ----------
    degrees : tuple of int
        Along each axis.
    coefficients : ndarray, shape (term,)
    factor : ndarray, shape (term, term)
        Of their covariance.
    misfit, excess : float
        Chi-squared, and that per degree of freedom.
    """

    degrees: tuple[int, ...]
    coefficients: np.ndarray
    factor: np.ndarray
    misfit: float
    excess: float


def fit(
    places: Sequence[np.ndarray], target: np.ndarray, error: np.ndarray, most: Sequence[int]
) -> Series:
    """Return the series that the errors ask for, and one degree more along each axis.

    From a low degree on, that axis goes up which lowers the misfit most, as long as each term
    gains more than it costs (Akaike) or the misfit is more than chance.  One more then, so that
    what is left out does not show.  Where no series fits, errors are raised by the misfit.
    """
    found = _fitted(places, target, error, tuple(min(LEAST, m) for m in most))
    while True:
        higher = [
            _fitted(places, target, error, _raised(found.degrees, axis))
            for axis in range(len(most))
            if found.degrees[axis] < most[axis]
        ]
        if not higher:
            return found
        best = min(higher, key=_criterion)
        free = target.size - found.coefficients.size
        by_chance = found.excess <= 1.0 + 2.0 * np.sqrt(2.0 / free)
        if by_chance and _criterion(best) >= _criterion(found):
            break
        found = best
    more = tuple(min(d + 1, m) for d, m in zip(found.degrees, most, strict=True))
    return _fitted(places, target, error, more)


def _raised(degrees: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return tuple(d + (i == axis) for i, d in enumerate(degrees))


def _criterion(series: Series) -> float:
    return series.misfit + 2.0 * series.coefficients.size


def _fitted(places, target, error, degrees: tuple[int, ...]) -> Series:
    axes = [chebyshev.chebvander(p, d).T for p, d in zip(places, degrees, strict=True)]
    whitened = np.stack(products(axes), axis=1) / error[:, None]
    rotation, upper = np.linalg.qr(whitened)
    coefficients = solve_triangular(upper, rotation.T @ (target / error))
    misfit = float(np.sum((whitened @ coefficients - target / error) ** 2))
    excess = misfit / max(target.size - coefficients.size, 1)
    factor = solve_triangular(upper, np.eye(coefficients.size)) * np.sqrt(max(excess, 1.0))
    return Series(degrees, coefficients, factor, misfit, excess)


def products(axes: Sequence[Any]) -> list[Any]:
    """Return the products of one entry of each axis, the last axis fastest."""
    return [reduce(mul, entries) for entries in product(*axes)]


def polynomials(place: Any, degree: int, xp: Any) -> list[Any]:
    """Return the polynomials up to a degree."""
    found = [xp.ones_like(place), place]
    for _ in range(2, degree + 1):
        found.append(2.0 * place * found[-1] - found[-2])
    return found[: degree + 1]


def integrals(place: Any, degree: int, xp: Any) -> list[Any]:
    """Return the integrals of the polynomials from -1 to a place."""
    powers = polynomials(place, degree + 1, xp)
    series = [chebyshev.chebint(row, lbnd=-1.0) for row in np.eye(degree + 1)]
    return [sum(c * powers[i] for i, c in enumerate(row) if c != 0.0) for row in series]
