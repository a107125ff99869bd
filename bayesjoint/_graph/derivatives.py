"""The contract that every derivative must keep, and the check that it does.

A Jacobian is compared with central differences along random directions: every column moves by plus
or minus its step, so that none hides.  How close they must agree follows from the differences' own
error; a deviation that is small in all columns together is followed to the column it comes from.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bayesjoint._graph.differences import Difference, Directional, moves
from bayesjoint._graph.outputs import MapFault, action
from bayesjoint._graph.simulators import as_list

TOLERANCE = 3e-3  # of the change over a block of columns
ROW_TOLERANCE = 1e-2  # of the largest row: one wrong row among many
COLUMN_TOLERANCE = 5e-3  # of one column, once a block is suspect
SUSPECT = 1e-5  # of the change over a block, above which it is followed to its worst column
NEGLIGIBLE = 0.1  # of the usual column: one that moves the output less is let be
ADJOINT_TOLERANCE = 1e-6
ADJOINT_TOLERANCE_SINGLE = 1e-4  # of actions in single precision
BLOCKS = 16  # of columns of all latents together: two evaluations each
RECHECKED = 4  # the same where a derivative is looked at once more


@dataclass(frozen=True, eq=False)
class Derivative:
    """What is checked.

    Attributes
    ----------
    name : str
    latents : sequence of str
    function : callable
        ``function(values) -> flat array``.
    vjp : callable
        ``vjp(values, cotangent) -> list`` of one array for each latent.
    jvp : callable, optional
        ``jvp(values, tangents) -> array``.
    """

    name: str
    latents: Sequence[str]
    function: Callable
    vjp: Callable
    jvp: Callable | None = None

    def pulled(self, values: list[np.ndarray], cotangent: np.ndarray) -> list[np.ndarray]:
        """Return the pull-back in the precision of the user."""
        parts = as_list(self.name, self.vjp(values, cotangent), len(values))
        arrays = [action(self.name, "vjp", part) for part in parts]
        for latent, array, value in zip(self.latents, arrays, values, strict=True):
            self._require(f"vjp for {latent!r}", array, np.size(value), "one number an element")
        return arrays

    def pushed(self, values: list[np.ndarray], index: int, tangent: np.ndarray) -> np.ndarray:
        """Return the push-forward along a tangent of one latent."""
        if self.jvp is None:
            raise TypeError(f"map {self.name!r} has no jvp")
        tangents = [tangent if i == index else np.zeros_like(v) for i, v in enumerate(values)]
        return action(self.name, "jvp", self.jvp(values, tangents)).ravel()

    def _require(self, what: str, array: np.ndarray, size: int, wanted: str) -> None:
        if array.size != size:
            raise MapFault(
                f"map {self.name!r}: {what} returned an array of shape {array.shape}; "
                f"{size} needed, {wanted}"
            )

    def require_rows(self, array: np.ndarray, size: int) -> None:
        """Raise unless a push-forward has one number for each datum."""
        self._require("jvp", array, size, "one number an output")


def check(
    tested: Derivative,
    draws: Sequence[Sequence[np.ndarray]],
    spreads: Sequence[np.ndarray],
    blocks: int = BLOCKS,
    *,
    everywhere: bool = True,
) -> None:
    """Raise unless the derivative agrees with finite differences at every draw.

    Each draw takes one evaluation of the map, and two for each of ``blocks`` blocks of columns, at
    least two a latent: 33 for up to 16 latents.  Ten more, a latent, where the output is rough, in
    single precision or has kinks; ``2 log2(n)`` more where a deviation among n columns is followed.

    Parameters
    ----------
    tested : Derivative
    draws : sequence of draws
        Each holds one array a latent, and the map can be evaluated there.
    spreads : sequence of ndarray
        Of the prior of each latent: steps are in proportion.
    blocks : int
        Of columns, of all latents together.
    everywhere : bool
        Whether these draws tell that a latent does nothing.

    Raises
    ------
    ValueError
        Naming the worst entry.

    Notes
    -----
    With the error e of a column relative to it, n columns alike and b blocks, a single wrong column
    shows as ``e sqrt(b / n)`` in its block, whatever the signs.  A smooth map in double precision
    leaves differences of about 1e-9, so that a column that is off by a tenth is found among any
    number up to about 10^7 with certainty; where noise r remains, up to ``n = b (0.1 / r)^2``.
    """
    rng = np.random.default_rng(0)
    touched = dict.fromkeys(tested.latents, False)
    share = max(1, blocks // len(tested.latents))
    for draw in draws:
        values = [np.array(v, dtype=float) for v in draw]
        output = np.asarray(tested.function(values), dtype=float).ravel()
        at = Directional(tested.function, values, output)
        cotangent = np.asarray(rng.standard_normal(output.shape))
        pulled = tested.pulled(values, cotangent)
        for index, latent in enumerate(tested.latents):
            touched[latent] |= bool(np.any(pulled[index] != 0))
            case = _Case(tested, latent, index, values, spreads[index], at, cotangent, rng)
            if tested.jvp is None:
                _check_sum(case, pulled[index])
            else:
                _check_columns(case, pulled[index], share)
    for latent in tested.latents:
        if everywhere and not touched[latent]:
            raise zero_block(tested.name, latent)


def zero_block(name: str, latent: str) -> MapFault:
    """Return the error for a latent on which the output does not depend."""
    return MapFault(
        f"map {name!r}: the derivative with respect to {latent!r} is zero everywhere; mend the "
        "derivative, or leave the latent out of the map"
    )


@dataclass(frozen=True, eq=False)
class _Case:
    """One latent at one draw."""

    tested: Derivative
    latent: str
    index: int
    values: list[np.ndarray]
    spread: np.ndarray
    at: Directional
    cotangent: np.ndarray
    rng: np.random.Generator
    signed: np.ndarray = field(init=False)  # steps of all elements, flat

    def __post_init__(self) -> None:
        value = self.values[self.index]
        signs = self.rng.choice([-1.0, 1.0], value.shape)
        object.__setattr__(self, "signed", (signs * moves(value, self.spread)).ravel())

    @property
    def start(self) -> str:
        """Beginning of messages."""
        return f"map {self.tested.name!r}: the derivative with respect to {self.latent!r} is wrong"

    def tangent(self, part: np.ndarray) -> np.ndarray:
        """Return the tangent that moves some elements."""
        tangent = np.zeros(self.signed.size)
        tangent[part] = self.signed[part]
        return tangent.reshape(self.values[self.index].shape)

    def block(self, part: np.ndarray, careful: bool = False) -> "_Block":
        """Return what the derivative and differences say of some columns."""
        tangent = self.tangent(part)
        pushed = self.tested.pushed(self.values, self.index, tangent)
        self.tested.require_rows(pushed, self.at.output.size)
        difference = self.at.careful if careful else self.at.best
        return _Block(part, pushed, difference(self.index, tangent), careful)


@dataclass(frozen=True, eq=False)
class _Block:
    """Some columns, each times plus or minus its step, added up: given and by difference."""

    part: np.ndarray
    pushed: np.ndarray
    difference: Difference
    careful: bool  # whether differences over several steps were compared

    @property
    def off(self) -> np.ndarray:
        """By how much they differ, shape (data,)."""
        return np.asarray(self.pushed, dtype=float) - self.difference.change

    @property
    def size(self) -> float:
        """Norm of the change."""
        return float(np.linalg.norm(self.difference.change))

    def without(self, other: "_Block") -> "_Block":
        """Return the columns that are not in another block."""
        rest = Difference(
            self.difference.change - other.difference.change,
            self.difference.doubt + other.difference.doubt,
            self.difference.rounding + other.difference.rounding,
        )
        part = np.setdiff1d(self.part, other.part, assume_unique=True)
        return _Block(part, self.pushed - other.pushed, rest, self.careful)


def _norm(values: np.ndarray) -> float:
    """Return the norm, infinite where there is NaN."""
    norm = float(np.linalg.norm(values))
    return norm if np.isfinite(norm) else np.inf


def _check_columns(case: _Case, pulled: np.ndarray, count: int) -> None:
    """Raise unless push-forward and pull-back are adjoint, and the one agrees with differences."""
    size = case.signed.size
    parts = np.array_split(case.rng.permutation(size), min(count, size))
    blocks = [case.block(part) for part in parts]
    _check_adjoint(case, pulled, np.sum([block.pushed for block in blocks], axis=0))
    known = [block for block in blocks if block.difference.finite]
    if not known:
        return
    usual = float(np.sqrt(np.mean([block.size**2 for block in known])))
    for number, block in enumerate(known):
        if _close(block, usual):
            continue
        known[number] = case.block(block.part, careful=True)
        if not known[number].difference.finite or _close(known[number], usual):
            continue
        if not np.any(pulled) and not any(np.any(b.pushed) for b in blocks):
            raise zero_block(case.tested.name, case.latent)
        raise _named(case, _worst_column(case, known[number]))
    _check_suspect(case, [block for block in known if block.difference.finite], usual)


def _check_adjoint(case: _Case, pulled: np.ndarray, pushed: np.ndarray) -> None:
    adjoint = float(np.sum(np.asarray(pulled, dtype=float).ravel() * case.signed))
    found = float(case.cotangent @ pushed)
    if not np.isfinite(found):
        return  # which comparing with differences tells
    if not np.isfinite(adjoint):
        raise MapFault(
            f"map {case.tested.name!r}: vjp for {case.latent!r} is not finite at a prior draw, "
            "where jvp is; mend it"
        )
    single = {pulled.dtype, pushed.dtype} & {np.dtype("float32"), np.dtype("float16")}
    tolerance = ADJOINT_TOLERANCE_SINGLE if single else ADJOINT_TOLERANCE
    # Change of the output times cotangent, without cancellation.
    size = np.linalg.norm(pushed) * np.linalg.norm(case.cotangent) / np.sqrt(case.cotangent.size)
    if not abs(found - adjoint) <= tolerance * (size + abs(adjoint)):
        raise MapFault(
            f"map {case.tested.name!r}: jvp and vjp for {case.latent!r} are not adjoint: w.(J v) = "
            f"{found:.6g}, (J^T w).v = {adjoint:.6g}; one of them is wrong"
        )


def _close(block: _Block, usual: float) -> bool:
    """Tell whether given and difference agree as well as the difference allows."""
    difference, off = block.difference, block.off
    size = max(block.size, NEGLIGIBLE * usual)
    # Written so that NaN fails.
    whole = _norm(off) <= TOLERANCE * size + difference.uncertainty
    row = np.max(np.abs(off) - difference.doubt) <= (
        ROW_TOLERANCE * np.abs(difference.change).max() + difference.rounding
    )
    return bool(whole and row)


def _check_suspect(case: _Case, blocks: list[_Block], usual: float) -> None:
    """Follow the largest deviation that differences cannot explain to its column."""

    def unexplained(block: _Block) -> float:
        explained = SUSPECT * block.size + 10 * block.difference.uncertainty
        return _norm(block.off) / max(explained, np.finfo(float).tiny)

    worst = max(blocks, key=unexplained, default=None)
    if worst is None or unexplained(worst) <= 1.0:
        return
    column = _worst_column(case, worst)
    size = max(column.size, float(np.linalg.norm(column.pushed)))
    usual_column = usual / np.sqrt(worst.part.size)
    allowed = COLUMN_TOLERANCE * size + 3 * column.difference.uncertainty
    if size > NEGLIGIBLE * usual_column and not _norm(column.off) <= allowed:
        raise _named(case, column)


def _worst_column(case: _Case, block: _Block) -> _Block:
    """Return the column in a block that deviates most, by halving."""
    careful = block.careful
    while block.part.size > 1:
        half = case.block(block.part[: block.part.size // 2], careful)
        rest = block.without(half)
        block = half if _norm(half.off) >= _norm(rest.off) else rest
    return case.block(block.part, careful)


def _named(case: _Case, column: _Block) -> MapFault:
    element = int(column.part[0])
    step = case.signed[element]
    off = np.abs(column.off)
    row = int(np.argmax(np.where(np.isnan(off), np.inf, off)))
    return MapFault(
        f"{case.start}; the worst entry is datum {row}, element {element}: "
        f"{column.pushed[row] / step:.6g} given, {column.difference.change[row] / step:.6g} by "
        "finite difference"
    )


def _check_sum(case: _Case, pulled: np.ndarray) -> None:
    """Raise unless a pull-back agrees with differences, summed over all columns and data."""
    everything = np.arange(case.signed.size)
    gap, allowed = _summed(case, pulled, everything, case.at.best)
    if gap <= allowed:
        return
    gap, allowed = _summed(case, pulled, everything, case.at.careful)
    if gap <= allowed:
        return
    part = everything
    while part.size > 1:
        halves = part[: part.size // 2], part[part.size // 2 :]
        part = max(halves, key=lambda half: _infinite(_summed(case, pulled, half, case.at.best)[0]))
    (element,) = part
    difference = case.at.best(case.index, case.tangent(part)).change @ case.cotangent
    raise MapFault(
        f"{case.start}; the worst element is {element}: {np.ravel(pulled)[element]:.6g} given, "
        f"{difference / case.signed[element]:.6g} by finite difference, both times the same "
        "random cotangent"
    )


def _infinite(value: float) -> float:
    return value if np.isfinite(value) else np.inf


def _summed(
    case: _Case, pulled: np.ndarray, part: np.ndarray, difference: Callable[..., Any]
) -> tuple[float, float]:
    """Return by how much the sums over some columns differ, and what is allowed."""
    found = difference(case.index, case.tangent(part))
    if not found.finite:
        return 0.0, 0.0
    cotangent = case.cotangent
    given = float(np.sum(np.ravel(pulled)[part] * case.signed[part]))
    length = np.linalg.norm(cotangent)
    size = np.linalg.norm(found.change) * length / np.sqrt(cotangent.size)
    allowed = TOLERANCE * size + np.abs(cotangent) @ found.doubt + found.rounding * length
    return abs(given - float(cotangent @ found.change)), float(allowed)
