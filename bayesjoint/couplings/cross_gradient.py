"""The cross-gradient: structural coupling of two fields, or of one field with a known image."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import pytensor.tensor as pt

from bayesjoint import _validate, arrays
from bayesjoint._graph.build import ModelBuild
from bayesjoint._kernels.differences import FORMS
from bayesjoint._replace import Replaceable
from bayesjoint.couplings import _common, _guide
from bayesjoint.couplings._gradients import Slopes, prior_slope_rms
from bayesjoint.couplings._group import tabulated
from bayesjoint.couplings._guide import GUIDE
from bayesjoint.couplings.normaliser import Normaliser
from bayesjoint.grids import Grid
from bayesjoint.priors import Prior

NORMALISATIONS = ("none", "range", "gradient")


@dataclass(frozen=True, eq=False)
class CrossGradient(Replaceable):
    """Prior potential that favours fields whose gradients are parallel.

    Parameters
    ----------
    first, second : str
        Names of two fields on one grid.
    weight : float, array of the grid's shape, or Prior
        Factor lambda of the potential, in every cell or of each; dimensionless, with the same
        meaning on every mesh; zero is no coupling.  See `calibrate_coupling` for what it does to
        the prior.  An unknown one needs ``normaliser``.
    form : {"forward", "central", "face"}
        Differences of the gradient, see Notes.
    guide : array or DataArray, shape of the grid
        A known image instead of the second field; needed on a profile, see Notes.  The name of a
        DataArray enters the name of the coupling.
    normalisation : {"none", "range", "gradient"}
        ``"none"``: each property is divided by its prior sd (a guide by its sd over the cells) and
        by nothing else.  ``"range"``: by its ``scales`` (a guide by its range).  ``"gradient"``:
        ``|t|^2 / (|grad a|^2 |grad b|^2 + epsilon^2)``, between 0 and 1, whatever the contrast.
    scales : mapping of name to float, optional
        Ranges of the properties, for ``"range"``.
    floor : float
        For ``"gradient"``: epsilon is the product of both gradients at this fraction of their
        prior rms (of a guide: its own rms); flatter cells hardly count.  On a profile: the gradient
        of the guide below which it counts as flat, as a fraction of its rms.
    mask : array of bool, shape of the grid, optional
        Cells that take part, all by default.  Differences that reach other cells are left out.
    normaliser : Normaliser, optional
        Of the coupled prior, from `tabulate_normaliser`; needed where the weight or a length scale
        of the fields is unknown.

    Raises
    ------
    ValueError
        When the weight is missing or negative, something is unknown whose normaliser is not given,
        the form is unknown, the fields do not share a grid, that is a profile and there is no
        guide, or no cell that takes part has the neighbours that it needs.

    Notes
    -----
    ``t = grad(a / s_a) x grad(b / s_b)`` (Gallardo & Meju 2003, doi 10.1029/2003GL017370), with
    gradients times one global length, the geometric mean extent of the grid;
    ``log p = -1/2 sum_c lambda_c (V_c / V) |t_c|^2`` with cell volumes V_c.

    ``"forward"`` takes the difference to the next cell (the last cell: from the one before),
    ``"central"`` the slope of the parabola through three cells (at the ends the one-sided
    difference); both are exactly zero for parallel gradients, and tend to the integral with the
    cell size and with its square.  ``"face"`` is that of SimPEG (Haber & Holtzman Gazit 2013, doi
    10.1007/s10712-013-9232-4): gradients on faces, and ``|t|^2 = A(ga^2) A(gb^2) - A(ga gb)^2``
    summed over directions, where A is the mean of a cell's two faces along each direction and
    outer faces are flat.  By Lagrange's identity it is the sum of squares of
    ``(a_i b_j - a_j b_i) / 2`` over pairs of the cell's faces, a least-squares form as well.
    Opposite faces are such a pair, so that fields along one axis with different curvature cost a
    little; flat outer faces halve the squared normal gradient of the cells along the boundary, an
    error of the order of the cell size.  ``-log p`` is SimPEG's objective times
    ``lambda l^4 / (2 V s_a^2 s_b^2)`` on an even grid; on an uneven one cells meet midway between
    centres here, there centres lie midway between faces, so that volumes differ.

    A dimension of one cell has no gradient and does not enter.  On a *profile*, a grid with one
    dimension of two cells or more, all gradients are parallel and t vanishes: two fields are
    refused.  A guide g has a meaning of its own there: the profile is free to change at the edges
    of the guide, and smoothed where that is flat,
    ``t = grad(a / s_a) eta / sqrt(|grad g|^2 + eta^2)``, eta the ``floor`` times the rms of
    ``grad g``.  ``|t|^2`` is ``|grad a|^2 - (grad a . xi)^2`` with
    ``xi = grad g / sqrt(|grad g|^2 + eta^2)``, the part of the gradient that does not follow the
    guide (asymmetric parallel level sets sum its root: Ehrhardt et al. 2016, doi
    10.1109/TMI.2016.2549601), in one dimension.  It is no limit of the cross-gradient, which leaves
    a field free where the guide is flat.  Neither size nor sign of the guide matters.

    An unknown weight, or length scale of a field, needs the normaliser of the coupled prior, which
    depends on it (with ``"gradient"`` no length scale may be unknown: it moves the floor).  An
    unknown sd does not, as the property is divided by the current one, where the mean is the same
    in every cell; with ``"range"`` and ``"gradient"`` it is refused.

    Examples
    --------
    >>> import numpy as np
    >>> import bayesjoint as bj
    >>> coupling = bj.CrossGradient("density", "slowness", weight=10.0)
    >>> seismic = np.outer(np.arange(8.0), np.ones(12))
    >>> guided = bj.CrossGradient("density", guide=seismic, weight=10.0, form="central")
    >>> coupling.name, guided.name
    ('cross_gradient_density_slowness', 'cross_gradient_density_guide')
    """

    first: str
    second: str | None = None
    _: KW_ONLY
    weight: Any = None
    form: str = "forward"
    guide: Any = None
    normalisation: str = "none"
    scales: Mapping[str, float] | None = None
    floor: float = 0.1
    mask: Any = None
    normaliser: Normaliser | None = None

    def __post_init__(self) -> None:
        other = GUIDE if self.second is None else repr(self.second)
        owner = f"CrossGradient({self.first!r}, {other})"
        names = [self.first] if self.second is None else [self.first, self.second]
        for name in names:
            _validate.require_names(owner, [name])
        if (self.second is None) == (self.guide is None):
            raise ValueError(f"{owner}: give either a second field or guide=, a known image")
        if self.first == self.second:
            raise ValueError(f"{owner}: two different fields are needed")
        _validate.require_name(f"{owner}: guide", self._known)
        _common.require_normaliser(owner, self.normaliser)
        arrays.keep_settings(self)
        _common.require_weight(owner, self.weight, self.normaliser)
        _common.keep_weight(self)
        _common.require_form(owner, self.form, FORMS)
        self._check_normalisation(owner)

    def _check_normalisation(self, owner: str) -> None:
        _validate.require_choice(owner, "the normalisation", self.normalisation, NORMALISATIONS)
        _common.require_scales(owner, self.scales, self._properties)
        missing = [n for n in self.latents if n not in (self.scales or {})]
        if self.normalisation == "range" and missing:
            raise ValueError(
                f"{owner}: normalisation by the range needs the range of {missing}; give "
                f"scales={{{missing[0]!r}: ...}}"
            )
        if self.normalisation != "range" and self.scales:
            raise ValueError(f'{owner}: scales are used with normalisation="range" only')
        _common.require_number(owner, "floor", self.floor)
        _validate.keep_number(self, owner, "floor")

    @property
    def name(self) -> str:
        """Name of the potential in the model."""
        return f"cross_gradient_{self.first}_{self.second or self._known}"

    @property
    def latents(self) -> tuple[str, ...]:
        """The coupled fields: two, or one with a guide."""
        return (self.first,) if self.second is None else (self.first, self.second)

    @property
    def shapes(self) -> tuple[str, ...]:
        """Latents whose prior it replaces: none, it is a potential."""
        return ()

    def sources_of(self, names: set[str]) -> set[str]:
        """Return latents that some others follow from: none."""
        return set()

    def restricted(self, kept: set[str]) -> "CrossGradient | None":
        """Return the coupling if all its fields are left."""
        return self if kept.issuperset(self.latents) else None

    def renamed(self, names: Mapping[str, str]) -> "CrossGradient":
        """Return the coupling of latents of other names."""
        return self.replace(
            first=names.get(self.first, self.first),
            second=self.second and names.get(self.second, self.second),
            scales=_common.renamed_keys(self.scales, names),
            normaliser=_common.renamed_normaliser(self.normaliser, names),
        )

    @property
    def _known(self) -> str:
        return getattr(self.guide, "name", None) or GUIDE

    @property
    def _properties(self) -> tuple[str, ...]:
        return self.latents if self.second else (self.first, GUIDE)

    def check(self, latents: Mapping[str, Any]) -> None:
        """Raise unless the fields are known, lie on one grid and have fixed priors."""
        fields = [latents[name] for name in self.latents]
        for field in fields if self.normalisation == "gradient" else []:
            _common.require_fixed(
                self.name, f"an unknown length scale of {field.name!r}, which moves the floor,",
                isinstance(field.hyperparameters["length_scale"], Prior),
                'Give a number, or use normalisation="none" and tabulate the normaliser',
            )  # fmt: skip
        grid = _common.shared_grid(self.name, fields, self.normalisation == "none", tabulated(self))
        if _is_profile(grid):
            self._check_profile()
        inside = _common.cells_of(self.name, self.mask, grid)
        formed = Slopes(grid, self.form, inside).formed
        _common.require_cost(self, inside, formed, 1 if _is_profile(grid) else 2, grid)
        if self.guide is not None:
            _guide.require_slopes(self, grid)

    def _check_profile(self) -> None:
        if self.guide is None:
            raise ValueError(
                f"{self.name}: a cross-gradient needs two or three dimensions of two cells or "
                "more; in one it is zero, as all gradients are parallel. bj.JointTotalVariation "
                "couples profiles by their edges, bj.CorrelatedFields by their values; guide= lets "
                "one follow a known profile; several profiles side by side make a grid of two "
                "dimensions"
            )
        if self.normalisation == "gradient":
            raise ValueError(
                f'{self.name}: normalisation="gradient" compares directions, and on a profile '
                'there is one only; use "none" or "range"'
            )

    def add_to_model(self, build: ModelBuild, latents: Mapping[str, Any]) -> None:
        """Add the potential to the model."""
        grid = latents[self.first].grid
        inside = _common.cells_of(self.name, self.mask, grid)
        slopes = Slopes(grid, self.form, inside)
        constant = partial(_common.named_constant, build, self.name)
        pair = [
            slopes.tensors(constant, build.values[n] / self._scale(build, latents[n]))
            for n in self.latents
        ]
        if _is_profile(grid):
            crossed = pt.stack(pair[0]) * constant("flatness", _guide.flatness(self, grid))
        else:
            if self.guide is not None:
                known = slopes.arrays(_guide.known_image(self, grid))
                pair.append([constant("guide_slope", array) for array in known])
            crossed = _cross(*pair)
        weights, factor = _common.weights_of(build, self, inside, grid)
        residual = crossed * constant("root_weight", np.sqrt(weights))
        if self.normalisation == "gradient":
            residual /= pt.sqrt(_product(*pair) + self._epsilon(build, latents, grid) ** 2)
        cost = 0.5 * (residual**2).sum()
        _common.add_potential(build, self, latents, factor, cost, residual)

    def _scale(self, build: ModelBuild, field: Any) -> Any:
        if self.normalisation == "range":
            return float((self.scales or {})[field.name])
        return _common.typical_sd(build, field)

    def _epsilon(self, build: ModelBuild, latents: Mapping[str, Any], grid: Grid) -> float:
        """Return the product of gradients below which cells count as flat."""
        rms = [prior_slope_rms(latents[n]) / self._scale(build, latents[n]) for n in self.latents]
        if self.guide is not None:
            rms.append(np.sqrt(_guide.squared_slope(self, grid, "forward")[1]))
        return self.floor**2 * float(np.prod(rms))


def _is_profile(grid: Grid) -> bool:
    return len(grid.long_axes) == 1


def _cross(first: list, second: list):
    """Return the products of all pairs of components, the pairs in front."""
    pairs = combinations(range(len(first)), 2)
    return pt.stack([first[i] * second[j] - first[j] * second[i] for i, j in pairs])


def _product(first: list, second: list):
    return _squared(first) * _squared(second)


def _squared(components: list):
    return sum(component**2 for component in components)
