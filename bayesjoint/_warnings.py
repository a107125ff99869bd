"""Warnings that point at the user's own line."""

import contextlib
import os
import warnings
from pathlib import Path

OURS = (str(Path(__file__).parent) + os.sep, contextlib.__file__)


def warn(text: str) -> None:
    """Warn of something, at the line outside of this package from which it came."""
    warnings.warn(text, UserWarning, skip_file_prefixes=OURS)
