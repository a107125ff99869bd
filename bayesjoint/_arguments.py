"""Arguments of functions that users call: each name has one rule, wherever it is an argument."""

from collections.abc import Callable, Iterable, Mapping
from numbers import Integral
from os import PathLike
from typing import Any

import numpy as np
import xarray as xr

from bayesjoint import arrays

MOST = 10**9  # draws, replicates, starts: no computer takes as many
LARGEST_SEED = 2**128


def check(owner: str, **given: Any) -> None:
    """Raise where an argument is not of its kind.

    Parameters
    ----------
    owner : str
        The function, for messages.
    **given
        The arguments by name; each name is in `RULES`.

    Raises
    ------
    ValueError
        Naming the function, the argument and what to give.
    """
    for name, value in given.items():
        RULES[name](owner, name, value)


def check_given(owner: str, **given: Any) -> None:
    """Raise where an argument that may be left out is given and not of its kind."""
    check(owner, **{name: value for name, value in given.items() if value is not None})


def trees(owner: str, name: str, value: Any) -> dict[Any, xr.DataTree]:
    """Return a mapping of names to trees as a dict; none where None is given.

    Raises
    ------
    ValueError
        When it is another thing, or holds another thing than trees.
    """
    cure = 'give trees by name, as {"gravity": bj.sample(problem.without("seismic"))}'
    if value is None:
        return {}
    if not isinstance(value, Mapping) or isinstance(value, xr.Dataset | xr.DataTree):
        raise ValueError(f"{owner}: {name} is {kind(value)}; {cure}")
    for key, tree in value.items():
        if not isinstance(tree, xr.DataTree):
            raise ValueError(f"{owner}: {name} of {key!r} is {kind(tree)}, no tree; {cure}")
    return dict(value)


def table(owner: str, value: Any, made_by: str, *needed: str, attrs: Iterable[str] = ()) -> None:
    """Raise unless a value is the Dataset of a function, with the variables that are needed."""
    cure = f"give what bj.{made_by} returns"
    if not isinstance(value, xr.Dataset):
        raise ValueError(f"{owner}: a Dataset is needed, {kind(value)} given; {cure}")
    missing = [name for name in needed if name not in value.variables]
    missing += [f"attribute {name}" for name in attrs if name not in value.attrs]
    if missing:
        raise ValueError(f"{owner}: {missing} missing; {cure}")


def kind(value: Any) -> str:
    """Return what a value is, in words of a message."""
    return "None" if value is None else f"of type {type(value).__name__}"


def _count(owner: str, name: str, value: Any) -> None:
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or not 1 <= value <= MOST:
        raise ValueError(
            f"{owner}: {name} must be a positive whole number up to {MOST:,}, {_shown(value)} given"
        )


def _seed(owner: str, name: str, value: Any) -> None:
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or not 0 <= value < LARGEST_SEED:
        raise ValueError(
            f"{owner}: {name} must be a whole number, not negative, or None; {_shown(value)} given"
        )


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, int | float | str | np.generic) else kind(value)
    return text if len(text) < 40 else f"{text[:37]}..."


def _flag(owner: str, name: str, value: Any) -> None:
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{owner}: {name} must be True or False, {_shown(value)} given")


def _name(owner: str, name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise ValueError(f"{owner}: {name} must be a name, {_shown(value)} given; give a text")


def _names(owner: str, name: str, value: Any) -> None:
    if isinstance(value, str):
        return
    several = isinstance(value, list | tuple) and bool(value)
    if not several or not all(isinstance(each, str) for each in value):
        raise ValueError(
            f"{owner}: {name} must be a name or a list of names, {_shown(value)} given"
        )


def _pair(owner: str, name: str, value: Any) -> None:
    _names(owner, name, value)
    if isinstance(value, str) or len(value) != 2:
        raise ValueError(f"{owner}: {name} must be two names, {_shown(value)} given")


def _number(owner: str, name: str, value: Any) -> None:
    if isinstance(value, bool | np.bool_) or not np.isfinite(
        arrays.number(owner, name, value, "1")
    ):
        raise ValueError(f"{owner}: {name} must be a finite number, {_shown(value)} given")


def _positive(owner: str, name: str, value: Any) -> None:
    _number(owner, name, value)
    if not arrays.number(owner, name, value) > 0:
        raise ValueError(f"{owner}: {name} must be positive, {_shown(value)} given")


def _share(owner: str, name: str, value: Any) -> None:
    _number(owner, name, value)
    if not 0 < arrays.number(owner, name, value) < 1:
        raise ValueError(f"{owner}: {name} lies between 0 and 1, {_shown(value)} given")


def _tree(owner: str, name: str, value: Any) -> None:
    if not isinstance(value, xr.DataTree):
        raise ValueError(
            f"{owner}: {name} is {kind(value)}; give the tree that bj.sample or bj.linearize "
            "returned"
        )
    if name == "posterior" and "posterior" not in value.children:
        raise ValueError(f"{owner}: the tree has no group posterior; give that of bj.sample")


def _point(owner: str, name: str, value: Any) -> None:
    """Raise unless a point is a mapping, or a tree."""
    if isinstance(value, xr.Dataset) or not isinstance(value, Mapping):
        raise ValueError(
            f"{owner}: {name} is {kind(value)}; give values by the names of unknowns, as "
            '{"depth": 3.0}'
        )


def _settings(owner: str, name: str, value: Any) -> None:
    fits = isinstance(value, Mapping) and not isinstance(value, xr.Dataset | xr.DataTree)
    if not fits or not all(isinstance(key, str) for key in value):
        raise ValueError(
            f"{owner}: {name} is {kind(value)}; give settings of bj.sample by name, as "
            '{"draws": 500}'
        )


def _executor(owner: str, name: str, value: Any) -> None:
    if not callable(getattr(value, "submit", None)) or isinstance(value, type):
        raise ValueError(
            f"{owner}: {name} is {kind(value)}; give one of concurrent.futures, as "
            "ProcessPoolExecutor()"
        )


def _path(owner: str, name: str, value: Any) -> None:
    fits = isinstance(value, str | PathLike) and not isinstance(value, bytes)
    text = str(value) if fits else ""
    if not text.strip() or "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError(f"{owner}: {name} is {_shown(value)}; give a path, as a text")


def _backend(owner: str, name: str, value: Any) -> None:
    if not isinstance(value, str) or value not in ("numba", "interpreted"):
        raise ValueError(f'{owner}: {name} must be "numba" or "interpreted", {_shown(value)} given')


RULES: dict[str, Callable[[str, str, Any], None]] = {
    **dict.fromkeys(
        (
            "draws", "tune", "chains", "prior_draws", "checkpoint", "cores", "replicates",
            "starts", "weights", "length_scales", "largest",
        ),
        _count,
    ),
    **dict.fromkeys(
        ("equalise", "shaped", "refit", "resume", "overwrite", "progress", "keep_white"), _flag
    ),
    **dict.fromkeys(("name", "coupling", "discrepancy", "mixture", "dim", "title"), _name),
    **dict.fromkeys(("into", "source", "latent"), _name),
    **dict.fromkeys(("modality", "parameters"), _names),
    **dict.fromkeys(("threshold", "tolerance", "up_to"), _positive),
    **dict.fromkeys(("similarity", "probability", "leakage", "target_accept"), _share),
    **dict.fromkeys(("dt", "posterior"), _tree),
    **dict.fromkeys(("store", "path"), _path),
    "random_seed": _seed,
    "pair": _pair,
    **dict.fromkeys(("at", "truth", "values"), _point),
    "nuts": _settings,
    "executor": _executor,
    "backend": _backend,
}  # fmt: skip
