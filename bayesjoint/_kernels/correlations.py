"""Covariance functions of a unit process: Matérn, periodic and linear drift, and products of them.

Every function works on NumPy arrays and, where the length scale is one, on tensors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from bayesjoint._kernels import matern

KINDS = ("matern", "periodic", "drift")


@dataclass(frozen=True)
class Term:
    """One factor of a covariance function, over some of the coordinates.

    Parameters
    ----------
    columns : tuple of int
        Which coordinates it depends on.
    kind : {"matern", "periodic", "drift"}
    smoothness : float
        Of the Matérn function.
    period, origin : float
        Of the periodic function, and of the drift.

    Notes
    -----
    Matérn: `matern.matern_correlation` of the Euclidean distance over the length scale l.
    Periodic: ``exp(-2 sin^2(pi d / p) / l^2)`` (MacKay 1998), l dimensionless: fluctuations of
    about ``l p / 2 pi``.  Drift: ``(t - t0)(t' - t0) / l^2``, a straight line through the origin
    t0 whose sd is one at a distance l from it.
    """

    columns: tuple[int, ...]
    kind: str = "matern"
    smoothness: float = 1.5
    period: float = 1.0
    origin: float = 0.0

    def matrix(
        self, points: np.ndarray, length: Any, xp: Any = np, others: np.ndarray | None = None
    ) -> Any:
        """Return the covariance between points of shape (n, d), or of these with others.

        A tensor where the length is one.
        """
        at = points[:, self.columns]
        to = at if others is None else others[:, self.columns]
        if self.kind == "drift":
            return np.outer(at[:, 0] - self.origin, to[:, 0] - self.origin) / length**2
        if self.kind == "periodic":
            angle = np.pi * (at - to.T) / self.period
            return xp.exp(-2.0 * np.sin(angle) ** 2 / length**2)
        return matern.matern_correlation(cdist(at, to) / length, self.smoothness, xp)


def product(
    terms: Sequence[Term],
    points: np.ndarray,
    lengths: Sequence[Any],
    xp: Any = np,
    others: np.ndarray | None = None,
) -> Any:
    """Return the product of the covariances of all terms, see `Term.matrix`."""
    total: Any = 1.0
    for term, length in zip(terms, lengths, strict=True):
        total = total * term.matrix(points, length, xp, others)
    return total
