"""Finite differences whose own error is known, and the Jacobian of a map by them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bayesjoint._graph.outputs import MapFault

RELATIVE_STEP = 1e-6  # of the prior's spread
STEPS = 10.0 ** np.arange(-6, 0)  # tried where the first is in doubt
DOUBTFUL = 1e-3  # of a difference: a smooth map bends less over a step
UNSETTLED = 0.01  # of a Jacobian by differences: what noise may add to it
UNSETTLED_STATED = 0.3  # the same where the user stated the step
REPEATS = 1e-12  # of the output: what counts as the same again


@dataclass(frozen=True, eq=False)
class Difference:
    """A directional derivative by central difference.

    Attributes
    ----------
    change : ndarray, shape (data,)
    doubt : ndarray, shape (data,)
        How far off it may be: a step that is too long, noise, or a kink, at which all slopes
        between that on the left and that on the right are right.
    rounding : float
        What rounding alone does to each number of it.
    """

    change: np.ndarray
    doubt: np.ndarray
    rounding: float

    def times(self, factor: float) -> "Difference":
        """Return the derivative along a multiple of the tangent."""
        return Difference(factor * self.change, abs(factor) * self.doubt, factor * self.rounding)

    @property
    def uncertainty(self) -> float:
        """Norm of what it may be off by."""
        return float(np.linalg.norm(self.doubt) + self.rounding * np.sqrt(self.doubt.size))

    @property
    def finite(self) -> bool:
        """Whether the map could be evaluated on both sides."""
        return bool(np.all(np.isfinite(self.change)) and np.all(np.isfinite(self.doubt)))


class Directional:
    """Directional derivatives of one map at one point; an evaluation that fails is NaN.

    Parameters
    ----------
    function : callable
        ``function(values) -> flat array``.
    values : list of ndarray
    output : ndarray
        The output there.
    """

    def __init__(
        self, function: Callable, values: Sequence[np.ndarray], output: np.ndarray
    ) -> None:
        self._function, self._values, self.output = function, values, output

    def over(self, index: int, tangent: np.ndarray, step: float = RELATIVE_STEP) -> Difference:
        """Return the derivative along a tangent of one latent; two evaluations."""
        ahead, behind = self._moved(index, step * tangent), self._moved(index, -step * tangent)
        bend = np.abs(ahead - 2 * self.output + behind) / step
        largest = float(np.abs(self.output).max(initial=0.0))
        rounding = 10 * np.finfo(float).eps * largest / step
        return Difference((ahead - behind) / (2 * step), bend, rounding)

    def careful(self, index: int, tangent: np.ndarray) -> Difference:
        """Return the derivative along a tangent over the step that serves best.

        That is where two steps agree best: between short ones, that show noise, and long ones, that
        show curvature.
        """
        tried = [self.over(index, tangent, step) for step in STEPS]
        gaps = [
            np.linalg.norm(first.change - second.change) / np.linalg.norm(second.change)
            if first.finite and second.finite and np.any(second.change)
            else np.inf
            for first, second in zip(tried[:-1], tried[1:], strict=True)
        ]
        best = int(np.argmin(gaps))
        if not np.isfinite(gaps[best]):
            return tried[0]
        # At a kink the slopes on both sides differ however short the step is.
        kink = np.min([d.doubt for d in tried if d.finite], axis=0)
        # Over the shortest steps the output bends by its noise alone.
        noise = np.max([d.doubt * h for d, h in zip(tried[:2], STEPS[:2], strict=True)], axis=0)
        first, second = tried[best].change, tried[best + 1].change
        doubt = np.abs(first - second) + kink + noise / STEPS[best + 1]
        return Difference(second, doubt, tried[best + 1].rounding)

    def best(self, index: int, tangent: np.ndarray) -> Difference:
        """Return the derivative along a tangent, with care where the first step is in doubt."""
        found = self.over(index, tangent)
        if not found.finite:
            return found
        sure = found.uncertainty <= DOUBTFUL * np.linalg.norm(found.change)
        return found if sure else self.careful(index, tangent)

    def roughness(self, index: int, tangent: np.ndarray) -> float:
        """Return by how much of itself the output jumps over the first step."""
        bend = self.over(index, tangent).doubt * RELATIVE_STEP
        return float(_rms(bend) / np.sqrt(6) / max(_rms(self.output), np.finfo(float).tiny))

    def _moved(self, index: int, by: np.ndarray) -> np.ndarray:
        moved = [v + by if i == index else v for i, v in enumerate(self._values)]
        try:
            return np.asarray(self._function(moved), dtype=float).ravel()
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 whatever a user's code raises
            return np.full(self.output.shape, np.nan)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if np.size(values) else 0.0


def repeatability(function: Callable, values: Sequence[np.ndarray], output: np.ndarray) -> float:
    """Return by how much of itself the output differs when it is asked again at one point."""
    again = np.asarray(function(values), dtype=float).ravel()
    gap = _rms(again - output) / np.sqrt(2) / max(_rms(output), np.finfo(float).tiny)
    return gap if gap > REPEATS else 0.0


def spreads_of(draws: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
    """Return the standard deviation over draws of every element of every latent."""
    return [
        np.std([np.asarray(draw[i], dtype=float) for draw in draws], axis=0)
        for i in range(len(draws[0]))
    ]


def moves(value: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return by how much to move each element, not so little that rounding shows."""
    steps = np.maximum(spread, 1e-5 * np.abs(value))
    return np.where(steps > 0, steps, 1.0)


@dataclass(frozen=True, eq=False)
class CentralDifferences:
    """A Jacobian by central differences.

    Steps are those stated, in the units of each latent, else a millionth of its prior spread.  The
    spreads are learned from prior draws: a latent at zero, as at the prior mean where an optimiser
    starts, is still moved by a sensible step.
    """

    function: Callable  # function(values) -> array
    name: str
    latents: tuple[str, ...]
    stated: Mapping[str, float]
    spreads: list[np.ndarray] = field(default_factory=list)

    def __call__(self, *values: np.ndarray) -> list[np.ndarray]:
        """Return one matrix for each latent."""
        arrays = [np.asarray(v, dtype=float) for v in values]
        return [self._columns(arrays, index) for index in range(len(arrays))]

    def _steps(self, values: Sequence[np.ndarray], index: int) -> np.ndarray:
        value = np.asarray(values[index], dtype=float)
        if self.latents[index] in self.stated:
            return np.full(value.shape, float(self.stated[self.latents[index]]))
        spread = self.spreads[index] if self.spreads else np.abs(value)
        return RELATIVE_STEP * moves(value, spread)

    def _columns(self, values: list[np.ndarray], index: int) -> np.ndarray:
        value, steps = values[index], self._steps(values, index).ravel()
        columns = []
        for element, step in enumerate(steps):
            move = np.zeros(value.shape)
            move.flat[element] = step
            ahead, behind = (
                np.ravel(
                    self.function(
                        [v + sign * move if i == index else v for i, v in enumerate(values)]
                    )
                )
                for sign in (1.0, -1.0)
            )
            columns.append((ahead - behind) / (2 * step))
        return np.stack(columns, axis=1)

    def check(self, at: Directional, values: list[np.ndarray], again: float) -> list[bool]:
        """Raise unless the steps settle the derivative; return which latents move the output.

        Parameters
        ----------
        at : Directional
            The map at a prior draw.
        values : list of ndarray
            That draw.
        again : float
            Share of the output by which it differs when it is asked again.
        """
        rng, moved = np.random.default_rng(0), []
        for index, latent in enumerate(self.latents):
            signs = rng.choice([-1.0, 1.0], np.shape(values[index]))
            tangent, stated = signs * self._steps(values, index), latent in self.stated
            limit = UNSETTLED_STATED if stated else UNSETTLED
            once = at.over(index, tangent, 1.0)
            other = at.over(index, tangent, 0.5 if stated else 10.0)
            moved.append(bool(np.any(other.change) or np.any(once.change)))
            if moved[-1] and (not once.finite or not other.finite or _off(once, other) <= limit):
                continue
            best = at.careful(index, tangent / RELATIVE_STEP).times(RELATIVE_STEP)
            if not moved[-1] and np.any(best.change):
                raise MapFault(self._still(index, tangent))
            if moved[-1] and (stated or _off(once, best) > limit):
                raise MapFault(self._unsettled(at, index, tangent, _off(once, other), again))
        return moved

    def _still(self, index: int, tangent: np.ndarray) -> str:
        latent, step = self.latents[index], float(np.median(np.abs(tangent)))
        return (
            f"map {self.name!r}: its output does not change over a step of {step:.2g} in "
            f"{latent!r}, but does over longer ones; give a longer step, as "
            f"finite_differences={{{latent!r}: {1e3 * step:.2g}}}, or its derivative"
        )

    def _unsettled(
        self, at: Directional, index: int, tangent: np.ndarray, off: float, again: float
    ) -> str:
        latent, stated = self.latents[index], self.latents[index] in self.stated
        step = float(np.median(np.abs(tangent)))
        spread = step / RELATIVE_STEP
        if self.spreads:
            spread = float(np.median(self.spreads[index])) or spread
        noise = again or at.roughness(index, tangent * (1.0 if stated else 1 / RELATIVE_STEP))
        fact = (
            f"the simulator repeats itself only to {noise:.1g} of its output"
            if again
            else f"the simulator is rough, it jumps by {noise:.1g} of its output between points "
            "that lie close together"
        )
        better = spread * float(np.clip(noise ** (1 / 3), 1e-4, 0.3))
        better = max(better, 3 * step) if stated else better
        return (
            f"map {self.name!r}: {fact}, so that differences over a step of {step:.2g} in "
            f"{latent!r} are off by {min(off, 99):.0%}; give a longer step, as "
            f"finite_differences={{{latent!r}: {better:.2g}}}, or its derivative"
        )


def _off(first: Difference, second: Difference) -> float:
    size = max(np.linalg.norm(first.change), np.linalg.norm(second.change))
    return float(np.linalg.norm(first.change - second.change) / size) if size else 0.0


def steps_given(name: str, latents: Sequence[str], given: Any) -> dict[str, float]:
    """Return the steps that a user stated, by latent."""
    if isinstance(given, bool):
        return {}
    owner = f"map {name!r}: finite_differences"
    if not isinstance(given, Mapping):
        raise ValueError(
            f"{owner} is {given!r}; give True, or the step of each latent in its units, as "
            f"{{{latents[0]!r}: 0.01}}"
        )
    unknown = sorted(set(given) - set(latents))
    if unknown:
        raise ValueError(
            f"{owner} names {unknown[0]!r}, which it does not read; it reads {latents}"
        )
    for latent, step in given.items():
        number = isinstance(step, (int, float, np.number)) and not isinstance(step, bool)
        if not (number and np.isfinite(step) and step > 0):
            raise ValueError(f"{owner}: the step of {latent!r} is {step!r}; give a positive number")
    return {latent: float(step) for latent, step in given.items()}
