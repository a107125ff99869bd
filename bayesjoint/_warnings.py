"""Warnings that point at the user's own line."""

import contextlib
import functools
import os
import warnings
from pathlib import Path

# Frames between the user's line and ours; dataclasses write their __init__ in "<string>".  Each
# less its last letter: Python 3.12 and 3.13 do not skip a file whose whole name is the prefix.
BETWEEN = [name[:-1] for name in (contextlib.__file__, functools.__file__, "<string>")]
PACKAGE = str(Path(__file__).parent) + os.sep  # what the paths of our own files begin with
OURS = (PACKAGE, *BETWEEN)


def warn(text: str) -> None:
    """Warn of something, at the line outside of this package from which it came."""
    warnings.warn(text, UserWarning, skip_file_prefixes=OURS)
