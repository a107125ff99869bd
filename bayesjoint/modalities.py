"""A modality: data, forward map, observation operator and noise; one likelihood block."""

from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
import xarray as xr

from bayesjoint import _validate, arrays
from bayesjoint import units as _units
from bayesjoint._graph.build import ModelBuild
from bayesjoint._graph.outputs import Output
from bayesjoint._replace import Replaceable
from bayesjoint.forward import ForwardMap, silent_map
from bayesjoint.noise import Noise, NoiseTerms
from bayesjoint.observation import ObservationOperator


@dataclass(frozen=True, eq=False)
class Modality(Replaceable):
    """One data set with its physics, its instrument and its noise.

    Parameters
    ----------
    name : str
        Name of the observed variable in the model.
    data : DataArray
        The data; dims and coordinates are kept, units are read from ``attrs["units"]``.
    forward : ForwardMap or None
        The physics, from `linear_map`, `pytensor_map` or `numpy_map`.  None for an instrument that
        sees no latent but the cause of a discrepancy, as a thermometer beside two radiometers: see
        ``loadings`` of `JointDiscrepancy`.
    noise : GaussianNoise, StudentTNoise, PoissonNoise or CorrelatedNoise
        The independent part of the errors.
    observe : matrix, sparse matrix, function of a tensor, or list of such, optional
        Observation operator on the output of the forward map; a list composes, first to last.
    power : float
        Exponent of the likelihood.  Other than 1 the posterior is tempered, and every report says
        so.
    missing : {"raise", "drop"}
        What NaN among the data means, and what is masked: a mistake, or data that were not
        observed.  With "drop" the likelihood leaves these out, see the notes.

    Raises
    ------
    ValueError
        When data are missing and ``missing`` is not "drop", infinite or not labelled, or settings
        do not fit them.

    Notes
    -----
    Of data that are dropped the posterior is that of the problem without their rows: of correlated
    noise and of discrepancies the marginal covariance of the other rows counts.  Results keep the
    dims of the data: responses and replicated data are there at every place (where the noise sd is
    NaN too, a response alone), ``observed_data`` has NaN.  What there is of each observed datum
    alone, as its log-likelihood, lies along the dim ``<name>_observed``, whose labels count the
    places in C order, with the coordinates of the data.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> import bayesjoint as bj
    >>> data = xr.DataArray(np.zeros(4), dims="station", attrs={"units": "mGal"})
    >>> gravity = bj.Modality(
    ...     "gravity", data, bj.linear_map(np.ones((4, 10)), "density"), bj.GaussianNoise(sd=0.05)
    ... )
    """

    name: str
    data: xr.DataArray
    forward: ForwardMap  # None is replaced by a map to zero
    noise: Noise
    _: KW_ONLY
    observe: Any = None
    power: float = 1.0
    missing: str = "raise"

    def __post_init__(self) -> None:
        _validate.require_name("modality", self.name)
        owner = f"modality {self.name!r}"
        if not isinstance(self.data, xr.DataArray):
            raise ValueError(
                f"{owner}: the data are a {type(self.data).__name__}; "
                'give an xarray.DataArray, as in xr.DataArray(values, dims="station")'
            )
        object.__setattr__(self, "data", arrays.data(owner, self.data))
        if self.data.size == 0:
            raise ValueError(f"{owner}: there are no data")
        if self.forward is None:
            if self.observe is not None:
                raise ValueError(f"{owner}: there is no map to observe; leave observe out")
            object.__setattr__(self, "forward", silent_map(self.name, self.data.shape))
        if not isinstance(self.forward, ForwardMap):
            raise ValueError(
                f"{owner}: the forward map is a {type(self.forward).__name__}; make one with "
                "bj.linear_map, bj.pytensor_map or bj.numpy_map"
            )
        if not isinstance(self.noise, Noise):
            raise ValueError(
                f"{owner}: the noise must be one of bj.GaussianNoise, StudentTNoise, "
                "PoissonNoise, CorrelatedNoise"
            )
        _validate.require_observed(
            owner, self.data.values, tuple(map(str, self.data.dims)), self.missing
        )
        _validate.require_known(owner, "power", self.power)
        _validate.keep_number(self, owner, "power")
        _validate.require_positive(owner, "power", self.power)
        object.__setattr__(self, "noise", self.noise.fitted(owner, self.data))
        self.noise.check(owner, self.data)
        object.__setattr__(self, "observe", arrays.keep(self.observe))
        _ = self.operator, self.from_response

    @property
    def units(self) -> str | None:
        """Units of the data, where they are stated."""
        return _units.stated(self.data)

    @cached_property
    def from_response(self) -> _units.Conversion:
        """From the units of what is observed of the map's output to those of the data.

        Whether a bare matrix or a function of ``observe`` converts units nobody can see: with one,
        data and map must agree, unless it is a DataArray that states its own, as ``"mGal/m"``.
        """
        given = self.operator.output_units(self.forward.output_units)
        owner = (
            f"modality {self.name!r}: the data are in {{1}}, the map {self.forward.name!r} gives "
            "{0}"
        )
        if self.observe is None or self.operator.states_units:
            return _units.conversion(owner, given, self.units, "convert one of them")
        cure = (
            "observe may convert them or not: give it as a DataArray whose units are those of the "
            "data over those of the map, or leave output_units out"
        )
        change = _units.conversion(f"{owner}, seen through observe", given, self.units, cure)
        if not change.is_identity:
            raise ValueError(
                f"{owner.format(repr(given), repr(self.units))}, seen through observe; {cure}"
            )
        return change

    @cached_property
    def operator(self) -> ObservationOperator:
        """The observation operator."""
        return ObservationOperator.from_user(self.observe, self.name, arrays.Axes.of(self.data))

    @cached_property
    def places(self) -> np.ndarray:
        """Where the data that were observed are among all, in C order."""
        return arrays.keep(np.flatnonzero(~_validate.is_missing(self.data.values)))

    @property
    def whole(self) -> "Modality":
        """With the data that are missing: itself."""
        return self

    @property
    def is_complete(self) -> bool:
        """Whether no datum is missing."""
        return self.places.size == self.data.size

    def is_stacked(self, dim: Any) -> bool:
        """Whether the labels of a dim are those of several levels, as after ``data.stack``."""
        return isinstance(self.data.indexes.get(dim), pd.MultiIndex)

    @property
    def levels(self) -> dict[str, str]:
        """The dim of each level of those that are stacked."""
        stacked = [str(dim) for dim in self.data.dims if self.is_stacked(dim)]
        return {str(level): dim for dim in stacked for level in self.data.indexes[dim].names}

    @property
    def coords(self) -> dict[str, np.ndarray]:
        """Coordinates of the dimensions; a dimension without any is numbered."""
        return {
            str(dim): self.data[dim].values
            if dim in self.data.coords
            else np.arange(self.data.sizes[dim])
            for dim in self.data.dims
        }

    def add_response(self, build: ModelBuild) -> None:
        """Add the predicted data, without discrepancy, and the noise to the model."""
        build.responses[self.name] = build.images[self.name] = self.respond(build)
        build.noise[self.name] = self.noise.terms(build, self.name, self.data)

    def respond(self, build: ModelBuild):
        """Add the predicted data, without discrepancy, in the shape of the data; return them."""
        build.add_coords(self.coords)
        output = self.in_order(self.forward.output(build), self.forward.form_in(build.values))
        response = self.from_response(self.operator.apply(build, output))
        shapes = response.type.shape, self.data.shape
        if response.ndim != self.data.ndim or (None not in shapes[0] and shapes[0] != shapes[1]):
            response = response.reshape(self.data.shape)
        response = pt.specify_shape(response, self.data.shape)
        return pm.Deterministic(f"{self.name}_response", response, dims=self.data.dims)

    def in_order(self, output: Any, form: Output | None) -> Any:
        """Return the output of the map in the order of what it acts on, where both are labelled.

        That are the data, or the columns of the first matrix of ``observe``.

        Raises
        ------
        ValueError
            When the output has other labels than the data, or other units.
        """
        if form is None:
            return output
        name = self.forward.name
        axes = arrays.Axes.of(self.data) if self.observe is None else self._columns(form)
        if axes is not None and (order := form.order_of(name, axes)) is not None:
            output = output.ravel()[order]
        stated = self.forward.output_units or (self.units if self.observe is None else None)
        owner = f"modality {self.name!r}: the map {name!r} returns {{}}, but {{}} is needed"
        return _units.conversion(owner, form.units, stated, "convert one of them")(output)

    def _columns(self, form: Output) -> arrays.Axes | None:
        """Return the axes of the columns of ``observe``, in the names of dims of the map's output.

        None where these have no labels, or the output has other dimensions than the columns.
        """
        axes, dims = self.operator.columns_axes, form.given.dims
        if axes is None or len(axes.dims) != form.given.values.ndim:
            return None
        return axes if dims is None or set(dims) == set(axes.dims) else replace(axes, dims=dims)

    def add_observed(self, build: ModelBuild, discrepancy=None) -> None:
        """Add the observed variable, given the tensor of the sampled discrepancy if any."""
        terms: NoiseTerms = build.noise[self.name]
        mean = build.responses[self.name]
        if discrepancy is not None:
            mean = self.noise.expectation(mean, discrepancy)
        data = self.observed_data(build)
        observed = self.noise.observe(self.name, mean, terms, data, self.data.dims)
        if self.power != 1.0:
            density = pm.logp(observed, data).sum()
            pm.Potential(f"{self.name}_tempering", (self.power - 1.0) * density)

    def observed_data(self, build: ModelBuild):
        """Return the shared variable of the data, that the model takes."""
        return build.observe(self.name, self.numbers())

    def numbers(self) -> np.ndarray:
        """Return the data as the model takes them."""
        return self.data.values.astype("int64" if not self.noise.has_scale else float)
