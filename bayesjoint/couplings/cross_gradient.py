"""Structural couplings: prior potentials between latents."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pytensor.tensor as pt

from bayesjoint import _validate
from bayesjoint._build import ModelBuild
from bayesjoint._kernels.differences import FORMS, difference_matrices
from bayesjoint.couplings._common import (
    add_least_squares,
    require_known_scales,
    require_normaliser,
    same_grid,
    typical_sd,
)
from bayesjoint.couplings.normaliser import Normaliser


@dataclass(frozen=True, eq=False)
class CrossGradient:
    """Prior potential that favours fields whose gradients are parallel.

    Parameters
    ----------
    first, second : str
        Names of two fields on one grid.
    weight : float or Prior
        Factor lambda of the potential; dimensionless, with the same meaning on every mesh.  See
        `calibrate_coupling` for what it does to the prior.  An unknown one needs ``normaliser``.
    form : {"forward", "central"}
        Differences of the gradient.
    mask : array of bool, shape of the grid, optional
        Cells in which the coupling acts; all by default.
    normaliser : Normaliser, optional
        Of the coupled prior, from `tabulate_normaliser`; needed where the weight is unknown.

    Raises
    ------
    ValueError
        When the weight is missing, negative, or unknown without normaliser, the form is unknown,
        or the fields do not share a grid of two or three dimensions.

    Notes
    -----
    ``t = grad(a / sd_a) x grad(b / sd_b)`` (Gallardo & Meju 2003, doi 10.1029/2003GL017370), with
    gradients times one global length, the geometric mean extent of the grid;
    ``log p = -lambda/2 sum_c (V_c / V) |t_c|^2`` with cell volumes V_c.  ``sd`` is the
    current one where it is unknown, so that the normaliser of the coupled prior does not depend on
    it.  An unknown weight needs this normaliser; an unknown length scale would too.

    Examples
    --------
    >>> import bayesjoint as bj
    >>> coupling = bj.CrossGradient("density", "slowness", weight=10.0)
    """

    first: str
    second: str
    _: KW_ONLY
    weight: float | None = None
    form: str = "forward"
    mask: Any = None
    normaliser: Normaliser | None = None

    def __post_init__(self) -> None:
        owner = f"CrossGradient({self.first!r}, {self.second!r})"
        _validate.require_given(
            owner, "weight", self.weight, "try a few and compare bj.resolution and bj.leakage"
        )
        require_normaliser(owner, self.weight, self.normaliser)
        _validate.require_positive(owner, "weight", self.weight)
        if self.form not in FORMS:
            raise ValueError(
                f"{owner}: the form {self.form!r} is unknown; use one of {sorted(FORMS)}"
            )
        if self.first == self.second:
            raise ValueError(f"{owner}: two different fields are needed")

    @property
    def name(self) -> str:
        """Name of the potential in the model."""
        return f"cross_gradient_{self.first}_{self.second}"

    @property
    def latents(self) -> tuple[str, str]:
        """The coupled fields."""
        return (self.first, self.second)

    @property
    def shapes(self) -> tuple[str, ...]:
        """Latents whose prior it replaces: none, it is a potential."""
        return ()

    def sources_of(self, names: set[str]) -> set[str]:
        """Return latents that some others follow from: none."""
        return set()

    def restricted(self, kept: set[str]) -> "CrossGradient | None":
        """Return the coupling if both fields are left."""
        return self if kept.issuperset(self.latents) else None

    def check(self, latents: Mapping[str, Any]) -> None:
        """Raise unless both fields are known, lie on one grid and have fixed priors."""
        fields = [latents[name] for name in self.latents]
        grids: list[Any] = [getattr(field, "grid", None) for field in fields]
        if None in grids or not same_grid(*grids):
            raise ValueError(f"{self.name}: both latents must be fields on the same grid")
        if len(grids[0].dims) < 2:
            raise ValueError(
                f"{self.name}: a cross-gradient needs two or three dimensions; in one it is zero"
            )
        if min(grids[0].shape) < 2:
            raise ValueError(f"{self.name}: the grid needs two cells or more along each dimension")
        if self.mask is not None and np.shape(self.mask) != grids[0].shape:
            raise ValueError(
                f"{self.name}: the mask has shape {np.shape(self.mask)}, the grid {grids[0].shape}"
            )
        require_known_scales(self.name, fields)

    def add_to_model(self, build: ModelBuild, latents: Mapping[str, Any]) -> None:
        """Add the potential to the model."""
        add_least_squares(build, self, self._residual(build, latents))

    def _residual(self, build: ModelBuild, latents: Mapping[str, Any]):
        grid = latents[self.first].grid
        length = float(np.prod(grid.extent) ** (1.0 / len(grid.extent)))
        matrices = difference_matrices(grid.centres.values(), self.form)
        first, second = (
            [
                _along(build.matrix(f"{self.name}_difference_{dim}", length * matrix), scaled, axis)
                for axis, (dim, matrix) in enumerate(zip(grid.dims, matrices, strict=True))
            ]
            for scaled in (build.values[n] / typical_sd(build, latents[n]) for n in self.latents)
        )
        cross = [
            first[i] * second[j] - first[j] * second[i]
            for i, j in combinations(range(len(first)), 2)
        ]
        share = grid.volumes / grid.volumes.sum()
        if self.mask is not None:
            share = share * np.asarray(self.mask, dtype=float)
        return pt.stack(cross) * np.sqrt(share)


def _along(matrix, array, axis: int):
    return pt.moveaxis(pt.tensordot(matrix, array, [[1], [axis]]), 0, axis)
