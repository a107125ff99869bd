"""Graphs evaluated over the rows of a matrix."""

import numpy as np
import pytensor.sparse as ps
import pytensor.tensor as pt
import pytest
from scipy import sparse

from bayesjoint._graph.compile import over_rows

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
