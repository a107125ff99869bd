"""Repeated experiments with errors of one correlation, analysed with errors of another."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, solve_triangular
from scipy.stats import norm

from bayesjoint._kernels.cross_correlation import BlockErrors
from bayesjoint.studies._local_problem import LocalProblem, Row

STEPS, HALVINGS, CLOSE = 50, 12, 1e-9  # of Gauss-Newton; the last in nats left to gain


@dataclass(frozen=True, eq=False)
class Outcome:
    """Errors of the estimates of one parameter, and the sd that the analysis states.

    Attributes
    ----------
    error : ndarray, shape (replicate, cell)
        Estimate minus truth.
    sd : ndarray, shape (replicate or 1, cell)
        As the analysis states it.
    deviation : ndarray, shape (replicate, cell)
        Error over stated sd; of a number in the coordinates in which its prior is Gaussian.
    expected_sd : ndarray, shape (cell,) or None
        Of the error, exact, where the problem is linear.
    """

    error: np.ndarray
    sd: np.ndarray
    deviation: np.ndarray
    expected_sd: np.ndarray | None = None

    def numbers(self, probability: float) -> dict[str, float]:
        """Return what is stated of a parameter: of a field over all of its cells."""
        reach, count = float(norm.ppf((1.0 + probability) / 2.0)), len(self.error)
        covered = float(np.mean(np.abs(self.deviation) <= reach))
        lower, upper = wilson(covered, count)
        expected = np.nan
        if self.expected_sd is not None:
            expected = float(np.mean(2.0 * norm.cdf(reach * self.sd / self.expected_sd) - 1.0))
        return {
            "bias": float(np.mean(self.error)),
            "bias_mcse": float(np.std(self.error.mean(axis=1), ddof=1) / np.sqrt(count)),
            "rmse": float(np.sqrt(np.mean(self.error**2))),
            "width": 2.0 * reach * float(np.sqrt(np.mean(self.sd**2))),
            "coverage": covered,
            "coverage_lower": lower,
            "coverage_upper": upper,
            "coverage_expected": expected,
        }


def wilson(share: float, count: int, probability: float = 0.95) -> tuple[float, float]:
    """Return the score interval of a share seen in so many trials (Wilson 1927)."""
    z = float(norm.ppf((1.0 + probability) / 2.0))
    centre, scale = share + z**2 / (2 * count), 1.0 + z**2 / count
    reach = z * np.sqrt(share * (1.0 - share) / count + z**2 / (4 * count**2))
    return float((centre - reach) / scale), float((centre + reach) / scale)


@dataclass(frozen=True, eq=False)
class Draws:
    """Standard normal numbers of all replicates: the same for every correlation and analysis."""

    truth: np.ndarray  # (replicate, unknown)
    reduced: np.ndarray  # (replicate, reduced datum)
    left: np.ndarray  # (replicate, datum)

    @classmethod
    def of(cls, local: LocalProblem, errors: BlockErrors, count: int, seed: int | None) -> "Draws":
        """Return draws of so many replicates."""
        rng = np.random.default_rng(seed)
        sizes = (local.kept.size, errors.block_of.size, local.functions.data.size)
        return cls(*(rng.standard_normal((count, size)) for size in sizes))


def exact(
    local: LocalProblem, errors: BlockErrors, truth: np.ndarray, model: np.ndarray, draws: Draws
) -> Iterable[Outcome]:
    """Return the outcome of each parameter of a linear problem with Gaussian errors.

    ``truth`` and ``model`` are covariances of the reduced data.  The estimate is the posterior
    mean, its error ``(P H - I) z + P J^T C^-1 e`` with prior truth z, ``H = J^T C^-1 J`` and
    ``P = (I + H)^-1`` of the model, and errors e of the truth.
    """
    reduced, left = errors.reduce(local.jacobian)
    lower, size = errors.lower(model), len(left)
    gain = cho_solve((lower, True), reduced)  # C^-1 J
    found = reduced.T @ gain + left.T @ left
    posterior = np.linalg.inv(local.precision + found)
    shrink = posterior @ found - np.eye(len(found))
    root = np.linalg.cholesky(local.prior)
    noise = draws.reduced @ errors.lower(truth).T @ gain + draws.left[:, :size] @ left
    deviations = draws.truth @ (shrink @ root).T + noise @ posterior
    spread = posterior @ (gain.T @ truth @ gain + left.T @ left) @ posterior
    spread += shrink @ local.prior @ shrink.T
    for row in local.rows:
        error = deviations[:, row.where] @ row.physical.T
        sd = _sd_of_cells(row, posterior)
        yield Outcome(error, sd[None], error / sd, _sd_of_cells(row, spread))


def refitted(
    local: LocalProblem, errors: BlockErrors, truth: np.ndarray, model: np.ndarray, draws: Draws
) -> Iterable[Outcome]:
    """Return the outcome of each parameter, each replicate fitted by Gauss-Newton steps.

    The estimate is the maximum that is reached from the truth, with the Gaussian there.
    """
    fit, of_truth = _Fit(local, errors, errors.lower(model)), errors.lower(truth)
    found = [
        fit.outcome(fit.moved(white), of_truth @ reduced, left)
        for white, reduced, left in zip(draws.truth, draws.reduced, draws.left, strict=True)
    ]
    for parts in zip(*found, strict=True):
        yield Outcome(*(np.stack(column) for column in zip(*parts, strict=True)))


class _Fit:
    """Maxima a posteriori of one problem at simulated data."""

    def __init__(self, local: LocalProblem, errors: BlockErrors, lower: np.ndarray) -> None:
        self.local, self.errors, self.lower = local, errors, lower
        self.index = local.space.flat_index[local.kept]

    def moved(self, white: np.ndarray) -> np.ndarray:
        """Return the flat point at white coordinates of the unknowns of the response."""
        point = self.local.point.copy()
        point[self.index] = self.local.functions.initial[self.index] + white
        return point

    def _whiten(self, reduced: np.ndarray, left: np.ndarray) -> np.ndarray:
        return np.concatenate([solve_triangular(self.lower, reduced, lower=True), left])

    def _response(self, point: np.ndarray) -> np.ndarray:
        functions = self.local.functions
        return functions.rotate(functions.outputs(point)[: functions.data.size])

    def outcome(self, truth: np.ndarray, reduced: np.ndarray, left: np.ndarray) -> list[tuple]:
        """Return error, sd and deviation of each parameter, from reduced errors of the data."""
        clean = self.errors.reduce(self._response(truth))
        # The part of this noise along the reduced data moves no estimate.
        data = clean[0] + reduced, clean[1] + left[: len(clean[1])]
        point, precision = self._maximum(truth, data)
        return self._compared(truth, point, np.linalg.inv(precision))

    def _misfit(self, point: np.ndarray, data: tuple) -> np.ndarray:
        parts = self.errors.reduce(self._response(point))
        residual = self._whiten(*(d - p for d, p in zip(data, parts, strict=True)))
        white = (point - self.local.functions.initial)[self.index]
        return np.concatenate([residual, -white])

    def _maximum(self, point: np.ndarray, data: tuple) -> tuple[np.ndarray, np.ndarray]:
        misfit, functions = self._misfit(point, data), self.local.functions
        for _ in range(STEPS):
            jacobian = functions.jacobian(point)[: functions.data.size, self.index]
            moved = self._whiten(*self.errors.reduce(functions.rotate(jacobian)))
            precision = moved.T @ moved + np.eye(self.index.size)
            gradient = moved.T @ misfit[: len(moved)] + misfit[len(moved) :]
            step = np.linalg.solve(precision, gradient)
            if 0.5 * step @ gradient < CLOSE:
                break
            better = self._better(point, misfit, step, data)
            if better is None:
                break
            point, misfit = better
        return point, precision

    def _better(self, point: np.ndarray, misfit: np.ndarray, step: np.ndarray, data: tuple):
        """Return a point along a step that fits better, with its misfit, or None."""
        for halving in range(HALVINGS):
            tried = point.copy()
            tried[self.index] += 0.5**halving * step
            new = self._misfit(tried, data)
            if new @ new < misfit @ misfit:
                return tried, new
        return None

    def _compared(self, truth: np.ndarray, point: np.ndarray, posterior: np.ndarray) -> list[tuple]:
        space = self.local.space
        values = [dict(zip(space.names, space.values(p), strict=True)) for p in (point, truth)]
        factors, found = space.factors(point), []
        moved = (point - truth)[self.index]
        for row in self.local.rows:
            error = np.subtract(*(np.ravel(v[row.latent])[row.cells] for v in values))
            physical = factors[row.latent].times(np.eye(factors[row.latent].variance.size))
            if row.whole:
                sd = np.sqrt(np.sum((physical @ _block(posterior, row)) * physical, axis=1))
                found.append((error, sd, error / sd))
            else:
                white = np.sqrt(np.diag(posterior)[row.where])
                slope = np.abs(np.diag(physical)[row.cells])
                found.append((error, slope * white, moved[row.where] / white))
        return found


def _block(matrix: np.ndarray, row: Row) -> np.ndarray:
    return matrix[np.ix_(row.where, row.where)]


def _sd_of_cells(row: Row, covariance: np.ndarray) -> np.ndarray:
    return np.sqrt(np.sum((row.physical @ _block(covariance, row)) * row.physical, axis=1))
