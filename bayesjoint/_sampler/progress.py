"""Progress of a run: bars in a terminal or a notebook, plain lines in a log file."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from arviz_stats.base import array_stats
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TextColumn("{task.fields[detail]}"),
    TimeElapsedColumn(),
    TextColumn("left"),
    TimeRemainingColumn(),
)
LINE_EVERY = 0.1  # of the draws, where bars cannot be drawn
MONITORED = 40  # coordinates whose effective sample size is followed


class Followed:
    """Follows the chains of a run and shows where they are, with the time left.

    Parameters
    ----------
    show : bool
        False follows silently.
    chains, tune, draws : int
        How long the run is.
    done : int
        Draws that were made before, by a run that is resumed.
    """

    def __init__(self, show: bool, chains: int, tune: int, draws: int, done: int = 0) -> None:
        self.console = Console()
        self.total, self.tune = tune + draws, tune
        self._base = tune + done if done else 0
        self._state = [[self._base, 0, 0] for _ in range(chains)]  # done, divergences, steps
        self._past = [0] * chains  # divergences of earlier parts
        self._monitored: list[np.ndarray] = []
        self._ess: list[float] = [np.nan] * chains
        self._began, self._said = time.monotonic(), 0.0
        self._first = self._base
        self._whole = False  # whether all draws have been taken
        bars = show and (self.console.is_terminal or self.console.is_jupyter)
        self._lines = show and not bars
        self._bars = Progress(*COLUMNS, console=self.console, disable=not bars)
        self._tasks = [
            self._bars.add_task(f"chain {i}", total=self.total, completed=self._base, detail="")
            for i in range(chains)
        ]

    def __enter__(self) -> "Followed":
        self._bars.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._bars.stop()

    def watch(self, chain: int) -> Callable:
        """Return nutpie's callback for the part of a chain that is about to run."""

        def update(states) -> None:
            for state in states:
                finished = min(self.total, self._base + state.finished_draws)
                self._state[chain] = [finished, state.divergences, state.latest_num_steps]
            self._show(chain)

        return update

    def advanced(self, points: np.ndarray, divergences: np.ndarray) -> None:
        """Take the draws (chain, draw, n) of a part that is complete."""
        self._base += points.shape[1]
        self._past = [int(p + d) for p, d in zip(self._past, divergences, strict=True)]
        for state in self._state:
            state[:2] = [self._base, 0]
        self._whole = self._base >= self.total
        self.peek(points)
        self._monitored.append(_some_coordinates(points))

    def peek(self, points: np.ndarray) -> None:
        """Take the draws so far (chain, draw, n) of a part that is still running."""
        followed = np.concatenate([*self._monitored, _some_coordinates(points)], axis=1)
        if followed.shape[1] >= 4:
            for chain in range(len(self._state)):
                ess = array_stats.ess(followed[chain : chain + 1], 0, 1)
                known = ess[np.isfinite(ess)]  # none of a chain that has not moved
                self._ess[chain] = float(known.min()) if known.size else np.nan
        for chain in range(len(self._state)):  # a line tells of all chains
            self._show(chain)

    def warmed_up(self) -> None:
        """Take the end of the warm-up."""
        self._base = self.tune
        for state in self._state:
            state[:2] = [self.tune, 0]

    def _show(self, chain: int) -> None:
        done, divergences, steps = self._state[chain]
        ess = "" if np.isnan(self._ess[chain]) else f", ESS {self._ess[chain]:,.0f}"
        warm = "warm-up, " if done < self.tune else ""
        bad = self._past[chain] + divergences
        detail = f"{warm}{steps} steps a draw, {bad} divergences{ess}"
        self._bars.update(self._tasks[chain], completed=done, detail=detail)
        if self._lines:
            self._say()

    def _say(self) -> None:
        """Print a line for every tenth of the run."""
        done = min(state[0] for state in self._state)
        share = done / self.total
        if share == 1.0 and not self._whole:
            return  # the last line waits for what all draws say
        if share < self._said + LINE_EVERY and not (share == 1.0 > self._said):
            return
        self._said = share
        spent = time.monotonic() - self._began
        left = spent * (self.total - done) / max(done - self._first, 1)
        bad = sum(self._past) + sum(state[1] for state in self._state)
        steps = max(state[2] for state in self._state)
        ess = np.nan if np.all(np.isnan(self._ess)) else np.nanmin(self._ess)
        known = "" if np.isnan(ess) else f", smallest ESS of a chain {ess:,.0f}"
        self.console.print(
            f"{share:.0%} of {len(self._state)} chains: {done} of {self.total} draws, "
            f"{steps} steps a draw, {bad} divergences{known}, {left:,.0f} s left",
            highlight=False, soft_wrap=True,
        )  # fmt: skip


def _some_coordinates(points: np.ndarray) -> np.ndarray:
    where = np.linspace(0, points.shape[2] - 1, MONITORED).astype(int)
    return points[:, :, np.unique(where)]
