"""Errors of which some combination is free of error to working precision."""

from collections.abc import Sequence

# Variance of a datum given others, over its own: below the first digits are saved by other means,
# below the second fewer than four are left.
CLOSE, SINGULAR = 1e-8, 1e-12


class SingularErrors(ValueError):
    """Some combination of the data is free of error to working precision."""


def singular(names: Sequence[str], ratio: float) -> SingularErrors:
    """Return the error for modalities whose errors are nearly one.

    ``ratio`` is the sd of their independent noise over that of the whole.
    """
    return SingularErrors(
        f"the errors of {_called(names)} are so strongly correlated, and their independent noise "
        f"so small (down to {ratio:.1g} of the whole sd), that a combination of the data is free "
        "of error to working precision and the information diverges; give more noise, or a "
        "correlation farther from 1 or -1"
    )


def noiseless(names: Sequence[str], ratio: float) -> SingularErrors:
    """Return the error for noise that is lost beside a discrepancy of low rank."""
    return SingularErrors(
        f"the independent noise of {_called(names)} is only {ratio:.1g} of the sd of the "
        "discrepancy: combinations of the data are free of error to working precision and the "
        "information diverges; give more noise, or, where its sd is unknown, a prior that keeps it "
        "off zero"
    )


def _called(names: Sequence[str]) -> str:
    if not names:
        return "the data"
    return f"modalit{'ies' if len(names) > 1 else 'y'} {' and '.join(map(repr, names))}"
