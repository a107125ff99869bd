"""The compiled log-density: its backend, safe for threads, with a switch for the data."""

import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pytensor
from nutpie.compiled_pyfunc import from_pyfunc

from bayesjoint._compiled.coordinates import Coordinates, pull_back, to_point
from bayesjoint._compiled.failures import Guarded
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._compiled.native import NativeModel
from bayesjoint._compiled.recentring import Given
from bayesjoint._graph.compile import INTERPRETED, NUMBA, in_turn
from bayesjoint._graph.simulators import Failures
from bayesjoint.forward import NumpyMap
from bayesjoint.problem import JointProblem

MAP_FAILS = "a map fails at this point"
NOT_FINITE = "log density or its gradient is not finite"
BACKENDS = {"numba": NUMBA, "interpreted": INTERPRETED}


def has_black_box(problem: JointProblem) -> bool:
    """Tell whether a forward map runs in the interpreter."""
    return any(isinstance(m.forward, NumpyMap) for m in problem.modalities)


def default_backend(problem: JointProblem) -> str:
    """Return "numba", or "interpreted" where a black box dominates the cost."""
    return "interpreted" if has_black_box(problem) else "numba"


class CompiledDensity:
    """The function ``flat vector -> (log density, gradient)``, compiled when it is made.

    Attributes
    ----------
    fatal : list of BaseException
        What is to stop the sampler, from inside: no failure of a point, as an exhausted memory.
    """

    def __init__(self, functions: ModelFunctions, backend: str | None = None) -> None:
        backend = backend or default_backend(functions.problem)
        if backend not in BACKENDS:
            raise ValueError(f"backend {backend!r} is unknown; use one of {sorted(BACKENDS)}")
        self._weight = functions.likelihood_weight
        self._recentring = functions.recentring
        self._given: dict[int, Any] = {}
        self._counts = functions.counts
        self.fatal: list[BaseException] = []
        self._size, self._lock = functions.size, threading.Lock()
        # Exact floats: else a density from the cache, where nothing is inlined, rounds differently,
        # and a run differs from its repetition.
        with in_turn(), pytensor.config.change_flags(numba__fastmath=False):
            self._compiled = functions.log_density(BACKENDS[backend])
            self._with_data = self._thread_safe()
            self(functions.initial)  # Numba compiles at the first call

    def __call__(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        """Return log density and gradient, without the data while ``likelihood_weight`` is zero."""
        if self._weight.get_value(borrow=True) == 1.0:
            return self._with_data(point)
        return self._thread_safe()(point)

    def refresh(self) -> None:
        """Take the data of today, in place: the sampler's callbacks read them where they lie."""
        _refresh(self._with_data, self._compiled)
        self._given.clear()

    def at(self, coordinates: Coordinates, start: np.ndarray) -> Any:
        """Return nutpie's model of u in some coordinates, which starts at a value of u."""
        return self._with_data.at(coordinates, start)

    def given(self, given: Given | None) -> "CompiledDensity | _Native | _Locked":
        """Return the density in coordinates recentred by given data, as `recentring` has them."""
        if given is None or self._recentring is None:
            return self
        if id(given) not in self._given:
            self._recentring.set(given)
            try:
                # Kept with the data themselves, so that their identity stays theirs.
                self._given = {id(given): (given, self._thread_safe())}
            finally:
                self._recentring.set(None)
        return self._given[id(given)][1]

    def without_data(self) -> "_Native | _Locked":
        """Return the log-density of the coupled prior, one object, with the data of today."""
        self._weight.set_value(0.0)
        try:
            _refresh(self._without_data, self._compiled)
            return self._without_data
        finally:
            self._weight.set_value(1.0)

    @cached_property
    def _without_data(self) -> "_Native | _Locked":
        return self._thread_safe()

    def _thread_safe(self) -> "_Native | _Locked":
        """Return a density that chains can call together; shared data keep today's values."""
        shared = [np.array(value, order="C") for value in _shared(self._compiled)]
        native = getattr(self._compiled.vm, "jit_fn", None)
        if native is None:
            return _Locked(self._compiled, shared, self._lock, self._counts, self.fatal)
        return _Native(native, shared, self._size, self._counts[-1])


class _Native:
    """Numba's function of a compiled density: safe for threads, and other chains run meanwhile."""

    fatal: tuple[BaseException, ...] = ()

    def __init__(self, compiled: Callable, shared: list, size: int, failures: Failures) -> None:
        self._compiled, self.shared, self.size = compiled, tuple(shared), size
        self._guarded = Guarded(compiled, failures)

    def __call__(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = self._guarded(point, *self.shared)
        return float(value), gradient

    @cached_property
    def _callbacks(self) -> NativeModel:
        return NativeModel(self._compiled, self.shared, self.size)

    def at(self, coordinates: Coordinates, start: np.ndarray) -> Any:
        """Return nutpie's model of u in some coordinates, which starts at a value of u."""
        return self._callbacks.at(coordinates, start)


class _Locked:
    """A compiled function that keeps its inputs in storage: a lock keeps chains apart.

    The storage is that of the shared variables themselves, so that it is put back after a call.
    """

    def __init__(
        self,
        function: Any,
        shared: list,
        lock: threading.Lock,
        counts: Sequence[Failures],
        fatal: list,
    ) -> None:
        self._function, self.shared, self._lock = function, shared, lock
        self._counts, self._guarded, self.fatal = counts, Guarded(function, counts[-1]), fatal

    @property
    def _failed(self) -> int:
        return sum(count.failed for count in self._counts)

    def __call__(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        with self._lock:
            today = _shared(self._function)
            try:
                self._put(self.shared)
                value, gradient = self._guarded(point)
                return float(value), np.array(gradient)
            finally:
                self._put(today)

    def _put(self, values: list) -> None:
        for storage, value in zip(self._function.input_storage[1:], values, strict=True):
            storage.value = value

    def at(self, coordinates: Coordinates, start: np.ndarray) -> Any:
        """Return nutpie's model of u in some coordinates, which starts at a value of u."""
        arrays = coordinates.arrays

        def density(u):
            if self.fatal:
                raise _Recoverable("the run is being stopped")
            failed = self._failed
            try:
                value, gradient = self(to_point(u, *arrays))
            except BaseException as error:
                # Were it raised here, the sampler's threads would panic: the run ends first.
                self.fatal.append(error)
                raise _Recoverable("the run is being stopped") from error
            if not (np.isfinite(value) and np.all(np.isfinite(gradient))):
                raise _Recoverable(MAP_FAILS if self._failed > failed else NOT_FINITE)
            return value, pull_back(gradient, *arrays[1:])

        def expand(u):
            return {"point": to_point(np.array(u), *arrays)}

        return from_pyfunc(
            ndim=start.size,
            make_logp_fn=lambda: density,
            make_expand_fn=lambda seed1, seed2, chain: expand,
            expanded_dtypes=[np.dtype("float64")],
            expanded_shapes=[(start.size,)],
            expanded_names=["point"],
            make_initial_point_fn=lambda seed: start,
        )


class _Recoverable(ValueError):
    """Tells the sampler to reject the step instead of stopping."""

    is_recoverable = True


def _shared(function: Any) -> list[np.ndarray]:
    return [storage.value for storage in function.input_storage[1:]]


def _refresh(density: _Native | _Locked, function: Any) -> None:
    for kept, now in zip(density.shared, _shared(function), strict=True):
        kept[...] = now
