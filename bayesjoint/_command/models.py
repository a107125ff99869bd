"""Model files: loaded, and asked for their problem."""

import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from bayesjoint._command.faults import (
    TOLD,
    UserError,
    is_told,
    one_line,
    one_line_errors,
    traceback_within,
)
from bayesjoint._command.options import keywords

if TYPE_CHECKING:
    from bayesjoint.problem import JointProblem


def load_problem(path: Path, data: Path | None, option: Sequence[str] | None) -> "JointProblem":
    """Return the problem that a model file makes of a data folder and options."""
    if data is not None and not data.is_dir():
        raise UserError(f"the data folder {data} does not exist")
    make = _problem_function(load_module(path), path)
    options = keywords(make, path, data, option)
    with _no_exit(path, "in problem()"), one_line_errors(path.parent):
        problem = make(data, **options)
    from bayesjoint.problem import JointProblem

    if not isinstance(problem, JointProblem):
        raise UserError(
            f"{path}: problem() returned a {type(problem).__name__}, not a JointProblem"
        )
    return problem


def load_module(path: Path) -> ModuleType:
    """Return the module of a model file."""
    if not path.is_file():
        raise UserError(f"the model file {path} does not exist")
    spec = importlib.util.spec_from_file_location(path.stem, path.resolve())
    if spec is None or spec.loader is None:
        raise UserError(f"the model file {path} is not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    # Black boxes are found again by name when a problem travels to another process.
    sys.modules[path.stem] = module
    if (folder := str(path.resolve().parent)) not in sys.path:
        sys.path.insert(0, folder)  # a model may lie in several files, as a program may
    try:
        with _no_exit(path, "while it was loaded"):
            spec.loader.exec_module(module)
    except UserError:
        raise
    except Exception as error:
        bug = not isinstance(error, TOLD) or not is_told(error, (path.parent,))
        raise UserError(
            f"the model file {path} cannot be loaded{_line_of(error, path)}: "
            f"{type(error).__name__}: {one_line(error)}",
            traceback_within(error, (str(path.resolve()),)) if bug else "",
        ) from error
    return module


@contextmanager
def _no_exit(path: Path, when: str) -> Iterator[None]:
    try:
        yield
    except SystemExit as error:
        raise UserError(
            f"the model file {path} called sys.exit({error.code!r}) {when}; raise an error "
            'instead, and keep what runs it under if __name__ == "__main__"'
        ) from error


def _line_of(error: Exception, path: Path) -> str:
    """Return where in the file an error came from."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == path.resolve()]
    return f" (line {lines[-1]})" if lines else ""


def _problem_function(module: ModuleType, path: Path) -> Callable[..., Any]:
    make = getattr(module, "problem", None)
    if not callable(make):
        raise UserError(f"the model file {path} defines no function problem(data, **options)")
    return make
