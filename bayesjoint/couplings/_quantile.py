"""The quantile of a Gaussian mixture as a PyTensor operation, interpreted and in Numba."""

import math

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.graph.replace import _vectorize_node
from pytensor.link.numba.dispatch.basic import numba_njit, register_funcify_default_op_cache_key

from bayesjoint._kernels.mixture import ACCURACY, LOG_ROOT, NEARLY, PLAIN, STEPS, quantile

FAR = -30.0  # below, the normal distribution function is a series
HALF, ROOT = math.sqrt(0.5), math.sqrt(2.0 * math.pi)
IMPLEMENTATION = 4  # compiled code is kept on disk under this number: change it with the code


class MixtureQuantile(Op):
    """``(u, log weights, means, sds) -> x`` and its derivatives, as `_kernels.mixture.quantile`.

    The derivatives are outputs beside the value, so that they are found with it; they have none of
    their own.
    """

    __props__ = ()
    default_output = 0

    def make_node(self, u, log_weights, means, sds):
        """Return the node; u has one dimension less than the others, which are broadcast."""
        u, *others = (pt.as_tensor(v).astype("float64") for v in (u, log_weights, means, sds))
        return Apply(self, [u, *others], [u.type(), u.type(), *(o.type() for o in others)])

    def perform(self, node, inputs, outputs):
        """Evaluate the quantile."""
        for output, value in zip(outputs, quantile(*inputs), strict=True):
            output[0] = np.ascontiguousarray(value)

    def infer_shape(self, fgraph, node, shapes):
        """Return the shapes of the outputs: those of the inputs."""
        return [shapes[0], *shapes]

    def connection_pattern(self, node):
        """Return which outputs have a derivative: the first."""
        return [[True, False, False, False, False]] * 4

    def pullback(self, inputs, outputs, cotangents):
        """Return the vector-Jacobian product."""
        value, by_u, *others = cotangents
        if any(not isinstance(c.type, DisconnectedType) for c in (by_u, *others)):
            raise NotImplementedError("a quantile of a mixture has no second derivative")
        if isinstance(value.type, DisconnectedType):
            return [DisconnectedType()() for _ in inputs]
        return [value * outputs[1], *(value[..., None] * by for by in outputs[2:])]


@_vectorize_node.register(MixtureQuantile)
def _(op, node, u, *others):
    """Return the node for batches: the operation works along the last axes."""
    fewest = node.inputs[0].ndim
    batched = [v.shape[: v.ndim - 1] for v in others if v.ndim > fewest + 1]
    batched += [u.shape] if u.ndim > fewest else []
    if not batched:
        return op.make_node(u, *others)
    lead, units = tuple(batched[0]), others[0].shape[-1]
    wide = [pt.broadcast_to(other, (*lead, units)) for other in others]
    return op.make_node(pt.broadcast_to(u, lead), *wide)


@numba_njit(fastmath=False)
def _log_below(z):
    """Return ``log Phi(z)``."""
    if z > 0.0:
        return math.log1p(-0.5 * math.erfc(z * HALF))
    if z > FAR:
        return math.log(0.5 * math.erfc(-z * HALF))
    r = 1.0 / (z * z)
    series = 1.0 - r * (1.0 - 3.0 * r * (1.0 - 5.0 * r * (1.0 - 7.0 * r * (1.0 - 9.0 * r))))
    return -0.5 * z * z - LOG_ROOT - math.log(-z) + math.log(series)


@numba_njit(fastmath=False)
def _log_sum(values):
    """Return log of the sum of exponentials."""
    largest = values[0]
    for value in values:
        largest = max(largest, value)
    if not math.isfinite(largest):
        return largest
    total = 0.0
    for value in values:
        total += math.exp(value - largest)
    return largest + math.log(total)


@numba_njit(fastmath=False)
def _sums(y, sign, log_weights, means, sds, logs, below, density):
    """Return ``log F`` and ``F / f`` at y: plainly, or where they may underflow by logarithms."""
    if logs:
        for k in range(sds.size):
            e = (y - sign * means[k]) / sds[k]
            below[k] = log_weights[k] + _log_below(e)
            density[k] = log_weights[k] - 0.5 * e * e - LOG_ROOT - math.log(sds[k])
        log_below, log_density = _log_sum(below), _log_sum(density)
        return log_below, log_density, math.exp(min(log_below - log_density, 700.0))
    total, slope = 0.0, 1e-300
    for k in range(sds.size):
        e = (y - sign * means[k]) / sds[k]
        total += below[k] * math.erfc(-e * HALF)
        slope += density[k] * math.exp(-0.5 * e * e)
    return math.log(max(0.5 * total, 1e-300)), 0.0, 0.5 * total / slope * ROOT


@numba_njit(fastmath=False)
def _find(t, sign, log_weights, means, sds, below, density):
    """Return the quantile at ``Phi(t)``, t at most zero, of units mirrored by the sign.

    By the same steps as `_kernels.mixture.quantile`.
    """
    low, high, y = np.inf, -np.inf, 0.0
    for k in range(sds.size):
        end = sign * means[k] + sds[k] * t
        low, high = min(low, end), max(high, end)
        below[k] = math.exp(log_weights[k])  # weights, where probabilities are added plainly
        density[k] = below[k] / sds[k]
        y += below[k] * end
    if not low < high:
        return low
    goal, logs = -math.sqrt(-2.0 * _log_below(t)), t < PLAIN
    for _ in range(STEPS):
        log_below, _, ratio = _sums(y, sign, log_weights, means, sds, logs, below, density)
        root = math.sqrt(-2.0 * min(log_below, -1e-300))
        gap = -root - goal
        if gap < 0.0:
            low = y
        else:
            high = y
        moved, off = y - gap * root * ratio, abs(gap) / (1.0 - goal)
        if low < moved < high:
            y = moved
            if off <= NEARLY:  # the step itself makes the rest
                break
        elif off <= ACCURACY or not low < high or not math.isfinite(gap):
            break
        else:
            y = 0.5 * (low + high)
    return y


@register_funcify_default_op_cache_key(MixtureQuantile)
def _(op, node, **kwargs):
    """Return the operation in Numba: one quantile after the other."""

    @numba_njit(fastmath=False)
    def one(u, log_weights, means, sds, below, density, by_log_weight, by_mean, by_sd):
        sign = -1.0 if u > 0.0 else 1.0
        t = sign * u
        y = _find(t, sign, log_weights, means, sds, below, density)
        log_density = _sums(y, sign, log_weights, means, sds, True, below, density)[1]
        for k in range(sds.size):
            e = (y - sign * means[k]) / sds[k]
            by_log_weight[k] = -sign * math.exp(below[k] - log_density)
            by_mean[k] = math.exp(density[k] - log_density)
            by_sd[k] = sign * by_mean[k] * e
        return sign * y, math.exp(-0.5 * t * t - LOG_ROOT - log_density)

    @numba_njit(fastmath=False)
    def all_of_them(u, log_weights, means, sds):
        units = log_weights.shape[-1]
        flat = np.ascontiguousarray(u).reshape(-1)
        weights, m, s = (
            np.ascontiguousarray(log_weights).reshape((-1, units)),
            np.ascontiguousarray(means).reshape((-1, units)),
            np.ascontiguousarray(sds).reshape((-1, units)),
        )
        value, by_u = np.empty(flat.size), np.empty(flat.size)
        by_log_weight = np.empty((flat.size, units))
        by_mean, by_sd = np.empty((flat.size, units)), np.empty((flat.size, units))
        below, density = np.empty(units), np.empty(units)
        for i in range(flat.size):
            value[i], by_u[i] = one(
                flat[i], weights[i], m[i], s[i], below, density, by_log_weight[i], by_mean[i],
                by_sd[i],
            )  # fmt: skip
        wide = log_weights.shape
        return (
            value.reshape(u.shape), by_u.reshape(u.shape), by_log_weight.reshape(wide),
            by_mean.reshape(wide), by_sd.reshape(wide),
        )  # fmt: skip

    return all_of_them, IMPLEMENTATION
