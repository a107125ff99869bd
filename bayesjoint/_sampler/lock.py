"""One writer at a time: a lock beside the store, which the system drops with its process."""

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from bayesjoint._warnings import warn


def lock_of(path: Path) -> Path:
    """Return the file that is locked while a store is written."""
    path = path.resolve()
    return path.with_name(f"{path.name}.lock")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Be the only writer of a store; readers take no notice.

    The lock is the system's (``flock``): it goes with the process, however that ends.  The file
    says who holds it, and is removed at the end; one that is found is of a process that was killed.

    Raises
    ------
    BlockingIOError
        When another process, or another run of this one, is writing the store.
    """
    lock = lock_of(path)
    with _locked(path, lock) as file:
        _tell_of_the_dead(path, _holder(file), lock)
        file.truncate(0)
        file.write(json.dumps(_myself()).encode())
        file.flush()
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _locked(path: Path, lock: Path) -> IO[bytes]:
    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = open(lock, "a+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                return file
        except FileNotFoundError:
            pass
        except OSError as error:
            with file:
                raise _refusal(path, error, _holder(file)) from None
        file.close()  # its holder removed it meanwhile


def _refusal(path: Path, error: OSError, holder: dict[str, Any]) -> OSError:
    if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
        return BlockingIOError(
            f"store {str(path)!r} is being written by {_words(holder)}; wait for it, or name "
            "another store"
        )
    return OSError(
        f"store {str(path)!r} lies where files cannot be locked ({error.strerror}); name one on a "
        "local disk"
    )


def _tell_of_the_dead(path: Path, holder: dict[str, Any], lock: Path) -> None:
    if not holder:
        return
    if holder.get("host") != socket.gethostname():
        raise BlockingIOError(
            f"store {str(path)!r} was being written by {_words(holder)}, another machine; if that "
            f"has ended, remove {str(lock)!r}"
        )
    warn(
        f"store {str(path)!r}: {_words(holder)} ended without releasing its lock, which is taken "
        "over"
    )


def _holder(file: IO[bytes]) -> dict[str, Any]:
    """Return what the file says of its holder; nothing where that is not known."""
    try:
        file.seek(0)
        told = json.loads(file.read() or b"{}")
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _myself() -> dict[str, Any]:
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    return {"process": os.getpid(), "host": socket.gethostname(), "since": now}


def _words(holder: dict[str, Any]) -> str:
    if not holder:
        return "another process"
    return f"process {holder.get('process')} on {holder.get('host')}, since {holder.get('since')}"
