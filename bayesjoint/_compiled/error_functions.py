"""Errors of the data as numbers at a flat point: their covariance, and the discrepancies in it."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pytensor.tensor as pt

from bayesjoint._compiled.graphs import ModelGraphs
from bayesjoint._errors.factors import Factor, ModalFactor
from bayesjoint._graph.compile import in_turn
from bayesjoint._kernels.errors import ErrorCovariance
from bayesjoint._kernels.joined_errors import JoinedErrors
from bayesjoint._kernels.modal_errors import ModalErrors

Errors = ErrorCovariance | JoinedErrors


class ErrorFunctions(ModelGraphs):
    """What the model says of the errors of its data."""

    @cached_property
    def _constant_blocks(self) -> dict[str, np.ndarray]:
        return {}

    @cached_property
    def _stated_grams(self) -> dict[tuple[str, ...], list[np.ndarray]]:
        return {}

    @cached_property
    @in_turn()
    def _error_terms(self):
        build, problem = self.build, self.problem
        variances = [
            m.noise.variance(build.responses[m.name], build.noise[m.name]).ravel()
            for m in problem.modalities
        ]
        bases, scales = [], []
        for factor in self._low_rank.values():
            scales.append(factor.scale)
            bases += [b for b in factor.bases.values() if not isinstance(b, np.ndarray)]
        mixings = [pt.as_tensor(factor.mixing) for factor in self._modal.values()]
        return self.compile([*variances, *mixings, *scales, *bases])

    @cached_property
    def _low_rank(self) -> dict[str, Factor]:
        factors = self.build.factors
        return {name: f for name, f in factors.items() if isinstance(f, Factor)}

    @cached_property
    def _modal(self) -> dict[str, ModalFactor]:
        factors = self.build.factors
        return {name: f for name, f in factors.items() if isinstance(f, ModalFactor)}

    @cached_property
    def noise_sds(self):
        """The compiled function ``flat vector -> sd of the noise of each modality``."""
        return self.compile([self.build.noise[name].sd for name in self.data_slices])

    def errors(
        self,
        point: np.ndarray,
        power: bool = False,
        integrated: bool = False,
        without: Sequence[str] = (),
    ) -> Errors:
        """Return the covariance of all errors at a point.

        Rows of modalities with correlated noise are rotated as by `rotate`.

        Parameters
        ----------
        point : ndarray, shape (n,)
        power : bool
            Divide the variances of tempered modalities by their power.
        integrated : bool
            Leave out the discrepancies that are sampled.
        without : sequence of str
            Discrepancies to leave out.
        """
        variance, blocks, mixings = self._error_blocks(point)
        mixings = {name: mixing for name, mixing in mixings.items() if name not in without}
        sizes = tuple(m.data.size for m in self.problem.modalities)
        if power:
            powers = [np.full(m.data.size, m.power) for m in self.problem.modalities]
            variance = variance / np.concatenate([*powers, np.zeros(0)])
        kept = [n for n in blocks if self.build.factors[n].marginal or not integrated]
        kept = [n for n in kept if n not in without]
        if kept:
            bases = np.concatenate([blocks[n][0] for n in kept], axis=1)
            scale = np.concatenate([blocks[n][1] for n in kept])
            grams = self._grams(tuple(kept), bases, scale, variance)
            factor = self.rotate(bases * scale)
            whole = ErrorCovariance(variance, factor, sizes, grams, tuple(self.data_slices))
        else:
            whole = ErrorCovariance(variance, sizes=sizes, names=tuple(self.data_slices))
        return self._joined(whole, mixings) if mixings else whole

    def _joined(self, whole: ErrorCovariance, mixings: dict[str, np.ndarray]) -> JoinedErrors:
        """Return the errors with those of shared places, mode by mode, in their place."""
        order = list(self.data_slices)
        parts: list[tuple[tuple[int, ...], Any]] = []
        rest = set(range(len(order)))
        for name, mixing in mixings.items():
            factor = self._modal[name]
            members = tuple(order.index(m) for m in factor.modalities)
            noise = np.stack([whole.variance[self.data_slices[m]] for m in factor.modalities])
            parts.append((members, ModalErrors(factor.modes, mixing, noise, factor.modalities)))
            rest -= set(members)
        if rest:
            others = tuple(sorted(rest))
            parts.append((others, whole.part(others)))
        return JoinedErrors(tuple(parts), whole.sizes)

    def _grams(self, names, bases, scale, variance) -> tuple[np.ndarray, ...] | None:
        """Return ``B_k^T D_k^-1 B_k`` of each modality from products over the data made once.

        Possible where bases are constant and every variance is one factor times a stated one; of no
        use where there are no fewer modes than data.
        """
        if bases.shape[1] >= bases.shape[0]:
            return None
        constant = all(
            isinstance(b, np.ndarray) for n in names for b in self._low_rank[n].bases.values()
        )
        if not constant or not all(m.noise.gaussian for m in self.problem.modalities):
            return None
        if names not in self._stated_grams:
            weights = [1.0 / self.build.noise[m].stated.ravel() ** 2 for m in self.data_slices]
            self._stated_grams[names] = [
                bases[where].T @ (weight[:, None] * bases[where])
                for where, weight in zip(self.data_slices.values(), weights, strict=True)
            ]
        grams = []
        for stated, (name, where) in zip(
            self._stated_grams[names], self.data_slices.items(), strict=True
        ):
            ratio = variance[where.start] / self.build.noise[name].stated.flat[0] ** 2
            grams.append(scale[:, None] * stated * (scale / ratio))
        return tuple(grams)

    def sampled_factors(self, point: np.ndarray) -> dict[str, np.ndarray]:
        """Return the factor of each sampled discrepancy, shape (data, rank), not rotated."""
        blocks = self._error_blocks(point)[1]
        return {
            name: basis * scale
            for name, (basis, scale) in blocks.items()
            if not self.build.factors[name].marginal
        }

    def discrepancy_times(self, name: str, point: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the covariance of one discrepancy times columns of stacked data."""
        _, blocks, mixings = self._error_blocks(point)
        if name in blocks:
            basis, scale = blocks[name]
            return basis @ (scale[:, None] ** 2 * (basis.T @ columns))
        factor, result = self._modal[name], np.zeros_like(columns)
        noise = np.ones((len(factor.modalities), int(np.prod(factor.modes.shape))))
        errors = ModalErrors(factor.modes, mixings[name], noise)
        rows = self._rows(factor)
        result[rows] = errors.discrepancy_times(columns[rows])
        return result

    def truncation_errors(self, point: np.ndarray) -> dict[str, float]:
        """Return how far off the log-density is, nats, where modes of a discrepancy are left out.

        The root mean square over data, see `ModalErrors.truncation_error`; where places are not
        shared a bound of it, the variance left out over that of the noise, summed over the data.
        """
        variance, blocks, _ = self._error_blocks(point)
        errors = {name: part.truncation_error() for name, _, part in self.truncated(point)}
        for name, (basis, scale) in blocks.items():
            share = self._low_rank[name].left_out
            if share > 0.0:
                kept = np.sum((basis * scale) ** 2, axis=1)
                errors[name] = share / (1.0 - share) * float(np.sum(kept / variance))
        return errors

    def truncated(self, point: np.ndarray) -> Iterator[tuple[str, np.ndarray, ModalErrors]]:
        """Yield discrepancies at shared places that leave out modes: name, rows, covariance."""
        variance, _, mixings = self._error_blocks(point)
        for name, mixing in mixings.items():
            factor = self._modal[name]
            if factor.modes.left_out.size:
                noise = np.stack([variance[self.data_slices[m]] for m in factor.modalities])
                yield name, self._rows(factor), ModalErrors(factor.modes, mixing, noise)

    def _rows(self, factor: ModalFactor) -> np.ndarray:
        """Return the indices of the data of a discrepancy at shared places."""
        return np.concatenate([np.r_[self.data_slices[name]] for name in factor.modalities])

    def draw_discrepancy(self, point: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a prior draw of all discrepancies together, shape (data,)."""
        _, blocks, mixings = self._error_blocks(point)
        total = np.zeros(self.data.size)
        for basis, scale in blocks.values():
            total += basis @ (scale * rng.standard_normal(scale.size))
        for name, mixing in mixings.items():
            factor = self._modal[name]
            noise = np.ones((len(factor.modalities), int(np.prod(factor.modes.shape))))
            drawn = ModalErrors(factor.modes, mixing, noise).draw_discrepancy(rng)
            for modality, part in zip(factor.modalities, np.split(drawn, len(noise)), strict=True):
                total[self.data_slices[modality]] += part
        return total

    def _error_blocks(
        self, point: np.ndarray
    ) -> tuple[np.ndarray, dict[str, tuple], dict[str, np.ndarray]]:
        """Return independent variances, (basis, scale) of factors, and mixing of shared modes."""
        values = list(self._error_terms(point))
        variances = [np.broadcast_to(values.pop(0), m.data.size) for m in self.problem.modalities]
        mixings = {name: values.pop(0) for name in self._modal}
        scales = [values.pop(0) for _ in self._low_rank]
        blocks = {}
        for (name, factor), scale in zip(self._low_rank.items(), scales, strict=True):
            if all(isinstance(basis, np.ndarray) for basis in factor.bases.values()):
                block = self._constant_block(name)
            else:
                given = {
                    modality: basis if isinstance(basis, np.ndarray) else values.pop(0)
                    for modality, basis in factor.bases.items()
                }
                block = self._stack(given, factor.rank)
            blocks[name] = (block, scale)
        return np.concatenate([*variances, np.zeros(0)]), blocks, mixings

    def _constant_block(self, name: str) -> np.ndarray:
        if name not in self._constant_blocks:
            factor = self._low_rank[name]
            self._constant_blocks[name] = self._stack(factor.bases, factor.rank)
        return self._constant_blocks[name]

    def _stack(self, bases: dict[str, np.ndarray], rank: int) -> np.ndarray:
        block = np.zeros((self.data.size, rank))
        for modality, basis in bases.items():
            block[self.data_slices[modality]] = basis
        return block

    def rotate(self, rows: np.ndarray, transposed: bool = False) -> np.ndarray:
        """Return rows of stacked data with the known correlation of the noise taken out."""
        return self._turned(rows, lambda f, own: np.linalg.solve(f.T if transposed else f, own))

    def restore(self, rows: np.ndarray) -> np.ndarray:
        """Return rows of stacked data with the correlation of the noise put back after `rotate`."""
        return self._turned(rows, np.matmul)

    def _turned(self, rows: np.ndarray, change: Callable) -> np.ndarray:
        rows = np.array(rows, dtype=float)
        for modality in self.problem.modalities:
            factor = modality.noise.correlation_factor
            if factor is not None:
                where = self.data_slices[modality.name]
                rows[where] = change(factor, rows[where])
        return rows
