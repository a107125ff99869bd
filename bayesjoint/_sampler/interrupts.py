"""Ctrl-C while draws are made: it asks to stop, and the draws are kept.

Python raises KeyboardInterrupt between any two instructions, also where half of the draws are in
one hand and half in the other.  Within `deferred` it is a request, that is looked at where nothing
is lost.  Whoever asks `PATIENCE` times wants out at once.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 3
LOOK = 0.1  # s between looks at running chains

_requests: list[int] = []
_stop_file: list[Path] = []  # of a worker: how the process that started it asks


@contextmanager
def deferred() -> Iterator[None]:
    """Turn Ctrl-C into a request; where another handler is installed, that one is left alone."""
    _requests.clear()
    main = threading.current_thread() is threading.main_thread()
    ours = main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, _request)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        _requests.clear()


def _request(number: int, frame: object) -> None:
    _requests.append(number)
    if len(_requests) >= PATIENCE:
        raise KeyboardInterrupt(f"asked {PATIENCE} times: given up")


def ask() -> None:
    """Ask to stop, as Ctrl-C does."""
    _requests.append(int(signal.SIGINT))


def asked() -> bool:
    """Return whether the user wants to stop."""
    return bool(_requests) or any(os.path.exists(path) for path in _stop_file)


def obey(stop_file: Path) -> None:
    """Let this process, a worker, stop when there is a file; Ctrl-C is for who started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _stop_file[:] = [stop_file]
    _requests.clear()
