"""Errors of groups of modalities that are independent of each other, each with its own form."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class JoinedErrors:
    """Block-diagonal covariance of all errors; the interface of its parts.

    Parameters
    ----------
    parts : tuple of (tuple of int, ErrorCovariance or ModalErrors)
        Modalities of each part, in ascending order, and their covariance.
    sizes : tuple of int
        Number of data of each modality.
    """

    parts: tuple[tuple[tuple[int, ...], Any], ...]
    sizes: tuple[int, ...]

    @cached_property
    def _pieces(self) -> list[tuple[np.ndarray, Any]]:
        """Indices of the data of each part, and the part."""
        return [(self.rows_of(blocks), errors) for blocks, errors in self.parts]

    def rows_of(self, blocks: Sequence[int]) -> np.ndarray:
        """Return the indices of the data of some of the modalities."""
        ends = np.cumsum([0, *self.sizes])
        rows = [np.arange(ends[i], ends[i + 1]) for i in blocks]
        return np.concatenate([*rows, np.zeros(0, dtype=int)]).astype(int)

    @property
    def variance(self) -> np.ndarray:
        """Independent variances of all data."""
        return self._gathered(lambda part: part.variance)

    @property
    def factor(self) -> np.ndarray:
        """Factor of all discrepancies, the columns of one part after those of another: large."""
        total = np.zeros((sum(self.sizes), 0))
        for rows, part in self._pieces:
            factor = np.zeros((len(total), 0 if part.factor is None else part.factor.shape[1]))
            factor[rows] = 0.0 if part.factor is None else part.factor
            total = np.concatenate([total, factor], axis=1)
        return total

    def whiten(self, array: np.ndarray) -> np.ndarray:
        """Return ``W array`` with ``W^T W`` the inverse covariance, for a vector or columns."""
        return self._mapped(array, lambda part, rows: part.whiten(rows))

    def solve(self, array: np.ndarray) -> np.ndarray:
        """Return the inverse covariance times a vector or columns."""
        return self._mapped(array, lambda part, rows: part.solve(rows))

    def log_determinant(self) -> float:
        """Return the log-determinant of the covariance."""
        return sum(part.log_determinant() for _, part in self.parts)

    def inverse_diagonal(self) -> np.ndarray:
        """Return the diagonal of the inverse covariance."""
        return self._gathered(lambda part: part.inverse_diagonal())

    def log_density(self, residual: np.ndarray) -> float:
        """Return the joint Gaussian log-density of the residuals."""
        return sum(part.log_density(residual[rows]) for rows, part in self._pieces)

    def conditional(self, residual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance of every residual given all others, see `ErrorCovariance`."""
        diagonal = self.inverse_diagonal()
        return residual - self.solve(residual) / diagonal, 1.0 / diagonal

    def part(self, blocks: Sequence[int]) -> "JoinedErrors":
        """Return the covariance of some of the modalities, in ascending order."""
        place = {block: i for i, block in enumerate(blocks)}
        kept = []
        for members, errors in self.parts:
            inside = [i for i, member in enumerate(members) if member in place]
            if inside:
                kept.append((tuple(place[members[i]] for i in inside), errors.part(inside)))
        return JoinedErrors(tuple(kept), tuple(self.sizes[i] for i in blocks))

    def difference(self, other: "JoinedErrors", step: float, weight: np.ndarray) -> "JoinedErrors":
        """Return the derivative of the parts of the covariance, see `ModalErrors`."""
        changed: list[Any] = [
            (blocks, part.difference(before, step, weight[rows]))
            for (blocks, part), (_, before), (rows, _) in zip(
                self.parts, other.parts, self._pieces, strict=True
            )
        ]
        return replace(self, parts=tuple(changed))

    def information(self, changes: Sequence["JoinedErrors"]) -> np.ndarray:
        """Return ``(1/2) tr(C^-1 dC_i C^-1 dC_j)``, shape (p, p), for p derivatives."""
        of_parts = zip(*(change.parts for change in changes), strict=True)
        total = np.zeros((len(changes), len(changes)))
        for (_, part), moved in zip(self.parts, of_parts, strict=True):
            total += part.information([errors for _, errors in moved])
        return total

    def draw_discrepancy(self, rng: np.random.Generator) -> np.ndarray:
        """Return a prior draw of the discrepancy."""
        return self._gathered(lambda part: part.draw_discrepancy(rng))

    def discrepancy_given(self, residual: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a draw of the discrepancy given the residuals."""
        return self._mapped(residual, lambda part, rows: part.discrepancy_given(rows, rng))

    def _gathered(self, get: Callable[[Any], np.ndarray]) -> np.ndarray:
        result = np.zeros(sum(self.sizes))
        for rows, part in self._pieces:
            result[rows] = get(part)
        return result

    def _mapped(self, array: np.ndarray, change: Callable[[Any, np.ndarray], np.ndarray]):
        result = np.zeros(array.shape)
        for rows, part in self._pieces:
            result[rows] = change(part, array[rows])
        return result
