"""Compiled functions of a problem's model: density, responses and their derivatives."""

from functools import cached_property
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.gradient import pullback, pushforward

from bayesjoint._build import ModelBuild
from bayesjoint._compile import INTERPRETED, flatten, over_rows
from bayesjoint._discrepancy_factors import Factor, ModalFactor
from bayesjoint._kernels.errors import ErrorCovariance
from bayesjoint._kernels.joined_errors import JoinedErrors
from bayesjoint._kernels.modal_errors import ModalErrors
from bayesjoint.problem import JointProblem, build

Errors = ErrorCovariance | JoinedErrors


class ModelFunctions:
    """Numerical functions of the flat vector of a model's free variables.

    Attributes
    ----------
    problem, build
        The problem and its model.
    size, rank : int
        Number of free variables, and of modes of all discrepancies.
    slices : dict of str to slice
        Where each free variable lies in the flat vector.
    data_slices : dict of str to slice
        Where each modality lies in the stacked data.
    """

    def __init__(self, problem: JointProblem) -> None:
        self.problem = problem
        self.build: ModelBuild = build(problem)
        model = self.build.model
        start = model.initial_point()
        self.variables = [model.rvs_to_values[v] for v in model.free_RVs]
        self.names = [v.name for v in model.free_RVs]
        self.shapes = [np.shape(start[v.name]) for v in self.variables]
        self.initial = np.concatenate(
            [np.ravel(start[v.name]).astype(float) for v in self.variables]
        )
        self.slices = dict(
            zip(self.names, _slices([int(np.prod(s, dtype=int)) for s in self.shapes]), strict=True)
        )
        self.size = self.initial.size
        self.rank = sum(factor.rank for factor in self.build.factors.values())
        sizes = [m.data.size for m in problem.modalities]
        self.data_slices = dict(zip(problem.modality, _slices(sizes), strict=True))
        self.data = np.concatenate(
            [np.ravel(m.data.values).astype(float) for m in problem.modalities] or [np.zeros(0)]
        )
        self.likelihood_weight = pytensor.shared(1.0, name="likelihood_weight")
        # Of each potential, so that the coupled prior is sampled at other weights.
        self.coupling_factors = {
            name: pytensor.shared(1.0, name=f"{name}_factor") for name in self.build.residuals
        }
        self._constant_blocks: dict[str, np.ndarray] = {}
        self._stated_grams: dict[tuple[str, ...], list[np.ndarray]] = {}

    # ---- graphs -------------------------------------------------------------------------------

    def flat(self, outputs: list) -> tuple[Any, list]:
        """Return the flat input and graphs of the model as functions of it."""
        model = self.build.model
        return flatten(model.replace_rvs_by_values(outputs), self.variables, self.shapes)

    def compile(self, outputs: list, mode: Any = INTERPRETED):
        """Return the compiled function ``flat vector -> outputs``."""
        inputs, graphs = self.flat(outputs)
        return pytensor.function([inputs], graphs, mode=mode, on_unused_input="ignore")

    def log_density(self, mode: Any = INTERPRETED):
        """Return the compiled function ``flat vector -> (log density, gradient)``.

        The log-likelihood is multiplied by the shared ``likelihood_weight``, so that the coupled
        prior is sampled by the same function.
        """
        model = self.build.model
        prior = model.logp(vars=model.free_RVs)
        potentials = [p for p in model.potentials if not _tempers(p)]
        for name, potential in zip(
            [p.name for p in potentials], model.replace_rvs_by_values(potentials), strict=True
        ):
            prior += self.coupling_factors.get(name, 1.0) * potential
        likelihood = self._log_likelihood()
        likelihood += sum(model.replace_rvs_by_values([p for p in model.potentials if _tempers(p)]))
        total = prior + self.likelihood_weight * likelihood
        inputs, (graph,) = flatten([total], self.variables, self.shapes)
        gradient = pt.grad(graph, inputs)
        return pytensor.function([inputs], [graph, gradient], mode=mode)

    def _log_likelihood(self):
        """Return the graph of the log-likelihood; modalities with one covariance enter together."""
        model, together = self.build.model, self.build.joint_densities
        single = [v for v in model.observed_RVs if not any(v.name in names for names in together)]
        total = model.logp(vars=single) if single else pt.zeros(())
        return total + sum(model.replace_rvs_by_values(list(together.values())))

    @cached_property
    def density(self):
        """The log-density with gradient; interpreted, unless a compiled one is put in its place."""
        return self.log_density()

    @property
    def _weighted_residuals(self) -> list:
        factors = self.coupling_factors
        return [pt.sqrt(factors[name]) * r for name, r in self.build.residuals.items()]

    @cached_property
    def _stacked(self) -> tuple[Any, Any]:
        """Return input and stacked responses, then coupling residuals, as one flat graph."""
        parts = [self.build.responses[name].ravel() for name in self.data_slices]
        inputs, graphs = self.flat([*parts, *self._weighted_residuals])
        stacked = pt.concatenate(graphs) if graphs else pt.zeros(0)
        return inputs, stacked

    @cached_property
    def outputs(self):
        """The compiled function ``flat vector -> stacked responses and coupling residuals``."""
        inputs, stacked = self._stacked
        return pytensor.function([inputs], stacked, mode=INTERPRETED, on_unused_input="ignore")

    @cached_property
    def jvp(self):
        """The Jacobian times rows of tangents, ``(tangents, point) -> (row, output)``."""
        return self._pushed(*self._stacked)

    @cached_property
    def vjp(self):
        """Rows of cotangents times the Jacobian, ``(cotangents, point) -> (row, n)``."""
        return self._pulled(*self._stacked, self.output_size)

    @cached_property
    def response_actions(self) -> tuple:
        """``jvp`` and ``vjp`` of the stacked responses alone."""
        inputs, stacked = self._stacked
        responses = stacked[: self.data.size]
        return self._pushed(inputs, responses), self._pulled(inputs, responses, self.data.size)

    @cached_property
    def residual_actions(self) -> tuple:
        """``jvp`` and ``vjp`` of the coupling residuals alone."""
        inputs, graphs = self.flat(self._weighted_residuals)
        stacked, size = pt.concatenate(graphs), self.output_size - self.data.size
        return self._pushed(inputs, stacked), self._pulled(inputs, stacked, size)

    def _pushed(self, inputs: Any, stacked: Any):
        tangent = pt.vector("tangent", shape=(self.size,))
        pushed = pushforward(stacked, inputs, tangent, disconnected_outputs="ignore")
        return over_rows([pushed], tangent, [inputs])

    def _pulled(self, inputs: Any, stacked: Any, size: int):
        cotangent = pt.vector("cotangent", shape=(size,))
        pulled = pullback(
            stacked, inputs, cotangent, disconnected_inputs="ignore", return_disconnected="zero"
        )
        return over_rows([pulled], cotangent, [inputs])

    def over_draws(self, outputs: list):
        """Return the function ``rows of flat vectors -> outputs``, rows in front."""
        inputs, graphs = self.flat(outputs)
        return over_rows(graphs, inputs)

    # ---- numbers ------------------------------------------------------------------------------

    @cached_property
    def output_size(self) -> int:
        """Number of data and coupling residuals."""
        return int(self.outputs(self.initial).size)

    def jacobian(self, point: np.ndarray) -> np.ndarray:
        """Return the Jacobian of `outputs`, shape (data + residuals, free variables)."""
        active = self._active_columns()
        if self.output_size == 0 or active.size == 0:
            return np.zeros((self.output_size, self.size))
        if active.size > self.output_size:
            return self.vjp(np.eye(self.output_size), point)[0]
        jacobian = np.zeros((self.output_size, self.size))
        jacobian[:, active] = self.jvp(np.eye(self.size)[active], point)[0].T
        return jacobian

    def _active_columns(self) -> np.ndarray:
        """Return the free variables on which responses may depend: not those of the errors."""
        errors = {u.variable for u in self.build.unknowns if u.of_errors}
        errors |= {f"{name}_white" for name in self.build.factors}
        kept = [np.arange(s.start, s.stop) for name, s in self.slices.items() if name not in errors]
        return np.concatenate([*kept, np.zeros(0, dtype=int)]).astype(int)

    @cached_property
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

    def errors(self, point: np.ndarray, power: bool = False, integrated: bool = False) -> Errors:
        """Return the covariance of all errors at a point.

        Rows of modalities with correlated noise are rotated as by `rotate`.

        Parameters
        ----------
        point : ndarray, shape (n,)
        power : bool
            Divide the variances of tempered modalities by their power.
        integrated : bool
            Leave out the discrepancies that are sampled.
        """
        variance, blocks, mixings = self._error_blocks(point)
        sizes = tuple(m.data.size for m in self.problem.modalities)
        if power:
            powers = [np.full(m.data.size, m.power) for m in self.problem.modalities]
            variance = variance / np.concatenate([*powers, np.zeros(0)])
        kept = [n for n in blocks if self.build.factors[n].marginal or not integrated]
        if kept:
            bases = np.concatenate([blocks[n][0] for n in kept], axis=1)
            scale = np.concatenate([blocks[n][1] for n in kept])
            grams = self._grams(tuple(kept), bases, scale, variance)
            whole = ErrorCovariance(variance, self.rotate(bases * scale), sizes, grams)
        else:
            whole = ErrorCovariance(variance, sizes=sizes)
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
            parts.append((members, ModalErrors(factor.modes, mixing, noise)))
            rest -= set(members)
        if rest:
            others = tuple(sorted(rest))
            parts.append((others, whole.part(others)))
        return JoinedErrors(tuple(parts), whole.sizes)

    def _grams(self, names, bases, scale, variance) -> tuple[np.ndarray, ...] | None:
        """Return ``B_k^T D_k^-1 B_k`` of each modality from products over the data made once.

        Possible where bases are constant and every variance is one factor times a stated one.
        """
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

    def truncation_errors(self, point: np.ndarray) -> dict[str, float]:
        """Return how far off the log-density is, nats, where modes of a discrepancy are left out.

        On average at shared places, else at most: half the variance left out over that of the
        noise, summed over the data.
        """
        variance, blocks, mixings = self._error_blocks(point)
        errors = {}
        for name, mixing in mixings.items():
            factor = self._modal[name]
            noise = np.stack([variance[self.data_slices[m]] for m in factor.modalities])
            if factor.modes.left_out.size:
                errors[name] = ModalErrors(factor.modes, mixing, noise).truncation_error()
        for name, (basis, scale) in blocks.items():
            share = self._low_rank[name].left_out
            if share > 0.0:
                kept = np.sum((basis * scale) ** 2, axis=1)
                errors[name] = 0.5 * share / (1.0 - share) * float(np.sum(kept / variance))
        return errors

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
        rows = np.array(rows, dtype=float)
        for modality in self.problem.modalities:
            factor = modality.noise.correlation_factor
            if factor is not None:
                where = self.data_slices[modality.name]
                rows[where] = np.linalg.solve(factor.T if transposed else factor, rows[where])
        return rows


def _slices(sizes: list[int]) -> list[slice]:
    ends = np.cumsum([0, *sizes])
    return [slice(int(a), int(b)) for a, b in zip(ends[:-1], ends[1:], strict=True)]


def _tempers(potential: Any) -> bool:
    return potential.name.endswith("_tempering")
