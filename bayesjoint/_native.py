"""A density and its change of coordinates as one compiled function that nutpie calls directly.

Between nutpie and a Python function every gradient waits for the interpreter, which costs several
times what a small gradient does, and keeps chains from running side by side.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
import pytensor
from nutpie import compile_pymc


def nutpie_model(
    compiled: Callable,
    shared: Sequence[np.ndarray],
    centre: np.ndarray,
    vectors: np.ndarray,
    stretch: np.ndarray,
) -> Any:
    """Return nutpie's model of ``xi`` at ``centre + (I + V diag(stretch) V^T) xi``.

    Parameters
    ----------
    compiled : callable
        Numba's function ``(point, *shared) -> (value, gradient)``.
    shared : sequence of ndarray
        Its shared data.
    centre, vectors, stretch : ndarray, shapes (n,), (n, r) and (r,)
        The coordinates.
    """
    function, arrays = _in_coordinates(compiled, centre, vectors, stretch)
    data = {
        f"a{i}": np.array(array, order="C", dtype=np.asarray(array).dtype)
        for i, array in enumerate([*arrays, *shared])
    }
    keys = {pytensor.shared(array): name for name, array in data.items()}
    user_data = compile_pymc.make_user_data(keys, data)
    size = centre.size
    logp, logp_signature = compile_pymc._make_c_logp_func(
        size, function, user_data, list(data), data
    )
    expand, expand_signature = compile_pymc._make_c_expand_func(
        size, size, _unchanged, user_data, [], {}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", numba.NumbaWarning)  # addresses are not cached on disk
        logp_c = numba.cfunc(logp_signature)(logp)
        expand_c = numba.cfunc(expand_signature)(expand)
    return compile_pymc.CompiledPyMCModel(
        dims={},
        compiled_logp_func=logp_c,
        compiled_expand_func=expand_c,
        initial_point_func=lambda seed: np.random.default_rng(seed).standard_normal(size),
        shared_data=data,
        shared_var_keys=keys,
        user_data=user_data,
        n_expanded=size,
        shape_info=(["xi"], [slice(0, size)], [(size,)]),
        logp_func=None,
        expand_func=None,
        _n_dim=size,
        _shapes={"xi": (size,)},
        _coords={},
        reparameterized_names=[],
    )


@numba.njit
def _unchanged(xi):
    return (xi,)


def _in_coordinates(compiled, centre, vectors, stretch) -> tuple[Callable, list[np.ndarray]]:
    """Return the compiled density of ``xi`` and the arrays it takes before the shared ones."""
    size = centre.size
    if 2 * vectors.shape[1] > size:  # one square matrix is read faster than a tall one twice
        matrix = np.eye(size) + (vectors * stretch) @ vectors.T

        @numba.njit
        def square(xi, centre, matrix, *shared):
            value, pulled = compiled(centre + matrix @ xi, *shared)
            return value.item(), matrix @ np.ascontiguousarray(pulled)  # symmetric

        return square, [centre, matrix]

    @numba.njit
    def tall(xi, centre, vectors, rows, stretch, *shared):
        value, pulled = compiled(centre + xi + vectors @ (stretch * (rows @ xi)), *shared)
        gradient = np.ascontiguousarray(pulled)
        return value.item(), gradient + vectors @ (stretch * (rows @ gradient))

    return tall, [centre, vectors, vectors.T, stretch]
