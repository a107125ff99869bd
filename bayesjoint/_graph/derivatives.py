"""Black boxes as PyTensor operations, and the contract that every derivative must keep."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import grad_not_implemented
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op

RELATIVE_STEP = 1e-6
TOLERANCE = 1e-2  # of the finite difference; an error of formula is larger, solver noise smaller
ADJOINT_TOLERANCE = 1e-6
MOST_ELEMENTS = 200  # of a latent, looked at one by one to name the worst entry

# Operations below hold user code: they are told apart by identity, never merged by equality.


class BlackBox(Op):
    """A user's function with the actions of its Jacobian."""

    __props__ = ()
    knows_no_batches = True
    default_output = 0

    def __init__(self, function: Callable, jvp: Callable, vjp: Callable) -> None:
        self.function, self.jvp, self.vjp = function, jvp, vjp

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def make_node(self, *values):
        """Return the node; the output is flat."""
        return Apply(self, [pt.as_tensor(v) for v in values], [pt.dvector()])

    def perform(self, node, inputs, outputs):
        """Evaluate the function."""
        outputs[0][0] = np.asarray(self.function(*inputs), dtype=float).ravel()

    def pullback(self, inputs, outputs, cotangents):
        """Return the vector-Jacobian product."""
        result = _Pullback(self)(*inputs, cotangents[0])
        return result if isinstance(result, list) else [result]


class _Pullback(Op):
    """Vector-Jacobian product of a black box; linear in its cotangent."""

    __props__ = ()
    knows_no_batches = True

    def __init__(self, box: BlackBox) -> None:
        self.box = box

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def make_node(self, *inputs):
        values, cotangent = inputs[:-1], pt.as_tensor(inputs[-1])
        return Apply(self, [*values, cotangent], [v.type() for v in values])

    def perform(self, node, inputs, outputs):
        *values, cotangent = inputs
        pulled_back = _as_list(self.box.vjp(values, cotangent), len(values))
        for output, value, pulled in zip(outputs, values, pulled_back, strict=True):
            output[0] = np.asarray(pulled, dtype=float).reshape(np.shape(value))

    def pullback(self, inputs, outputs, cotangents):
        *values, cotangent = inputs
        pushed = _Pushforward(self.box)(*values, *cotangents)
        missing = [grad_not_implemented(self, i, v) for i, v in enumerate(values)]
        return [*missing, pushed]


class _Pushforward(Op):
    """Jacobian-vector product of a black box; linear in its tangents."""

    __props__ = ()
    knows_no_batches = True

    def __init__(self, box: BlackBox) -> None:
        self.box = box

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def make_node(self, *inputs):
        return Apply(self, [pt.as_tensor(v) for v in inputs], [pt.dvector()])

    def perform(self, node, inputs, outputs):
        half = len(inputs) // 2
        pushed = self.box.jvp(inputs[:half], inputs[half:])
        outputs[0][0] = np.asarray(pushed, dtype=float).ravel()


@dataclass(frozen=True, eq=False)
class JacobianActions:
    """The actions of a Jacobian, one matrix for each latent; a plain value, so it pickles."""

    jacobian: Callable
    name: str
    latents: tuple[str, ...]

    def blocks(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the matrices, checked, each of shape (data, size of the latent)."""
        matrices = self.jacobian(*values)
        if len(self.latents) == 1 and not isinstance(matrices, (list, tuple)):
            matrices = [matrices]
        matrices = [np.atleast_2d(np.asarray(m, dtype=float)) for m in matrices]
        if len(matrices) != len(self.latents):
            raise ValueError(
                f"map {self.name!r}: the Jacobian has {len(matrices)} blocks for the latents "
                f"{self.latents}; one matrix for each is needed"
            )
        for latent, matrix, value in zip(self.latents, matrices, values, strict=True):
            if matrix.shape[1] != np.size(value):
                raise ValueError(
                    f"map {self.name!r}: the Jacobian for {latent!r} has shape {matrix.shape}; "
                    f"(data, {np.size(value)}) is needed, one column an element in C order"
                )
        return matrices

    def jvp(self, values: Sequence[np.ndarray], tangents: Sequence[np.ndarray]) -> np.ndarray:
        """Return the Jacobian times tangents, one a latent."""
        products = [m @ np.ravel(t) for m, t in zip(self.blocks(values), tangents, strict=True)]
        return sum(products[1:], start=products[0])

    def vjp(self, values: Sequence[np.ndarray], cotangent: np.ndarray) -> list[np.ndarray]:
        """Return the transposed Jacobian times a cotangent, one array a latent."""
        matrices = self.blocks(values)
        for latent, matrix in zip(self.latents, matrices, strict=True):
            if matrix.shape[0] != cotangent.size:
                raise ValueError(
                    f"map {self.name!r}: the Jacobian for {latent!r} has {matrix.shape[0]} rows, "
                    f"the output {cotangent.size} elements; one row each"
                )
        return [
            (m.T @ cotangent).reshape(np.shape(v)) for m, v in zip(matrices, values, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class CentralDifferences:
    """A Jacobian by central differences, with steps relative to the prior spread of each latent.

    The spreads are learned from prior draws: a latent at zero, as at the prior mean where an
    optimiser starts, is still moved by a sensible step.
    """

    function: Callable
    spreads: list[np.ndarray] = field(default_factory=list)

    def learn(self, draws: list[list[np.ndarray]]) -> None:
        """Take the spread of each latent from prior draws."""
        self.spreads[:] = prior_spreads(draws)

    def __call__(self, *values: np.ndarray) -> list[np.ndarray]:
        """Return one matrix for each latent."""
        arrays = [np.asarray(v, dtype=float) for v in values]
        spreads = self.spreads or [np.abs(v) for v in arrays]
        return [_columns(self._flat, arrays, index, spread) for index, spread in enumerate(spreads)]

    def _flat(self, values: Sequence[np.ndarray]) -> np.ndarray:
        return np.ravel(self.function(*values))


def check(
    name: str,
    latents: Sequence[str],
    draws: list[list[np.ndarray]],
    *,
    function: Callable,
    vjp: Callable,
    jvp: Callable | None = None,
) -> None:
    """Raise unless the derivative agrees with finite differences at every draw.

    ``function(values) -> flat array``, ``vjp(values, cotangent) -> list`` and
    ``jvp(values, tangents) -> flat array``.
    """
    rng = np.random.default_rng(0)
    spreads = prior_spreads(draws)
    touched = dict.fromkeys(latents, False)
    for values in draws:
        values = [np.asarray(v, dtype=float) for v in values]
        output = _real(name, "its output", function(values))
        if not np.all(np.isfinite(output)):
            raise ValueError(
                f"map {name!r}: {np.sum(~np.isfinite(output))} of {output.size} outputs are not "
                "finite at a prior draw; narrow the priors or mend the map"
            )
        cotangent = np.asarray(rng.standard_normal(output.shape))
        pulled = [
            _real(name, "its derivative", p) for p in _as_list(vjp(values, cotangent), len(latents))
        ]
        for index, latent in enumerate(latents):
            touched[latent] |= bool(np.any(pulled[index] != 0))
            case = _Case(name, latent, index, values, spreads[index], output, cotangent)
            _check_latent(case, function, vjp, jvp, pulled[index], rng)
    for latent in latents:
        if not touched[latent]:
            raise zero_block(name, latent)


def zero_block(name: str, latent: str) -> ValueError:
    """Return the error for a latent on which the output does not depend."""
    return ValueError(
        f"map {name!r}: the derivative with respect to {latent!r} is zero everywhere; mend the "
        "derivative, or leave the latent out of the map"
    )


@dataclass(frozen=True, eq=False)
class _Case:
    """One latent at one draw."""

    name: str
    latent: str
    index: int
    values: list[np.ndarray]
    spread: np.ndarray
    output: np.ndarray
    cotangent: np.ndarray


def _check_latent(case: _Case, function, vjp, jvp, pulled: np.ndarray, rng) -> None:
    value, cotangent = case.values[case.index], case.cotangent
    tangent = rng.standard_normal(value.shape) * _steps(value, case.spread)
    expected = _difference(function, case.values, case.index, tangent)
    # What rounding does to a finite difference, and the size against which an error counts:
    # change of the output times cotangent, without cancellation.
    rounding = 10 * np.finfo(float).eps * np.abs(case.output).max() / RELATIVE_STEP
    size = np.linalg.norm(expected) * np.linalg.norm(cotangent) / np.sqrt(cotangent.size)
    size_of_rounding = rounding * np.linalg.norm(cotangent)
    adjoint = float(np.sum(pulled * tangent))
    # Written so that NaN fails.
    if not abs(adjoint - cotangent @ expected) <= TOLERANCE * size + size_of_rounding:
        raise _worst_entry(case, function, vjp)
    if jvp is None:
        return
    tangents = [tangent if i == case.index else np.zeros_like(v) for i, v in enumerate(case.values)]
    pushed = np.asarray(jvp(case.values, tangents), dtype=float).ravel()
    if not abs(pushed @ cotangent - adjoint) <= ADJOINT_TOLERANCE * (size + abs(adjoint)):
        raise ValueError(
            f"map {case.name!r}: jvp and vjp for {case.latent!r} are not adjoint: w.(J v) = "
            f"{pushed @ cotangent:.6g}, (J^T w).v = {adjoint:.6g}; one of them is wrong"
        )
    # One wrong row among many data is lost in the sum over data, but not here.
    if not np.abs(pushed - expected).max() <= TOLERANCE * np.abs(expected).max() + rounding:
        raise _worst_entry(case, function, vjp)


def prior_spreads(draws: list[list[np.ndarray]]) -> list[np.ndarray]:
    """Return the standard deviation over draws of every element of every latent."""
    return [
        np.std([np.asarray(draw[i], dtype=float) for draw in draws], axis=0)
        for i in range(len(draws[0]))
    ]


def _steps(value: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return by how much to move each element, not so little that rounding shows."""
    steps = np.maximum(spread, 1e-5 * np.abs(value))
    return np.where(steps > 0, steps, 1.0)


def _as_list(pulled, count: int) -> list:
    """Return what a vjp gave as a list; for one latent a bare array will do."""
    if count == 1 and not isinstance(pulled, (list, tuple)):
        return [pulled]
    return list(pulled)


def _difference(function, values, index, tangent) -> np.ndarray:
    def moved(step):
        return [v + step * tangent if i == index else v for i, v in enumerate(values)]

    step = RELATIVE_STEP
    return (np.asarray(function(moved(step))) - np.asarray(function(moved(-step)))) / (2 * step)


def _columns(function, values, index, spread: np.ndarray, most: int | None = None) -> np.ndarray:
    """Return columns of the Jacobian by central differences."""
    value = np.asarray(values[index], dtype=float)
    steps = _steps(value, spread).ravel()
    columns = []
    for element in range(value.size if most is None else min(value.size, most)):
        tangent = np.zeros(value.size)
        tangent[element] = steps[element]
        change = _difference(function, values, index, tangent.reshape(value.shape))
        columns.append(change / tangent[element])
    return np.stack(columns, axis=1)


def _worst_entry(case: _Case, function, vjp) -> ValueError:
    expected = _columns(function, case.values, case.index, case.spread, most=MOST_ELEMENTS)
    rows = []
    for datum in range(expected.shape[0]):
        unit = np.zeros(expected.shape[0])
        unit[datum] = 1.0
        pulled = _as_list(vjp(case.values, unit), len(case.values))[case.index]
        rows.append(np.ravel(pulled)[: expected.shape[1]])
    given = np.stack(rows)  # (datum, element)
    if not np.any(given) and given.shape[1] == case.values[case.index].size:
        return zero_block(case.name, case.latent)
    row, column = np.unravel_index(np.argmax(np.abs(given - expected)), expected.shape)
    start = f"map {case.name!r}: the derivative with respect to {case.latent!r} is wrong; "
    if abs(given[row, column] - expected[row, column]) <= TOLERANCE * np.abs(expected).max():
        return ValueError(f"{start}the fault lies beyond its first {MOST_ELEMENTS} elements")
    return ValueError(
        f"{start}the worst entry is datum {row}, element {column}: {given[row, column]:.6g} "
        f"given, {expected[row, column]:.6g} by finite difference"
    )


def _real(name: str, what: str, value: Any) -> np.ndarray:
    """Return numbers as they are; what is none, or complex, raises."""
    array = np.asarray(value)
    if array.dtype.kind == "c":
        raise ValueError(
            f"map {name!r}: {what} is complex, whose imaginary part would be lost; return both "
            "parts, as with bj.real_and_imaginary(...)"
        )
    if array.dtype.kind not in "fiub":
        raise ValueError(f"map {name!r}: {what} holds {array.dtype}, {value!r}; return numbers")
    return np.asarray(array, dtype=float)
