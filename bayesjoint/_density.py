"""The compiled log-density: its backend, safe for threads, with a switch for the data."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from nutpie.compiled_pyfunc import from_pyfunc

from bayesjoint._compile import INTERPRETED, NUMBA
from bayesjoint._functions import ModelFunctions
from bayesjoint._native import nutpie_model
from bayesjoint.forward import NumpyMap
from bayesjoint.problem import JointProblem

BACKENDS = {"numba": NUMBA, "interpreted": INTERPRETED}


def default_backend(problem: JointProblem) -> str:
    """Return "numba", or "interpreted" where a black box dominates the cost."""
    black_box = any(isinstance(m.forward, NumpyMap) for m in problem.modalities)
    return "interpreted" if black_box else "numba"


class CompiledDensity:
    """The function ``flat vector -> (log density, gradient)``, compiled when it is made."""

    def __init__(self, functions: ModelFunctions, backend: str | None = None) -> None:
        backend = backend or default_backend(functions.problem)
        if backend not in BACKENDS:
            raise ValueError(f"backend {backend!r} is unknown; use one of {sorted(BACKENDS)}")
        self._weight = functions.likelihood_weight
        self._compiled = functions.log_density(BACKENDS[backend])
        self._with_data = _thread_safe(self._compiled)
        self(functions.initial)  # Numba compiles at the first call

    def __call__(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        """Return log density and gradient, without the data while ``likelihood_weight`` is zero."""
        if self._weight.get_value(borrow=True) == 1.0:
            return self._with_data(point)
        return _thread_safe(self._compiled)(point)

    def nutpie_model(self, *coordinates: np.ndarray) -> Any:
        """Return nutpie's model in the coordinates ``centre, vectors, stretch``."""
        return self._with_data.nutpie_model(*coordinates)

    def without_data(self) -> "_Native | _Locked":
        """Return the log-density of the coupled prior."""
        self._weight.set_value(0.0)
        try:
            return _thread_safe(self._compiled)
        finally:
            self._weight.set_value(1.0)


class _Native:
    """Numba's function of a compiled density: safe for threads, and other chains run meanwhile."""

    def __init__(self, compiled: Callable, shared: list) -> None:
        self._compiled, self._shared = compiled, tuple(shared)

    def __call__(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = self._compiled(point, *self._shared)
        return float(value), gradient

    def nutpie_model(self, centre: np.ndarray, vectors: np.ndarray, stretch: np.ndarray) -> Any:
        """Return nutpie's model of ``xi`` at ``centre + (I + V diag(stretch) V^T) xi``."""
        return nutpie_model(self._compiled, self._shared, centre, vectors, stretch)


class _Locked:
    """A compiled function that keeps its inputs in storage: a lock keeps chains apart."""

    def __init__(self, function: Any, shared: list) -> None:
        self._function, self._shared, self._lock = function, shared, threading.Lock()

    def __call__(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        with self._lock:
            for storage, value in zip(self._function.input_storage[1:], self._shared, strict=True):
                storage.value = value
            value, gradient = self._function(point)
            return float(value), np.array(gradient)

    def nutpie_model(self, centre: np.ndarray, vectors: np.ndarray, stretch: np.ndarray) -> Any:
        """Return nutpie's model of ``xi`` at ``centre + (I + V diag(stretch) V^T) xi``."""
        size = centre.size

        def direction(vector):
            return vector + vectors @ (stretch * (vectors.T @ vector))

        def density(xi):
            value, gradient = self(centre + direction(xi))
            if not (np.isfinite(value) and np.all(np.isfinite(gradient))):
                raise _Recoverable("log density or its gradient is not finite")
            return value, direction(gradient)

        return from_pyfunc(
            ndim=size,
            make_logp_fn=lambda: density,
            make_expand_fn=lambda seed1, seed2, chain: lambda xi: {"xi": np.array(xi)},
            expanded_dtypes=[np.dtype("float64")],
            expanded_shapes=[(size,)],
            expanded_names=["xi"],
            make_initial_point_fn=lambda seed: np.random.default_rng(seed).standard_normal(
                centre.size
            ),
        )


class _Recoverable(ValueError):
    """Tells the sampler to reject the step instead of stopping."""

    is_recoverable = True


def _thread_safe(function: Any) -> _Native | _Locked:
    """Return a compiled density that chains can call together; shared data keep today's values."""
    shared = [np.copy(storage.value) for storage in function.input_storage[1:]]
    compiled = getattr(function.vm, "jit_fn", None)
    return _Locked(function, shared) if compiled is None else _Native(compiled, shared)
