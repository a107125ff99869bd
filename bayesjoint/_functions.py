"""Compiled functions of a problem's model: density, responses and their derivatives."""

from functools import cached_property
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.gradient import pullback, pushforward

from bayesjoint._build import ModelBuild
from bayesjoint._compile import INTERPRETED, flatten
from bayesjoint._kernels.errors import ErrorCovariance
from bayesjoint.problem import JointProblem, build


class ModelFunctions:
    """Numerical functions of the flat vector of a model's free variables.

    Attributes
    ----------
    problem, build
        The problem and its model.
    size : int
        Number of free variables.
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
        self.initial = np.concatenate([np.ravel(start[v.name]).astype(float) for v in self.variables])
        self.slices = dict(zip(self.names, _slices([int(np.prod(s, dtype=int)) for s in self.shapes]), strict=True))
        self.size = self.initial.size
        sizes = [m.data.size for m in problem.modalities]
        self.data_slices = dict(zip(problem.modality, _slices(sizes), strict=True))
        self.data = np.concatenate([np.ravel(m.data.values).astype(float) for m in problem.modalities] or [np.zeros(0)])
        self.likelihood_weight = pytensor.shared(1.0, name="likelihood_weight")

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

        The log-likelihood is multiplied by the shared ``likelihood_weight``, so that the coupled prior
        is sampled by the same function.
        """
        model = self.build.model
        prior = model.logp(vars=model.free_RVs)
        prior += sum(model.replace_rvs_by_values([p for p in model.potentials if not _tempers(p)]))
        likelihood = model.logp(vars=model.observed_RVs) if model.observed_RVs else pt.zeros(())
        likelihood += sum(model.replace_rvs_by_values([p for p in model.potentials if _tempers(p)]))
        total = prior + self.likelihood_weight * likelihood
        inputs, (graph,) = flatten([total], self.variables, self.shapes)
        gradient = pt.grad(graph, inputs)
        return pytensor.function([inputs], [graph, gradient], mode=mode)

    @cached_property
    def density(self):
        """The log-density with gradient; interpreted, unless a compiled one is put in its place."""
        return self.log_density()

    @cached_property
    def _stacked(self) -> tuple[Any, Any]:
        """Return input and stacked responses, then coupling residuals, as one flat graph."""
        parts = [self.build.responses[name].ravel() for name in self.data_slices]
        parts += list(self.build.residuals.values())
        inputs, graphs = self.flat(parts)
        stacked = pt.concatenate(graphs) if graphs else pt.zeros(0)
        return inputs, stacked

    @cached_property
    def outputs(self):
        """The compiled function ``flat vector -> stacked responses and coupling residuals``."""
        inputs, stacked = self._stacked
        return pytensor.function([inputs], stacked, mode=INTERPRETED, on_unused_input="ignore")

    @cached_property
    def jvp(self):
        """The compiled Jacobian-vector product of `outputs`."""
        inputs, stacked = self._stacked
        tangent = pt.vector("tangent")
        pushed = pushforward(stacked, inputs, tangent, disconnected_outputs="ignore")
        return pytensor.function([inputs, tangent], pushed, mode=INTERPRETED, on_unused_input="ignore")

    @cached_property
    def vjp(self):
        """The compiled vector-Jacobian product of `outputs`."""
        inputs, stacked = self._stacked
        cotangent = pt.vector("cotangent")
        pulled = pullback(stacked, inputs, cotangent, disconnected_inputs="ignore", return_disconnected="zero")
        return pytensor.function([inputs, cotangent], pulled, mode=INTERPRETED, on_unused_input="ignore")

    # ---- numbers ------------------------------------------------------------------------------

    def jacobian(self, point: np.ndarray) -> np.ndarray:
        """Return the Jacobian of `outputs`, shape (data + residuals, free variables)."""
        rows = self.outputs(point).size
        if rows == 0:
            return np.zeros((0, self.size))
        active = self._active_columns()
        if active.size <= rows:
            jacobian = np.zeros((rows, self.size))
            for column in active:
                tangent = np.zeros(self.size)
                tangent[column] = 1.0
                jacobian[:, column] = self.jvp(point, tangent)
            return jacobian
        return np.stack([self.vjp(point, row) for row in np.eye(rows)])

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
            m.noise.variance(build.responses[m.name], build.noise[m.name]).ravel() for m in problem.modalities
        ]
        bases, scales = [], []
        for factor in build.factors.values():
            scales.append(factor.scale)
            for name, basis in factor.bases.items():
                if not isinstance(basis, np.ndarray):
                    bases.append(basis)
        return self.compile([*variances, *scales, *bases])

    def errors(self, point: np.ndarray, power: bool = False, integrated: bool = False) -> ErrorCovariance:
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
        variance, blocks = self._error_blocks(point)
        if power:
            powers = [np.full(m.data.size, m.power) for m in self.problem.modalities]
            variance = variance / np.concatenate([*powers, np.zeros(0)])
        kept = [b for name, b in blocks.items() if self.build.factors[name].marginal or not integrated]
        if not kept:
            return ErrorCovariance(variance)
        return ErrorCovariance(variance, self.rotate(np.concatenate(kept, axis=1)))

    def sampled_factors(self, point: np.ndarray) -> dict[str, np.ndarray]:
        """Return the factor of each sampled discrepancy, shape (data, rank), not rotated."""
        blocks = self._error_blocks(point)[1]
        return {name: b for name, b in blocks.items() if not self.build.factors[name].marginal}

    def factor(self, point: np.ndarray) -> np.ndarray:
        """Return the factor of all discrepancies together, shape (data, rank), not rotated."""
        blocks = self._error_blocks(point)[1]
        return np.concatenate([np.zeros((self.data.size, 0)), *blocks.values()], axis=1)

    def _error_blocks(self, point: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return independent variances (data,) and the factor of each discrepancy (data, rank)."""
        values = list(self._error_terms(point))
        modalities, factors = self.problem.modalities, self.build.factors
        variances = [np.broadcast_to(values.pop(0), m.data.size) for m in modalities]
        scales = [values.pop(0) for _ in factors]
        blocks = {}
        for (name, factor), scale in zip(factors.items(), scales, strict=True):
            block = np.zeros((self.data.size, factor.rank))
            for modality, basis in factor.bases.items():
                basis = basis if isinstance(basis, np.ndarray) else values.pop(0)
                block[self.data_slices[modality]] = basis
            blocks[name] = block * scale
        return np.concatenate([*variances, np.zeros(0)]), blocks

    def rotate(self, rows: np.ndarray) -> np.ndarray:
        """Return rows of stacked data with the known correlation of the noise taken out."""
        rows = np.array(rows, dtype=float)
        for modality in self.problem.modalities:
            factor = modality.noise.correlation_factor
            if factor is not None:
                where = self.data_slices[modality.name]
                rows[where] = np.linalg.solve(factor, rows[where])
        return rows


def _slices(sizes: list[int]) -> list[slice]:
    ends = np.cumsum([0, *sizes])
    return [slice(int(a), int(b)) for a, b in zip(ends[:-1], ends[1:], strict=True)]


def _tempers(potential: Any) -> bool:
    return potential.name.endswith("_tempering")
