"""What the parameters of a linearised problem are known to, along the correlation of its errors."""

from collections.abc import Callable
from functools import cached_property

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import brentq

from bayesjoint._kernels.cross_correlation import LIMIT, BlockErrors
from bayesjoint._kernels.shared_errors import SharedErrors
from bayesjoint.studies._local_problem import LocalProblem, Row
from bayesjoint.studies._swept_errors import Swept

FLAT = 1e-9  # change of information over all correlations, relative, that counts as none
EDGE = 1e-9  # of the width of the interval of correlations, kept from its ends
NEUTRAL = 1e-9  # strength of a direction that the correlation leaves alone


class Along:
    """A linearised problem at any correlation, all other settings of its errors fixed.

    Parameters
    ----------
    local : LocalProblem
    errors : BlockErrors or SharedErrors
    swept : Swept
    sd_factors : ndarray, shape (modality,)
        On the sd of the discrepancy.
    """

    def __init__(
        self,
        local: LocalProblem,
        errors: BlockErrors | SharedErrors,
        swept: Swept,
        sd_factors: np.ndarray,
    ) -> None:
        self.local, self.errors, self.swept = local, errors, swept
        base, direction = swept.over_blocks(swept.base), swept.over_blocks(swept.direction)
        self.modes = errors.cross_modes(base, direction, sd_factors, local.jacobian)
        self.sensitivity, self.rest = self.modes.sensitivity, self.modes.rest

    def noise(self, correlation: float) -> np.ndarray:
        """Return the variance of each direction over that at zero correlation."""
        noise = self.modes.noise(correlation)
        if np.min(noise, initial=1.0) < LIMIT:
            raise self.errors.singular()
        return noise

    def row(self, correlation: float) -> dict[str, np.ndarray]:
        """Return what is known at a correlation; arrays of one number a parameter, or one."""
        local, noise = self.local, self.noise(correlation)
        scaled = self.sensitivity / np.sqrt(noise)[:, None]
        posterior, log_determinant = _inverse(local.precision + scaled.T @ scaled + self.rest)
        shrunk = 1.0 - np.sum(posterior * local.precision, axis=1)  # diagonal of P H
        learned = [self._learned(row, posterior) for row in local.rows]
        found = {
            "information": [self.information(row, noise) for row in local.rows],
            "information_marginal": [marginal for marginal, _ in learned],
            "posterior_sd": [np.sqrt(_mean_variance(row, posterior)) for row in local.rows],
            "eig": [gain for _, gain in learned],
            "dofs": [shrunk[row.where].sum() for row in local.rows],
            "eig_total": 0.5 * (log_determinant + self._prior_determinants[""]),
            "dofs_total": shrunk.sum(),
        }
        for name, noisier in (("alignment_leading", True), ("alignment_trailing", False)):
            found[name] = [self.alignment(row, correlation, noisier) for row in local.rows]
        return {name: np.asarray(value) for name, value in found.items()}

    def information(self, row: Row, noise: np.ndarray) -> float:
        """Return the information on a parameter, all others known."""
        weights, rest = self._weights[row.label]
        return float(weights @ (1.0 / noise) + rest)

    @cached_property
    def _weights(self) -> dict[str, tuple[np.ndarray, float]]:
        """Squared sensitivity of each parameter along each direction, and the rest."""
        found = {}
        for row in self.local.rows:
            root = _root(row, self.local.prior)
            moved = self.sensitivity[:, row.where] @ root
            rest = root.T @ self.rest[np.ix_(row.where, row.where)] @ root
            found[row.label] = np.sum(moved**2, axis=1), float(np.trace(rest))
        return found

    def alignment(self, row: Row, correlation: float, noisier: bool) -> float:
        """Return the cosine of a sensitivity with the directions made noisier, or quieter."""
        weights, rest = self._weights[row.label]
        change = correlation * self.modes.strengths * (1.0 if noisier else -1.0)
        total = weights.sum() + rest
        if total == 0.0 or np.max(np.abs(change), initial=0.0) < NEUTRAL:
            return np.nan
        return float(np.sqrt(weights[change > NEUTRAL].sum() / total))

    def _learned(self, row: Row, posterior: np.ndarray) -> tuple[float, float]:
        """Return what the data add to the precision of a parameter, and the nats they tell."""
        prior, after = _block(self.local.prior, row), cho_factor(_block(posterior, row), lower=True)
        added = float(np.trace(cho_solve(after, prior))) - len(prior)
        gain = 0.5 * self._prior_determinants[row.label] - np.log(np.diag(after[0])).sum()
        return added * _unit(row, prior), float(gain)

    @cached_property
    def _prior_determinants(self) -> dict[str, float]:
        """Log-determinants of the prior covariance of each parameter, and of all under ''."""
        blocks = {row.label: _block(self.local.prior, row) for row in self.local.rows}
        blocks[""] = self.local.prior
        return {name: float(np.linalg.slogdet(block)[1]) for name, block in blocks.items()}

    # ---- turning points -----------------------------------------------------------------------

    def turning_point(self, row: Row) -> tuple[float, str]:
        """Return the correlation of least information, all others known, or NaN with the reason.

        Information is convex in the correlation: its derivative vanishes at most once.
        """
        weights, _ = self._weights[row.label]

        def slope(correlation: float) -> float:
            return float(weights @ (-self.modes.strengths / self.modes.noise(correlation) ** 2))

        scale = float(weights @ np.abs(self.modes.strengths)) if weights.sum() > 0 else 0.0
        return self._root_of(slope, scale / max(weights.sum(), 1e-300))

    def turning_point_posterior(self, row: Row) -> tuple[float, str]:
        """Return the correlation of largest posterior variance, or NaN with the reason.

        The variance is concave in the correlation: the least over linear estimators, of each of
        which it is a straight line.
        """
        strengths, local = self.modes.strengths, self.local

        def slope(correlation: float) -> float:
            noise = self.modes.noise(correlation)
            scaled = self.sensitivity / np.sqrt(noise)[:, None]
            posterior, _ = _inverse(local.precision + scaled.T @ scaled + self.rest)
            gained = self.sensitivity @ posterior[:, row.where]
            return -float(np.sum((gained @ row.gram) * gained, axis=1) @ (strengths / noise**2))

        gained = self.sensitivity @ local.prior[:, row.where]
        size = np.sum((gained @ row.gram) * gained, axis=1)
        return self._root_of(slope, float(size @ np.abs(strengths)) / max(size.sum(), 1e-300))

    def _root_of(self, slope: Callable[[float], float], sway: float) -> tuple[float, str]:
        """Return where the slope turns from falling to rising."""
        if sway < FLAT:
            return np.nan, "neutral: its sensitivity does not meet the correlated errors"
        ends = np.array(self.swept.interval)
        low, high = ends + EDGE * np.ptp(ends) * np.array([1.0, -1.0])
        first, last = slope(low), slope(high)
        if first >= 0.0 or last <= 0.0:
            way = "helps" if first >= 0.0 else "hurts"
            return np.nan, (
                f"out of reach: more correlation {way} all the way from {ends[0]:.4g} to "
                f"{ends[1]:.4g}"
            )
        place = brentq(slope, low, high, xtol=1e-15, rtol=4 * np.finfo(float).eps, maxiter=500)
        return float(place), f"least is known at {place:.4g}; away from it correlation helps"


def _inverse(precision: np.ndarray) -> tuple[np.ndarray, float]:
    lower = cho_factor(precision, lower=True)
    inverse = cho_solve(lower, np.eye(len(precision)))
    return inverse, 2.0 * float(np.log(np.diag(lower[0])).sum())


def _block(matrix: np.ndarray, row: Row) -> np.ndarray:
    return matrix[np.ix_(row.where, row.where)]


def _mean_variance(row: Row, covariance: np.ndarray) -> float:
    return float(np.sum(row.gram * _block(covariance, row)))


def _unit(row: Row, prior: np.ndarray) -> float:
    """Return by what information relative to the prior is multiplied: none of a whole field."""
    return 1.0 if row.whole else float(1.0 / (row.gram * prior)[0, 0])


def _root(row: Row, prior: np.ndarray) -> np.ndarray:
    """Return ``A`` with the information ``tr(A^T H A)``: per squared unit, or over the prior."""
    block = _block(prior, row)
    return np.linalg.cholesky(block) * np.sqrt(_unit(row, block))
