"""Coordinates of fields that their posterior leaves alone when the hyperparameters move.

Where data are precise, the white coordinates z of a field follow every move of its sd, length scale
or correlation with another: the field is known, and z is the field in units of its prior.  A chain
then creeps along a thin curved ridge (Papaspiliopoulos, Roberts & Skold 2007, doi
10.1214/088342307000000014).  So chains move in x of ``z = m(h) + T(h) x``: m and ``T T^T`` are mean
and covariance of z given the hyperparameters h for data linearised at a point.  Where data are
linear and normal, x is standard normal whatever h; else the change is still a bijection whose
volume enters the density, and the draws are exact.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.gradient import pullback
from pytensor.graph.replace import graph_replace
from pytensor.graph.traversal import ancestors

from bayesjoint._compiled.conditional import Conditional, conditional, inverse
from bayesjoint._graph.compile import in_turn, over_rows
from bayesjoint.couplings import CorrelatedFields
from bayesjoint.priors import Prior

if TYPE_CHECKING:
    from bayesjoint._compiled.functions import ModelFunctions


@dataclass(frozen=True, eq=False)
class Given:
    """What the data say of the fields, linearised: ``data = rows @ fields``, errors of sd one.

    Attributes
    ----------
    rows : ndarray, shape (r, cell)
        Over all cells of all fields that are recentred.
    data : ndarray, shape (r,)
    """

    rows: np.ndarray
    data: np.ndarray

    @classmethod
    def nothing(cls, cells: int) -> "Given":
        """Return data that say nothing: x is z."""
        return cls(np.zeros((1, cells)), np.zeros(1))


class Recentring:
    """The change of coordinates of the fields of a model.

    Attributes
    ----------
    fields, hyperparameters : ndarray of int
        Flat coordinates: white variables of fields, and what else those fields depend on.
    cells : int
    """

    def __init__(self, functions: "ModelFunctions", names: list[str]) -> None:
        self._functions, self._names = functions, names
        self._latents = [functions.problem.latent[name] for name in names]
        self.fields = _columns(functions, [f"{name}_white" for name in names])
        self.hyperparameters = _columns(functions, _others(functions, names))
        self._ends = np.cumsum([latent.grid.size for latent in self._latents])
        self.cells = int(self._ends[-1])
        nothing = self._numbers(Given.nothing(self.cells))
        self._shared = [
            pytensor.shared(array, name=f"recentring_{i}", shape=(None, *array.shape[1:]))
            for i, array in enumerate(nothing)
        ]

    def set(self, given: Given | None) -> None:
        """Put other data in the place of those of the compiled density; None: none."""
        given = Given.nothing(self.cells) if given is None else given
        for shared, array in zip(self._shared, self._numbers(given), strict=True):
            shared.set_value(array)

    def change(self, x: Any) -> tuple[Any, Any]:
        """Return graphs of the flat point at x, and of the log determinant."""
        z, log_det, _ = Conditional()(x[self.fields], *self._linear(x, self._shared))
        return pt.set_subtensor(x[self.fields], z), log_det

    def _numbers(self, given: Given) -> list[np.ndarray]:
        """Return the data less what known means explain, then of each field its rows.

        The rows times L where that is known; the bare ones behind where the mean is unknown.
        """
        data, found = given.data.copy(), []
        for latent, rows in zip(self._latents, self._of_each(given.rows), strict=True):
            pulled = latent.factor({}).transpose_times(rows.T).T if latent.prior_is_known else rows
            found.append(np.ascontiguousarray(pulled))
            if isinstance(latent.mean, Prior):
                found.append(np.ascontiguousarray(rows))
            else:
                data -= rows @ np.broadcast_to(latent.mean, latent.shape).ravel()
        return [data, *found]

    def _of_each(self, rows: np.ndarray) -> list[np.ndarray]:
        return np.split(rows, self._ends[:-1], axis=1)

    def _linear(self, x: Any, numbers: list) -> tuple[Any, Any]:
        """Return A and e: the rows on white coordinates, data less what means explain."""
        build, (data, *rest), own = self._functions.build, numbers, {}
        for latent in self._latents:
            rows = rest.pop(0)
            own[latent.name] = rows if latent.prior_is_known else latent.pulled(build, rows)
            if isinstance(latent.mean, Prior):
                mean = build.values[f"{latent.name}_mean"] + np.zeros(latent.shape)
                data = data - rest.pop(0) @ mean.ravel()
        matrix = pt.concatenate([self._mixed(name, own) for name in self._names], axis=1)
        inputs, graphs = self._functions.flat([matrix, data])
        matrix, data = graph_replace(graphs, {inputs: x}, strict=False)
        return matrix, data

    def _mixed(self, name: str, own: dict[str, Any]) -> Any:
        """Return the rows on the white variable of a field, which others may share."""
        coupling = self._functions.build.shaping.get(name)
        return own[name] if coupling is None else coupling.pulled(self._functions.build, name, own)

    @cached_property
    @in_turn()
    def _parts(self) -> Any:
        x = pt.vector("x", shape=(self._functions.size,))
        numbers = [shared.type() for shared in self._shared]
        return over_rows(list(self._linear(x, numbers)), x, numbers)

    def parts(self, x: np.ndarray, given: Given) -> tuple[np.ndarray, np.ndarray]:
        """Return A and e at a point or at x: only its hyperparameters matter."""
        matrix, data = self._parts(x[None], *self._numbers(given))
        return np.ascontiguousarray(matrix[0]), np.ascontiguousarray(data[0])

    def points(self, rows: np.ndarray, given: Given) -> np.ndarray:
        """Return the flat points of rows of x."""
        return np.stack([self._moved(x, given, _forward) for x in rows])

    def from_point(self, point: np.ndarray, given: Given) -> np.ndarray:
        """Return x of a flat point."""
        return self._moved(point, given, _backward)

    def _moved(self, vector: np.ndarray, given: Given, move: Any) -> np.ndarray:
        moved = vector.copy()
        moved[self.fields] = move(vector[self.fields], *self.parts(vector, given))
        return moved

    @property
    def _fields(self) -> list:
        return [self._functions.build.values[name] for name in self._names]

    @cached_property
    @in_turn()
    def pull(self) -> Any:
        """The derivative to the fields, ``(rows of data, point) -> (row, cell)``."""
        functions = self._functions
        responses = [functions.build.responses[name].ravel() for name in functions.data_slices]
        cotangent = pt.vector("cotangent", shape=(functions.data.size,))
        pulled = pullback(
            pt.concatenate(responses), self._fields, cotangent,
            disconnected_inputs="ignore", return_disconnected="zero",
        )  # fmt: skip
        inputs, parts = functions.flat([p.ravel() for p in pulled])
        return over_rows([pt.concatenate(parts)], cotangent, [inputs])

    def values(self, point: np.ndarray) -> np.ndarray:
        """Return the fields at a point, shape (cell,)."""
        return self._value_function(point)[0]

    @cached_property
    @in_turn()
    def _value_function(self) -> Any:
        return self._functions.compile([pt.concatenate([v.ravel() for v in self._fields])])


def recentring_of(functions: "ModelFunctions") -> Recentring | None:
    """Return the recentring of the fields of a model; None where nothing of their prior is unknown.

    Fields that are linear in their white variables: those of a relation or a mixture are not.
    """
    build = functions.build
    names = [
        name for name in build.whites
        if isinstance(build.shaping.get(name), CorrelatedFields | None)
    ]  # fmt: skip
    # An unknown mean moves the field, but not its prior about it: that is linear already.
    means = {f"{name}_mean_white" for name in names} | {f"{name}_mean" for name in names}
    if not set(_others(functions, names)) - means:
        return None
    return Recentring(functions, names)


def _others(functions: "ModelFunctions", names: list[str]) -> list[str]:
    """Return free variables other than white ones that fields depend on."""
    build = functions.build
    known = {v for v in ancestors([build.values[name] for name in names]) if v.name}
    whites = {f"{name}_white" for name in names}
    return [v.name for v in build.model.free_RVs if v in known and v.name not in whites]


def _columns(functions: "ModelFunctions", names: list[str]) -> np.ndarray:
    return np.concatenate(
        [np.zeros(0, dtype=int), *(np.r_[functions.slices[name]] for name in names)]
    ).astype(int)


def _forward(x, matrix, data):
    return conditional(x, matrix, data)[0]


def _backward(z, matrix, data):
    return inverse(z, matrix, data, conditional(z, matrix, data)[2])
