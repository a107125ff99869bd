"""Coordinates in which the posterior is nearly standard normal: an affine change, nothing else."""

from dataclasses import dataclass, replace
from functools import cached_property

import numba
import numpy as np

from bayesjoint._compiled.recentring import Given

NEGLIGIBLE = 0.01  # trace of the information that coordinates left out of the change may hold


@dataclass(frozen=True, eq=False)
class Coordinates:
    """The affine change ``z = centre + (I + V diag(stretch) V^T) (scale * u)``.

    Only coordinates change: the density that is sampled stays exact, whatever these are.

    Attributes
    ----------
    centre : ndarray, shape (n,)
    vectors : ndarray, shape (n, r)
        Orthonormal directions that the data or the couplings inform.
    stretch : ndarray, shape (r,)
        ``(1 + lambda)^-1/2 - 1`` of each.
    scale : ndarray, shape (n,)
        Left over after the stretch, learnt in the warm-up; ones before.
    given : Given, optional
        Data by which fields are recentred: then z, and every point here, is x of `recentring`.

    Notes
    -----
    White coordinates of a fine grid are mostly of short waves, which no data inform: rows of V that
    hold no information are left out, so that the cost of the change does not grow with the grid.
    """

    centre: np.ndarray
    vectors: np.ndarray
    stretch: np.ndarray
    scale: np.ndarray
    given: Given | None = None

    @classmethod
    def around(
        cls,
        centre: np.ndarray,
        vectors: np.ndarray | None = None,
        stretch: np.ndarray | None = None,
        given: Given | None = None,
    ) -> "Coordinates":
        """Return coordinates around a centre, unchanged where no directions are given."""
        if vectors is None or stretch is None:
            vectors, stretch = np.zeros((centre.size, 0)), np.zeros(0)
        return cls(centre, vectors, stretch, np.ones(centre.size), given)

    def with_scale(self, scale: np.ndarray) -> "Coordinates":
        """Return the coordinates with another scale; the factors are kept, not made anew."""
        changed = replace(self, scale=scale)
        changed.__dict__["factors"] = self.factors
        return changed

    @cached_property
    def factors(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the coordinates that change, and the factor and stretch that change them.

        A square factor with an empty stretch where that is read faster than a tall one twice.
        """
        support = _informed_rows(self.vectors, self.stretch)
        tall = np.ascontiguousarray(self.vectors[support])
        if 2 * tall.shape[1] <= support.size:
            return support, tall, self.stretch
        return support, np.eye(support.size) + (tall * self.stretch) @ tall.T, np.zeros(0)

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """Centre, scale and factors, as `to_point` and `pull_back` take them."""
        return (self.centre, self.scale, *self.factors)

    def points(self, rows: np.ndarray) -> np.ndarray:
        """Return the flat points of rows of u."""
        support, factor, stretch = self.factors
        stretched = rows * self.scale
        part = stretched[:, support].T
        stretched[:, support] = _transformed.py_func(part, factor, stretch[:, None]).T
        return self.centre + stretched

    def from_point(self, point: np.ndarray) -> np.ndarray:
        """Return u of a flat point."""
        support, factor, stretch = self.factors
        moved = point - self.centre
        if stretch.size == 0 and support.size:
            moved[support] = np.linalg.solve(factor, moved[support])
        elif support.size:  # Woodbury: V need not be orthonormal without its left-out rows
            small = np.diag(1.0 / stretch) + factor.T @ factor
            moved[support] -= factor @ np.linalg.solve(small, factor.T @ moved[support])
        return moved / self.scale


def _informed_rows(vectors: np.ndarray, stretch: np.ndarray) -> np.ndarray:
    """Return the rows that hold all information but a negligible trace."""
    if stretch.size == 0:
        return np.zeros(0, dtype=np.int64)
    held = vectors**2 @ np.abs((1.0 + stretch) ** -2 - 1.0)
    order = np.argsort(held)
    left_out = np.searchsorted(np.cumsum(held[order]), NEGLIGIBLE)
    return np.sort(order[left_out:]).astype(np.int64)


@numba.njit(cache=True)
def _transformed(part, factor, stretch):
    """Return the part that changes, stretched along the factor; symmetric."""
    if len(stretch) == 0:
        return factor @ part
    return part + factor @ (stretch * (factor.T @ part))


@numba.njit(cache=True)
def _changed(vector, support, factor, stretch):
    """Return a copy of a vector with the coordinates of the support transformed."""
    part = np.empty(support.size)
    for i in range(support.size):
        part[i] = vector[support[i]]
    part = _transformed(part, factor, stretch)
    changed = vector.copy()
    for i in range(support.size):
        changed[support[i]] = part[i]
    return changed


@numba.njit(cache=True)
def to_point(u, centre, scale, support, factor, stretch):
    """Return the flat point of ``u``."""
    return centre + _changed(scale * u, support, factor, stretch)


@numba.njit(cache=True)
def pull_back(gradient, scale, support, factor, stretch):
    """Return the gradient to ``u`` from that to the flat point."""
    return scale * _changed(gradient, support, factor, stretch)
