"""Leading eigenpairs of a symmetric operator that is known by its action only: block Lanczos."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh, qr

BLOCK = 32  # vectors to which the operator is applied at a time
BELOW = 3  # eigenvalues found under the threshold before the search may end
SETTLED = 0.5  # residual of those, in units of the threshold
GROWTH = 1.15  # of the space between two looks at its eigenvalues
DEPENDENT = 1e-10  # of the operator's norm: what is left of a direction that lies in the space
PROBES = 16  # random vectors from which what is left out is estimated

Action = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Eigenpairs beyond a threshold, and what was left out.

    Attributes
    ----------
    values : ndarray, shape (r,)
        Descending.
    vectors : ndarray, shape (n, r)
        Orthonormal.
    residuals : ndarray, shape (r,)
        ``||A v - lambda v||``.
    largest_left_out : float
        Estimate of the largest magnitude of an eigenvalue that was left out.
    left_out_trace : float
        Estimate of the sum of all eigenvalues that were left out.
    converged : bool
    """

    values: np.ndarray
    vectors: np.ndarray
    residuals: np.ndarray
    largest_left_out: float
    left_out_trace: float
    converged: bool


def leading_pairs(
    apply: Action,
    size: int,
    threshold: float,
    *,
    tolerance: float = 1e-3,
    block: int = BLOCK,
    most: int | None = None,
    seed: int = 0,
) -> Pairs:
    """Return all eigenpairs whose magnitude exceeds a threshold.

    Parameters
    ----------
    apply : callable
        Rows of shape (k, n) to rows, each times the symmetric operator.
    size : int
        n.
    threshold : float
    tolerance : float
        Largest residual of a pair, relative to ``1 + |lambda|``; its eigenvalue is exact to about
        the square of it.
    block : int
        Vectors to which the operator is applied together.
    most : int, optional
        Largest space; n by default.
    seed : int
        Of the first block.

    Notes
    -----
    Block Lanczos with full reorthogonalisation from a Gaussian block (Halko, Martinsson & Tropp
    2011, doi 10.1137/090771806).  An eigenvalue of higher multiplicity than the block is found
    because the search ends only when new random directions bring nothing new.  What is left
    out: the eigenvalues in the space, plus Hutchinson's estimate of the trace on its complement.
    """
    most = size if most is None else min(most, size)
    return _search(apply, _Space(size, most), threshold, tolerance, block, seed)


def _search(
    apply: Action, space: "_Space", threshold: float, tolerance: float, block: int, seed: int
) -> Pairs:
    """Return the pairs beyond a threshold that a growing space holds."""
    size = space.basis.shape[1]
    rng = np.random.default_rng(seed)
    fresh, looked, done = rng.standard_normal((block, size)), 0, False
    while True:
        directions = space.outside(fresh)
        if not directions.shape[0]:  # the space is closed: are there others?
            directions = space.outside(rng.standard_normal((block, size)))
        fresh = space.extend(directions, apply(directions))
        full = space.count == space.most
        if full or done or space.count >= GROWTH * looked:
            before, looked = done, space.count
            values, inner, residuals = space.pairs()
            done = _all_found(values, residuals, threshold, tolerance)
            if full or (done and before):
                break
            if done:  # look once more, with new random directions beside
                fresh = np.concatenate([fresh, rng.standard_normal((PROBES, size))])
    kept = np.flatnonzero(np.abs(values) > threshold)[::-1]
    rest = np.abs(values) <= threshold
    return Pairs(
        values[kept],
        space.basis[: space.count].T @ inner[:, kept],
        residuals[kept],
        float(np.max(np.abs(values[rest]) + residuals[rest], initial=0.0)),
        float(np.sum(values[rest])) + _trace_outside(apply, space, rng),
        done or space.count == size,
    )


def _all_found(values, residuals, threshold: float, tolerance: float) -> bool:
    """Tell whether pairs beyond the threshold are exact, and the largest below it are settled."""
    beyond = np.abs(values) > threshold
    exact = residuals[beyond] <= tolerance * (1.0 + np.abs(values[beyond]))
    nearest = np.argsort(-np.abs(values[~beyond]))[:BELOW]
    settled = residuals[~beyond][nearest] <= SETTLED * threshold
    return bool(exact.all() and settled.all() and nearest.size == BELOW)


class _Space:
    """Orthonormal rows, and the operator projected on them."""

    def __init__(self, size: int, most: int) -> None:
        self.most, self.count = most, 0
        self._rows = np.empty((min(most, 8 * BLOCK), size))
        self._projected = np.zeros((self._rows.shape[0],) * 2)
        self._last = np.zeros((0, 0))  # inner products of what the last images have outside

    @property
    def basis(self) -> np.ndarray:
        return self._rows[: self.count]

    def outside(self, rows: np.ndarray) -> np.ndarray:
        """Return orthonormal rows that span what the rows have outside the space."""
        scale = np.abs(self._projected).max(initial=0.0) or np.linalg.norm(rows, axis=1).max()
        rows = rows[: self.most - self.count]
        for _ in range(2):  # once is not enough: rounding brings the space back in
            rows = rows - (rows @ self.basis.T) @ self.basis
            columns, upper, _ = qr(rows.T, mode="economic", pivoting=True)
            rows = columns.T[: int(np.sum(np.abs(np.diag(upper)) > DEPENDENT * scale))]
            scale = 1.0
        return rows

    def extend(self, rows: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Add orthonormal rows with their images; return what the images have outside."""
        old, self.count = self.count, self.count + rows.shape[0]
        self._reserve()
        self._rows[old : self.count] = rows
        inner = self.basis @ images.T
        self._projected[: self.count, old : self.count] = inner
        self._projected[old : self.count, : self.count] = inner.T
        outside = images - inner.T @ self.basis
        outside -= (outside @ self.basis.T) @ self.basis
        self._last = outside @ outside.T
        return outside

    def _reserve(self) -> None:
        capacity = self._rows.shape[0]
        if self.count <= capacity:
            return
        more = min(self.most, max(self.count, capacity + capacity // 2)) - capacity
        self._rows = np.concatenate([self._rows, np.empty((more, self._rows.shape[1]))])
        self._projected = np.pad(self._projected, (0, more))

    def pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return eigenvalues, ascending, vectors in the space, and norms of the residuals."""
        projected = self._projected[: self.count, : self.count]
        values, inner = eigh((projected + projected.T) / 2, driver="evd")
        last = inner[self.count - self._last.shape[0] :]
        squares = np.einsum("ij,ik,kj->j", last, self._last, last, optimize=True)
        return values, inner, np.sqrt(np.maximum(squares, 0.0))


def _trace_outside(apply: Action, space: _Space, rng: np.random.Generator) -> float:
    """Return Hutchinson's estimate of the trace on the complement of the space."""
    if space.count == space.basis.shape[1]:
        return 0.0
    probes = rng.choice([-1.0, 1.0], size=(PROBES, space.basis.shape[1]))
    probes -= (probes @ space.basis.T) @ space.basis
    return float(np.sum(probes * apply(probes)) / PROBES)
