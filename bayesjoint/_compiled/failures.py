"""Where the maps of a problem, or its density, failed: told at the end, or the reason to stop."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bayesjoint import _warnings
from bayesjoint._graph.simulators import Failures
from bayesjoint.forward import NumpyMap
from bayesjoint.problem import JointProblem

DENSITY = "the log-density"


def of_maps(problem: JointProblem) -> list[Failures]:
    """Return what is counted of the black boxes of a problem, one for each."""
    simulators = [
        m.forward.simulator for m in problem.modalities if isinstance(m.forward, NumpyMap)
    ]
    return [simulator.failures for simulator in dict.fromkeys(simulators)]


class Guarded:
    """A function ``point -> (log density, gradient)``, NaN where it raises an exception.

    Black boxes are guarded by themselves; this is for other code of users inside the model, and for
    matrices that cannot be factored.
    """

    def __init__(self, function: Callable, failures: Failures) -> None:
        self._function, self._failures = function, failures

    def __call__(self, point: np.ndarray, *shared: np.ndarray) -> tuple[Any, np.ndarray]:
        """Return the log density and its gradient."""
        self._failures.evaluations += 1
        try:
            return self._function(point, *shared)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 whatever a user's code raises
            self._failures.take(error)
            return np.float64(np.nan), np.full(np.shape(point), np.nan)


def reset(counts: Sequence[Failures]) -> None:
    """Forget what was counted."""
    for one in counts:
        one.reset()


def as_attrs(counts: Sequence[Failures], before: dict[str, Any]) -> dict[str, Any]:
    """Return what failed as attributes, with those of a run that is resumed; none of none.

    ``failed_evaluations``, ``evaluations`` and ``first_failure``, a traceback.
    """
    counts = [one for one in counts if one.owner != DENSITY or one.failed]
    if not counts:
        return {}
    told = {
        "failed_evaluations": sum(one.failed for one in counts),
        "evaluations": sum(one.evaluations for one in counts),
    }
    told = {key: int(before.get(key, 0)) + value for key, value in told.items()}
    first = before.get("first_failure") or next((one.first for one in counts if one.first), "")
    return {**told, **({"first_failure": first} if first else {})}


def warn(counts: Sequence[Failures]) -> None:
    """Warn of what failed."""
    for one in counts:
        if one.failed:
            _warnings.warn(one.words)


def no_point(counts: Sequence[Failures], tried: int) -> ValueError:
    """Return the error for a search that finds no point at which the density is finite.

    To be raised from ``first_error``.
    """
    failing = [one for one in counts if one.failed]
    start = f"the log-density is not finite at any of the {tried} starts of the search for its mode"
    if not failing:
        return ValueError(f"{start}; look at bj.simulate(problem) for NaN, or narrow the priors")
    worst = max(failing, key=lambda one: one.failed)
    return ValueError(f"{start}: {worst.words}")


def first_error(counts: Sequence[Failures]) -> Exception | None:
    """Return the first exception of the worst, where there is one in this process."""
    errors = [one for one in counts if one.error is not None]
    return max(errors, key=lambda one: one.failed).error if errors else None
