"""How graphs are compiled: over the rows of a matrix, in turn, without a compiler."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytensor
import pytensor.sparse as ps
import pytensor.tensor as pt
import pytest
from pytensor.compile.builders import OpFromGraph
from pytensor.gradient import pushforward
from pytensor.link.c.cmodule import GCC_compiler
from scipy import sparse

from bayesjoint._graph.compile import UNOPTIMISED, compiled_function, number, over_rows

inner = pt.vector("inner", shape=(3,))
cube = OpFromGraph([inner], [inner**3 + 0.123456789])
MATRIX = sparse.csr_array(np.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize("kind", ["batch", "row by row"])
@pytest.mark.parametrize("count", [0, 1, 40])
def test_rows_are_evaluated_together_or_one_by_one(kind, count):
    x, shift = pt.vector("x", shape=(3,)), pt.scalar("shift")
    if kind == "batch":
        product = pt.as_tensor(MATRIX.toarray()) @ x
    else:  # sparse products know no batches
        product = ps.structured_dot(ps.as_sparse_variable(sparse.csr_matrix(MATRIX)), x[:, None])[
            :, 0
        ]
    rows = np.random.default_rng(0).normal(size=(count, 3))
    moved, total = over_rows([product + shift, x.sum()], x, [shift])(rows, 2.0)
    assert moved.shape == (count, 2) and total.shape == (count,)
    np.testing.assert_allclose(moved, rows @ MATRIX.toarray().T + 2.0)
    np.testing.assert_allclose(total, rows.sum(axis=1))


def test_gradients_of_iterated_maps_are_compiled_in_seconds():
    """Newton steps of Kepler's equation: one of PyTensor's rewrites takes minutes over them."""
    x, times = pt.vector("x", shape=(3,)), np.linspace(0.0, 3.0, 5)
    anomaly = times / x[0] - x[1]
    eccentric = anomaly
    for _ in range(6):
        fault = eccentric - x[2] * pt.sin(eccentric) - anomaly
        eccentric = eccentric - fault / (1.0 - x[2] * pt.cos(eccentric))
    gradient = compiled_function([x], [eccentric, pt.grad(eccentric.sum(), x)])
    solved, slope = gradient(np.array([2.0, 0.1, 0.3]))
    np.testing.assert_allclose(solved - 0.3 * np.sin(solved), times / 2.0 - 0.1, atol=1e-12)
    np.testing.assert_allclose(slope[1], -np.sum(1.0 / (1.0 - 0.3 * np.cos(solved))), rtol=1e-9)


@pytest.mark.slow
def test_graphs_of_threads_are_compiled_one_at_a_time(monkeypatch):
    """Two threads, before they took turns, took PyTensor's settings from each other."""
    inside, function, compiler = [], pytensor.function, pytensor.config.cxx

    def watched(*given, **settings):
        inside.append(given)
        time.sleep(0.01)
        assert len(inside) == 1, "two threads compile at the same time"
        assert pytensor.config.cxx == ""
        made = function(*given, **settings)
        inside.pop()
        return made

    monkeypatch.setattr(pytensor, "function", watched)

    def doubled(number):
        x = pt.vector("x", shape=(2,))
        return over_rows([number * x], x)(np.ones((1, 2)))[0].sum()

    with ThreadPoolExecutor(4) as executor:
        assert list(executor.map(doubled, range(8))) == [2.0 * n for n in range(8)]
    assert pytensor.config.cxx == compiler


def test_interpreted_functions_need_no_compiler(monkeypatch):
    """PyTensor would compile the inside of operations, and constants, in C whatever the mode."""

    def refuse(*given, **settings):
        raise AssertionError("a compiler is called")

    monkeypatch.setattr(GCC_compiler, "compile_str", staticmethod(refuse))
    x = pt.vector("x", shape=(3,))
    found = compiled_function([x], cube(x), UNOPTIMISED)(np.arange(3.0))
    np.testing.assert_allclose(found, np.arange(3.0) ** 3 + 0.123456789, rtol=1e-14)
    folded = pt.dot(pt.constant(np.full(3, 0.12345678)), pt.constant(np.full(3, 1.2345678)))
    np.testing.assert_allclose(number(folded), 3 * 0.12345678 * 1.2345678, rtol=1e-14)


def test_only_loops_are_given_to_the_compiler(monkeypatch):
    seen = []
    monkeypatch.setattr(pytensor, "function", lambda *_, **__: seen.append(pytensor.config.cxx))
    x = pt.vector("x", shape=(3,))
    powers, _ = pytensor.scan(lambda before: before * x, outputs_info=[x], n_steps=4)
    hidden = OpFromGraph([x], [powers])(x)
    with pytensor.config.change_flags(cxx="compiler"):
        for outputs in (cube(x), [powers, x], hidden):
            compiled_function([x], outputs)
    assert seen == ["", "compiler", "compiler"]


def test_operations_that_hold_graphs_are_opened_over_rows(monkeypatch):
    """Else they are called for each row by itself, a hundred times slower."""

    def refuse(*given, **settings):
        raise AssertionError("called for one row")

    monkeypatch.setattr(OpFromGraph, "perform", refuse)
    x, tangent, shift = (pt.vector(name, shape=(3,)) for name in ("x", "tangent", "shift"))
    nested = OpFromGraph([x], [cube(cube(x))])
    pushed = pushforward(nested(x + shift), x, tangent)
    rows, at = np.arange(6.0).reshape(2, 3), np.full(3, 0.1)
    (found,) = over_rows([pushed], tangent, [x, shift])(rows, at, at)
    inner = 0.2**3 + 0.123456789
    np.testing.assert_allclose(found, 3 * inner**2 * 3 * 0.2**2 * rows, rtol=1e-13)
