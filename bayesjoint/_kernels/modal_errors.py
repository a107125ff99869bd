"""The covariance of errors that several modalities have at the same places.

With the covariance ``B kron K + diag(noise) kron I`` of a coregionalised process, the modes of K
are independent: one matrix of the size of the number of modalities for each of them (Bonilla, Chai
& Williams 2008).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bayesjoint._kernels.cross_correlation import CrossModes
from bayesjoint._kernels.modes import Modes
from bayesjoint._kernels.singular import SINGULAR, singular


@dataclass(frozen=True, eq=False)
class ModalErrors:
    """Total covariance of the errors of p modalities with n data each.

    Parameters
    ----------
    modes : Modes
        Of the unit process at the n places.
    mixing : ndarray, shape (p, p)
        Covariance between the modalities.
    noise : ndarray, shape (p, n)
        Independent variances; constant in each modality unless every datum is a mode.
    names : tuple of str, optional
        Of the modalities, for messages.

    Raises
    ------
    SingularErrors
        When used, where a combination of the data is free of error to working precision.
    """

    modes: Modes
    mixing: np.ndarray
    noise: np.ndarray
    names: tuple[str, ...] = ()

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of data of each modality."""
        return (self.noise.shape[1],) * self.noise.shape[0]

    @property
    def variance(self) -> np.ndarray:
        """Independent variances of all data."""
        return self.noise.ravel()

    @cached_property
    def _blocks(self) -> np.ndarray:
        """Covariance between the modalities of each mode, shape (m, p, p)."""
        return self.modes.variances.ravel()[:, None, None] * self.mixing + self._of_noise

    @cached_property
    def _of_noise(self) -> np.ndarray:
        noise = self.noise.T if self.modes.is_identity else self.noise[:, :1].T
        return noise[:, :, None] * np.eye(noise.shape[1])

    @cached_property
    def _lower(self) -> np.ndarray:
        own = np.diagonal(self._blocks, axis1=1, axis2=2)
        try:
            lower = np.linalg.cholesky(self._blocks)
            left = np.diagonal(lower, axis1=1, axis2=2) ** 2 / own  # given the modalities before
        except np.linalg.LinAlgError:
            left = np.zeros_like(own)
        if np.min(left, initial=1.0) < SINGULAR:
            raise singular(self.names, np.sqrt(np.min(self._noise_share)))
        return lower

    @property
    def _noise_share(self) -> np.ndarray:
        """Independent part of the variance of each modality, in the mode where it is least."""
        strongest = np.diag(self.mixing) * np.max(self.modes.variances, initial=0.0)
        least = np.min(self.noise, axis=1)
        return least / (least + strongest)

    @cached_property
    def _inverse(self) -> np.ndarray:
        _ = self._lower  # raises where digits are lost
        return np.linalg.inv(self._blocks)

    def whiten(self, array: np.ndarray) -> np.ndarray:
        """Return ``W array`` with ``W^T W`` the inverse covariance, for a vector or columns."""
        inverse = np.linalg.inv(self._lower)
        return self._apply(array, inverse, 1.0 / np.sqrt(self.noise))

    def solve(self, array: np.ndarray) -> np.ndarray:
        """Return the inverse covariance times a vector or columns."""
        return self._apply(array, self._inverse, 1.0 / self.noise)

    def _apply(self, array: np.ndarray, blocks: np.ndarray, beside: np.ndarray) -> np.ndarray:
        """Return blocks along the modes, and factors on what no mode reaches, times columns."""
        parts = self._split(array)
        within = self._project(parts)
        changed = self._expand(np.einsum("mij,jmk->imk", blocks, within))
        if not self.modes.is_complete:
            changed = changed + beside[:, :, None] * (parts - self._expand(within))
        return changed.reshape(array.shape)

    @property
    def _root(self) -> np.ndarray:
        values, vectors = np.linalg.eigh(self.mixing)
        return vectors * np.sqrt(np.maximum(values, 0.0))

    @property
    def factor(self) -> np.ndarray:
        """Factor of the discrepancy, shape (p n, p m): large."""
        modes = self.modes.expand(np.eye(self.modes.size))
        return np.kron(self._root, modes * np.sqrt(self.modes.variances.ravel()))

    def _split(self, array: np.ndarray) -> np.ndarray:
        """Return a vector or columns of all data as (modality, place, column)."""
        return array.reshape(*self.noise.shape, array.shape[1] if array.ndim > 1 else 1)

    def _project(self, parts: np.ndarray) -> np.ndarray:
        return np.stack([self.modes.project(part) for part in parts])

    def _expand(self, parts: np.ndarray) -> np.ndarray:
        return np.stack([self.modes.expand(part) for part in parts])

    def log_determinant(self) -> float:
        """Return the log-determinant of the covariance."""
        beside = self.noise.shape[1] - self.modes.size
        total = 2.0 * np.log(np.diagonal(self._lower, axis1=1, axis2=2)).sum()
        return float(total + beside * np.log(self.noise[:, 0]).sum())

    def inverse_diagonal(self) -> np.ndarray:
        """Return the diagonal of the inverse covariance."""
        of_modes = np.diagonal(self._inverse, axis1=1, axis2=2)
        if self.modes.is_complete:
            return self.modes.diagonal(of_modes).T.ravel()
        excess = self.modes.diagonal(of_modes - 1.0 / self.noise[:, 0]).T
        return (excess + 1.0 / self.noise).ravel()

    def truncation_error(self) -> float:
        """Return how far off the log-density of data is for the modes left out, nats.

        The root mean square over data of the whole covariance, as by `log_density_error`: of mean
        ``(1/2) sum(r - log(1 + r))`` and variance ``(1/2) sum(r^2)`` with r the variances left out
        relative to the noise.
        """
        relative = self.mixing / np.sqrt(np.outer(self.noise[:, 0], self.noise[:, 0]))
        ratios = np.outer(self.modes.left_out, np.maximum(np.linalg.eigvalsh(relative), 0.0))
        mean = 0.5 * np.sum(ratios - np.log1p(ratios))
        return float(np.sqrt(mean**2 + 0.5 * np.sum(ratios**2)))

    def change_for_modes_left_out(
        self, residual: np.ndarray, process_times: Callable[[np.ndarray], np.ndarray]
    ) -> float:
        """Return what the modes left out add to the log-density of residuals, nats.

        To first order in their variances S: ``(1/2) (v^T S v - tr(C^-1 S))`` with
        ``v = C^-1 residual``.  It grows with the misfit, which `truncation_error` cannot know.

        Parameters
        ----------
        residual : ndarray, shape (p n,)
        process_times : function
            The whole covariance of the unit process times columns, (n, k) -> (n, k).
        """
        solved = self._split(self.solve(residual))[:, :, 0]
        within = self.modes.variances.ravel()[:, None] * self.modes.project(solved.T)
        left = process_times(solved.T) - self.modes.expand(within)
        quadratic = np.sum(self.mixing * (solved @ left))
        trace = np.sum(np.diag(self.mixing) / self.noise[:, 0]) * self.modes.left_out.sum()
        return float(0.5 * (quadratic - trace))

    def cross_modes(self, direction: np.ndarray, jacobian: np.ndarray) -> CrossModes:
        """Return what a change of the mixing, ``mixing + rho direction``, makes noisier or quieter.

        One small generalised eigenproblem for each mode; ``jacobian`` has shape (p n, k).
        """
        root = np.linalg.inv(self._lower)  # (mode, p, p)
        change = self.modes.variances.ravel()[:, None, None] * direction
        strengths, vectors = np.linalg.eigh(root @ change @ root.swapaxes(1, 2))
        parts = self._split(jacobian)
        within = self._project(parts)
        sensitivity = vectors.swapaxes(1, 2) @ root @ within.swapaxes(0, 1)
        left = np.zeros((0, jacobian.shape[1]))
        if not self.modes.is_complete:
            left = (parts - self._expand(within)) / np.sqrt(self.noise)[:, :, None]
            left = left.reshape(jacobian.shape)
        sensitivity = sensitivity.reshape(strengths.size, jacobian.shape[1])
        return CrossModes(strengths.ravel(), sensitivity, left.T @ left)

    def part(self, blocks: Sequence[int]) -> "ModalErrors":
        """Return the covariance of some of the modalities."""
        kept = list(blocks)
        names = tuple(self.names[i] for i in kept) if self.names else ()
        mixing = self.mixing[np.ix_(kept, kept)]
        return replace(self, mixing=mixing, noise=self.noise[kept], names=names)

    def difference(self, other: "ModalErrors", step: float, weight: np.ndarray) -> "ModalErrors":
        """Return the derivative of the parts of the covariance, from two that are ``step`` apart.

        ``weight`` multiplies the derivative of the independent variance of each datum.
        """
        noise = (self.noise - other.noise) / step * weight.reshape(self.noise.shape)
        return ModalErrors(self.modes, (self.mixing - other.mixing) / step, noise)

    def information(self, changes: Sequence["ModalErrors"]) -> np.ndarray:
        """Return ``(1/2) tr(C^-1 dC_i C^-1 dC_j)``, shape (p, p), for p derivatives."""
        moved = [np.matmul(self._inverse, change._blocks) for change in changes]
        result = 0.5 * np.array([[np.sum(a * b.swapaxes(1, 2)) for b in moved] for a in moved])
        beside = self.noise.shape[1] - self.modes.size
        relative = np.stack([change.noise[:, 0] / self.noise[:, 0] for change in changes])
        return result + 0.5 * beside * (relative @ relative.T)

    def log_density(self, residual: np.ndarray) -> float:
        """Return the joint Gaussian log-density of the residuals."""
        quadratic = float(residual @ self.solve(residual))
        return -0.5 * (quadratic + self.log_determinant() + residual.size * np.log(2 * np.pi))

    def conditional(self, residual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance of every residual given all others, see `ErrorCovariance`."""
        diagonal = self.inverse_diagonal()
        return residual - self.solve(residual) / diagonal, 1.0 / diagonal

    def draw_discrepancy(self, rng: np.random.Generator) -> np.ndarray:
        """Return a prior draw of the discrepancy."""
        white = rng.standard_normal((len(self.mixing), self.modes.size))
        scaled = self._root @ (np.sqrt(self.modes.variances.ravel()) * white)
        return self._expand(scaled[:, :, None]).ravel()

    def discrepancy_given(self, residual: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a draw of the discrepancy given the residuals (Matheron's rule)."""
        draw = self.draw_discrepancy(rng)
        noise = np.sqrt(self.variance) * rng.standard_normal(residual.size)
        return draw + self.discrepancy_times(self.solve(residual - draw - noise))

    def discrepancy_times(self, array: np.ndarray) -> np.ndarray:
        """Return the covariance of the discrepancy times a vector or columns."""
        within = self._project(self._split(array))
        scaled = self.modes.variances.ravel()[:, None] * within
        return self._expand(np.tensordot(self.mixing, scaled, 1)).reshape(array.shape)
