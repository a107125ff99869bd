"""A density and its change of coordinates as compiled callbacks that nutpie calls directly.

Between nutpie and a Python function every gradient waits for the interpreter, which costs several
times what a small gradient does, and keeps chains from running side by side.

PyTensor's compiled function comes from its cache on disk within a second.  A compiled function that
called it by name would be optimised together with it, for half a minute where the model is large;
called by its address it stays as it is.  The callbacks themselves know it by address only, so that
they come from a cache too.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from nutpie.compile_pymc import CompiledPyMCModel, address_as_void_pointer

from bayesjoint._compiled.coordinates import Coordinates, pull_back, to_point

FAILED, NOT_FINITE = 1, 3  # codes that nutpie takes as a divergence
NUMBERS = types.CPointer(types.double)
LOG_DENSITY = types.int64(types.uint64, NUMBERS, NUMBERS, NUMBERS, types.voidptr)
EXPANSION = types.int64(types.uint64, types.uint64, NUMBERS, NUMBERS, types.voidptr)
EVALUATION = types.int64(NUMBERS, NUMBERS, NUMBERS)


class NativeModel:
    """The compiled callbacks of one density; only numbers change between runs.

    Parameters
    ----------
    compiled : callable
        Numba's function ``(point, *shared) -> (value, gradient)``.
    shared : sequence of ndarray
        Its shared data.
    size : int
        Of a point.
    """

    def __init__(self, compiled: Callable, shared: Sequence[np.ndarray], size: int) -> None:
        self._kept = (compiled, shared)  # their addresses are compiled in
        self._size = size
        self._evaluate = numba.cfunc(EVALUATION)(_evaluation(compiled, shared, size))

    def at(self, coordinates: Coordinates, start: np.ndarray) -> Any:
        """Return nutpie's model of u in some coordinates, whose draws are flat points."""
        arrays = [np.ascontiguousarray(array) for array in coordinates.arrays]
        support, factor, stretch = arrays[2:]
        sizes = [self._size, support.size, factor.shape[1], stretch.size]
        addresses = [array.ctypes.data for array in arrays]
        table = np.array([self._evaluate.address, *sizes, *addresses], dtype=np.int64)
        return CompiledPyMCModel(
            dims={},
            compiled_logp_func=_log_density,
            compiled_expand_func=_expand,
            initial_point_func=lambda seed: start,
            shared_data={str(i): array for i, array in enumerate(arrays)},  # kept alive
            shared_var_keys={"evaluate": self},
            user_data=table,
            n_expanded=self._size,
            shape_info=(["point"], [slice(0, self._size)], [(self._size,)]),
            logp_func=None,
            expand_func=None,
            _n_dim=self._size,
            _shapes={"point": (self._size,)},
            _coords={},
            reparameterized_names=[],
        )


# --- the callbacks: nutpie's, of any density -----------------------------------------------------


@intrinsic
def _call_evaluation(typing_context, address, point, gradient, value):
    """Call the C function at an address."""

    def generate(context, builder, signature, arguments):
        numbers = ir.DoubleType().as_pointer()
        kind = ir.FunctionType(ir.IntType(64), [numbers] * 3)
        return builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])

    return types.int64(types.int64, NUMBERS, NUMBERS, NUMBERS), generate


@numba.njit(cache=True)
def _read(table_):
    """Return the address of the density, and centre, scale, support, factor and stretch."""
    table = numba.carray(table_, (10,), np.int64)
    size, rows, columns, rank = table[1], table[2], table[3], table[4]
    centre = numba.carray(address_as_void_pointer(table[5]), (size,), np.float64)
    scale = numba.carray(address_as_void_pointer(table[6]), (size,), np.float64)
    support = numba.carray(address_as_void_pointer(table[7]), (rows,), np.int64)
    factor = numba.carray(address_as_void_pointer(table[8]), (rows, columns), np.float64)
    stretch = numba.carray(address_as_void_pointer(table[9]), (rank,), np.float64)
    return table[0], centre, scale, support, factor, stretch


@numba.cfunc(LOG_DENSITY, cache=True)
def _log_density(dim, u_, gradient_, value_, table_):
    address, centre, scale, support, factor, stretch = _read(table_)
    point = to_point(numba.carray(u_, (dim,)), centre, scale, support, factor, stretch)
    out = numba.carray(gradient_, (dim,))
    gradient = np.empty(centre.size)
    if _call_evaluation(address, point.ctypes, gradient.ctypes, value_) != 0:  # type: ignore[call-arg]
        return FAILED
    pulled = pull_back(gradient, scale, support, factor, stretch)
    finite = np.isfinite(numba.carray(value_, (1,))[0])
    for i in range(pulled.size):
        out[i] = pulled[i]
        finite = finite and np.isfinite(pulled[i])
    return 0 if finite else NOT_FINITE


@numba.cfunc(EXPANSION, cache=True)
def _expand(dim, expanded, u_, out_, table_):
    _, centre, scale, support, factor, stretch = _read(table_)
    point = to_point(numba.carray(u_, (dim,)), centre, scale, support, factor, stretch)
    out = numba.carray(out_, (expanded,))
    for i in range(point.size):
        out[i] = point[i]
    return 0


# --- one density -------------------------------------------------------------------------------


def _evaluation(compiled: Any, shared: Sequence[np.ndarray], size: int) -> Callable:
    """Return a C function ``(point, gradient, value)`` that fills the last two."""
    call, arrays = _by_address(compiled, shared, size), _in_place(shared)

    def evaluate(point_, gradient_, value_):
        try:
            result, gradient = call((numba.carray(point_, (size,)),) + arrays())
            out, value = numba.carray(gradient_, (size,)), numba.carray(value_, (1,))
            value[0] = result.item()
            for i in range(size):
                out[i] = gradient[i]
        except Exception:  # noqa: BLE001 numba knows no other; the step is rejected
            return FAILED
        return 0

    return evaluate


def _by_address(compiled: Any, shared: Sequence[np.ndarray], size: int) -> Callable:
    """Return an intrinsic that calls a compiled function of ``(point, *shared)``."""
    compiled(np.zeros(size), *shared)
    wanted = tuple(numba.typeof(array) for array in (np.zeros(size), *shared))
    found = next(c for c in compiled.overloads.values() if _arguments(c.signature) == wanted)
    address = found.library.get_pointer_to_function(found.fndesc.llvm_func_name)
    known = found.signature

    @intrinsic
    def call(typing_context, arguments):
        def generate(context, builder, signature, values):
            kind = context.call_conv.get_function_type(known.return_type, known.args)
            pointer = builder.inttoptr(context.get_constant(types.intp, address), kind.as_pointer())
            if len(known.args) > 1 or not isinstance(known.args[0], types.BaseTuple):
                values = cgutils.unpack_tuple(builder, values[0])
            status, result = context.call_conv.call_function(
                builder, pointer, known.return_type, known.args, values
            )
            with cgutils.if_unlikely(builder, status.is_error):
                context.call_conv.return_status_propagate(builder, status)
            return result

        return known.return_type(arguments), generate

    return call


def _arguments(signature: Any) -> tuple:
    first = signature.args[0]
    return tuple(getattr(first, "types", signature.args))


def _in_place(shared: Sequence[np.ndarray]) -> Callable:
    """Return a function that gives arrays where they lie, without a copy in the compiled code."""
    tail: Callable = numba.njit(lambda: ())
    for array in reversed(shared):
        tail = _before(array, tail)
    return tail


def _before(array: np.ndarray, tail: Callable) -> Callable:
    address, shape, dtype = array.ctypes.data, array.shape, array.dtype

    @numba.njit
    def arrays():
        return (numba.carray(address_as_void_pointer(address), shape, dtype),) + tail()

    return arrays
