"""The problem of the data that were observed, where some are missing."""

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from scipy import sparse

from bayesjoint._graph.build import ModelBuild
from bayesjoint._problem.pool import Pool
from bayesjoint.modalities import Modality
from bayesjoint.observation import ObservationOperator
from bayesjoint.units import Conversion

if TYPE_CHECKING:
    from bayesjoint.discrepancy import JointDiscrepancy
    from bayesjoint.problem import JointProblem


class Observed(Modality):
    """The observed data of a modality, along one dim; what holds for the whole holds for them.

    Attributes
    ----------
    whole : Modality
        With the missing data.
    places : ndarray of int
        Where its data lie among those of the whole, in C order.
    """

    _whole: Modality
    places: np.ndarray

    def __init__(self, whole: Modality) -> None:
        settings = {
            "name": whole.name,
            "data": observed_data(whole),
            "forward": whole.forward,
            "noise": whole.noise.at(whole.places, whole.data),
            "observe": whole.observe,
            "power": whole.power,
            "missing": whole.missing,
            "_whole": whole,
            "places": whole.places,
        }
        for name, value in settings.items():
            object.__setattr__(self, name, value)

    @property
    def whole(self) -> Modality:
        """With the data that are missing."""
        return self._whole

    @property
    def from_response(self) -> Conversion:
        """As of the whole."""
        return self._whole.from_response

    @cached_property
    def operator(self) -> ObservationOperator:
        """The observation operator of the whole, and the choice of the observed data."""
        count = self.places.size
        ones, rows = np.ones(count), np.arange(count)
        chosen = sparse.csr_array((ones, (rows, self.places)), (count, self.whole.data.size))
        return ObservationOperator((*self.whole.operator.steps, chosen), self.name)

    def add_response(self, build: ModelBuild) -> None:
        """Add the predictions of all data, and the noise of those observed, to the model."""
        build.images[self.name] = self.whole.respond(build)
        build.add_coords(self.coords)
        build.responses[self.name] = build.images[self.name].ravel()[self.places]
        build.noise[self.name] = self.noise.terms(build, self.name, self.data)


def observed_data(modality: Modality, labelled: xr.DataArray | None = None) -> xr.DataArray:
    """Return the data that were observed along ``<name>_observed``, with their coordinates.

    As the data have them, or as ``labelled`` has, where those of dims get a prefix.
    """
    data, dim = modality.data if labelled is None else labelled, f"{modality.name}_observed"
    index = dict(zip(data.dims, np.unravel_index(modality.places, data.shape), strict=True))
    coords: dict[Any, Any] = {dim: modality.places}
    for name, values in data.coords.items():
        if values.dims and values.dtype != object or name not in data.dims:
            at = values.variable.values[tuple(index[d] for d in values.dims)]
            own = f"{modality.name}_{name}" if labelled is not None and name in data.dims else name
            coords[own] = ((dim,), at, values.attrs) if values.dims else values.variable
    values = data.values.ravel()[modality.places]
    return xr.DataArray(values, coords, (dim,), name=data.name, attrs=data.attrs)


def observed_labels(problem: "JointProblem") -> dict[str, xr.DataArray]:
    """Return the observed data of modalities that miss some, named as beside the whole.

    A coordinate of a dim is prefixed by the modality, others are called as in ``labelled_data``.
    """
    return {
        m.name: observed_data(m, problem.labelled_data[m.name])
        for m in problem.modalities
        if not m.is_complete
    }


def observed_problem(problem: "JointProblem") -> "JointProblem":
    """Return the problem of the observed data alone."""
    parts = {m.name: Observed(m) for m in problem.modalities if not m.is_complete}
    places = {m.name: m.places for m in problem.modalities}
    return _with(problem, parts, tuple(_among(d, places) for d in problem.discrepancies))


def completed_problem(problem: "JointProblem") -> "JointProblem":
    """Return the problem with some data wherever any are missing, for its errors there."""
    parts = {m.name: _completed(m) for m in problem.modalities if not m.is_complete}
    return _with(problem, parts, problem.discrepancies)


def _with(
    problem: "JointProblem", parts: Mapping[str, Modality], discrepancies: tuple[Any, ...]
) -> "JointProblem":
    """Return a problem with other modalities, not checked anew."""
    made = object.__new__(type(problem))
    settings = {
        "latents": problem.latents,
        "modalities": tuple(parts.get(m.name, m) for m in problem.modalities),
        "couplings": problem.couplings,
        "discrepancy": discrepancies or None,
        "pool": Pool(),
    }
    for name, value in settings.items():
        object.__setattr__(made, name, value)
    return made


def _completed(modality: Modality) -> Modality:
    data, noise = modality.data.fillna(0.0), modality.noise
    stated = noise.stated(modality.data)
    if np.any(np.isnan(stated)):
        noise = noise.replace(sd=np.where(np.isnan(stated), np.nanmean(stated), stated))
    return modality.replace(data=data, noise=noise)


def _among(given: "JointDiscrepancy", places: dict[str, np.ndarray]) -> "JointDiscrepancy":
    """Return a discrepancy of some of the data: of a given covariance, their rows and columns."""
    if given.covariance is None:
        return given
    blocks = {
        (first, second): np.asarray(block)[np.ix_(places[first], places[second])]
        for (first, second), block in given.covariance.items()
    }
    return given.replace(covariance=blocks)
