"""Edges that several properties share: joint total variation, and heavy-tailed increments."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import zero_grad

from bayesjoint import _validate, arrays
from bayesjoint._graph.build import ModelBuild
from bayesjoint._kernels.differences import AHEAD, FORMS
from bayesjoint._replace import Replaceable
from bayesjoint.couplings import _common
from bayesjoint.couplings._gradients import Slopes
from bayesjoint.couplings._group import tabulated
from bayesjoint.couplings.normaliser import Normaliser
from bayesjoint.grids import Grid


@dataclass(frozen=True, eq=False, init=False)
class _SharedEdges(Replaceable):
    """A penalty of ``q = sum_k l^2 |grad m_k / s_k|^2``, summed over cells with their volumes."""

    _positional = "latents"
    latents: tuple[str, ...]
    weight: Any
    epsilon: float
    scales: Mapping[str, float] | None
    form: str
    mask: Any
    normaliser: Normaliser | None

    def __init__(
        self,
        *names: str,
        weight: Any = None,
        epsilon: Any = None,
        scales: Mapping[str, float] | None = None,
        form: str = "forward",
        mask: Any = None,
        normaliser: Normaliser | None = None,
    ) -> None:
        given = {"weight": weight, "epsilon": epsilon, "scales": scales, "form": form, "mask": mask}
        given["normaliser"] = normaliser
        for key, value in {"latents": names, **given}.items():
            object.__setattr__(self, key, arrays.keep(value))
        self._check_settings(self._owner)
        _common.keep_weight(self)

    @property
    def _owner(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.latents))})"

    def _check_settings(self, owner: str) -> None:
        if not self.latents:
            raise ValueError(f"{owner}: name one field or more")
        _validate.require_names(owner, self.latents)
        _common.require_normaliser(owner, self.normaliser)
        _common.require_weight(owner, self.weight, self.normaliser)
        _validate.require_given(
            owner,
            "epsilon",
            self.epsilon,
            "state the gradient that tells an edge from a slope, in prior standard deviations per "
            "extent of the grid: extent / length_scale is that of the prior itself",
        )
        self._check_epsilon(owner)
        _common.require_form(owner, self.form, FORMS)
        _common.require_scales(owner, self.scales, self.latents)

    def _check_epsilon(self, owner: str) -> None:
        if isinstance(self.epsilon, Mapping):
            raise ValueError(
                f"{owner}: epsilon must be one number, as the gradients of all properties enter "
                "one root or logarithm, each in units of its scale; where edges of a property "
                "begin at another gradient give it another scale, scales={name: s}: epsilon * s "
                "per extent of the grid is that gradient"
            )
        _common.require_number(owner, "epsilon", self.epsilon)
        _validate.keep_number(self, owner, "epsilon")

    @property
    def name(self) -> str:
        """Name of the potential in the model."""
        raise NotImplementedError

    @property
    def shapes(self) -> tuple[str, ...]:
        """Latents whose prior it replaces: none, it is a potential."""
        return ()

    def sources_of(self, names: set[str]) -> set[str]:
        """Return latents that some others follow from: none."""
        return set()

    def restricted(self, kept: set[str]) -> "_SharedEdges | None":
        """Return the coupling if all its fields are left."""
        return self if kept.issuperset(self.latents) else None

    def renamed(self, names: Mapping[str, str]) -> "_SharedEdges":
        """Return the coupling of latents of other names."""
        return self.replace(
            latents=[names.get(name, name) for name in self.latents],
            scales=_common.renamed_keys(self.scales, names),
            normaliser=_common.renamed_normaliser(self.normaliser, names),
        )

    def check(self, latents: Mapping[str, Any]) -> None:
        """Raise unless the fields are known, lie on one grid and have fixed priors."""
        fields = [latents[name] for name in self.latents]
        grid = _common.shared_grid(self.name, fields, not self.scales, tabulated(self))
        inside = _common.cells_of(self.name, self.mask, grid)
        _common.require_cost(self, inside, self._slopes(grid, inside).formed, 1, grid)

    def add_to_model(self, build: ModelBuild, latents: Mapping[str, Any]) -> None:
        """Add the potential to the model."""
        grid = latents[self.latents[0]].grid
        inside = _common.cells_of(self.name, self.mask, grid)
        slopes = self._slopes(grid, inside)
        constant = partial(_common.named_constant, build, self.name)
        components = [
            component
            for name in self.latents
            for component in slopes.tensors(
                constant, build.values[name] / self._scale(build, latents[name])
            )
        ]
        stacked = pt.stack(components)
        squared = (stacked**2).sum(axis=0)
        cells, factor = _common.weights_of(build, self, inside, grid)
        weights = constant("weight", cells)
        cost, curvature = self._penalty(squared, len(self.latents) * len(grid.long_axes))
        # Lagged: the curvature is held where it is, so that J^T J is positive semi-definite and
        # bounds the Hessian from above.
        residual = zero_grad(pt.sqrt(weights * curvature)) * stacked
        _common.add_potential(build, self, latents, factor, (weights * cost).sum(), residual)

    def _slopes(self, grid: Grid, inside: np.ndarray | None) -> Slopes:
        return Slopes(grid, AHEAD if self.form == "forward" else self.form, inside)

    def _scale(self, build: ModelBuild, field: Any) -> Any:
        return (self.scales or {}).get(field.name) or _common.typical_sd(build, field)

    def _penalty(self, squared: Any, components: int) -> tuple[Any, Any]:
        """Return the cost of a squared gradient, and twice its derivative."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False, init=False)
class JointTotalVariation(_SharedEdges):
    """Prior potential that favours few edges, in the same places in every property.

    Parameters
    ----------
    *names : str
        Names of one field or more, on one grid of one to three dimensions.
    weight : float, array of the grid's shape, or Prior
        Factor lambda of the potential, in every cell or of each; zero is no coupling.  An unknown
        one needs ``normaliser``.
    epsilon : float
        Gradient at which the cost turns from quadratic to linear, in ``s_k`` per global length.
        One number, as numbers for each property would only add up under the root: what tells
        their edges from their slopes, property by property, is ``scales``.
    scales : mapping of name to float, optional
        ``s_k``: a change that counts as one; the prior sd by default.
    form : {"forward", "central", "face"}
        Differences, as in `CrossGradient`, but that a forward difference beyond the last cell is
        left out, so that every face counts once.  ``"face"`` is that of SimPEG.
    mask : array of bool, shape of the grid, optional
        Cells that take part, all by default.  Differences that reach other cells are left out.
    normaliser : Normaliser, optional
        Of the coupled prior, from `tabulate_normaliser`; needed where the weight or a length scale
        of the fields is unknown.

    Raises
    ------
    ValueError
        When the weight is missing or negative, epsilon is missing or not positive, something is
        unknown whose normaliser is not given, the fields do not share a grid, or no two cells that
        take part are neighbours.

    Notes
    -----
    ``log p = -sum_c lambda_c (V_c / V) sqrt(sum_k l^2 |grad m_k / s_k|^2 + epsilon^2)``, isotropic
    vectorial total variation (Haber & Holtzman Gazit 2013, doi 10.1007/s10712-013-9232-4), with the
    global length l of `CrossGradient`.  One edge in two properties costs ``sqrt(2)`` of that in
    one, two edges apart cost 2.  A step along an axis costs the same on every mesh, its height
    times its area times ``l / V``; one across the axes costs up to ``sqrt(2)`` times that in the
    forward form, depending on its direction.  The product with the fields' Gaussian prior has a
    limit as the mesh is refined (Yao, Hu & Li 2016, arXiv 1510.05239), where draws are as smooth as
    those of that prior; total variation by itself has none that keeps edges (Lassas & Siltanen
    2004, doi 10.1088/0266-5611/20/5/013).

    The density has a single maximum where maps are linear.  Its Gauss-Newton term is that of
    lagged diffusivity (Vogel & Oman 1996, doi 10.1137/0917016): the Hessian at flat fields, and
    above it along an edge's normal, so that a linearised coupled prior is too narrow there.

    Examples
    --------
    >>> import bayesjoint as bj
    >>> coupling = bj.JointTotalVariation("density", "slowness", weight=5.0, epsilon=0.3)
    >>> coupling.name
    'total_variation_density_slowness'
    """

    @property
    def name(self) -> str:
        """Name of the potential in the model."""
        return f"total_variation_{'_'.join(self.latents)}"

    def _penalty(self, squared: Any, components: int) -> tuple[Any, Any]:
        cost = pt.sqrt(squared + self.epsilon**2)
        return cost, 1.0 / cost


@dataclass(frozen=True, eq=False, init=False)
class JointSparsity(_SharedEdges):
    """Prior potential of heavy-tailed increments that share their edges.

    Parameters
    ----------
    *names : str
        Names of one field or more, on one grid of one to three dimensions.
    weight : float, array of the grid's shape, or Prior
        How many independent sites the grid stands for, or that number times a map.  The number of
        cells gives every cell of this mesh one factor; a stated number, such as volume over length
        scale to the power of the dimension, means the same on every mesh.
    epsilon : float
        Scale of the increments: gradients in ``s_k`` per global length; beyond it lie edges.
        A property of its own scale of increments has its own ``scales``.
    nu : float
        Degrees of freedom; 1 gives Cauchy tails, large ones a Gaussian.
    scales, form, mask, normaliser
        As in `JointTotalVariation`.

    Raises
    ------
    ValueError
        When the weight is missing or negative, epsilon is missing or not positive, something is
        unknown whose normaliser is not given, the fields do not share a grid, or no two cells that
        take part are neighbours.

    Notes
    -----
    ``log p = -(nu + K d)/2 sum_c W_c (V_c / V) log(1 + sum_k l^2 |grad m_k / s_k|^2 / (nu
    epsilon^2))`` for K properties in d dimensions of two cells or more: a multivariate Student-t
    density of the stacked increments of a cell, which is a Gaussian whose variance, common to all
    properties, is unknown in each cell and integrated out.  Once a property has an edge, one in
    another costs little more.
    Cauchy and Student-t difference priors: Markkanen et al. 2019, doi 10.1515/jiip-2017-0048;
    Senchukova, Uribe & Roininen 2024, arXiv 2403.13665.

    What is normalised: the factor of a single cell with ``W_c V_c / V = 1``, as a density of its
    increments (its constant, which nothing here depends on, is left out).  The product is not:
    increments in two or three dimensions are not independent coordinates, other weights are powers
    of a density, and the Gaussian prior of the fields multiplies it.  An unknown weight or length
    scale therefore needs a normaliser; epsilon and nu must be known.

    Refinement: smooth fields cost the same on every mesh, with an error of the order of the cell
    size, and the density multiplies the Gaussian prior by a factor of at most one, so that there is
    a limit.  An edge as sharp as the mesh does not have a cost of its own in that limit: it falls
    as ``h log(1/h)``.  `JointTotalVariation` keeps it.  The logarithm is not convex: a posterior
    may have several maxima even where maps are linear.  The Gauss-Newton term is that of
    iteratively reweighted least squares, which bounds the Hessian from above, so that a linearised
    coupled prior is too narrow at edges.

    Examples
    --------
    >>> import bayesjoint as bj
    >>> coupling = bj.JointSparsity("density", "slowness", weight=40.0, epsilon=2.0, nu=1.0)
    >>> coupling.name
    'sparsity_density_slowness'
    """

    nu: float

    def __init__(
        self,
        *names: str,
        weight: Any = None,
        epsilon: Any = None,
        nu: float = 1.0,
        scales: Mapping[str, float] | None = None,
        form: str = "forward",
        mask: Any = None,
        normaliser: Normaliser | None = None,
    ) -> None:
        super().__init__(
            *names, weight=weight, epsilon=epsilon, scales=scales, form=form, mask=mask,
            normaliser=normaliser,
        )  # fmt: skip
        _common.require_number(self._owner, "nu", nu)
        object.__setattr__(self, "nu", nu)
        _validate.keep_number(self, self._owner, "nu")

    @property
    def name(self) -> str:
        """Name of the potential in the model."""
        return f"sparsity_{'_'.join(self.latents)}"

    def _penalty(self, squared: Any, components: int) -> tuple[Any, Any]:
        scale, power = self.nu * self.epsilon**2, self.nu + components
        return 0.5 * power * pt.log1p(squared / scale), power / (scale + squared)
