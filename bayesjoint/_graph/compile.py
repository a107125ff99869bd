"""How graphs are made and compiled, and how a model's variables become one flat vector.

``INTERPRETED`` starts within seconds without a compiler and costs a few hundred microseconds a
call, so it serves whatever is called up to some thousand times; ``UNOPTIMISED`` starts at once and
serves checks; ``NUMBA`` takes its time to compile (cached on disk) and serves the sampler.

PyTensor makes and rewrites graphs under settings that hold for the whole process, so that threads
take turns: whatever makes graphs does so `in_turn`.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pytensor.compile.builders import OpFromGraph
from pytensor.compile.mode import Mode, get_mode
from pytensor.compile.rewriting import inline_ofg_node
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.op import HasInnerGraph
from pytensor.graph.replace import graph_replace, vectorize_graph
from pytensor.graph.rewriting.basic import dfs_rewriter, node_rewriter, out2in
from pytensor.graph.traversal import apply_ancestors
from pytensor.link.vm import VMLinker
from pytensor.scalar import Add, Mul
from pytensor.scan.op import Scan
from pytensor.tensor.elemwise import Elemwise
from threadpoolctl import threadpool_limits

AFTER_MERGING = 48.9  # position among PyTensor's rewrites, before those that work in place
WIDEST = 16  # operands of an elementwise operation; interpreted, it takes no more than 31


@node_rewriter([Elemwise])
def _split_wide(fgraph: Any, node: Any):
    """Split sums and products of many terms, as of the log-densities of many variables."""
    terms = node.inputs
    if len(terms) <= WIDEST or not isinstance(node.op.scalar_op, Add | Mul):
        return None
    while len(terms) > WIDEST:
        parts = [terms[i : i + WIDEST] for i in range(0, len(terms), WIDEST)]
        terms = [node.op(*part) if len(part) > 1 else part[0] for part in parts]
    return [node.op(*terms)]


def _interpreted(optimizer: str) -> Mode:
    linker = VMLinker(allow_gc=False, use_cloop=False, c_thunks=False)
    mode = Mode(linker=linker, optimizer=optimizer)
    return mode.register((out2in(_split_wide), AFTER_MERGING))


# Fused elementwise operations need a compiler; unfused ones are NumPy calls.  Working in place
# saves little memory here, and its checks dominate the compilation of large graphs.
# local_sumsqr2dot fails on batches (PyTensor 3.3).
INTERPRETED = _interpreted("fast_run").excluding(
    "fusion", "inplace", "BlasOpt", "blas", "cxx_only", "local_sumsqr2dot"
)
# It saves a few multiplications, and takes four times as long for each further step of a map that
# iterates: minutes from five Newton steps on.
ENDLESS = "local_greedy_distributor"
UNOPTIMISED = _interpreted("merge")  # for a handful of calls
NUMBA = "NUMBA"
_TURN = threading.RLock()
SMALL = 400  # below this size threads of linear algebra get in each other's way


@contextmanager
def in_turn() -> Iterator[None]:
    """Make and compile graphs while no other thread does; also a decorator.

    Variables get no trace of where they were made: each rewrite would append those of others to
    its own, without end in graphs as large as these.
    """
    with _TURN, pytensor.config.change_flags(traceback__limit=0):
        yield


@in_turn()
def compiled_function(inputs: Sequence, outputs: Any, mode: Any = INTERPRETED) -> Any:
    """Return the compiled function; an interpreted one without loops calls no C compiler.

    PyTensor would have constants, and the inside of operations that hold graphs, compiled in C
    whatever the mode: seconds for numbers that Python has at once.  The inside of a loop runs so
    often that they are well spent.
    """
    mode = get_mode(mode).excluding(ENDLESS)
    interpreted = isinstance(mode.linker, VMLinker)
    without_compiler = {"cxx": ""} if interpreted and not _has_loop(outputs) else {}
    with pytensor.config.change_flags(**without_compiler):
        return pytensor.function(inputs, outputs, mode=mode, on_unused_input="ignore")


def _has_loop(outputs: Any) -> bool:
    """Tell whether graphs hold a scan, also inside of their operations."""
    graphs = outputs if isinstance(outputs, list | tuple) else [outputs]
    return any(
        isinstance(op, Scan) or (isinstance(op, HasInnerGraph) and _has_loop(op.fgraph.outputs))
        for op in (getattr(node.op, "core_op", node.op) for node in apply_ancestors(graphs))
    )


@in_turn()
def random_draws(variable: Any, rng: np.random.Generator, count: int = 1) -> np.ndarray:
    """Return draws of a random variable, shape (count, ...), without the axis where it is one."""
    seed = int(rng.integers(2**31))
    with pytensor.config.change_flags(cxx=""):
        return pm.draw(variable, count, random_seed=seed, mode=UNOPTIMISED)


def number(graph: Any) -> np.ndarray:
    """Return the value of a graph without inputs."""
    return compiled_function([], graph)()


def threads_for(size: int):
    """Return a context in which small matrices are not shared out among threads."""
    return threadpool_limits(limits=1 if size < SMALL else None)


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


CHUNK = 10_000  # numbers that one output of a batch may hold: larger ones leave the cache
TOGETHER = 16  # rows, however large: matrices of the model are read once for all of them


@in_turn()
def over_rows(
    graphs: Sequence, variable: Any, fixed: Sequence = ()
) -> Callable[..., list[np.ndarray]]:
    """Return a function that evaluates graphs for every row of a matrix put in place of a vector.

    Called as ``function(matrix, *values of fixed)``; each result has the rows as its first axis.
    Graphs with sparse products or black boxes, which know no batches, are evaluated row by row.
    """
    graphs = _inlined(graphs)
    make = _row_by_row if _knows_no_batches(graphs) else _in_chunks
    evaluate = make(graphs, variable, fixed)

    def by_rows(matrix, *values):
        if len(matrix):
            return evaluate(matrix, *values)
        one = np.zeros((1, matrix.shape[1]))
        return [column[:0] for column in evaluate(one, *values)]

    return by_rows


@node_rewriter([OpFromGraph])
def _inline(fgraph: Any, node: Any):
    return inline_ofg_node(node)


def _inlined(graphs: Sequence) -> list:
    """Return graphs without operations that hold graphs: over rows these would be called singly."""
    whole = FunctionGraph(outputs=list(graphs), clone=True, copy_inputs=False)
    dfs_rewriter(_inline).rewrite(whole)
    for variable in whole.variables:
        variable.tag.trace = []
    return whole.outputs


def _row_by_row(graphs: list, variable: Any, fixed: Sequence) -> Callable[..., list[np.ndarray]]:
    single = compiled_function([variable, *fixed], graphs)

    def evaluate(matrix, *values):
        rows = [single(row, *values) for row in matrix]
        return [np.stack(column) for column in zip(*rows, strict=True)]

    return evaluate


def _in_chunks(graphs: list, variable: Any, fixed: Sequence) -> Callable[..., list[np.ndarray]]:
    batch = pt.matrix("batch", shape=(None, variable.type.shape[0]))
    wide = vectorize_graph(graphs, {variable: batch})
    together = compiled_function([batch, *fixed], wide)
    sizes: list[int] = []

    def evaluate(matrix, *values):
        if not sizes:
            sizes.extend(np.size(value) for value in together(matrix[:1], *values))
        step = max(TOGETHER, CHUNK // max([1, *sizes]))
        parts = [
            _with_rows(together(matrix[i : i + step], *values), graphs, len(matrix[i : i + step]))
            for i in range(0, len(matrix), step)
        ]
        return [np.concatenate(column) for column in zip(*parts, strict=True)]

    return evaluate


def _knows_no_batches(graphs: Sequence) -> bool:
    return any(
        getattr(node.op, "knows_no_batches", False)
        or type(node.op).__module__.startswith("pytensor.sparse")
        for node in apply_ancestors(graphs)
    )


def _with_rows(values: list, graphs: Sequence, rows: int) -> list[np.ndarray]:
    """Return values with rows in front, also those that do not depend on the row."""
    return [
        np.asarray(value)
        if np.ndim(value) == graph.ndim + 1
        else np.broadcast_to(value, (rows, *np.shape(value)))
        for value, graph in zip(values, graphs, strict=True)
    ]
