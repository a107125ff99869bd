"""How generative couplings mix white coordinates, at a point.

The free white variables z of a model are independent.  Reports look at each property by itself: in
coordinates z' that are white under the property's own (marginal) prior.  Without generative
couplings the two agree; a `CorrelatedFields` mixes them by its Cholesky factor, a
`PropertyRelation` by the slopes of its function, a `PropertyMixture` by those of its quantiles.
All are triangular: ``z' = M z``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from bayesjoint._kernels.factors import Factor, ScaledFactor, TriangularFactor
from bayesjoint.couplings import CorrelatedFields, PropertyMixture, PropertyRelation

if TYPE_CHECKING:
    from bayesjoint._compiled.latent_space import LatentSpace

DENSE_CELLS = 2_000  # above, the own prior of a property that follows from others has no factor


class Step(Protocol):
    """One triangular factor of the mixing; acts on columns in place."""

    def forward(self, columns: np.ndarray) -> None:
        """Apply it."""

    def inverse(self, columns: np.ndarray) -> None:
        """Apply its inverse."""

    def forward_transposed(self, columns: np.ndarray) -> None:
        """Apply its transpose."""

    def inverse_transposed(self, columns: np.ndarray) -> None:
        """Apply the inverse of its transpose."""


class Mixing:
    """``z' = M z`` at a point, and the factor of each shaped property's own prior.

    Parameters
    ----------
    size : int
        Number of white coordinates.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.steps: list[Step] = []
        self.own: dict[str, Factor] = {}

    def forward(self, rows: np.ndarray) -> np.ndarray:
        """Return ``M z`` of each row z."""
        return self._each(rows, [step.forward for step in self.steps])

    def inverse(self, rows: np.ndarray) -> np.ndarray:
        """Return ``M^-1 z'`` of each row."""
        return self._each(rows, [step.inverse for step in reversed(self.steps)])

    def forward_transposed(self, rows: np.ndarray) -> np.ndarray:
        """Return ``M^T`` times each row."""
        return self._each(rows, [step.forward_transposed for step in reversed(self.steps)])

    def inverse_transposed(self, rows: np.ndarray) -> np.ndarray:
        """Return ``M^-T`` times each row."""
        return self._each(rows, [step.inverse_transposed for step in self.steps])

    def _each(self, rows: np.ndarray, steps: list) -> np.ndarray:
        if not steps:
            return rows
        columns = np.array(rows.T, order="C")
        for step in steps:
            step(columns)
        return columns.T


@dataclass(frozen=True, eq=False)
class Correlated:
    """``z'_i = sum_j C_ij z_j`` over fields of equal size."""

    factor: np.ndarray  # C
    where: list[slice]

    def _apply(self, matrix: np.ndarray, columns: np.ndarray) -> None:
        stacked = np.stack([columns[w] for w in self.where])
        for where, block in zip(self.where, np.tensordot(matrix, stacked, 1), strict=True):
            columns[where] = block

    def forward(self, columns: np.ndarray) -> None:
        """Apply it."""
        self._apply(self.factor, columns)

    def inverse(self, columns: np.ndarray) -> None:
        """Apply its inverse."""
        self._apply(np.linalg.inv(self.factor), columns)

    def forward_transposed(self, columns: np.ndarray) -> None:
        """Apply its transpose."""
        self._apply(self.factor.T, columns)

    def inverse_transposed(self, columns: np.ndarray) -> None:
        """Apply the inverse of its transpose."""
        self._apply(np.linalg.inv(self.factor).T, columns)


@dataclass(frozen=True, eq=False)
class Source:
    """What a property follows from: its coordinates, its own factor, and the slope in it."""

    where: slice
    factor: Factor
    slope: np.ndarray  # of each cell of the property

    def push(self, columns: np.ndarray) -> np.ndarray:
        """Return the change of the property by changes of white coordinates."""
        return self.slope[:, None] * self.factor.times(columns[self.where])

    def pull(self, columns: np.ndarray) -> np.ndarray:
        """Return the transpose of `push` applied to columns over the cells of the property."""
        moved = self.slope[:, None] * columns
        if self.where.stop - self.where.start == 1:
            moved = moved.sum(axis=0, keepdims=True)  # one number moves every cell
        return self.factor.transpose_times(moved)


@dataclass(frozen=True, eq=False)
class Related:
    """``L_own z'_b = L_scatter z_b + sum_p slope_p L_p z'_p``."""

    where: slice
    scatter: Factor
    own: Factor
    sources: list[Source]

    def forward(self, columns: np.ndarray) -> None:
        """Apply it."""
        moved = self.scatter.times(columns[self.where])
        moved += sum(source.push(columns) for source in self.sources)
        columns[self.where] = self.own.inverse(moved)

    def inverse(self, columns: np.ndarray) -> None:
        """Apply its inverse."""
        moved = self.own.times(columns[self.where])
        moved -= sum(source.push(columns) for source in self.sources)
        columns[self.where] = self.scatter.inverse(moved)

    def forward_transposed(self, columns: np.ndarray) -> None:
        """Apply its transpose."""
        moved = self.own.inverse_transpose(columns[self.where])
        for source in self.sources:
            columns[source.where] += source.pull(moved)
        columns[self.where] = self.scatter.transpose_times(moved)

    def inverse_transposed(self, columns: np.ndarray) -> None:
        """Apply the inverse of its transpose."""
        moved = self.scatter.inverse_transpose(columns[self.where])
        for source in self.sources:
            columns[source.where] -= source.pull(moved)
        columns[self.where] = self.own.transpose_times(moved)


def mixing(space: "LatentSpace", point: np.ndarray, factors: Mapping[str, Factor]) -> Mixing:
    """Return the mixing at a point.

    Parameters
    ----------
    space : LatentSpace
    point : ndarray, shape (n,)
    factors : mapping of name to Factor
        Of each unknown given those that shape it; of a relation, the factor of its scatter.
    """
    made = Mixing(space.size)
    build = space.functions.build
    values = dict(zip(space.names, space.values(point), strict=True))
    slopes = space.slopes(point)
    done: set[int] = set()
    for name in build.whites:  # in the order in which they were added
        coupling = build.shaping.get(name)
        if isinstance(coupling, PropertyRelation):
            _add_given(made, space, name, coupling.sources(), factors, slopes)
        elif isinstance(coupling, PropertyMixture):
            _add_given(made, space, name, coupling.before(name), factors, slopes)
        elif isinstance(coupling, CorrelatedFields) and id(coupling) not in done:
            done.add(id(coupling))
            where = [space.unknown_slices[n] for n in coupling.names]
            made.steps.append(Correlated(coupling.mixing(values), where))
    return made


def _add_given(
    made: Mixing, space: "LatentSpace", name: str, given: Sequence[str], factors: Any, slopes: Any
) -> None:
    """Add a property that follows from others, with what its own white coordinates add."""
    where, scatter = space.unknown_slices[name], factors[name]
    sources = [
        Source(space.unknown_slices[n], made.own.get(n, factors[n]), slopes[name, n]) for n in given
    ]
    if not sources:
        return
    own = _own_factor(made, where, scatter, sources)
    made.own[name] = own
    made.steps.append(Related(where, scatter, own, sources))


def _own_factor(made: Mixing, where: slice, scatter: Factor, sources: list[Source]) -> Factor:
    """Return a factor of the own prior covariance of a property given by a relation."""
    if where.stop - where.start > DENSE_CELLS:
        # Its pattern is that of the scatter; the variance of each cell is right where sources are
        # independent.  It scales leakage only: resolution does not depend on it.
        variance = scatter.variance + sum(s.slope**2 * s.factor.variance for s in sources)
        return ScaledFactor(np.sqrt(variance / scatter.variance), scatter)
    columns = made.forward(np.eye(made.size)).T
    moved = np.sum([source.push(columns) for source in sources], axis=0)
    moved[:, where] += scatter.times(np.eye(where.stop - where.start))
    return TriangularFactor(np.linalg.qr(moved.T, mode="r").T)
