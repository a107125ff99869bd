"""Names that users gave, kept apart from the package's own in one dataset.

A latent may be called ``dofs`` and a dim of the data ``mode``, as variables and dims of reports
are.  Where reports are made, therefore, names of users bear a mark, which no name of the package
has, and so do names that the package makes of theirs.  On the way out `released` takes the marks
off: names of users stay as they were given, and a name of the package that is one of them gets an
underscore behind it, which the attribute ``renamed`` tells (``"mode: mode_"``).  `restored` undoes
that.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import xarray as xr

USER, MADE = "user:", "made of user:"


def user(name: Any) -> str:
    """Mark the name of a latent, modality, dim or coordinate."""
    return f"{USER}{name}"


def made(name: Any) -> str:
    """Mark a name that the package makes of one of a user's, such as ``depth_contraction``."""
    return f"{MADE}{name}"


def plain(name: Any) -> str:
    """Return a name without its mark."""
    given = str(name)
    return given.removeprefix(MADE) if given.startswith(MADE) else given.removeprefix(USER)


def marked[T: (xr.Dataset, xr.DataArray)](values: T, own: Iterable[str] = ()) -> T:
    """Mark all variables, dims and coordinates, those of the package left out."""
    kept = set(own)
    return values.rename({name: user(name) for name in _names(values) - kept})


def released[T: (xr.Dataset, xr.DataArray)](values: T) -> T:
    """Take the marks off; names of the package give way to those of users."""
    names = _names(values)
    given = {name: plain(name) for name in names if name.startswith(USER)}
    for mark in (True, False):  # what is made of users' names comes before what is not
        rest = [name for name in names - set(given) if name.startswith(MADE) == mark]
        given |= _beside(set(given.values()), rest)
    changed = {name: new for name, new in given.items() if name != new}
    if not changed and not _clashes(values, given):
        return values
    values = values.rename(changed)
    if isinstance(values, xr.DataArray) and values.name in given.values():
        values = values.rename(f"{values.name}_")
    told = [f"{plain(name)}: {new}" for name, new in sorted(given.items()) if plain(name) != new]
    return values.assign_attrs(renamed=told) if told else values


def restored(ds: xr.Dataset, users: Iterable[str] = ()) -> xr.Dataset:
    """Return a dataset with the package's names as they were, and marks on names of users.

    On those given, and on those that names of the package gave way to.
    """
    renamed = ds.attrs.get("renamed", [])
    pairs = [text.split(": ") for text in ([renamed] if isinstance(renamed, str) else renamed)]
    back: dict[str, str] = {}
    for own, given in sorted(pairs, key=lambda pair: -len(pair[1])):
        # Of two, the one nearer to the plain name was made of a user's.
        back[given] = made(own) if own in back.values() else own
    displaced = [own for own in back.values() if not own.startswith(MADE)]
    back |= {name: user(name) for name in (*users, *displaced) if name not in back}
    restored = ds.rename({name: new for name, new in back.items() if name in _names(ds)})
    restored.attrs = {key: value for key, value in ds.attrs.items() if key != "renamed"}
    return restored


def of_user(report: xr.Dataset, name: str) -> xr.DataArray:
    """Return what is of a user, or made of that, in a report that was restored."""
    return report[next((key for key in (made(name), user(name)) if key in report), name)]


def labelled[**P, T: (xr.Dataset, xr.DataArray)](report: Callable[P, T]) -> Callable[P, T]:
    """Release the names of what a report returns; `with_marks` gives it as it was."""

    @functools.wraps(report)
    def released_report(*args: P.args, **kwargs: P.kwargs) -> T:
        return released(report(*args, **kwargs))

    return released_report


def with_marks[**P, T](report: Callable[P, T]) -> Callable[P, T]:
    """Return the report whose names of users bear marks."""
    return report.__wrapped__  # type: ignore[attr-defined]


def free(name: str, taken: Iterable[str]) -> str:
    """Return a name with as many underscores behind it as make it another than those taken."""
    others = set(taken)
    while name in others:
        name += "_"
    return name


def _names(values: xr.Dataset | xr.DataArray) -> set[str]:
    variables = values.variables if isinstance(values, xr.Dataset) else values.coords
    return {str(name) for name in (*variables, *values.dims)}


def _beside(taken: set[str], names: list[str]) -> dict[str, str]:
    """Return names, without marks, such as none is one of those taken."""
    found = {name: plain(name) for name in names if plain(name) not in taken}
    taken = taken | set(found.values())
    for name in sorted(set(names) - set(found)):
        found[name] = free(plain(name), taken)
        taken.add(found[name])
    return found


def _clashes(values: xr.Dataset | xr.DataArray, given: dict[str, str]) -> bool:
    return isinstance(values, xr.DataArray) and values.name in given.values()
