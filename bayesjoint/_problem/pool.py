"""Compiled functions at rest, for problems that differ in their data alone."""

from typing import Any


class Pool:
    """What was compiled for a problem and is not in use; the next user takes it.

    A problem with other data has the same pool, and one derived from it the same part of the pool,
    so that graphs are compiled once.  Who takes functions out has them alone.  Copies and pickles
    are empty.

    Attributes
    ----------
    idle : list
        Of `bayesjoint._compiled.functions.ModelFunctions`.
    """

    def __init__(self) -> None:
        self.idle: list[Any] = []
        self._parts: dict[Any, Pool] = {}

    def __reduce__(self) -> tuple:
        return Pool, ()

    def part(self, name: Any) -> "Pool":
        """Return the pool of the problem that is derived in a certain way."""
        return self._parts.setdefault(name, Pool())
