"""The posterior of linear data with normal errors as a bijection, a PyTensor operation.

Of data ``e = A z + errors`` with unit errors and white z, the posterior of z is normal with mean
``A^T S^-1 e`` and covariance ``T T^T``, where ``S = I + A A^T = G G^T``, G lower triangular, and
``T = I - A^T G^-T (G + I)^-1 A`` (Andrews 1968, AIAA Journal 6:1165), ``det T = 1 / det G``.
"""

from typing import Any

import numba
import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch.basic import numba_njit, register_funcify_default_op_cache_key

IMPLEMENTATION = 2  # compiled code is kept on disk under this number: change it with the code


class Conditional(Op):
    """``(x, A, e) -> (A^T S^-1 e + T x, log det T, G)``; x is (n,), A (r, n), e (r,).

    With x standard normal the first is a draw of the posterior.  G has no derivative.
    """

    __props__ = ()

    def make_node(self, x: Any, matrix: Any, data: Any) -> Apply:
        """Return the node."""
        x, matrix, data = (pt.as_tensor(v).astype("float64") for v in (x, matrix, data))
        lower = pt.matrix(dtype="float64", shape=(None, None))
        return Apply(self, [x, matrix, data], [x.type(), pt.dscalar(), lower])

    def perform(self, node: Apply, inputs: Any, outputs: Any) -> None:
        """Evaluate it."""
        for storage, value in zip(outputs, conditional(*_contiguous(inputs)), strict=True):
            storage[0] = np.asarray(value)

    def infer_shape(self, fgraph: Any, node: Apply, shapes: list) -> list:
        """Return the shapes of the results."""
        return [shapes[0], (), (shapes[2][0], shapes[2][0])]

    def connection_pattern(self, node: Apply) -> list:
        """Return which outputs have a derivative."""
        return [[True, True, False], [True, True, False], [True, False, False]]

    def pullback(self, inputs: list, outputs: list, cotangents: list) -> list:
        """Return the vector-Jacobian product."""
        if not isinstance(cotangents[2].type, DisconnectedType):
            raise NotImplementedError("the Cholesky factor of a conditional has no derivative")
        to_z, to_log_det = (
            pt.zeros_like(value) if isinstance(given.type, DisconnectedType) else given
            for value, given in zip(outputs[:2], cotangents[:2], strict=True)
        )
        return list(_Pulled()(*inputs, outputs[2], to_z, to_log_det))


class _Pulled(Op):
    """``(x, A, e, G, cotangents of z and log det T) -> cotangents of x, A and e``."""

    __props__ = ()

    def make_node(self, *inputs: Any) -> Apply:
        tensors = [pt.as_tensor(v).astype("float64") for v in inputs]
        return Apply(self, tensors, [v.type() for v in tensors[:3]])

    def perform(self, node: Apply, inputs: Any, outputs: Any) -> None:
        for storage, value in zip(outputs, pulled(*_contiguous(inputs)), strict=True):
            storage[0] = value

    def infer_shape(self, fgraph: Any, node: Apply, shapes: list) -> list:
        return shapes[:3]


def _contiguous(arrays: Any) -> list:
    *vectors, last = [np.array(v, dtype=float, order="C") for v in arrays]
    return [*vectors, last if last.ndim else float(last)]


@numba.njit(cache=True)
def _solved(lower, vector, shift):
    """Return ``(L + shift I)^-1 v``, L lower triangular."""
    solved = np.empty(vector.size)
    for i in range(vector.size):
        total = vector[i]
        for j in range(i):
            total -= lower[i, j] * solved[j]
        solved[i] = total / (lower[i, i] + shift)
    return solved


@numba.njit(cache=True)
def _solved_transposed(lower, vector, shift):
    """Return ``(L + shift I)^-T v``."""
    rest = vector.copy()
    for i in range(vector.size - 1, -1, -1):
        rest[i] /= lower[i, i] + shift
        for j in range(i):
            rest[j] -= lower[i, j] * rest[i]
    return rest


@numba.njit(cache=True)
def _parts(x, matrix, data, lower):
    """Return ``G^-1 e``, ``(G + I)^-1 A x`` and ``G^-T`` times their difference."""
    first, second = _solved(lower, data, 0.0), _solved(lower, matrix @ x, 1.0)
    return first, second, _solved_transposed(lower, first - second, 0.0)


@numba.njit(cache=True)
def conditional(x, matrix, data):
    """Return ``A^T S^-1 e + T x``, ``log det T`` and G."""
    square = np.eye(data.size) + matrix @ matrix.T
    if not np.all(np.isfinite(square)):  # hyperparameters far out: no error, but no density either
        return x + np.nan, np.nan, square + np.nan
    lower = np.linalg.cholesky(square)
    moved = _parts(x, matrix, data, lower)[2]
    return x + matrix.T @ moved, -np.sum(np.log(np.diag(lower))), lower


@numba.njit(cache=True)
def inverse(z, matrix, data, lower):
    """Return x of z: ``T^-1 = I + A^T (G + I)^-T A``."""
    mean = matrix.T @ _solved_transposed(lower, _solved(lower, data, 0.0), 0.0)
    return z - mean + matrix.T @ _solved_transposed(lower, matrix @ (z - mean), 1.0)


@numba.njit(cache=True)
def pulled(x, matrix, data, lower, to_z, to_log_det):
    """Return the cotangents of x, A and e."""
    if not np.all(np.isfinite(lower)):
        return x + np.nan, matrix + np.nan, data + np.nan
    first, second, moved = _parts(x, matrix, data, lower)
    # z = x + A^T w,  w = G^-T (f - s),  f = G^-1 e,  s = (G + I)^-1 A x
    to_difference = _solved(lower, matrix @ to_z, 0.0)
    to_data = _solved_transposed(lower, to_difference, 0.0)
    to_product = -_solved_transposed(lower, to_difference, 1.0)  # of A x
    to_lower = -np.outer(moved, to_difference) - np.outer(to_data, first)
    to_lower -= np.outer(to_product, second)
    # Through the Cholesky factor (Murray 2016, arXiv 1602.07527): the lower triangle of G^T times
    # the cotangent, its diagonal halved, between G^-T and G^-1.
    inner = lower.T @ to_lower
    for i in range(data.size):
        inner[i, i] = 0.5 * (inner[i, i] - to_log_det)
        for j in range(i + 1, data.size):
            inner[i, j] = inner[j, i]
        inner[i, i] *= 2.0
    inverted = np.linalg.inv(lower)
    to_square = 0.5 * inverted.T @ (inner @ inverted)  # of S
    to_matrix = 2.0 * to_square @ matrix + np.outer(moved, to_z) + np.outer(to_product, x)
    return to_z + matrix.T @ to_product, to_matrix, to_data


@register_funcify_default_op_cache_key(Conditional)
def _(op, node, **kwargs):
    """Return the operation in Numba."""

    @numba_njit(fastmath=False)
    def evaluate(x, matrix, data):
        z, log_det, lower = conditional(
            np.ascontiguousarray(x), np.ascontiguousarray(matrix), np.ascontiguousarray(data)
        )
        return z, np.asarray(log_det), lower

    return evaluate, IMPLEMENTATION


@register_funcify_default_op_cache_key(_Pulled)
def _(op, node, **kwargs):
    """Return the derivative in Numba."""

    @numba_njit(fastmath=False)
    def evaluate(x, matrix, data, lower, to_z, to_log_det):
        return pulled(
            np.ascontiguousarray(x), np.ascontiguousarray(matrix), np.ascontiguousarray(data),
            np.ascontiguousarray(lower), np.ascontiguousarray(to_z), to_log_det.item(),
        )  # fmt: skip

    return evaluate, IMPLEMENTATION
