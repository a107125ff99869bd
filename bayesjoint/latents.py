"""Latents: what is unknown.  Each knows its white variable and its map to physical units."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
import xarray as xr
from scipy import sparse

from bayesjoint import _validate, arrays
from bayesjoint import units as _units
from bayesjoint._graph.build import ModelBuild, Unknown
from bayesjoint._kernels import matern
from bayesjoint._kernels.factors import Factor, PrecisionFactor
from bayesjoint._replace import Replaceable
from bayesjoint.grids import Grid
from bayesjoint.priors import Prior


@dataclass(frozen=True, eq=False)
class Parameter(Replaceable):
    """A scalar or a labelled vector with a prior.

    Parameters
    ----------
    name : str
        Name of the variable in the model and in the posterior.
    prior : Prior
        The same prior for every element; parameters of shape (n,) give each its own.
    units : str, optional
        Units, checked against maps that state theirs.
    coords : mapping of one str to labels, optional
        Makes the parameter a vector along that dimension.

    Raises
    ------
    ValueError
        When the name is no identifier, or the prior is not a `Prior`.

    Examples
    --------
    >>> import bayesjoint as bj
    >>> import pymc as pm
    >>> bj.Parameter("depth", bj.Prior(pm.LogNormal, mu=7.9, sigma=0.3), units="m").shape
    ()
    >>> gain = bj.Prior(pm.Normal, mu=1, sigma=0.1)
    >>> bj.Parameter("gain", gain, coords={"channel": ["a", "b"]}).shape
    (2,)
    """

    name: str
    prior: Prior
    _: KW_ONLY
    units: str | None = None
    coords: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _validate.require_name("Parameter", self.name)
        if not isinstance(self.prior, Prior):
            raise ValueError(
                f"Parameter {self.name!r}: {self.prior!r} is not a prior; write "
                "bj.Prior(pm.Normal, mu=..., sigma=...)"
            )
        owner = f"Parameter {self.name!r}"
        object.__setattr__(self, "units", _units.spelled(self.units))
        _validate.number(owner, "its value", self.prior, self.units)
        of_data = isinstance(self.coords, xr.Dataset | xr.DataTree)  # whose dims would be lost
        if not isinstance(self.coords, Mapping) or of_data:
            raise ValueError(
                f"{owner}: coords is a {type(self.coords).__name__}; give the labels by the name "
                'of their dimension, as coords={"channel": ["a", "b"]}'
            )
        coords = {dim: _labels(owner, dim, labels) for dim, labels in self.coords.items()}
        object.__setattr__(self, "coords", arrays.ReadOnly(coords))
        object.__setattr__(self, "prior", self.prior.aligned(owner, self.axes()))

    def axes(self) -> arrays.Axes:
        """Return the axes to which its values are aligned."""
        labels = tuple(pd.Index(labels) for labels in self.coords.values())
        units = (None,) * len(labels)
        return arrays.Axes(f"the parameter {self.name!r}", self.dims, labels, self.shape, units)

    @property
    def dims(self) -> tuple[str, ...]:
        """Dimensions, empty for a scalar."""
        return tuple(self.coords)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape, empty for a scalar."""
        return tuple(len(labels) for labels in self.coords.values())

    @property
    def grid_coords(self) -> dict[str, Any]:
        """Coordinates of the dimensions."""
        return dict(self.coords)

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Settings that may be unknown: none."""
        return {}

    def add_to_model(self, build: ModelBuild) -> None:
        """Add the white variable and the parameter to the model."""
        build.add_coords(self.coords)
        build.unknown(
            self.name, self.prior, dims=self.dims or None, kind="latent", units=self.units or ""
        )


@dataclass(frozen=True, eq=False)
class GaussianField(Replaceable):
    """A Gaussian field on a tensor grid with Matérn covariance, or with a given precision.

    Parameters
    ----------
    name : str
        Name of the variable in the model and in the posterior.
    grid : Grid
        Cell centres; the field has the grid's dims.
    sd : float or Prior
        Prior standard deviation of every cell, in ``units``.
    length_scale : float, Prior or mapping of dimension to float
        Matérn length scale in units of the grid; a mapping makes the field anisotropic.
    mean : float, array of the grid's shape or Prior
        Prior mean.
    smoothness : float
        Matérn smoothness nu.
    units : str, optional
        Units, checked against maps that state theirs.
    precision : sparse matrix, shape (n, n), optional
        Prior precision (inverse covariance) instead of ``sd`` and ``length_scale``: any mesh, or
        the regularisation of another code.

    Raises
    ------
    ValueError
        When sd or length scale is missing or not positive, shapes do not fit, or the precision is
        not positive definite.

    Notes
    -----
    ``m = mean + sd V_z (S * Z) V_x^T / s`` with white ``Z``: V are eigenvectors of the
    one-dimensional Laplacians, S the Matérn amplitudes, and ``s`` the standard deviation of each
    cell under the basis, so that the stated sd holds exactly in every cell, up to the edges.
    Lindgren, Rue & Lindström (2011), doi 10.1111/j.1467-9868.2011.00777.x.  Inside, correlations
    are Matérn within 0.03 for cells up to a third of the length scale in one dimension, a fifth in
    two; within a length scale of an edge they are higher (0.61 instead of 0.48 between the edge and
    a point one length scale off, smoothness 1.5): pad the grid where that matters.

    Examples
    --------
    >>> import numpy as np
    >>> import bayesjoint as bj
    >>> grid = bj.Grid(depth=np.arange(5.0, 80.0, 10.0), x=np.arange(5.0, 120.0, 10.0))
    >>> bj.GaussianField("density", grid, sd=200.0, length_scale=30.0, units="kg/m3").shape
    (8, 12)
    """

    name: str
    grid: Grid
    _: KW_ONLY
    sd: float | Prior | None = None
    length_scale: float | Prior | Mapping[str, float] | None = None
    mean: Any = 0.0
    smoothness: float = 1.5
    units: str | None = None
    precision: Any = None

    def __post_init__(self) -> None:
        _validate.require_name("GaussianField", self.name)
        owner = f"GaussianField {self.name!r}"
        if not isinstance(self.grid, Grid):
            raise ValueError(
                f"{owner}: the grid must be a bj.Grid, {type(self.grid).__name__} given"
            )
        self._read_settings(owner)
        if self.precision is not None:
            self._check_precision(owner)
        else:
            _validate.require_given(owner, "sd", self.sd, "state how far it may vary a priori")
            _validate.require_given(
                owner, "length_scale", self.length_scale, "state over what distance it varies"
            )
            _validate.require_positive(owner, "sd", self.sd)
            _validate.require_scalar(owner, "sd", self.sd)
            self._check_length_scale(owner)
        if not isinstance(self.mean, Prior) and not np.all(np.isfinite(self.mean)):
            raise ValueError(f"{owner}: the mean is not finite; give a number for every cell")
        _validate.require_given(owner, "smoothness", self.smoothness, "give 1.5, 0.5 or 2.5")
        _validate.require_known(owner, "smoothness", self.smoothness)
        _validate.require_positive(owner, "smoothness", self.smoothness)

    def _read_settings(self, owner: str) -> None:
        """Bring the settings to the grid: in its order, and in units of the field and the grid."""
        if isinstance(self.sd, Prior):
            _validate.require_one(owner, "sd", self.sd)
        object.__setattr__(self, "units", _units.spelled(self.units))
        axes = self.axes()
        read = {
            "sd": _validate.number(owner, "sd", self.sd, self.units),
            "mean": _mean(owner, self.mean, axes, self.units),
            "smoothness": _validate.number(owner, "smoothness", self.smoothness, "1"),
            "length_scale": _length_scale(owner, self.length_scale, self.grid),
        }
        if self.precision is not None:
            squared = f"1/({self.units})**2" if self.units else None
            read["precision"] = _precision(owner, self.precision, axes, squared)
        for name, value in read.items():
            object.__setattr__(self, name, arrays.keep(value))

    def axes(self) -> arrays.Axes:
        """Return the axes to which arrays on the field are aligned."""
        return self.grid.axes(f"the grid of {self.name!r}")

    def _check_precision(self, owner: str) -> None:
        if self.sd is not None or self.length_scale is not None:
            raise ValueError(f"{owner}: give either precision, or sd and length_scale, not both")
        if self.precision.shape != (self.grid.size, self.grid.size):
            raise ValueError(
                f"{owner}: the precision has shape {self.precision.shape}, the grid has "
                f"{self.grid.size} cells"
            )
        _validate.covariance_factor(f"{owner}: precision", _dense(self.precision))

    def _check_length_scale(self, owner: str) -> None:
        if isinstance(self.length_scale, Mapping):
            if set(self.length_scale) != set(self.dims):
                raise ValueError(
                    f"{owner}: length_scale names {sorted(self.length_scale)}, the grid has "
                    f"{sorted(self.dims)}; give one for each"
                )
            for value in self.length_scale.values():
                if isinstance(value, Prior):
                    raise ValueError(
                        f"{owner}: length_scale has a prior for one dimension; give one prior for "
                        "all, or numbers"
                    )
                _validate.require_positive(owner, "length_scale", value)
        else:
            _validate.require_positive(owner, "length_scale", self.length_scale)
            _validate.require_scalar(owner, "length_scale", self.length_scale)

    @property
    def dims(self) -> tuple[str, ...]:
        """Dimensions of the grid."""
        return self.grid.dims

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the grid."""
        return self.grid.shape

    @property
    def grid_coords(self) -> dict[str, Any]:
        """Coordinates of the dimensions."""
        return dict(self.grid.labels)

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Settings that may be unknown, by name."""
        return {"sd": self.sd, "length_scale": self.length_scale, "mean": self.mean}

    def add_to_model(self, build: ModelBuild) -> None:
        """Add the white variable, unknown settings and the field to the model."""
        build.add_coords(self.grid.labels)
        for dim in self.dims:
            build.add_coords({f"{self.name}_mode_{dim}": np.arange(len(self.grid.centres[dim]))})
        modes = tuple(f"{self.name}_mode_{dim}" for dim in self.dims)
        white = pm.Normal(f"{self.name}_white", shape=self.shape, dims=modes)
        units = self.units or ""
        build.whites[self.name] = white
        mean = build.unknown(f"{self.name}_mean", self.mean, units=units)
        coupling = build.shaping.get(self.name)
        standard, shift = coupling.shape(build, self) if coupling is not None else (white, 0.0)
        deviation = self._deviation(build, standard)
        field_ = mean + shift + deviation
        if coupling is not None and hasattr(coupling, "from_standard"):
            field_ = coupling.from_standard(build, self, field_)
        field_ = pt.specify_shape(field_, self.shape)
        build.values[self.name] = pm.Deterministic(self.name, field_, dims=self.dims)
        build.unknowns.append(Unknown(self.name, f"{self.name}_white", "latent", units=units))
        build.log_priors[self.name] = -0.5 * (white**2 + np.log(2 * np.pi)).sum()

    def _deviation(self, build: ModelBuild, white):
        if self.precision is not None:
            # Q = C C^T, field = C^-T z
            upper = self._precision_factor.lower.T
            factor = build.matrix(f"{self.name}_factor", np.linalg.inv(upper))
            return (factor @ white.ravel()).reshape(self.shape)
        sd = build.unknown(f"{self.name}_sd", self.sd, units=self.units or "")
        if self.prior_is_known:
            return self._constant_deviation(build, white)
        length_scale = self._length_scales(build)
        amplitude = self._amplitude(length_scale)
        vectors = self._basis_matrices(build, [basis[1] for basis in self._bases])
        variance = _apply([v**2 for v in vectors], amplitude**2)  # of each cell, sd = 1
        return sd * _apply(vectors, amplitude * white) / pt.sqrt(variance)

    @property
    def prior_is_known(self) -> bool:
        """Whether neither sd nor length scale is unknown."""
        return not any(isinstance(value, Prior) for value in (self.sd, self.length_scale))

    def pulled(self, build: ModelBuild, rows: Any) -> Any:
        """Return ``L^T`` times rows over cells as a graph in unknown sd and length scale."""
        length = self.setting("length_scale", build.values)
        known = not isinstance(self.length_scale, Prior)
        length_scale = self._lengths(length) if known else [length] * len(self.dims)
        amplitude = self._amplitude(length_scale)
        vectors = [basis[1] for basis in self._bases]
        variance = _apply(self._basis_matrices(build, [v**2 for v in vectors]), amplitude**2)
        sd = self.setting("sd", build.values)
        modes = (rows * (sd / pt.sqrt(variance)).ravel()).reshape((-1, *self.shape))
        for axis, matrix in enumerate(self._basis_matrices(build, vectors), start=1):
            modes = pt.moveaxis(pt.tensordot(modes, matrix, [[axis], [0]]), -1, axis)
        return (modes * amplitude).reshape((-1, self.grid.size))

    def _constant_deviation(self, build: ModelBuild, white):
        """Return the deviation when sd and length scale are numbers: nothing is computed twice."""
        factor = self.matern_factor(self.sd, self.length_scale)
        vectors = self._basis_matrices(build, factor.vectors)
        amplitude = build.matrix(f"{self.name}_amplitude", factor.amplitude)
        return build.matrix(f"{self.name}_scale", factor.scale) * _apply(vectors, amplitude * white)

    def _basis_matrices(self, build: ModelBuild, vectors) -> list:
        return [
            build.matrix(f"{self.name}_basis_{dim}", matrix)
            for dim, matrix in zip(self.dims, vectors, strict=True)
        ]

    @cached_property
    def _bases(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Eigenvalues and eigenvectors of the Laplacian along each dimension."""
        factors = _length_factors(f"GaussianField {self.name!r}", self.length_scale, self.grid)
        axes = zip(factors, self.grid.centres.values(), self.grid.widths, strict=True)
        return [matern.laplacian_eigenbasis(f * centres, f * widths) for f, centres, widths in axes]

    def _amplitude(self, length_scale: list):
        bases = self._bases
        scaled = sum(
            length**2 * _along(eigenvalues, axis, len(bases))
            for axis, ((eigenvalues, _), length) in enumerate(zip(bases, length_scale, strict=True))
        )
        return matern.matern_amplitude(scaled, len(bases), self.smoothness)

    @cached_property
    def _precision_factor(self) -> PrecisionFactor:
        return PrecisionFactor(np.linalg.cholesky(_dense(self.precision)))

    def factor(self, values: Mapping[str, Any]) -> Factor:
        """Return the factor of the prior covariance, given values of unknown settings by name."""
        if self.precision is not None:
            return self._precision_factor
        return self.matern_factor(self.setting("sd", values), self.setting("length_scale", values))

    def setting(self, key: str, values: Mapping[str, Any]) -> Any:
        """Return sd, mean or length scale: the number that was given, or the value where unknown.

        A latent of that name is another thing.
        """
        given = self.hyperparameters[key]
        return values.get(f"{self.name}_{key}", given) if isinstance(given, Prior) else given

    def matern_factor(self, sd: Any, length_scale: Any) -> matern.MaternFactor:
        """Return the factor of the prior covariance at numbers for sd and length scale."""
        vectors = tuple(basis[1] for basis in self._bases)
        return matern.MaternFactor(vectors, self._amplitude(self._lengths(length_scale)), float(sd))

    def _lengths(self, length_scale: Any) -> list[float]:
        """Return a known length scale along each dim."""
        each = (
            length_scale
            if isinstance(length_scale, Mapping)
            else dict.fromkeys(self.dims, length_scale)
        )
        return [float(each[dim]) for dim in self.dims]

    def _length_scales(self, build: ModelBuild) -> list:
        if isinstance(self.length_scale, Mapping):
            return self._lengths(self.length_scale)
        units = getattr(self.length_scale, "units", None) or ""
        name = f"{self.name}_length_scale"
        return [build.unknown(name, self.length_scale, units=units)] * len(self.dims)


def _labels(owner: str, dim: Any, labels: Any) -> np.ndarray:
    """Return labels along a dimension of a parameter."""
    if isinstance(labels, str | bytes | set | frozenset | dict):
        raise ValueError(
            f"{owner}: coords names {dim!r} with {type(labels).__name__}; give a list of labels"
        )
    kept = np.array(arrays.as_array(f"{owner}: the labels along {dim!r}", labels))
    if kept.ndim != 1 or not kept.size:
        raise ValueError(f"{owner}: coords names {dim!r}; give it one label for each element")
    index = pd.Index(kept)
    if index.hasnans:
        raise ValueError(f"{owner}: a label along {dim!r} is missing; give one for each element")
    if not index.is_unique:
        raise ValueError(
            f"{owner}: the label {arrays.plain(index[index.duplicated()][0])!r} along {dim!r} "
            "occurs twice, so that its elements cannot be told apart; make labels unique"
        )
    return arrays.keep(kept)


def _mean(owner: str, mean: Any, axes: arrays.Axes, units: str | None) -> Any:
    """Return a prior mean in the shape of the grid, or one number."""
    if isinstance(mean, Prior):
        _validate.require_one(owner, "mean", mean)
        return _validate.number(owner, "mean", mean, units)
    array = arrays.aligned(owner, "mean", mean, axes, units=units, missing=True)
    if isinstance(mean, (int, float)):
        return mean
    one = np.ndim(getattr(mean, "magnitude", mean)) == 0
    return float(array.flat[0]) if one else array


def _length_scale(owner: str, given: Any, grid: Grid) -> Any:
    """Return known length scales in the units of the grid, one number where it has one unit."""
    if given is None:
        return None
    if isinstance(given, Prior):
        _validate.require_one(owner, "length_scale", given)
        _length_factors(owner, given, grid)
        return given
    if isinstance(given, Mapping):
        _validate.require_mapping(owner, "length_scale", given, '{"x": 3.0}')
        return {dim: _length(owner, dim, value, grid) for dim, value in given.items()}
    each = {dim: _length(owner, dim, given, grid) for dim in grid.dims}
    if len(set(each.values())) > 1:
        return each
    if not _units.all_same(grid.units.values()) and not _units.stated(given):
        raise ValueError(
            f"{owner}: the axes of the grid are in {dict(grid.units)}, so that one length_scale "
            "has no meaning; give one for each dimension, or one with units"
        )
    return next(iter(each.values()))


def _length(owner: str, dim: str, given: Any, grid: Grid) -> Any:
    """Return a length scale in the units of one axis; along times it must state its own."""
    if isinstance(given, Prior) or dim not in grid.dims:
        return given
    states = arrays.read(owner, "length_scale", given).units
    if grid.labels[dim].dtype.kind in "mM" and not states:
        raise ValueError(
            f"{owner}: {dim!r} holds times, so that length_scale needs units; give a time span, as "
            f'np.timedelta64(30, "D"), or a quantity'
        )
    return _validate.number(owner, "length_scale", given, grid.units.get(dim))


def _length_factors(owner: str, given: Any, grid: Grid) -> list[float]:
    """Return by what each axis is multiplied to be in the units of the prior over its length."""
    stated = given.units if isinstance(given, Prior) else None
    if not isinstance(given, Prior):
        return [1.0] * len(grid.dims)
    times = [dim for dim in grid.dims if grid.labels[dim].dtype.kind in "mM"]
    if times and not stated:
        raise ValueError(
            f"{owner}: {times[0]!r} holds times, so that the prior over length_scale needs units; "
            'state them, as in bj.Prior(pm.HalfNormal, sigma=30, units="days")'
        )
    if not _units.all_same(grid.units.values()) and not stated:
        raise ValueError(
            f"{owner}: the axes of the grid are in {dict(grid.units)}, so that the prior over one "
            "length_scale needs units; state them as bj.Prior(..., units=...)"
        )
    return [
        _units.conversion(
            f"{owner}: {dim!r} is in {{}}, the prior over length_scale in {{}}",
            grid.units.get(dim), stated, "state both in units of one kind",
        ).factor
        for dim in grid.dims
    ]  # fmt: skip


def _precision(owner: str, given: Any, axes: arrays.Axes, units: str | None) -> Any:
    """Return a precision with rows and columns in the order of the cells."""
    if not sparse.issparse(given):
        return arrays.matrix(owner, "precision", given, axes, axes, units=units)
    if given.dtype.kind not in "fiub":
        raise ValueError(f"{owner}: the precision holds {given.dtype}; give real numbers")
    return given.astype(float)


def _along(values: np.ndarray, axis: int, ndim: int) -> np.ndarray:
    return values.reshape([-1 if i == axis else 1 for i in range(ndim)])


def _apply(matrices, array):
    return matern.apply_along_axes(matrices, array, pt.tensordot, pt.moveaxis)


def _dense(matrix: Any) -> np.ndarray:
    return matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix, dtype=float)
