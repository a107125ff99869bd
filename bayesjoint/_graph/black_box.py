"""Black boxes as PyTensor operations.

They hold user code: they are told apart by identity, never merged by equality.
"""

import pytensor.tensor as pt
from pytensor.gradient import grad_not_implemented
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op

from bayesjoint._graph.simulators import Simulator


class _UserCode(Op):
    """An operation that calls a simulator, at one point at a time."""

    __props__ = ()
    knows_no_batches = True
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator


class BlackBox(_UserCode):
    """A simulator with the actions of its Jacobian; NaN where it fails."""

    default_output = 0

    def make_node(self, *values):
        """Return the node; the output is flat."""
        return Apply(self, [pt.as_tensor(v) for v in values], [pt.dvector()])

    def perform(self, node, inputs, outputs):
        """Evaluate the function."""
        outputs[0][0] = self.simulator.evaluated(inputs)

    def pullback(self, inputs, outputs, cotangents):
        """Return the vector-Jacobian product."""
        result = _Pullback(self.simulator)(*inputs, cotangents[0])
        return result if isinstance(result, list) else [result]


class _Pullback(_UserCode):
    """Vector-Jacobian product of a black box; linear in its cotangent."""

    def make_node(self, *inputs):
        values, cotangent = inputs[:-1], pt.as_tensor(inputs[-1])
        return Apply(self, [*values, cotangent], [v.type() for v in values])

    def perform(self, node, inputs, outputs):
        *values, cotangent = inputs
        pulled = self.simulator.pulled(values, cotangent)
        for output, part in zip(outputs, pulled, strict=True):
            output[0] = part

    def pullback(self, inputs, outputs, cotangents):
        *values, cotangent = inputs
        pushed = _Pushforward(self.simulator)(*values, *cotangents)
        missing = [grad_not_implemented(self, i, v) for i, v in enumerate(values)]
        return [*missing, pushed]


class _Pushforward(_UserCode):
    """Jacobian-vector product of a black box; linear in its tangents."""

    def make_node(self, *inputs):
        return Apply(self, [pt.as_tensor(v) for v in inputs], [pt.dvector()])

    def perform(self, node, inputs, outputs):
        half = len(inputs) // 2
        outputs[0][0] = self.simulator.pushed(inputs[:half], inputs[half:])
