"""From flat draws to labelled groups: latents, responses, densities, replicated data."""

from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from bayesjoint._compiled.error_functions import ErrorFunctions
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._compiled.latent_space import LatentSpace
from bayesjoint._problem.observed import completed_problem, observed_labels
from bayesjoint.problem import JointProblem


class DrawEvaluator:
    """Evaluates everything that is reported at draws; compiled once for all of them."""

    def __init__(self, functions: ModelFunctions) -> None:
        self.functions = functions
        self.space = functions.once(LatentSpace)
        build, modalities = functions.build, functions.problem.modalities
        values = [build.values[name] for name in self.space.names]
        images = [build.images[m.name] for m in modalities]
        sds = [build.noise[m.name].sd for m in modalities]
        self.evaluate = functions.over_draws([*values, *images, *sds, *build.log_priors.values()])

    def table(self, points: np.ndarray) -> "DrawTable":
        """Return the table of flat points, shape (chain, draw, n)."""
        return DrawTable(self, points)


class DrawTable:
    """Everything that is reported at each draw of a run.

    Draws are evaluated in batches where the graphs allow it.

    Attributes
    ----------
    images, responses, noise_sd : dict of str to ndarray
        Predictions, where data are missing too and of the observed data, and the sd of their noise,
        shape (draw, ...).
    """

    def __init__(self, evaluator: DrawEvaluator, points: np.ndarray) -> None:
        self._evaluator = evaluator
        self.functions, self.space = evaluator.functions, evaluator.space
        self.shape = points.shape[:2]
        self.points = points.reshape(-1, points.shape[2])
        self._evaluate()

    def _evaluate(self) -> None:
        build, modalities = self.functions.build, self.functions.problem.modalities
        columns = self._evaluator.evaluate(self.points)
        self.values = dict(zip(self.space.names, columns, strict=False))
        rest = columns[len(self.values) :]
        self.images = {m.name: rest.pop(0) for m in modalities}
        self.responses = {m.name: _at_places(self.images[m.name], m) for m in modalities}
        self.noise_sd = {
            m.name: np.broadcast_to(rest.pop(0), self.responses[m.name].shape) for m in modalities
        }
        self.log_priors = dict(zip(build.log_priors, rest, strict=True))

    def part(self, draws: np.ndarray) -> "DrawTable":
        """Return the table of some draws of each chain; itself when that is every draw."""
        if draws.size == self.shape[1]:
            return self
        points = self.points.reshape(*self.shape, -1)[:, draws]
        return DrawTable(self._evaluator, points)

    # ---- groups -------------------------------------------------------------------------------

    def posterior(self, rng: np.random.Generator, white: bool = False) -> xr.Dataset:
        """Return unknowns, responses and discrepancies; the white variables on request."""
        arrays = self._unknowns() | self._responses()
        for name, values in self._discrepancies(rng).items():
            arrays[f"{name}_discrepancy"] = self._on_image(name, values)
        if white:
            arrays.update(self._white())
        return _along_dims_only(self.dataset(arrays))

    def prior(self) -> xr.Dataset:
        """Return latents, hyperparameters and responses at draws of the prior."""
        return _along_dims_only(self.dataset(self._unknowns() | self._responses()))

    def _unknowns(self) -> dict[str, xr.DataArray]:
        arrays = {}
        for unknown in self.space.unknowns:
            latent = self.functions.problem.latent.get(unknown.name)
            dims = latent.dims if latent is not None else unknown.dims or None
            arrays[unknown.name] = self.array(
                self.values[unknown.name], dims, unknown.name, unknown.units
            )
        return arrays

    def _responses(self) -> dict[str, xr.DataArray]:
        return {
            f"{m.name}_response": self.array(
                self.images[m.name], m.data.dims, "", m.data.attrs.get("units", "")
            )
            for m in self.functions.whole.modalities
        }

    def _on_image(self, name: str, values: np.ndarray) -> xr.DataArray:
        """Return values of observed data on the dims of all, NaN where data are missing."""
        modality = self.functions.problem.modality[name]
        data = modality.whole.data
        if modality.whole is not modality:
            image = np.full((len(values), data.size), np.nan)
            image[:, modality.places] = values
            values = image.reshape(-1, *data.shape)
        return self.array(values, data.dims, "", data.attrs.get("units", ""))

    def posterior_predictive(self, rng: np.random.Generator) -> xr.Dataset:
        """Return replicated data: fresh noise and fresh discrepancy; where data are missing too."""
        functions, arrays = self.functions, {}
        fresh = self._fresh_everywhere(rng)
        for modality in functions.whole.modalities:
            drawn = _replicated(
                modality, self.images[modality.name] + fresh[modality.name],
                self._noise_sd_everywhere(modality), rng,
            )  # fmt: skip
            units = modality.data.attrs.get("units", "")
            arrays[modality.name] = self.array(drawn, modality.data.dims, "", units)
        return self.dataset(arrays)

    def simulated(self, rng: np.random.Generator) -> xr.Dataset:
        """Return replicated data where data were observed, NaN where they are missing."""
        arrays, fresh = {}, _fresh(self.functions, self.functions, self.points, rng)
        for modality in self.functions.problem.modalities:
            name = modality.name
            mean = self.responses[name] + fresh[name]
            drawn = _replicated(modality, mean, self.noise_sd[name], rng)
            arrays[name] = self._on_image(name, drawn)
        return self.dataset(arrays)

    def _fresh_everywhere(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Return prior draws of the discrepancy, where data are missing too.

        NaN there where the process has no coordinates, or too many places.
        """
        functions = self.functions
        everywhere = functions
        if functions.whole is not functions.problem and functions.build.factors:
            everywhere = functions.once(errors_everywhere) or functions
        fresh = _fresh(functions, everywhere, self.points, rng)
        if everywhere is functions:
            touched = {n for factor in functions.build.factors.values() for n in factor.modalities}
            for modality in functions.problem.modalities:
                if modality.whole is not modality:
                    name, shape = modality.name, modality.whole.data.shape
                    image = np.full((len(self.points), modality.whole.data.size), np.nan)
                    image[:, modality.places] = fresh[name]
                    fresh[name] = image.reshape(-1, *shape) if name in touched else np.zeros(shape)
        return fresh

    def _noise_sd_everywhere(self, modality: Any) -> np.ndarray:
        """Return the sd of the noise where data are missing too, NaN where it is not known."""
        known = self.noise_sd[modality.name]
        if modality.is_complete:
            return known
        stated = modality.noise.stated(modality.data)
        scale = known[:, 0] / stated.ravel()[modality.places[0]]
        return scale.reshape(-1, *[1] * stated.ndim) * stated

    def log_prior(self) -> xr.Dataset:
        """Return one log-density a draw for each latent, hyperparameter and coupling."""
        return self.dataset({n: self.array(v, (), "", "") for n, v in self.log_priors.items()})

    # ---- parts --------------------------------------------------------------------------------

    def stacked_response(self, row: int) -> np.ndarray:
        return np.concatenate([r[row].ravel() for r in self.responses.values()])

    def _discrepancies(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Return draws of the discrepancy in data units, given the data."""
        functions = self.functions
        touched = [
            n
            for n in functions.data_slices
            if any(n in f.modalities for f in functions.build.factors.values())
        ]
        if not touched:
            return {}
        sampled = self.sampled_discrepancies
        total = np.zeros((len(self.points), functions.data.size))
        for row, point in enumerate(self.points):
            total[row] = self._integrated_discrepancy(row, point, sampled, rng)
        result = {}
        for name in touched:
            shape = functions.problem.modality[name].data.shape
            part = total[:, functions.data_slices[name]].reshape(-1, *shape)
            result[name] = part + sampled.get(name, 0.0)
        return result

    def _integrated_discrepancy(self, row, point, sampled, rng) -> np.ndarray:
        """Return a draw of what is integrated out, given data and unknowns."""
        functions = self.functions
        errors = functions.errors(point, integrated=True)
        known = [
            np.ravel(
                np.broadcast_to(
                    sampled.get(n, np.zeros(1))[row] if n in sampled else 0.0, m.data.shape
                )
            )
            for n, m in functions.problem.modality.items()
        ]
        residual = functions.data - self.stacked_response(row) - np.concatenate(known)
        return functions.restore(errors.discrepancy_given(functions.rotate(residual), rng))

    @cached_property
    def sampled_discrepancies(self) -> dict[str, np.ndarray]:
        """Return draws of the discrepancies that are sampled, by modality."""
        functions = self.functions
        factors = {n: f for n, f in functions.build.factors.items() if not f.marginal}
        if not factors:
            return {}
        total = np.zeros((len(self.points), functions.data.size))
        for row, point in enumerate(self.points):
            for name, block in functions.sampled_factors(point).items():
                total[row] += block @ point[functions.slices[f"{name}_white"]]
        touched = {n for f in factors.values() for n in f.modalities}
        return {
            n: total[:, functions.data_slices[n]].reshape(
                -1, *functions.problem.modality[n].data.shape
            )
            for n in functions.data_slices
            if n in touched
        }

    def _white(self) -> dict[str, xr.DataArray]:
        arrays, others = {}, {u.variable for u in self.space.unknowns if not u.white}
        for name, shape in zip(self.functions.names, self.functions.shapes, strict=True):
            if name not in others:
                values = self.points[:, self.functions.slices[name]].reshape(-1, *shape)
                arrays[name] = self.array(values, None, name, "")
        return arrays

    def array(self, values: np.ndarray, dims: Any, name: str = "", units: str = "") -> xr.DataArray:
        """Return values of all draws, labelled; ``dims=None`` numbers the dims after the name."""
        values = np.asarray(values).reshape(*self.shape, *np.shape(values)[1:])
        if dims is None:
            dims = tuple(f"{name}_dim_{i}" for i in range(values.ndim - 2))
        return xr.DataArray(
            values, dims=("chain", "draw", *dims), attrs={"units": units} if units else {}
        )

    def dataset(self, arrays: dict[str, xr.DataArray]) -> xr.Dataset:
        """Return arrays of all draws as one dataset with the user's coordinates."""
        problem = self.functions.whole
        coords = problem.coords | self.space.labels
        for data in (*problem.labelled_data.values(), *observed_labels(problem).values()):
            coords.update({str(c): values for c, values in data.coords.items() if c not in coords})
        used = [set(array.dims) for array in arrays.values()]
        kept = {c: v for c, v in coords.items() if any(set(v.dims) <= dims for dims in used)}
        index = {"chain": np.arange(self.shape[0]), "draw": np.arange(self.shape[1])}
        return xr.Dataset(arrays, coords={**index, **kept})


def _along_dims_only(dataset: xr.Dataset) -> xr.Dataset:
    """Return a dataset without coordinates beside its dims, as PyMC makes it.

    `arviz.summary` puts all variables into one table, which xarray refuses where some have such
    coordinates; `posterior_predictive` and `observed_data` keep them.
    """
    return dataset.drop_vars([name for name in dataset.coords if name not in dataset.xindexes])


def _at_places(images: np.ndarray, modality: Any) -> np.ndarray:
    """Return of images (draw, ...) what belongs to the observed data."""
    if modality.whole is modality:
        return images
    return images.reshape(len(images), -1)[:, modality.places]


def _replicated(
    modality: Any, mean: np.ndarray, sd: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    return np.stack([modality.noise.draw(rng, m, s) for m, s in zip(mean, sd, strict=True)])


def _fresh(
    functions: ModelFunctions, errors: Any, points: np.ndarray, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Return prior draws of the discrepancy of all modalities, as the errors have them."""
    fresh = np.zeros((len(points), errors.data.size))
    if functions.build.factors:
        for row, point in enumerate(points):
            fresh[row] = errors.draw_discrepancy(point, rng)
    return {
        m.name: fresh[:, errors.data_slices[m.name]].reshape(-1, *m.data.shape)
        for m in errors.problem.modalities
    }


class _Everywhere(ErrorFunctions):
    """The errors of the data, where some are missing too, at points of the observed data."""

    def __init__(self, functions: ModelFunctions, completed: JointProblem) -> None:
        super().__init__(completed)
        self._known = functions.slices

    def draw_discrepancy(self, point: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a prior draw of all discrepancies together, shape (data,)."""
        whole = self.initial.copy()
        for name, where in self.slices.items():
            known = self._known.get(name)
            # A sampled discrepancy has other white variables, which do not matter here.
            if known is not None and known.stop - known.start == where.stop - where.start:
                whole[where] = point[known]
        return super().draw_discrepancy(whole, rng)


def errors_everywhere(functions: ModelFunctions) -> _Everywhere | None:
    """Return the errors where data are missing too; None where a discrepancy does not reach."""
    completed = completed_problem(functions.whole)
    try:
        for discrepancy in completed.discrepancies:
            discrepancy.check_places(completed.modality)
    except ValueError:
        return None
    return _Everywhere(functions, completed)
