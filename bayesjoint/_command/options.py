"""Options of problem(), read as the function annotates them."""

import inspect
import re
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Union

from bayesjoint._command.faults import UserError

NONE = ("none", "null", "")
PLAIN = (bool, int, float, str, Path)
SEQUENCES = (list, tuple, set, frozenset)
ARGUMENTS = {
    r"\b(resume|overwrite)=True": r"--\1",
    r"\brandom_seed=(\d+) or None": r"--seed \1 or none",
    r"\brandom_seed=": "--seed ",
    r"\b(draws|tune|chains)=(?=\d)": r"--\1 ",
    r"(name |or )another store\b": r"\1another folder with --out",
}


def keywords(
    make: Callable[..., Any], path: Path, data: Any, given: Sequence[str] | None
) -> dict[str, Any]:
    """Return the options as keywords of a function ``problem(data, **options)``.

    An option is read by the annotation of its parameter, or as the type of its default; where there
    is neither, ``true`` and ``false``, and what is written as a number, are read as such.

    Raises
    ------
    UserError
        When an option is malformed, unknown, missing, or not of its kind.
    """
    signature, kinds = inspect.signature(make), _kinds(make)
    options = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise UserError(f"--option {text!r}: write NAME=VALUE")
        if name in options:
            raise UserError(f"--option {name} is given twice")
        options[name] = value
    parameters = list(signature.parameters.values())
    named = {
        p.name: p
        for p in parameters[1:]
        if p.kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    }
    rest = next((p for p in parameters if p.kind is inspect.Parameter.VAR_KEYWORD), None)
    read = {}
    for name, value in options.items():
        parameter = named.get(name, rest)
        if parameter is None:
            known = f"it takes {', '.join(named)}" if named else "it takes none"
            raise UserError(f"{path}: problem() takes no option {name!r}; {known}")
        read[name] = _read(path, name, value, _kind_of(parameter, kinds))
    try:
        signature.bind(data, **read)
    except TypeError as error:
        raise UserError(
            f"{path}: problem() cannot be called with the data folder and these options: {error}; "
            "missing ones are given as --option NAME=VALUE"
        ) from error
    return read


def as_options(line: str) -> str:
    """Return a line of ``bj.sample`` with the options of the command line for its arguments."""
    for argument, spelling in ARGUMENTS.items():
        line = re.sub(argument, spelling, line)
    return line


def _kinds(make: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations, also where they are written as text."""
    try:
        return typing.get_type_hints(make, include_extras=True)
    except (NameError, TypeError):  # names that are imported for a type checker only
        found = getattr(make, "__annotations__", {})
        return {name: kind for name, kind in found.items() if not isinstance(kind, str)}


def _kind_of(parameter: inspect.Parameter, kinds: dict[str, Any]) -> Any:
    kind = kinds.get(parameter.name)
    if kind is None and parameter.kind is not inspect.Parameter.VAR_KEYWORD:
        default = parameter.default
        kind = next((k for k in (*PLAIN, *SEQUENCES) if type(default) is k), None)
    return kind


def _read(path: Path, name: str, text: str, kind: Any) -> Any:
    if kind is None or kind is Any or kind is inspect.Parameter.empty:
        return _literal(text)
    try:
        return _as_kind(text, kind)
    except ValueError as error:
        raise UserError(
            f"{path}: --option {name}={text} is not {_spelled(kind)}{_reason(error)}"
        ) from error


def _as_kind(text: str, kind: Any) -> Any:
    """Return text as a value of an annotated type; ValueError where it is none."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return _as_one_of(text, inner)
    if origin is Literal:
        return _as_choice(text, inner)
    sequence = origin or kind
    if isinstance(sequence, type) and issubclass(sequence, SEQUENCES):
        return _as_sequence(text, sequence, inner)
    if origin is not None and isinstance(origin, type) and issubclass(list, origin):
        return _as_sequence(text, list, inner[:1])  # Sequence[int], Iterable[str]
    return _validated(text, kind)


def _as_one_of(text: str, kinds: Sequence[Any]) -> Any:
    """Return text as the first kind that it is; plain text is what it is last."""
    if type(None) in kinds and text.lower() in NONE:
        return None
    for kind in sorted((k for k in kinds if k is not type(None)), key=lambda k: k is str):
        try:
            return _as_kind(text, kind)
        except ValueError:
            continue
    raise ValueError("")


def _as_choice(text: str, choices: Sequence[Any]) -> Any:
    for choice in choices:
        if text == str(choice) or (choice is None and text.lower() in NONE):
            return choice
    raise ValueError("")


def _as_sequence(text: str, kind: type, inner: Sequence[Any]) -> Any:
    """Return the parts of a list that is written with commas."""
    bare = text.strip().removeprefix("[").removesuffix("]")
    parts = [part.strip() for part in bare.split(",")] if bare else []
    if kind is tuple and inner and inner[-1] is not Ellipsis:
        if len(parts) != len(inner):
            raise ValueError(f"{len(inner)} parts are needed")
        return tuple(_as_kind(part, each) for part, each in zip(parts, inner, strict=True))
    each = inner[0] if inner else None
    return kind(_literal(part) if each is None else _as_kind(part, each) for part in parts)


def _validated(text: str, kind: Any) -> Any:
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(text)
    except ValidationError as error:
        raise ValueError(error.errors()[0]["msg"]) from None
    except Exception:  # noqa: BLE001 a type that cannot be read from text
        return _literal(text)


def _literal(text: str) -> Any:
    """Return what text is where nobody says: 007 and 1_000 are no numbers as people write them."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    bare = text.lstrip("+-")
    if not bare.replace("_", "").isidentifier() and "_" not in bare:
        if bare.isdigit():
            return int(text) if bare == "0" or not bare.startswith("0") else text
        try:
            return float(text)
        except ValueError:
            return text
    return text


def _spelled(kind: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false"}
    if kind in names:
        return names[kind]
    if typing.get_origin(kind) is Literal:
        return f"one of {', '.join(str(choice) for choice in typing.get_args(kind))}"
    plain = isinstance(kind, type) and not typing.get_args(kind)
    return f"of the kind {kind.__name__ if plain else kind}"


def _reason(error: ValueError) -> str:
    return f": {error}" if str(error) else ""
