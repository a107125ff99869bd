"""What some modalities say, draw by draw, of the data of one that is left out."""

from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from scipy.special import logsumexp, softmax

from bayesjoint._compiled.error_functions import Errors
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._compiled.latent_space import LatentSpace
from bayesjoint._graph.build import Unknown
from bayesjoint._graph.compile import in_turn, random_draws
from bayesjoint._kernels.prediction import Misfit, Spread
from bayesjoint.problem import JointProblem


def linked(problem: JointProblem, name: str) -> list[str]:
    """Return the modalities whose errors depend on those of one, itself included, in order."""
    touched = [set(d.touches(problem.modality)) for d in problem.discrepancies]
    names, new = set(), {name}
    while new:
        names |= new
        new = {n for group in touched if group & names for n in group} - names
    return [n for n in problem.modality if n in names]


def completed(
    functions: ModelFunctions, tree: xr.DataTree, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Return points of a whole problem, shape (draw, n), from draws of one without a modality.

    Unknowns that only the errors of the modality have are drawn from their prior.
    """
    space, posterior = functions.once(LatentSpace), tree["posterior"].to_dataset()
    known = [name for name in space.names if name in posterior]
    draws = space.values_of_draws(posterior, count, known)
    starts = np.tile(functions.initial, (len(draws), 1))
    for unknown in space.unknowns:
        if unknown.name not in known:
            where = functions.slices[unknown.variable]
            starts[:, where] = own_prior(functions, unknown, len(draws), rng)
    return np.array(
        [
            space.point_of_values(values, start=start)
            for values, start in zip(draws, starts, strict=True)
        ]
    )


def own_prior(
    functions: ModelFunctions, unknown: Unknown, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Return prior draws of a setting of the errors in flat coordinates, shape (draw, size).

    No coupling reaches it, so that it is drawn by itself.
    """
    where, model = functions.slices[unknown.variable], functions.build.model
    if unknown.white:
        return rng.standard_normal((count, where.stop - where.start))
    variable: Any = model[unknown.variable]
    transform = model.rvs_to_transforms[variable]
    if transform is not None:
        with in_turn():
            variable = transform.forward(variable, *variable.owner.inputs)
    return np.reshape(random_draws(variable, rng, count), (count, -1))


class LeftOut:
    """One modality, and those whose errors tell something of its own.

    Attributes
    ----------
    functions : ModelFunctions
        Of the problem with the modality.
    modality : Modality
    rows : slice
        Its data among all.
    """

    def __init__(self, functions: ModelFunctions, name: str) -> None:
        order = list(functions.data_slices)
        self.functions, self.modality = functions, functions.problem.modality[name]
        self.rows, self._index = functions.data_slices[name], order.index(name)
        self._blocks = [order.index(n) for n in linked(functions.problem, name)]
        self._rest = [i for i in self._blocks if i != self._index]

    @cached_property
    def _others(self) -> np.ndarray:
        """Where the data of the others are."""
        slices = list(self.functions.data_slices.values())
        parts = [np.r_[slices[i]] for i in self._rest]
        return np.concatenate([*parts, np.zeros(0, dtype=int)]).astype(int)

    def _responses(self, point: np.ndarray) -> np.ndarray:
        return self.functions.outputs(point)[: self.functions.data.size]

    def expect(self, point: np.ndarray) -> np.ndarray:
        """Return the data that are expected, given the residuals of all others."""
        response = self._responses(point)
        pulled = self._pulled(point, self.functions.errors(point), self._residual(response))
        return (response + pulled)[self.rows]

    def predict(
        self, point: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return a draw of response with discrepancy, the sd of the noise, and data, all flat.

        The discrepancy is one given the residuals of all others (Matheron's rule).
        """
        errors, shape = self.functions.errors(point), self.modality.data.shape
        mean = self._responses(point) + self.functions.draw_discrepancy(point, rng)
        noise = np.sqrt(errors.variance[self._others]) * rng.standard_normal(self._others.size)
        mean = (mean + self._pulled(point, errors, self._residual(mean) - noise))[self.rows]
        sd = np.broadcast_to(self.functions.noise_sds(point)[self._index], shape)
        drawn = self.modality.noise.draw(rng, mean.reshape(shape), sd)
        return mean, sd.ravel(), drawn.ravel()

    def _residual(self, expected: np.ndarray) -> np.ndarray:
        """Return what the others measured beyond what is expected, rotated."""
        return self.functions.rotate(self.functions.data - expected)[self._others]

    def _pulled(self, point: np.ndarray, errors: Errors, residual: np.ndarray) -> np.ndarray:
        """Return the mean discrepancy of all data given residuals of the others."""
        weights = np.zeros(self.functions.data.size)
        total = np.zeros_like(weights)
        if self._rest:
            weights[self._others] = errors.part(self._rest).solve(residual)
            columns = self.functions.rotate(weights, transposed=True)[:, None]
            for name in self.functions.build.factors:
                total += self.functions.discrepancy_times(name, point, columns)[:, 0]
        return total

    def misfit(self, point: np.ndarray, values: np.ndarray, directions: np.ndarray) -> Misfit:
        """Return how data sets (data set, datum) fit what is expected, given all others.

        The density is that of the modality and the others together, less that of the others, as
        if all noise were Gaussian.
        """
        functions, errors = self.functions, self.functions.errors(point)
        response, count = self._responses(point), len(values)
        residual = functions.data - response
        columns = np.zeros((residual.size, count + directions.shape[1]))
        columns[:, :count] = residual[:, None]
        columns[self.rows, :count] = (values - response[self.rows]).T
        columns[self.rows, count:] = directions
        columns = functions.rotate(columns)[errors.rows_of(self._blocks)]
        together = errors.part(self._blocks)
        solved = together.solve(columns)
        squared = np.sum(columns[:, :count] * solved[:, :count], axis=0)
        density = _log_density(squared, together, len(columns)) - self._of_others(residual, errors)
        crossed = columns[:, count:].T @ solved
        return Misfit(density, crossed[:, :count], crossed[:, count:])

    def _of_others(self, residual: np.ndarray, errors: Errors) -> float:
        """Return the log-density of the others, and the log-volume of known correlated noise."""
        factor, total = self.modality.noise.correlation_factor, 0.0
        if self._rest:
            rotated, rest = self.functions.rotate(residual)[self._others], errors.part(self._rest)
            total = _log_density(rotated @ rest.solve(rotated), rest, rotated.size)
        return total if factor is None else total + np.log(np.diag(factor)).sum()


def _log_density(squared: Any, errors: Errors, size: int) -> Any:
    """Return the Gaussian log-density of residuals with these squared lengths."""
    return -0.5 * (squared + errors.log_determinant() + size * np.log(2 * np.pi))


class Judged:
    """Data sets judged by draws of what is expected.

    Attributes
    ----------
    each : ndarray, shape (draw, data set)
        Their log-density at each draw.
    log_density, error, gain : ndarray, shape (data set,)
        Log of the mean density, with its Monte Carlo error; what would be learned from each,
        averaged over draws by their density.
    dofs : float
        Mean of those of `Misfit`.
    """

    def __init__(
        self, left_out: LeftOut, points: np.ndarray, values: np.ndarray, rng: np.random.Generator
    ) -> None:
        spread = Spread.of(np.array([left_out.expect(point) for point in points]))
        smooth, count = left_out.modality.noise.is_normal, len(points)
        each, gains, influences, dofs = [], [], [], []
        for point, place in zip(points, spread.places, strict=True):
            misfit = left_out.misfit(point, values, spread.directions)
            gain, influence = misfit.learned(place)
            if smooth:
                each.append(misfit.smoothed(place, count))
            else:
                mean, sd, _ = left_out.predict(point, rng)
                each.append(left_out.modality.noise.log_density(values, mean, sd).sum(axis=1))
            gains.append(gain)
            influences.append(influence)
            dofs.append(misfit.dofs)
        self.each, self.dofs = np.array(each), float(np.mean(dofs))
        self.log_density = logsumexp(self.each, axis=0) - np.log(count)
        self.gain = np.sum(softmax(self.each, axis=0) * np.array(gains), axis=0)
        terms = np.exp(self.each - self.log_density)
        self.error = terms.std(axis=0, ddof=1) / np.sqrt(count)
        if smooth:
            self.error = np.hypot(self.error, _of_moments(np.array(influences), self.dofs))


def _of_moments(influences: np.ndarray, dofs: float) -> np.ndarray:
    """Return the error of log-densities for a mean and covariance from so many draws.

    Their scatter, and the bias ``dofs^2 / (4 draws)`` of a Gaussian density with them.
    """
    count = len(influences)
    return np.hypot(influences.std(axis=0, ddof=1) / np.sqrt(count), dofs**2 / (4.0 * count))
