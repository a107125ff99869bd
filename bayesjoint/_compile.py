"""How graphs are compiled, and how a model's variables become one flat vector.

``INTERPRETED`` starts within seconds without a compiler and costs a few hundred microseconds a call, so
it serves whatever is called up to some thousand times; ``UNOPTIMISED`` starts at once and serves checks;
``NUMBA`` takes its time to compile (cached on disk) and serves the sampler.
"""

from collections.abc import Sequence

import numpy as np
import pytensor.tensor as pt
from pytensor.compile.mode import Mode
from pytensor.graph.replace import graph_replace
from pytensor.link.vm import VMLinker



def _interpreted(optimizer: str) -> Mode:
    linker = VMLinker(allow_gc=False, use_cloop=False, c_thunks=False)
    return Mode(linker=linker, optimizer=optimizer)


# Fused elementwise operations need a compiler; unfused ones are NumPy calls.  Working in place saves
# little memory here, and its checks dominate the compilation of large graphs.
INTERPRETED = _interpreted("fast_run").excluding("fusion", "inplace", "BlasOpt", "blas", "cxx_only")
UNOPTIMISED = _interpreted("merge")  # for a handful of calls
NUMBA = "NUMBA"


def flatten(outputs: Sequence, variables: Sequence, shapes: Sequence[tuple[int, ...]]):
    """Return one flat input vector and the outputs as functions of it.

    ``variables`` are the value variables of a model, ``shapes`` their shapes; the vector holds
    them one after the other in C order.
    """
    flat = pt.vector("unknowns", shape=(int(sum(np.prod(s, dtype=int) for s in shapes)),))
    parts, start = {}, 0
    for variable, shape in zip(variables, shapes, strict=True):
        size = int(np.prod(shape, dtype=int))
        part = flat[start : start + size].reshape(shape)
        parts[variable] = pt.specify_shape(part, shape).astype(variable.type.dtype)
        start += size
    return flat, graph_replace(list(outputs), parts, strict=False)
