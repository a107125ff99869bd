"""Black boxes as PyTensor operations, and the contract that every derivative must keep."""

from collections.abc import Callable, Sequence

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import grad_not_implemented
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op

RELATIVE_STEP = 1e-6
TOLERANCE = 1e-3  # of the finite difference; an error of formula is far larger
ADJOINT_TOLERANCE = 1e-6

# Operations below hold user code: they are told apart by identity, never merged by equality.


class BlackBox(Op):
    """A user's function with the actions of its Jacobian."""

    __props__ = ()
    default_output = 0

    def __init__(self, function: Callable, jvp: Callable, vjp: Callable) -> None:
        self.function, self.jvp, self.vjp = function, jvp, vjp

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def make_node(self, *values):
        """Return the node; the output is flat."""
        values = [pt.as_tensor(v) for v in values]
        return Apply(self, values, [pt.dvector()])

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

    def __init__(self, box: BlackBox) -> None:
        self.box = box

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def make_node(self, *inputs):
        values, cotangent = inputs[:-1], pt.as_tensor(inputs[-1])
        return Apply(self, [*values, cotangent], [v.type() for v in values])

    def perform(self, node, inputs, outputs):
        *values, cotangent = inputs
        for output, value, pulled in zip(outputs, values, self.box.vjp(values, cotangent), strict=True):
            output[0] = np.asarray(pulled, dtype=float).reshape(np.shape(value))

    def pullback(self, inputs, outputs, cotangents):
        *values, cotangent = inputs
        pushed = _Pushforward(self.box)(*values, *cotangents)
        missing = [grad_not_implemented(self, i, v) for i, v in enumerate(values)]
        return [*missing, pushed]


class _Pushforward(Op):
    """Jacobian-vector product of a black box; linear in its tangents."""

    __props__ = ()

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


def actions(jacobian: Callable, name: str, latents: Sequence[str]) -> tuple[Callable, Callable]:
    """Return (jvp, vjp) from a function that gives one matrix for each latent."""

    def blocks(values):
        matrices = jacobian(*values)
        if len(latents) == 1 and not isinstance(matrices, (list, tuple)):
            matrices = [matrices]
        matrices = [np.atleast_2d(np.asarray(m, dtype=float)) for m in matrices]
        for latent, matrix, value in zip(latents, matrices, values, strict=True):
            if matrix.shape[1] != np.size(value):
                raise ValueError(
                    f"map {name!r}: the Jacobian for {latent!r} has shape {matrix.shape}; "
                    f"(data, {np.size(value)}) is needed, one column an element in C order"
                )
        return matrices

    def jvp(values, tangents):
        return sum(m @ np.ravel(t) for m, t in zip(blocks(values), tangents, strict=True))

    def vjp(values, cotangent):
        return [(m.T @ cotangent).reshape(np.shape(v)) for m, v in zip(blocks(values), values, strict=True)]

    return jvp, vjp


def central_differences(function: Callable) -> Callable:
    """Return a Jacobian by central differences."""

    def jacobian(*values):
        return [_columns(lambda vs: np.ravel(function(*vs)), list(values), i) for i in range(len(values))]

    return jacobian


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

    ``function(values) -> flat array``, ``vjp(values, cotangent) -> list``, ``jvp(values, tangents)``.
    """
    rng = np.random.default_rng(0)
    touched = dict.fromkeys(latents, False)
    for values in draws:
        values = [np.asarray(v, dtype=float) for v in values]
        output = np.asarray(function(values), dtype=float)
        if not np.all(np.isfinite(output)):
            raise ValueError(
                f"map {name!r}: {np.sum(~np.isfinite(output))} of {output.size} outputs are not finite at a "
                "prior draw; narrow the priors or mend the map"
            )
        cotangent = rng.normal(size=output.shape)
        pulled = [np.asarray(p, dtype=float) for p in vjp(values, cotangent)]
        for index, latent in enumerate(latents):
            touched[latent] |= bool(np.any(pulled[index] != 0))
            _check_latent(name, latents, values, index, function, vjp, jvp, cotangent, pulled[index], rng)
    for latent in latents:
        if not touched[latent]:
            raise zero_block(name, latent)


def zero_block(name: str, latent: str) -> ValueError:
    """Return the error for a latent on which the output does not depend."""
    return ValueError(
        f"map {name!r}: the derivative with respect to {latent!r} is zero everywhere; "
        "mend the derivative, or leave the latent out of the map"
    )


def _check_latent(name, latents, values, index, function, vjp, jvp, cotangent, pulled, rng) -> None:
    value = values[index]
    scale = np.maximum(np.abs(value), np.std(value) if value.size > 1 else 0.0)
    tangent = rng.normal(size=value.shape) * np.where(scale > 0, scale, 1.0)
    expected = _difference(function, values, index, tangent)
    # Size against which an error counts: output change times cotangent, without cancellation.
    size = np.linalg.norm(expected) * np.linalg.norm(cotangent) / np.sqrt(cotangent.size)
    adjoint = float(np.sum(pulled * tangent))
    if abs(adjoint - cotangent @ expected) > 10 * TOLERANCE * size + 1e-12:
        raise _worst_entry(name, latents[index], values, index, function, vjp)
    if jvp is None:
        return
    tangents = [tangent if i == index else np.zeros_like(v) for i, v in enumerate(values)]
    pushed = np.asarray(jvp(values, tangents), dtype=float)
    if abs(pushed @ cotangent - adjoint) > ADJOINT_TOLERANCE * (size + abs(adjoint)) + 1e-12:
        raise ValueError(
            f"map {name!r}: jvp and vjp for {latents[index]!r} are not adjoint: "
            f"w.(J v) = {pushed @ cotangent:.6g}, (J^T w).v = {adjoint:.6g}; one of them is wrong"
        )


def _difference(function, values, index, tangent) -> np.ndarray:
    def moved(step):
        return [v + step * tangent if i == index else v for i, v in enumerate(values)]

    step = RELATIVE_STEP
    return (np.asarray(function(moved(step))) - np.asarray(function(moved(-step)))) / (2 * step)


def _columns(function, values, index, most: int | None = None) -> np.ndarray:
    value = np.asarray(values[index], dtype=float)
    columns = []
    for element in range(value.size if most is None else min(value.size, most)):
        tangent = np.zeros(value.size)
        tangent[element] = max(abs(value.flat[element]), 1e-3 * np.abs(value).max(), 1e-12)
        change = _difference(function, values, index, tangent.reshape(value.shape))
        columns.append(change / tangent[element])
    return np.stack(columns, axis=1)


def _worst_entry(name, latent, values, index, function, vjp) -> ValueError:
    expected = _columns(function, values, index, most=200)
    given = np.stack([np.ravel(vjp(values, row)[index]) for row in np.eye(expected.shape[0])])
    given = given[:, : expected.shape[1]]
    if not np.any(given):
        return zero_block(name, latent)
    row, column = np.unravel_index(np.argmax(np.abs(given - expected)), expected.shape)
    return ValueError(
        f"map {name!r}: the derivative with respect to {latent!r} is wrong; the worst entry is datum {row}, "
        f"element {column}: {given[row, column]:.6g} given, {expected[row, column]:.6g} by finite difference"
    )
