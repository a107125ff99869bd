"""The covariance of errors that several modalities have at the same places.

With the covariance ``B kron K + diag(noise) kron I`` of a coregionalised process, the modes of K
are independent: one matrix of the size of the number of modalities for each of them (Bonilla, Chai
& Williams 2008).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bayesjoint._kernels.modes import Modes


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
    """

    modes: Modes
    mixing: np.ndarray
    noise: np.ndarray

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
        return np.linalg.cholesky(self._blocks)

    @cached_property
    def _inverse(self) -> np.ndarray:
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
        """Return how much the log-density is off on average for the modes left out, nats.

        The Kullback-Leibler divergence from the whole covariance to this one,
        ``(1/2) sum(r - log(1 + r))`` with r the variances left out relative to the noise.
        """
        relative = self.mixing / np.sqrt(np.outer(self.noise[:, 0], self.noise[:, 0]))
        ratios = np.outer(self.modes.left_out, np.maximum(np.linalg.eigvalsh(relative), 0.0))
        return float(0.5 * np.sum(ratios - np.log1p(ratios)))

    def part(self, blocks: Sequence[int]) -> "ModalErrors":
        """Return the covariance of some of the modalities."""
        kept = list(blocks)
        return replace(self, mixing=self.mixing[np.ix_(kept, kept)], noise=self.noise[kept])

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
        values, vectors = np.linalg.eigh(self.mixing)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        white = rng.standard_normal((len(root), self.modes.size))
        scaled = root @ (np.sqrt(self.modes.variances.ravel()) * white)
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
