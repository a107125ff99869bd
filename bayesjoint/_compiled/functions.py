"""Compiled functions of a problem's model: density, responses and their derivatives."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.compile.mode import get_mode
from pytensor.gradient import pullback, pushforward
from pytensor.graph.replace import graph_replace

from bayesjoint._compiled.error_functions import ErrorFunctions
from bayesjoint._compiled.failures import DENSITY, Guarded, of_maps
from bayesjoint._compiled.recentring import Recentring, recentring_of
from bayesjoint._graph.compile import INTERPRETED, compiled_function, in_turn, over_rows
from bayesjoint._graph.simulators import Failures
from bayesjoint.problem import JointProblem, require_problem

# PyMC's rewrite: a parameter out of bounds, as a scale that underflows, is -inf and no error.
IMPOSSIBLE = "local_check_parameter_to_ninf_switch"


class ModelFunctions(ErrorFunctions):
    """Numerical functions of the flat vector of a model's free variables: see `ModelGraphs`."""

    def __init__(self, problem: JointProblem, held: Sequence[str] = ()) -> None:
        super().__init__(problem, held)
        self._density: Any = None
        self.failures = Failures(DENSITY)

    def observe(self, problem: JointProblem) -> None:
        """Take the data of a problem that differs in nothing else; all weights are one again."""
        super().observe(problem)
        self._density = None

    @in_turn()
    def log_density(self, mode: Any = INTERPRETED):
        """Return the compiled function ``flat vector -> (log density, gradient)``.

        The log-likelihood is multiplied by the shared ``likelihood_weight``, so that the coupled
        prior is sampled by the same function.
        """
        model = self.build.model
        prior = model.logp(vars=model.free_RVs)
        tempering = {f"{name}_tempering" for name in self.problem.modality}
        potentials = [p for p in model.potentials if p.name not in tempering]
        for name, potential in zip(
            [p.name for p in potentials], model.replace_rvs_by_values(potentials), strict=True
        ):
            prior += self.coupling_factors.get(name, 1.0) * potential
        likelihood = self._log_likelihood()
        tempers = [p for p in model.potentials if p.name in tempering]
        likelihood += sum(model.replace_rvs_by_values(tempers))
        weight = self.likelihood_weight
        # Data that are impossible at a point are so for the posterior alone: no 0 times infinity.
        total = prior + pt.switch(pt.gt(weight, 0.0), weight * likelihood, 0.0)
        inputs, (graph,) = self._flattened([total])
        if self.recentring is not None:
            inputs, graph = self._recentred(inputs, graph)
        gradient = pt.grad(graph, inputs)
        mode = get_mode(mode).including(IMPOSSIBLE)
        return compiled_function([inputs], [graph, gradient], mode)

    @cached_property
    @in_turn()
    def recentring(self) -> Recentring | None:
        """The change of coordinates of fields with unknown hyperparameters, where there are any."""
        return None if self.held else recentring_of(self)

    def _recentred(self, inputs: Any, graph: Any) -> tuple[Any, Any]:
        """Return the density as that of x; x is the flat point until data are set."""
        x = pt.vector("recentred", shape=(self.size,))
        point, log_det = self.recentring.change(x)  # type: ignore[union-attr]
        return x, graph_replace([graph], {inputs: point})[0] + log_det

    def _log_likelihood(self):
        """Return the graph of the log-likelihood; modalities with one covariance enter together."""
        model, together = self.build.model, self.build.joint_densities
        single = [v for v in model.observed_RVs if not any(v.name in names for names in together)]
        total = model.logp(vars=single) if single else pt.zeros(())
        return total + sum(model.replace_rvs_by_values(list(together.values())))

    @property
    def density(self):
        """The log-density with gradient; interpreted, unless a compiled one is put in its place."""
        return self._density or self.once(_guarded)

    @density.setter
    def density(self, compiled: Callable) -> None:
        self._density = compiled

    @property
    def counts(self) -> list[Failures]:
        """What is counted of evaluations that fail: of each black box; last, of the density."""
        return [*of_maps(self.problem), self.failures]

    @property
    def _weighted_residuals(self) -> list:
        factors = self.coupling_factors
        return [pt.sqrt(factors[name]) * r for name, r in self.build.residuals.items()]

    @cached_property
    @in_turn()
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
        return compiled_function([inputs], stacked)

    def residual(self, point: np.ndarray) -> np.ndarray:
        """Return the data less their responses at a point, shape (data,)."""
        return self.data - self.outputs(point)[: self.data.size]

    @cached_property
    def jvp(self):
        """The Jacobian times rows of tangents, ``(tangents, point) -> (row, output)``."""
        return self._pushed(*self._stacked)

    @cached_property
    def vjp(self):
        """Rows of cotangents times the Jacobian, ``(cotangents, point) -> (row, n)``."""
        return self._pulled(*self._stacked, self.output_size)

    @cached_property
    @in_turn()
    def response_actions(self) -> tuple:
        """``jvp`` and ``vjp`` of the stacked responses alone."""
        inputs, stacked = self._stacked
        responses = stacked[: self.data.size]
        return self._pushed(inputs, responses), self._pulled(inputs, responses, self.data.size)

    @cached_property
    @in_turn()
    def residual_actions(self) -> tuple:
        """``jvp`` and ``vjp`` of the coupling residuals alone."""
        inputs, graphs = self.flat(self._weighted_residuals)
        stacked, size = pt.concatenate(graphs), self.output_size - self.data.size
        return self._pushed(inputs, stacked), self._pulled(inputs, stacked, size)

    @in_turn()
    def _pushed(self, inputs: Any, stacked: Any):
        tangent = pt.vector("tangent", shape=(self.size,))
        pushed = pushforward(stacked, inputs, tangent, disconnected_outputs="ignore")
        return over_rows([pushed], tangent, [inputs])

    @in_turn()
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


@contextmanager
def compiled(problem: JointProblem) -> Iterator[ModelFunctions]:
    """Lend the functions of a problem; what was compiled for it with other data is not again."""
    require_problem(problem)
    idle = problem.pool.idle
    try:
        functions = idle.pop()
    except IndexError:
        functions = ModelFunctions(problem)
    else:
        functions.observe(problem)
    yield functions
    idle.append(functions)  # unless there was an error, after which nobody knows its state


def _guarded(functions: ModelFunctions) -> Guarded:
    return Guarded(functions.log_density(), functions.failures)
