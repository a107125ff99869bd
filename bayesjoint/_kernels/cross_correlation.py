"""Errors of several blocks of data at any correlation between the blocks.

The factor of a discrepancy is known at one matrix of correlations; at another its covariance is
that of each pair of blocks times the ratio of the two correlations.  All of it lies in the span of
the factors of the blocks: where that is smaller than the data, these are reduced to it.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import eigh, qr, solve_triangular

from bayesjoint._kernels.singular import SingularErrors

LIMIT = 1e-10  # variance over that without cross-correlation below which digits are lost


def correlation_interval(matrix: np.ndarray, first: int, second: int) -> tuple[float, float]:
    """Return the open interval of one correlation in which the matrix is positive definite.

    The partial correlation of the two, given all others, runs from -1 to 1.

    Parameters
    ----------
    matrix : ndarray, shape (k, k)
        Of correlations; that of the pair is not read.
    first, second : int
        The pair.

    Raises
    ------
    LinAlgError
        When the correlations of the others alone are not positive definite.
    """
    rest = [i for i in range(len(matrix)) if i not in (first, second)]
    lower = np.linalg.cholesky(matrix[np.ix_(rest, rest)])
    moved = solve_triangular(lower, matrix[np.ix_(rest, [first, second])], lower=True)
    left = 1.0 - np.sum(moved**2, axis=0)
    if np.any(left <= 0.0):
        raise np.linalg.LinAlgError("the other correlations are not positive definite")
    centre, reach = float(moved[:, 0] @ moved[:, 1]), float(np.sqrt(np.prod(left)))
    return centre - reach, centre + reach


@dataclass(frozen=True, eq=False)
class BlockErrors:
    """Independent errors, a discrepancy whose correlations vary, and others that stay.

    Parameters
    ----------
    variance : ndarray, shape (n,)
        Independent variances.
    swept, others : ndarray, shape (n, r)
        Factors of the discrepancy that varies, and of all others.
    sizes : tuple of int
        Number of data in each block.
    stated : ndarray, shape (block, block)
        Correlations of the discrepancy at which its factor holds; none is zero.
    names : tuple of str
        Of the blocks, for messages.
    """

    variance: np.ndarray
    swept: np.ndarray
    others: np.ndarray
    sizes: tuple[int, ...]
    stated: np.ndarray
    names: tuple[str, ...]

    @cached_property
    def _blocks(self) -> list[tuple[np.ndarray | None, np.ndarray]]:
        """Of each block: orthonormal columns, None where nothing is saved, and factors in these."""
        factors = np.concatenate([self.swept, self.others], axis=1)
        factors = factors / np.sqrt(self.variance)[:, None]
        blocks: list[tuple[np.ndarray | None, np.ndarray]] = []
        for part in np.split(factors, np.cumsum(self.sizes)[:-1]):
            used = part[:, np.any(part != 0.0, axis=0)]
            if used.shape[1] >= part.shape[0]:
                blocks.append((None, part))
            else:
                columns = qr(used, mode="economic")[0]
                blocks.append((columns, columns.T @ part))
        return blocks

    @cached_property
    def _factors(self) -> tuple[np.ndarray, np.ndarray]:
        factors = np.concatenate([factor for _, factor in self._blocks])
        return factors[:, : self.swept.shape[1]], factors[:, self.swept.shape[1] :]

    @cached_property
    def block_of(self) -> np.ndarray:
        """Block of each reduced datum."""
        return np.repeat(np.arange(len(self.sizes)), [len(factor) for _, factor in self._blocks])

    def reduce(self, array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a vector or columns of data in noise units, reduced, and what is left of them.

        What is left sees the independent noise alone, of unit variance.
        """
        scaled = (array.T / np.sqrt(self.variance)).T
        parts = np.split(scaled, np.cumsum(self.sizes)[:-1])
        reduced, left = [], []
        for (columns, _), part in zip(self._blocks, parts, strict=True):
            reduced.append(part if columns is None else columns.T @ part)
            left.append(part[:0] if columns is None else part - columns @ reduced[-1])
        return np.concatenate(reduced), np.concatenate(left)

    def covariance(self, correlation: np.ndarray, sd_factors: np.ndarray) -> np.ndarray:
        """Return the covariance of the reduced data in noise units.

        ``sd_factors`` (block) multiply the sd of the discrepancy; zeros take it away.
        """
        others = self._factors[1]
        independent = np.eye(self.block_of.size) + others @ others.T
        return independent + self.change(correlation, sd_factors)

    def change(self, correlation: np.ndarray, sd_factors: np.ndarray) -> np.ndarray:
        """Return what the discrepancy adds at these correlations, or its derivative to them."""
        swept = self._factors[0] * sd_factors[self.block_of][:, None]
        ratio = correlation / self.stated
        return (swept @ swept.T) * ratio[np.ix_(self.block_of, self.block_of)]

    def cross_modes(
        self,
        base: np.ndarray,
        direction: np.ndarray,
        sd_factors: np.ndarray,
        jacobian: np.ndarray,
    ) -> "CrossModes":
        """Return what a correlation rho makes noisier or quieter: ``base + rho direction``.

        Parameters
        ----------
        base, direction : ndarray, shape (block, block)
        sd_factors : ndarray, shape (block,)
            On the sd of the discrepancy.
        jacobian : ndarray, shape (n, k)
            Sensitivities of the data.
        """
        lower = self.lower(self.covariance(base, sd_factors))
        half = solve_triangular(lower, self.change(direction, sd_factors), lower=True)
        inner = solve_triangular(lower, half.T, lower=True)
        strengths, vectors = eigh((inner + inner.T) / 2)
        reduced, left = self.reduce(jacobian)
        whitener = solve_triangular(lower, vectors, lower=True, trans=1).T
        return CrossModes(strengths, whitener @ reduced, left.T @ left)

    def lower(self, covariance: np.ndarray) -> np.ndarray:
        """Return the Cholesky factor of a covariance of the reduced data.

        Raises
        ------
        SingularErrors
            When a combination of the data is free of error to working precision.
        """
        try:
            lower = np.linalg.cholesky(covariance)
            left = np.diag(lower) ** 2 / np.diag(covariance)
            worst = int(np.argmin(left))
        except np.linalg.LinAlgError:
            left, worst = np.zeros(1), None
        if np.min(left, initial=1.0) < LIMIT:
            raise self.singular() if worst is None else self.singular(self.block_of[worst])
        return lower

    def singular(self, block: int | None = None) -> SingularErrors:
        """Return the error for a combination of data that is free of error."""
        return lost(
            "the data" if block is None else f"modality {self.names[block]!r} given the others"
        )


def lost(of: str) -> SingularErrors:
    """Return the error for a combination of some data that is free of error."""
    return SingularErrors(
        f"a combination of the errors of {of} has less than {LIMIT:g} of their variance: it is "
        "free of error to working precision and the information diverges; give more "
        "independent noise, or a correlation farther from its bounds"
    )


@dataclass(frozen=True, eq=False)
class CrossModes:
    """Directions of the data that a correlation makes noisier or quieter, the same at any value.

    With ``C(rho) = C_0 + rho C_1`` the pairs ``C_1 w = strength C_0 w``, ``W^T C_0 W = I``, give
    ``C(rho)^-1 = W diag(1 / (1 + rho strength)) W^T`` (canonical correlations of the blocks).

    Parameters
    ----------
    strengths : ndarray, shape (q,)
    sensitivity : ndarray, shape (q, k)
        ``W^T J``: of each direction to the unknowns.
    rest : ndarray, shape (k, k)
        Information of what no correlation changes.
    """

    strengths: np.ndarray
    sensitivity: np.ndarray
    rest: np.ndarray

    def noise(self, correlation: float) -> np.ndarray:
        """Return the variance of each direction over that without correlation."""
        return 1.0 + correlation * self.strengths
