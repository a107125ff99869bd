"""The likelihood-informed spectrum at a point, and what each modality adds to it.

Three ways to the same pairs ``H v = lambda (I + Gamma) v``: complete, where the unknowns are few;
from the whitened rows of the data, where these are few, without truncation; else by the actions of
the Jacobian alone, down to a threshold.  The first two are singular values of the whitened
Jacobian, whose square H would lose half of the digits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import qr, svd

from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._compiled.latent_space import Scaling
from bayesjoint._kernels.eigensolver import leading_pairs
from bayesjoint._kernels.factors import Factor
from bayesjoint._kernels.stacked import inverse_squares, log_determinant, reduced
from bayesjoint._local import curvature as _curvature
from bayesjoint._local.actions import LocalActions
from bayesjoint._local.coupled_prior import CoupledPrior

DATA_LIMIT = 2_000  # data up to which their rows are formed
NEGLIGIBLE = 1e-6  # eigenvalues below are left out where not all pairs are kept
CANCELLED = 1e-5  # share of a prior variance below which a difference from it is found by itself
BLOCK = 500  # cells that are worked on together


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Pairs ``H v = lambda (I + Gamma) v``, ``V^T (I + Gamma) V = I``, in white coordinates.

    Attributes
    ----------
    values : ndarray, shape (r,)
        Descending.
    vectors : ndarray, shape (unknown, r)
    left_out : float
        Sum of the eigenvalues left out: no more degrees of freedom, and half as many nats, are
        missing.
    largest_left_out : float
    method : str
    error : float
        Of an eigenvalue, relative to one more than it, by rounding.
    """

    values: np.ndarray
    vectors: np.ndarray
    left_out: float
    largest_left_out: float
    method: str
    error: float


class Informed:
    """What the data say beyond the coupled prior, at the point of the actions.

    Parameters
    ----------
    actions : LocalActions
        With the discrepancy integrated out.
    scaling : Scaling
    prior : CoupledPrior
    threshold : float
        Eigenvalues below are left out where neither unknowns nor data are few.
    """

    def __init__(
        self, actions: LocalActions, scaling: Scaling, prior: CoupledPrior, threshold: float
    ) -> None:
        self.actions, self.scaling, self.prior = actions, scaling, prior
        self.threshold = threshold
        self.functions: ModelFunctions = actions.functions
        self.size = scaling.space.size
        self.complete = self.size <= _curvature.DENSE_LIMIT
        self.by_rows = self.complete or self.functions.data.size <= DATA_LIMIT

    @cached_property
    def spectrum(self) -> Spectrum:
        """The spectrum of all data."""
        everything = range(len(self.functions.data_slices))
        if not self.by_rows:
            return self._by_actions(everything)
        rows = self.whitened(everything)
        _, singular, inner = svd(
            reduced(rows), full_matrices=self.complete, overwrite_a=True, check_finite=False
        )
        error = float(np.finfo(float).eps * np.sqrt(max(rows.shape)) * singular.max(initial=0.0))
        if self.complete:
            values = np.zeros(self.size)
            values[: singular.size] = singular**2
            return Spectrum(values, self._vectors(inner), 0.0, 0.0, "complete", error)
        values, kept = singular**2, singular**2 > NEGLIGIBLE
        rest = values[~kept]
        return Spectrum(
            values[kept], self._vectors(inner[kept]), float(rest.sum()),
            float(rest.max(initial=0.0)), "rows of the data", error,
        )  # fmt: skip

    def posterior_variance(
        self, factors: Mapping[str, Factor], physical: np.ndarray, prior: np.ndarray
    ) -> np.ndarray:
        """Return the posterior variance of each cell, not as a difference from the prior's.

        Parameters
        ----------
        factors : mapping of str to Factor
            L of each unknown.
        physical : ndarray, shape (cell, mode)
            ``L V``.
        prior : ndarray, shape (cell,)
            Prior variance.
        """
        space = self.scaling.space
        if self.complete:
            units = self.prior.whitener(np.eye(self.size)).T
            rows = self.whitened(range(len(self.functions.data_slices)))
            return inverse_squares(rows, space.physical(factors, units))
        informed = physical**2 @ (1.0 / (1.0 + self.spectrum.values))
        rest = np.maximum(prior - np.sum(physical**2, axis=1), 0.0)
        known = np.flatnonzero(rest < CANCELLED * prior)
        inner = self.prior.whitener_transposed(self.prior.precision(self.spectrum.vectors.T)).T
        for cells in np.split(known, range(BLOCK, known.size, BLOCK)):
            rows = self.prior.whitener_transposed(space.rows_of_cells(factors, cells))
            for _ in range(2):  # rounding brings what was taken out back in
                rows = rows - (rows @ inner) @ inner.T
            rest[cells] = np.sum(rows**2, axis=1)
        return informed + rest

    def gain(self, modalities: Sequence[int]) -> float:
        """Return the expected information gain of some modalities by themselves, nats."""
        if not self.by_rows:
            return 0.5 * float(np.log1p(self._by_actions(modalities).values).sum())
        return 0.5 * log_determinant(self.whitened(modalities))

    def shares(self) -> tuple[np.ndarray, np.ndarray]:
        """Return ``v^T H_k v`` of each modality and pair, and the importance of each datum.

        Shares of the response's information follow the rows of ``J^T C^-1 J``, those of the
        errors' what each modality says alone.  Both add up; with independent errors they are the
        only split.  The importance is the diagonal of ``J (I + Gamma + H)^-1 J^T C^-1``.
        """
        spectrum, where = self.spectrum, list(self.functions.data_slices.values())
        pushed = self.pushed
        crossed = pushed * self.actions.errors.solve(pushed)  # (datum, mode)
        of_response = np.zeros((len(where), spectrum.values.size))
        for k, part in enumerate(where):
            of_response[k] = crossed[part].sum(axis=0)
        importance = crossed @ (1.0 / (1.0 + spectrum.values))
        return of_response + self._of_errors(self.flat_vectors), importance

    def factors(self, sets: Sequence[Sequence[int]]) -> np.ndarray:
        """Return M with ``M^T M = V^T H V``, H of each set of modalities by itself.

        Shape (set, row, mode): as few rows as the largest needs, zero below those of others.  With
        independent errors the products of all modalities add up to the eigenvalues on the diagonal.
        """
        found = [self._factor(modalities) for modalities in sets]
        height = max((rows.shape[0] for rows in found), default=0)
        padded = [np.pad(rows, ((0, height - rows.shape[0]), (0, 0))) for rows in found]
        return np.stack(padded) if padded else np.zeros((0, 0, self.spectrum.values.size))

    def _factor(self, modalities: Sequence[int]) -> np.ndarray:
        errors, moved = self.actions.errors, self.flat_vectors[:, self.actions.of_errors[0]].T
        of_data = errors.part(modalities).whiten(self.pushed[errors.rows_of(modalities)])
        rows = np.concatenate([of_data, _root(self.actions.of_errors_in(modalities)) @ moved])
        rows = qr(rows, mode="r")[0] if rows.shape[0] > rows.shape[1] else rows
        return rows[: rows.shape[1]]

    def data_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Return ``C^-1 J V`` (datum, mode) and the precision of each datum given all others.

        Of the data as given: the diagonal of ``(C + J (I + Gamma)^-1 J^T)^-1``.
        """
        functions, errors = self.functions, self.actions.errors
        solved = functions.rotate(errors.solve(self.pushed), transposed=True)
        alone = self._error_precision()
        precision = alone - solved**2 @ (1.0 / (1.0 + self.spectrum.values))
        lost = np.any(precision < CANCELLED * alone)
        if lost and self.by_rows and functions.data.size <= DATA_LIMIT:
            whitener = errors.whiten(functions.rotate(np.eye(functions.data.size)))
            jacobian = errors.whiten(self._rows[0])
            return solved, inverse_squares(jacobian.T, whitener.T)
        return solved, np.maximum(precision, 0.0)

    def _error_precision(self) -> np.ndarray:
        """Return the diagonal of the inverse covariance of the errors, of the data as given."""
        functions, errors = self.functions, self.actions.errors
        if all(m.noise.correlation_factor is None for m in functions.problem.modalities):
            return errors.inverse_diagonal()
        whitener = errors.whiten(functions.rotate(np.eye(functions.data.size)))
        return np.sum(whitener**2, axis=0)

    @cached_property
    def flat_vectors(self) -> np.ndarray:
        """The directions in the flat coordinates of the model, shape (mode, n)."""
        return self.scaling.to_flat(self.spectrum.vectors.T)

    @cached_property
    def pushed(self) -> np.ndarray:
        """Changes of the rotated predictions along each direction, shape (datum, mode)."""
        return self.actions.push(self.flat_vectors).T

    def _of_errors(self, flat: np.ndarray) -> np.ndarray:
        """Return the part of the errors' information in ``v^T H_k v``, shape (modality, mode)."""
        columns, whole = self.actions.of_errors
        count = len(self.functions.data_slices)
        each = np.zeros((count, columns.size))
        for k in range(count):
            each[k] = np.diag(self.actions.of_errors_in([k]))
        total = each.sum(axis=0)
        share = np.divide(each, total, out=np.zeros_like(each), where=total > 0)
        moved = flat[:, columns]
        return share @ (moved * (moved @ whole)).T

    @cached_property
    def _rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the Jacobian, and of the unknowns of the errors, on whitened unknowns."""
        count, unknowns = self.functions.data.size, self.actions.of_errors[0]
        if self.size < count:
            pushed = self.actions.push(self.scaling.to_flat(np.eye(self.size))).T
            jacobian = self.prior.whitener_transposed(pushed)
        else:
            jacobian = self._to_prior(self.actions.pull(np.eye(count)))
        units = np.zeros((unknowns.size, self.functions.size))
        units[np.arange(unknowns.size), unknowns] = 1.0
        return jacobian, self._to_prior(units)

    def whitened(self, modalities: Sequence[int]) -> np.ndarray:
        """Return M with ``M^T M`` the information of some modalities on the whitened unknowns."""
        jacobian, unknowns = self._rows
        part = self.actions.errors.part(modalities)
        data = part.whiten(jacobian[self.actions.errors.rows_of(modalities)])
        return np.concatenate([data, _root(self.actions.of_errors_in(modalities)) @ unknowns])

    def _by_actions(self, modalities: Sequence[int]) -> Spectrum:
        def apply(rows: np.ndarray) -> np.ndarray:
            flat = self.scaling.to_flat(self.prior.whitener(rows))
            return self._to_prior(self.actions.data_of(modalities, flat))

        pairs = leading_pairs(apply, self.size, self.threshold)
        error = float(np.finfo(float).eps * np.sqrt(self.size) * pairs.values.max(initial=0.0))
        return Spectrum(
            pairs.values, self._vectors(pairs.vectors.T), max(pairs.left_out_trace, 0.0),
            pairs.largest_left_out, "actions", error,
        )  # fmt: skip

    def _to_prior(self, flat: np.ndarray) -> np.ndarray:
        return self.prior.whitener_transposed(self.scaling.to_white(flat))

    def _vectors(self, rows: np.ndarray) -> np.ndarray:
        return self.prior.whitener(rows).T


def _root(information: np.ndarray) -> np.ndarray:
    """Return R with ``R^T R`` a small symmetric matrix."""
    values, vectors = np.linalg.eigh(information)
    return np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
