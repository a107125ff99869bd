"""Statistical coupling: fields that are correlated a priori."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytensor.tensor as pt

from bayesjoint import _validate, arrays
from bayesjoint._errors import processes as _processes
from bayesjoint._graph.build import ModelBuild
from bayesjoint._replace import Replaceable
from bayesjoint.couplings._common import fields_on_one_grid
from bayesjoint.priors import Prior

SINGULAR = 1e-12  # smallest eigenvalue of a correlation between fields that all vary


@dataclass(frozen=True, eq=False, init=False)
class CorrelatedFields(Replaceable):
    """Gaussian fields correlated cell by cell: a joint prior, normalised for every correlation.

    Each field keeps its own prior (mean, sd, length scale); only between fields something changes.

    Parameters
    ----------
    *names : str
        Two or more fields on one grid.
    correlation : float, matrix or Prior
        Correlation between the properties: a number common to all pairs, or a matrix in the order
        of the names.  Unknown: ``bj.Prior(pm.Uniform, lower=-1, upper=1)`` for two fields,
        ``bj.Prior(pm.LKJCorr, eta=2, n=3)`` for three.

    Raises
    ------
    ValueError
        When the correlation is missing or not valid, fewer than two names are given, the fields do
        not lie on one grid, or have different precisions.

    Notes
    -----
    White coordinates of field i are ``sum_j C_ij z_j`` with ``C C^T`` the correlation matrix: the
    linear model of coregionalisation (Wackernagel 2003, Multivariate Geostatistics, ch. 26).
    Where smoothness and length scales agree, the correlation in every cell is the stated one, and
    the covariance the Kronecker product of the two; where they differ, it is smaller in size (the
    fields share the pattern only as far as both resolve it).

    Examples
    --------
    >>> import pymc as pm
    >>> import bayesjoint as bj
    >>> known = bj.CorrelatedFields("velocity", "density", correlation=0.8)
    >>> unknown = bj.CorrelatedFields(
    ...     "velocity", "density", correlation=bj.Prior(pm.Uniform, lower=-1, upper=1)
    ... )
    """

    _positional = "names"
    names: tuple[str, ...]
    correlation: Any

    def __init__(self, *names: str, correlation: Any = None) -> None:
        _validate.require_names("CorrelatedFields", names)
        object.__setattr__(self, "names", tuple(names))
        object.__setattr__(self, "correlation", correlation)
        if len(names) < 2:
            raise ValueError(f"{self._owner}: two fields or more are needed, {len(names)} given")
        _validate.require_given(
            self._owner, "correlation", correlation, "give a number, a matrix or a prior"
        )
        if not isinstance(correlation, Prior):
            self._check_matrix()
        elif len(names) == 2:
            _validate.require_one(self._owner, "the correlation of two fields", correlation)
        elif correlation.dist().ndim != 2:
            raise ValueError(
                f"{self._owner}: one unknown number for all pairs of {len(names)} fields is no "
                f"correlation matrix below -1/{len(names) - 1}; give "
                f"bj.Prior(pm.LKJCorr, eta=2, n={len(names)})"
            )

    def _check_matrix(self) -> None:
        count = len(self.names)
        given = arrays.read(self._owner, "correlation", self.correlation).values
        if given.ndim not in (0, 2) or (given.ndim == 2 and given.shape != (count, count)):
            raise ValueError(
                f"{self._owner}: the correlation has shape {given.shape}; give a number or a "
                f"matrix of shape {(count, count)}"
            )
        if given.ndim == 2:
            between = arrays.Axes.named("field", self.names, "the fields")
            given = arrays.matrix(
                self._owner, "correlation", self.correlation, between, between, units="1"
            )
        if given.ndim == 0:
            given = np.asarray(arrays.number(self._owner, "correlation", self.correlation, "1"))
        if given.ndim or not isinstance(self.correlation, float):
            kept = arrays.keep(given) if given.ndim else float(given)
            object.__setattr__(self, "correlation", kept)
        matrix = _processes.correlation_matrix(given, count)
        if not np.allclose(np.diag(matrix), 1.0):
            raise ValueError(
                f"{self._owner}: the diagonal of the correlation is not one; sds belong to the "
                "fields"
            )
        _validate.require_semidefinite(f"{self._owner}: correlation", matrix)
        if np.linalg.eigvalsh(matrix)[0] < SINGULAR:
            raise ValueError(
                f"{self._owner}: with this correlation one field follows from the others without "
                "error; lower it, or let that field be a bj.PropertyRelation of the others"
            )

    def __reduce__(self):
        return (_make, (self.names, self.correlation))

    @property
    def _owner(self) -> str:
        return f"CorrelatedFields({', '.join(map(repr, self.names))})"

    @property
    def name(self) -> str:
        """Name of the coupling."""
        return f"correlated_fields_{'_'.join(self.names)}"

    @property
    def hyperparameter(self) -> str:
        """Name of the correlation where it is unknown."""
        return f"correlation_{'_'.join(self.names)}"

    @property
    def latents(self) -> tuple[str, ...]:
        """The coupled fields."""
        return self.names

    shapes = latents

    def before(self, name: str) -> tuple[str, ...]:
        """Return the fields that must be known before the one named."""
        return self.names[: self.names.index(name)]

    def sources_of(self, names: set[str]) -> set[str]:
        """Return latents that some others follow from: none."""
        return set()

    def unknowns(self) -> list[str]:
        """Return the names of its unknown settings."""
        return list(self.priors())

    def priors(self) -> dict[str, Prior]:
        """Return the prior of its correlation, where that is unknown, by name."""
        given = self.correlation
        return {self.hyperparameter: given} if isinstance(given, Prior) else {}

    def restricted(self, kept: set[str]) -> "CorrelatedFields | None":
        """Return the coupling of the fields that are left."""
        index = [i for i, name in enumerate(self.names) if name in kept]
        if len(index) < 2:
            return None
        correlation = _processes.correlation_among(self.correlation, index, len(self.names))
        return CorrelatedFields(*(self.names[i] for i in index), correlation=correlation)

    def renamed(self, names: Mapping[str, str]) -> "CorrelatedFields":
        """Return the coupling of latents of other names."""
        renamed = (names.get(name, name) for name in self.names)
        return self.replace(names=renamed)

    def check(self, latents: Mapping[str, Any]) -> None:
        """Raise unless the fields lie on one grid and their white coordinates can be mixed."""
        fields = fields_on_one_grid(self.name, [latents[name] for name in self.names])
        precisions = [field.precision for field in fields]
        if any(p is not precisions[0] for p in precisions):
            raise ValueError(
                f"{self.name}: fields given by their precision can only be correlated when all "
                "have the same; give sd and length_scale, or one precision to all"
            )

    def shape(self, build: ModelBuild, field: Any) -> tuple[Any, float]:
        """Return the white coordinates of a field given those before it, and no shift."""
        row = self._factor(build)[self.names.index(field.name)]
        known = [build.whites[name] for name in (*self.before(field.name), field.name)]
        return sum(row[j] * white for j, white in enumerate(known)), 0.0

    def pulled(self, build: ModelBuild, name: str, own: Mapping[str, Any]) -> Any:
        """Return rows on the white variable of a field, given those on fields' white coordinates.

        The transpose of `shape`: ``sum_i C_ij own_i``.
        """
        factor, column = self._factor(build), self.names.index(name)
        return sum(factor[i, column] * own[n] for i, n in enumerate(self.names) if i >= column)

    def add_to_model(self, build: ModelBuild, latents: Mapping[str, Any]) -> None:
        """Add nothing: the fields have been shaped when they were added."""

    def _factor(self, build: ModelBuild) -> Any:
        """Return C, lower triangular."""
        if not isinstance(self.correlation, Prior):
            return self.mixing({})
        key = f"{self.hyperparameter}_matrix"
        if key not in build.shared:
            matrix = build.correlation(self.hyperparameter, self.correlation, self.names)
            build.shared[key] = pt.linalg.cholesky(matrix)
        return build.shared[key]

    def mixing(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return C as numbers, given values of hyperparameters by name."""
        correlation = self.correlation
        if isinstance(correlation, Prior):
            correlation = values.get(self.hyperparameter)
        return np.linalg.cholesky(_processes.correlation_matrix(correlation, len(self.names)))


def _make(names: tuple[str, ...], correlation: Any) -> CorrelatedFields:
    return CorrelatedFields(*names, correlation=correlation)
