"""The discrepancy between and beyond the data."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from bayesjoint import _arguments
from bayesjoint import units as _units
from bayesjoint._compiled.functions import ModelFunctions, compiled
from bayesjoint._compiled.latent_space import LatentSpace
from bayesjoint._errors import processes as _processes
from bayesjoint._errors.processes import Process
from bayesjoint._graph.compile import threads_for
from bayesjoint._names import labelled, made, marked
from bayesjoint._problem.settled import named, sds_of, settled
from bayesjoint.discrepancy import JointDiscrepancy
from bayesjoint.problem import JointProblem, require_problem

OWNER = "predict_discrepancy"


@labelled
def predict_discrepancy(
    problem: JointProblem,
    posterior: xr.DataTree,
    at: Any,
    *,
    discrepancy: str | None = None,
    draws: int = 400,
    random_seed: int | None = None,
) -> xr.Dataset:
    """Return the discrepancy of every modality at new places, given the data.

    Parameters
    ----------
    problem : JointProblem
    posterior : DataTree
        From `sample`, of this problem.
    at : mapping, Dataset or DataArray
        Coordinates of the new places, as xarray takes them: ``{"time": times}``, or
        ``{"easting": ("site", e), "northing": ("site", n)}``; dims of their own make a lattice.
    discrepancy : str, optional
        Its name; not needed where there is one.
    draws : int
        Draws of the posterior that are used, evenly spaced.
    random_seed : int, optional
        Makes the result repeatable.

    Returns
    -------
    Dataset
        ``<modality>_discrepancy`` (sample, dims of ``at``) of each modality that the discrepancy
        acts on, in the units of its data.  Draws of different modalities and places belong
        together.

    Raises
    ------
    ValueError
        When the discrepancy has no coordinates or lies in model space, a coordinate is missing in
        ``at``, a grid does not reach it, or the noise of a modality is not Gaussian.

    Notes
    -----
    Given the unknowns of a draw the discrepancy is Gaussian, with mean ``K_* C^-1 r`` and
    covariance ``K_** - K_* C^-1 K_*^T`` for residuals r and the covariance C of all errors
    (Rasmussen & Williams 2006, eq. 2.22-2.24).  Leading modes are extended by Nyström's formula,
    what they leave out beside the data has the variance of the process.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> import xarray as xr
    >>> import bayesjoint as bj
    >>> level = bj.Parameter("level", bj.Prior(pm.Normal, mu=0, sigma=1))
    >>> data = xr.DataArray([0.1, -0.2, 0.3], {"time": [0.0, 1.0, 2.0]}, "time")
    >>> gauge = bj.Modality(
    ...     "gauge", data, bj.linear_map(np.ones((3, 1)), "level"), bj.GaussianNoise(sd=0.1)
    ... )
    >>> problem = bj.JointProblem(
    ...     latents=[level], modalities=[gauge],
    ...     discrepancy=bj.JointDiscrepancy(sd={"gauge": 0.3}, on="time", length_scale=2.0),
    ... )
    >>> tree = bj.sample(
    ...     problem, draws=200, chains=2, random_seed=1, progress=False, backend="interpreted"
    ... )
    >>> later = bj.predict_discrepancy(problem, tree, {"time": [2.5, 3.0]}, random_seed=1)
    >>> later["gauge_discrepancy"].dims
    ('sample', 'time')
    """
    require_problem(problem)
    _arguments.check(OWNER, draws=draws)
    _arguments.check_given(OWNER, discrepancy=discrepancy, random_seed=random_seed)
    given = named(problem, discrepancy, OWNER)
    _check(problem, given)
    places = _template(at)
    new = given.points_at(f"{OWNER}: at=", places)
    if given.grid is not None:
        _processes.require_covered(f"{OWNER}: at=", given.grid, new, given.axes)
    _arguments.check(OWNER, posterior=posterior)
    rng = np.random.default_rng(random_seed)
    with compiled(problem) as functions, threads_for(functions.size + functions.rank):
        drawn = _draws(functions, posterior, given, new, draws, rng)
    names = given.touches(problem.modality)
    variables, labels = {}, marked(places)
    for name, part in zip(names, np.split(drawn, len(names), axis=1), strict=True):
        units = problem.modality[name].data.attrs.get("units")
        values = part.reshape(len(drawn), *places.shape)
        attrs = {"units": units} if units else {}
        variables[made(f"{name}_discrepancy")] = ("sample", *labels.dims), values, attrs
    seed = -1 if random_seed is None else random_seed
    attrs = {"report": OWNER, "discrepancy": given.name, "random_seed": seed}
    return xr.Dataset(variables, labels.coords, attrs)


def _template(at: Any) -> xr.DataArray:
    """Return an array with the coordinates of the new places."""
    if isinstance(at, xr.DataArray | xr.Dataset):
        coords: Mapping[Any, Any] = at.coords
    elif isinstance(at, Mapping):
        coords = {name: _with_units(name, value) for name, value in at.items()}
    else:
        raise ValueError(
            f"{OWNER}: at= is a {type(at).__name__}; give the coordinates of the new places by "
            'name, as {"time": times}'
        )
    places = xr.Dataset(coords=coords)
    sizes = places.sizes
    return xr.DataArray(np.zeros(tuple(sizes.values())), places.coords, tuple(sizes))


def _with_units(name: str, value: Any) -> Any:
    """Return a coordinate that states the units of a quantity, which an index would lose."""
    dims, bare, *rest = value if isinstance(value, tuple) else (name, value)
    if isinstance(bare, xr.DataArray | xr.Variable):
        units, numbers = _units.of_quantity(bare.data), bare
        return value if units is None else (bare.dims, numbers.data.magnitude, {"units": units})
    units = _units.of_quantity(bare)
    if units is None:
        return value
    attrs = {**(rest[0] if rest else {}), "units": units}
    return (dims if np.ndim(bare.magnitude) else ()), bare.magnitude, attrs


def _check(problem: JointProblem, given: JointDiscrepancy) -> None:
    if given.of is not None:
        raise ValueError(
            f"{OWNER}: {given.owner} lies in model space, before the observation operators; only "
            "discrepancies of the data are predicted"
        )
    if given.on is None:
        raise ValueError(
            f"{OWNER}: {given.owner} has no coordinates, so that no datum tells of another place; "
            "state on= and length_scale="
        )
    for modality in problem.modalities:
        if not modality.noise.is_normal:
            raise ValueError(
                f"{OWNER}: the noise of modality {modality.name!r} is not Gaussian: the "
                "discrepancy has no closed form given the data"
            )


def _draws(
    functions: ModelFunctions,
    posterior: xr.DataTree,
    given: JointDiscrepancy,
    new: np.ndarray,
    count: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return draws at new places, one modality after the other, shape (draw, modality x place)."""
    space, found, last = functions.once(LatentSpace), [], None
    of_errors = [u.name for u in space.unknowns if u.of_errors]
    for point in space.points_of_draws(posterior["posterior"].to_dataset(), count):
        values = dict(zip(space.names, space.values(point), strict=True))
        errors = [np.array(values[name]) for name in of_errors]
        if last is None or not all(map(np.array_equal, errors, last)):
            conditional = Conditional.of(functions, point, settled(given, given.name, values), new)
        last = errors
        residual = functions.residual(point)
        found.append(conditional.draw(functions.rotate(residual), rng))
    return np.stack(found)


@dataclass(frozen=True, eq=False)
class Conditional:
    """A discrepancy at new places given the data, for any residuals.

    Parameters
    ----------
    gain : ndarray, shape (data, modality x place)
        The mean is its transpose times the residuals, the noise's correlation taken out.
    covariance : ndarray, shape (modality x place, modality x place)
    """

    gain: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(
        cls, functions: ModelFunctions, point: np.ndarray, known: JointDiscrepancy, new: np.ndarray
    ) -> "Conditional":
        """Return it for a discrepancy without unknowns, all errors as at a point."""
        names = known.touches(functions.problem.modality)
        points = known.points({name: functions.problem.modality[name] for name in names})
        cross, prior = Process.of(known).beside(points, new)
        mixing, count = _covariance_between(known, names), len(new)
        columns, start = np.zeros((functions.data.size, len(names) * count)), 0
        for row, name in zip(mixing, names, strict=True):
            where = functions.data_slices[name]
            end = start + where.stop - where.start
            columns[where] = np.kron(row, cross[start:end])
            start = end
        columns = functions.rotate(columns)
        gain = functions.errors(point, power=True).solve(columns)
        return cls(gain, np.kron(mixing, prior) - columns.T @ gain)

    def draw(self, residual: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a draw, given residuals with the correlation of the noise taken out."""
        return self.gain.T @ residual + self._root @ rng.standard_normal(len(self.covariance))

    @cached_property
    def _root(self) -> np.ndarray:
        values, vectors = np.linalg.eigh(self.covariance)  # singular where causes are shared
        return vectors * np.sqrt(np.maximum(values, 0.0))


def _covariance_between(known: JointDiscrepancy, names: list[str]) -> np.ndarray:
    """Return the covariance between modalities at one place."""
    sds = sds_of(known, names)
    if known.loadings is not None:
        return np.outer(sds, sds)
    return np.outer(sds, sds) * _processes.correlation_matrix(known.correlation, len(names))
