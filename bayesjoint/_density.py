"""The compiled log-density: its backend, safe for threads, with a switch for the data."""

import threading
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from bayesjoint._compile import INTERPRETED, NUMBA
from bayesjoint._functions import ModelFunctions
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

    def without_data(self) -> Callable:
        """Return the log-density of the coupled prior."""
        self._weight.set_value(0.0)
        try:
            return _thread_safe(self._compiled)
        finally:
            self._weight.set_value(1.0)


def _without_interpreter_lock(compiled: Callable, shared: list) -> Callable:
    """Return a callable of Numba's function that lets other chains run meanwhile."""

    @numba.njit(nogil=True)
    def released(point, *shared):
        return compiled(point, *shared)

    def direct(point):
        value, gradient = released(point, *shared)
        return float(value), gradient

    return direct


def _thread_safe(function: Any) -> Callable:
    """Return a callable of a compiled function that chains can call at the same time.

    A compiled function keeps its inputs in storage that chains would share.  The function that
    Numba made does not; without it a lock keeps chains apart.  Shared data keep the values of now.
    """
    shared = [np.copy(storage.value) for storage in function.input_storage[1:]]
    compiled = getattr(function.vm, "jit_fn", None)
    if compiled is not None:
        return _without_interpreter_lock(compiled, shared)
    lock = threading.Lock()

    def locked(point):
        with lock:
            for storage, value in zip(function.input_storage[1:], shared, strict=True):
                storage.value = value
            value, gradient = function(point)
            return float(value), np.array(gradient)

    return locked
