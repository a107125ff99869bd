"""A user's black box: function and derivative, the points it knows, and where it failed.

An exception at a point means what a NaN means: the point is impossible, a step there is rejected.
The first traceback is kept, and failures are counted, so that they can be told.
"""

import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bayesjoint._graph.outputs import MapFault, Output, action, in_form, kind, read
from bayesjoint._warnings import PACKAGE

REMEMBERED = 8  # points: chains take turns, and value and derivative are asked one after the other


def _traceback(error: Exception) -> str:
    """Return the traceback of an exception from the first line of the user's code on."""
    start = error.__traceback__
    while start is not None and start.tb_frame.f_code.co_filename.startswith(PACKAGE):
        start = start.tb_next
    lines = traceback.format_exception(type(error), error, start or error.__traceback__)
    return "".join(lines).strip()


@dataclass(eq=False)
class Failures:
    """How often something was evaluated, and failed.

    Attributes
    ----------
    owner : str
        What it is, for messages.
    evaluations, raised, not_finite : int
        Of points: all, those with an exception, those with NaN or infinity.
    first : str
        Traceback of the first exception.
    error : Exception, optional
        That exception; it does not travel between processes.
    """

    owner: str
    evaluations: int = 0
    raised: int = 0
    not_finite: int = 0
    first: str = ""
    error: Exception | None = None

    @property
    def failed(self) -> int:
        """Number of points that are impossible."""
        return self.raised + self.not_finite

    def take(self, error: Exception) -> None:
        """Count an exception."""
        self.raised += 1
        if not self.first:
            self.first = _traceback(error)
            self.error = error

    def reset(self) -> None:
        """Forget what was counted."""
        self.evaluations = self.raised = self.not_finite = 0
        self.first, self.error = "", None

    def add(self, other: "Failures") -> None:
        """Count what was counted elsewhere, as in another process."""
        self.evaluations += other.evaluations
        self.raised += other.raised
        self.not_finite += other.not_finite
        self.first = self.first or other.first

    @property
    def words(self) -> str:
        """What failed, in one sentence and the first traceback."""
        kinds = [
            f"{self.raised:,} raised an exception" if self.raised else "",
            f"{self.not_finite:,} gave NaN or infinity" if self.not_finite else "",
        ]
        share = self.failed / max(self.evaluations, 1)
        told = (
            f"{self.owner}: {self.failed:,} of {self.evaluations:,} evaluations ({share:.2g}) "
            f"failed and count as impossible points: {', '.join(kind for kind in kinds if kind)}"
        )
        return f"{told}. The first:\n{self.first}" if self.first else told

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "error": None}


@dataclass(eq=False)
class Simulator:
    """A black box of a user, guarded.

    Attributes
    ----------
    name, latents
        Of its map.
    function, jvp, vjp : callable
        As the user gave them: see `bayesjoint.numpy_map`.
    failures : Failures
    forms : dict
        Form of the output for each shape of the input, learnt when the map is checked.
    """

    name: str
    latents: tuple[str, ...]
    function: Callable
    jvp: Callable[..., Any]
    vjp: Callable[..., Any]
    forms: dict[tuple, Output] = field(default_factory=dict)
    failures: Failures = field(init=False)

    def __post_init__(self) -> None:
        self.failures = Failures(f"map {self.name!r}")
        self._forget()

    def _forget(self) -> None:
        self._known: OrderedDict[tuple, np.ndarray | None] = OrderedDict()
        self._lock = threading.Lock()

    # ---- as the user wrote it ---------------------------------------------------------------

    def output(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """Return the output in its shape; faults and exceptions are raised.

        The first output of a shape of the inputs sets the form of all others.
        """
        returned = self.function(*_copies(values))
        key = tuple(np.shape(value) for value in values)
        if key not in self.forms:
            numbers, self.forms[key] = read(self.name, returned)
            return numbers
        return in_form(self.name, returned, self.forms[key])

    def form_of(self, shapes: tuple) -> Output | None:
        """Return the form of the output for shapes of the inputs, None where it is not known."""
        return self.forms.get(shapes)

    def once(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """Return the flat output, evaluated once for each point; exceptions are raised."""
        key = _key(values)
        with self._lock:
            known = self._known.get(key)
        if known is None:
            known = self.output(values).ravel()
            if _finite([known]):
                self._remember(key, known)
        return known.copy()

    # ---- guarded -----------------------------------------------------------------------------

    def evaluated(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """Return the flat output, NaN where the black box fails; each point is evaluated once."""
        key = _key(values)
        with self._lock:
            known = key in self._known
            impossible = known and self._known[key] is None
        if impossible:
            return self._nothing(values)
        self.failures.evaluations += not known
        try:
            found = self.once(values)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 whatever a user's code raises
            self._impossible(values, error)
            return self._nothing(values)
        if not _finite([found]):
            self.failures.not_finite += 1
            self._remember(key, None)
            return self._nothing(values)
        return found

    def pushed(self, values: Sequence[np.ndarray], tangents: Sequence[np.ndarray]) -> np.ndarray:
        """Return the Jacobian times tangents, flat; NaN where the black box fails."""

        def act() -> list[np.ndarray]:
            returned = self.jvp(_copies(values), tangents)
            return [action(self.name, "jvp", returned).astype(float).ravel()]

        pushed = self._guarded(values, act, tangents)
        return self._nothing(values) if pushed is None else pushed[0]

    def pulled(self, values: Sequence[np.ndarray], cotangent: np.ndarray) -> list[np.ndarray]:
        """Return the transposed Jacobian times a cotangent; NaN where the black box fails."""
        shapes = [np.shape(value) for value in values]

        def act() -> list[np.ndarray]:
            pulled = as_list(self.name, self.vjp(_copies(values), cotangent), len(values))
            return [
                action(self.name, "vjp", part).astype(float).reshape(shape)
                for part, shape in zip(pulled, shapes, strict=True)
            ]

        pulled = self._guarded(values, act, [cotangent])
        return [np.full(shape, np.nan) for shape in shapes] if pulled is None else pulled

    def _guarded(
        self, values: Sequence[np.ndarray], act: Callable, along: Sequence[np.ndarray]
    ) -> list[np.ndarray] | None:
        """Return what an action of the derivative gives, None at an impossible point."""
        key = _key(values)
        with self._lock:
            known = key in self._known
            if known and self._known[key] is None:
                return None
        try:
            found = act()
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 whatever a user's code raises
            self.failures.evaluations += not known
            self._impossible(values, error)
            return None
        if _finite(along) and not _finite(found):
            self.failures.evaluations += not known
            self.failures.not_finite += 1
            self._remember(key, None)
            return None
        return found

    def _impossible(self, values: Sequence[np.ndarray], error: Exception) -> None:
        if tuple(np.shape(value) for value in values) not in self.forms:
            raise error  # never checked: there is no shape for what is missing
        self.failures.take(error)
        self._remember(_key(values), None)

    def _nothing(self, values: Sequence[np.ndarray]) -> np.ndarray:
        form = self.forms[tuple(np.shape(value) for value in values)]
        return np.full(int(np.prod(form.shape, dtype=int)), np.nan)

    def _remember(self, key: tuple, outcome: np.ndarray | None) -> None:
        with self._lock:
            self._known[key] = outcome
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_known", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()


def as_list(name: str, pulled: Any, count: int) -> list:
    """Return what the vjp of a map gave as a list; for one latent a bare array will do."""
    if count == 1 and not isinstance(pulled, (list, tuple)):
        return [pulled]
    several = isinstance(pulled, list | tuple) or (isinstance(pulled, np.ndarray) and pulled.ndim)
    if not several or len(pulled) != count:
        given = f"{len(pulled)} arrays" if several else kind(pulled)
        raise MapFault(
            f"map {name!r}: vjp returned {given} for {count} latents; a list of one array for each "
            "is needed"
        )
    return list(pulled)


def _finite(arrays: Sequence[np.ndarray]) -> bool:
    return all(np.all(np.isfinite(array)) for array in arrays)


def _key(values: Sequence[np.ndarray]) -> tuple:
    return tuple((np.shape(value), np.asarray(value).tobytes()) for value in values)


def _copies(values: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return copies: a black box that works in place changes nothing of ours."""
    return [np.array(value) for value in values]
