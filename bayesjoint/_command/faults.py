"""Faults of users in one line, and bugs of model files with their traceback."""

import linecache
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bayesjoint._warnings import PACKAGE

TOLD = (ValueError, FileNotFoundError, ImportError, OSError)


class UserError(Exception):
    """A fault that one line explains; the exit status is 2.

    Attributes
    ----------
    details : str
        Traceback of a user's code that lies under it, shown before the line.
    """

    def __init__(self, line: str, details: str = "") -> None:
        super().__init__(line)
        self.details = details


class Interrupted(Exception):
    """Ctrl-C: one line says what was kept; the exit status is 130."""


@contextmanager
def one_line_errors(*folders: Path, spelled: Callable[[str], str] = str) -> Iterator[None]:
    """Turn the errors that name object, fact and cure into one line; bugs keep their traceback.

    Parameters
    ----------
    folders : path
        Of model files: a ValueError that they or this package raise is such an error, one that
        comes from elsewhere, or from a line that raises nothing, is a bug.
    spelled : callable
        Says a line in the words of the command line.
    """
    try:
        yield
    except TOLD as error:
        if isinstance(error, ValueError) and not is_told(error, folders):
            raise
        raise UserError(spelled(one_line(error)), traceback_of_cause(error, folders)) from error


def one_line(error: BaseException) -> str:
    """Return the message of an error in one line."""
    told = " ".join(str(error).split())
    return told or type(error).__name__


def is_told(error: BaseException, folders: tuple[Path, ...]) -> bool:
    """Tell whether an error was raised on purpose, by this package or a model file."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    ours = frame.filename.startswith((PACKAGE, *_within(folders)))
    line = linecache.getline(frame.filename, frame.lineno or 0).strip()
    return ours and line.startswith("raise")


def _within(folders: tuple[Path, ...]) -> tuple[str, ...]:
    """Return what the paths of files in some folders begin with."""
    return tuple(str(folder.resolve()) + os.sep for folder in folders)


def traceback_of_cause(error: BaseException, folders: tuple[Path, ...]) -> str:
    """Return the traceback of what lies under an error: a bug in a user's code; none of others."""
    cause = error.__cause__
    while cause is not None and cause.__cause__ is not None and isinstance(cause, TOLD):
        cause = cause.__cause__
    if cause is None or cause.__traceback__ is None:
        return ""
    frames = traceback.extract_tb(cause.__traceback__)
    users = [f for f in frames if not f.filename.startswith(PACKAGE)]
    places = _within(folders)
    if not any(frame.filename.startswith(places) for frame in users):
        return ""
    return traceback_within(cause, places)


def traceback_within(error: BaseException, places: tuple[str, ...]) -> str:
    """Return the traceback of an error from its first line in some places on; none without one."""
    frames = traceback.extract_tb(error.__traceback__)
    first = next((i for i, f in enumerate(frames) if f.filename.startswith(places)), None)
    if first is None:
        return ""
    lines = traceback.format_list(frames[first:])
    return "".join(["Traceback (most recent call last):\n", *lines,
                    *traceback.format_exception_only(error)]).rstrip()  # fmt: skip
