"""A problem's model, its flat vector, and the data that its compiled functions see."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytensor
from pytensor.graph.replace import graph_replace

from bayesjoint._graph.build import ModelBuild
from bayesjoint._graph.compile import INTERPRETED, compiled_function, flatten, in_turn
from bayesjoint.problem import JointProblem, build


class ModelGraphs:
    """A problem's model, and its graphs as functions of the flat vector of its free variables.

    Attributes
    ----------
    whole, problem, build
        The problem, that of the data that were observed, and its model.
    size, rank : int
        Number of free variables, and of modes of all discrepancies.
    slices : dict of str to slice
        Where each free variable lies in the flat vector.
    data_slices : dict of str to slice
        Where each modality lies in the stacked data.
    held : dict of str to shared variable
        Scalar free variables that are left out of the flat vector, and their values.
    """

    @in_turn()
    def __init__(self, problem: JointProblem, held: Sequence[str] = ()) -> None:
        self.whole, self.problem = problem, problem.observed
        self.build: ModelBuild = build(problem)
        model = self.build.model
        start = model.initial_point()
        self.held = {name: pytensor.shared(0.0, name=name) for name in held}
        free = [v for v in model.free_RVs if v.name not in held]
        self.variables = [model.rvs_to_values[v] for v in free]
        self.names = [v.name for v in free]
        self.shapes = [np.shape(start[v.name]) for v in self.variables]
        self.initial = np.concatenate(
            [np.ravel(start[v.name]).astype(float) for v in self.variables]
        )
        self.slices = dict(
            zip(self.names, _slices([int(np.prod(s, dtype=int)) for s in self.shapes]), strict=True)
        )
        self.size = self.initial.size
        self.rank = sum(factor.rank for factor in self.build.factors.values())
        sizes = [m.data.size for m in self.problem.modalities]
        self.data_slices = dict(zip(problem.modality, _slices(sizes), strict=True))
        self.data = _stacked_data(self.problem)
        self.likelihood_weight = pytensor.shared(1.0, name="likelihood_weight")
        # Of each potential, so that the coupled prior is sampled at other weights.
        self.coupling_factors = {
            name: pytensor.shared(1.0, name=f"{name}_factor") for name in self.build.residuals
        }
        self._made: dict[tuple, Any] = {}

    def observe(self, problem: JointProblem) -> None:
        """Take the data of a problem that differs in nothing else; all weights are one again.

        The same data are missing.
        """
        self.whole, self.problem = problem, problem.observed
        self.data = _stacked_data(self.problem)
        for modality in self.problem.modalities:
            self.build.observed[modality.name].set_value(modality.numbers())
        for weight in (self.likelihood_weight, *self.coupling_factors.values()):
            weight.set_value(1.0)
        for made in self._made.values():
            if hasattr(made, "refresh"):
                made.refresh()

    def once(self, make: Callable, *more: Any) -> Any:
        """Return ``make(self, *more)``, which compiles graphs and so is made once.

        What keeps data, and not the graphs alone, has a method ``refresh`` that takes those of
        today.
        """
        if (make, *more) not in self._made:
            self._made[make, *more] = make(self, *more)
        return self._made[make, *more]

    @in_turn()
    def flat(self, outputs: list) -> tuple[Any, list]:
        """Return the flat input and graphs of the model as functions of it."""
        return self._flattened(self.build.model.replace_rvs_by_values(outputs))

    def _flattened(self, graphs: list) -> tuple[Any, list]:
        """Return the flat input and graphs of value variables as functions of it."""
        if self.held:
            model = self.build.model
            values = {model.rvs_to_values[model[name]]: held for name, held in self.held.items()}
            graphs = graph_replace(graphs, values, strict=False)
        return flatten(graphs, self.variables, self.shapes)

    def compile(self, outputs: list, mode: Any = INTERPRETED):
        """Return the compiled function ``flat vector -> outputs``."""
        inputs, graphs = self.flat(outputs)
        return compiled_function([inputs], graphs, mode)


def _stacked_data(problem: JointProblem) -> np.ndarray:
    parts = [np.ravel(m.data.values).astype(float) for m in problem.modalities]
    return np.concatenate([*parts, np.zeros(0)])


def _slices(sizes: list[int]) -> list[slice]:
    ends = np.cumsum([0, *sizes])
    return [slice(int(a), int(b)) for a, b in zip(ends[:-1], ends[1:], strict=True)]
