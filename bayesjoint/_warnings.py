"""Warnings that point at the user's own line."""

import contextlib
import functools
import os
import warnings
from pathlib import Path

# The last is where dataclasses have the __init__ that they write, "<string>" less its last letter:
# Python 3.12 and 3.13 do not skip a file whose whole name is the prefix.
OURS = (str(Path(__file__).parent) + os.sep, contextlib.__file__, functools.__file__, "<string")


def warn(text: str) -> None:
    """Warn of something, at the line outside of this package from which it came."""
    warnings.warn(text, UserWarning, skip_file_prefixes=OURS)
