"""The command line: run, check and report."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from bayesjoint.problem import JointProblem

MOST_ROWS = 10_000  # of a field, in summary.csv

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

ModelFile = Annotated[
    Path, typer.Argument(help="Python file that defines problem(data, **options).")
]
Data = Annotated[Path | None, typer.Option(help="Folder of the data, handed to problem().")]
Options = Annotated[
    list[str] | None, typer.Option("--option", help="NAME=VALUE for problem(); may be repeated.")
]


class UserError(Exception):
    """A fault that one line explains; the exit status is 2."""


@app.callback()
def about() -> None:
    """Bayesian joint inversion: several data sets, one posterior."""


@app.command()
def run(
    model: ModelFile,
    data: Data = None,
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("bayesjoint_output"),
    draws: Annotated[int, typer.Option(min=1, help="Draws kept of each chain.")] = 1000,
    tune: Annotated[int, typer.Option(min=1, help="Warm-up draws of each chain.")] = 300,
    chains: Annotated[int, typer.Option(min=1)] = 4,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 1,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run in the output folder.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a finished run in the output folder.")
    ] = False,
    option: Options = None,
) -> None:
    """Sample the posterior; write posterior.zarr, report.html and summary.csv."""
    _writable(out)
    problem = _load_problem(model, data, option)
    say = _console()
    say(f"[bold]{model.stem}[/]: {_describe(problem)}")
    import bayesjoint as bj

    with _one_line_errors():
        say("finding the maximum a posteriori and compiling (quicker the second time)")
        tree = bj.sample(
            problem, draws=draws, tune=tune, chains=chains, random_seed=seed,
            store=out / "posterior.zarr", resume=resume, overwrite=overwrite,
        )  # fmt: skip
        _label(out / "posterior.zarr", model=model.name, options=list(option or []), seed=seed)
        summary = _write_results(tree, out, model.stem)
    _show_table(summary)
    say(f"\n{tree['posterior'].attrs['diagnostics']}")
    say(f"\nposterior  {out / 'posterior.zarr'}\nsummary    {out / 'summary.csv'}")
    say(f"[bold]open[/]       {out / 'report.html'}")


@app.command()
def check(model: ModelFile, data: Data = None, option: Options = None) -> None:
    """Print what the data can tell, before anyone samples: the linearised preview."""
    problem = _load_problem(model, data, option)
    say = _console()
    say(f"[bold]{model.stem}[/]: {_describe(problem)}")
    import bayesjoint as bj

    with _one_line_errors():
        tree = bj.linearize(problem)
        _show_table(_summary(tree))
        information = bj.information(tree)
    for name in problem.modality:
        alone, added = (
            information[key].sel(modality=name).item() for key in ("eig_alone", "eig_conditional")
        )
        say(f"{name}: {alone:.1f} nats alone, {added:.1f} nats beyond the others")
    if len(problem.modality) > 1:
        for text in bj.balance(tree).attrs["words"]:
            say(text)
    forms = tree["linearization"].attrs["discrepancy_forms"]
    for text in [*forms, *bj.identifiability(tree).attrs["words"]]:
        say(text)
    if not tree["linearization"].attrs["converged"]:
        say("[yellow]the maximum a posteriori was not reached: read these numbers with care[/]")


@app.command()
def report(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Output folder of a run.")],
) -> None:
    """Rewrite the page and the summary of a run."""
    import bayesjoint as bj

    store = run_folder / "posterior.zarr"
    if not store.exists():
        raise UserError(f"{store} does not exist; give the output folder of `bayesjoint run`")
    _writable(run_folder)
    with _one_line_errors():
        tree = bj.open_store(store)
        _write_results(tree, run_folder, Path(str(tree.attrs.get("model", run_folder.name))).stem)
    _console()(f"[bold]open[/]       {run_folder / 'report.html'}")


def main() -> None:
    """Run the command line; users' faults end in one line and exit status 2."""
    try:
        app()
    except UserError as error:
        from rich.console import Console

        Console(stderr=True, soft_wrap=True).print(f"[red]error:[/] {error}", highlight=False)
        sys.exit(2)


def _load_problem(model: Path, data: Path | None, option: list[str] | None) -> "JointProblem":
    if data is not None and not data.is_dir():
        raise UserError(f"the data folder {data} does not exist")
    options = _options(option)
    with _one_line_errors():
        make = _problem_function(_load_module(model), model)
        try:
            problem = make(data, **options)
        except TypeError as error:
            raise UserError(f"{model}: problem() does not take these options: {error}") from error
    from bayesjoint.problem import JointProblem

    if not isinstance(problem, JointProblem):
        raise UserError(
            f"{model}: problem() returned a {type(problem).__name__}, not a JointProblem"
        )
    return problem


def _load_module(path: Path) -> ModuleType:
    if not path.is_file():
        raise UserError(f"the model file {path} does not exist")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UserError(f"the model file {path} is not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    # Black boxes are found again by name when a problem travels to another process.
    sys.modules[path.stem] = module
    if (folder := str(path.resolve().parent)) not in sys.path:
        sys.path.insert(0, folder)  # a model may lie in several files, as a program may
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(
            f"the model file {path} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    return module


def _problem_function(module: ModuleType, path: Path) -> Callable[..., Any]:
    make = getattr(module, "problem", None)
    if not callable(make):
        raise UserError(f"the model file {path} defines no function problem(data, **options)")
    return make


def _options(given: list[str] | None) -> dict[str, Any]:
    """Return the options as keywords; numbers and true/false are read as such."""
    options = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise UserError(f"--option {text!r}: write NAME=VALUE")
        options[name] = _literal(value)
    return options


def _literal(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text


def _writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"the output folder {folder} cannot be written: {error.strerror}"
        ) from error


def _label(store: Path, **attrs: Any) -> None:
    """Note in the store what made it."""
    from bayesjoint._sampler.store import label

    label(store, **attrs)


def _write_results(tree: Any, out: Path, title: str) -> Any:
    """Write page and summary; return the summary."""
    import bayesjoint as bj

    summary = _summary(tree)
    _summary(tree, MOST_ROWS).to_csv(out / "summary.csv", index_label="parameter")
    bj.report(tree, out / "report.html", title=title.replace("_", " "))
    return summary


def _summary(tree: Any, largest: int | None = None) -> Any:
    """Return the table of estimates as a data frame; larger latents are left out."""
    from bayesjoint.reports import summary

    frame = summary(tree, largest=largest).to_dataframe()
    order = ["mean", "sd", "eti_lower", "eti_upper", "ess_bulk", "r_hat", "units"]
    return frame[[column for column in order if column in frame]]


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turn the errors that name object, fact and cure into one line; bugs keep their traceback."""
    try:
        yield
    except (ValueError, FileNotFoundError, ImportError, OSError) as error:
        raise UserError(" ".join(str(error).split())) from error


def _describe(problem: "JointProblem") -> str:
    data = ", ".join(f"{m.name} ({m.places.size})" for m in problem.modalities)
    return f"{', '.join(problem.latent)} from {data}"


def _console() -> Callable[[str], None]:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    return console.print


def _show_table(frame: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    if frame.empty:
        Console().print("fields only: the page shows them as maps")
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("parameter", no_wrap=True)
    for column in frame.columns:
        table.add_column(str(column), justify="right", no_wrap=True)
    for name, row in frame.iterrows():
        table.add_row(str(name), *(f"{v:.5g}" if isinstance(v, float) else str(v) for v in row))
    console = Console()
    console.width = max(console.width, 120)  # a long line is better than a cut number
    console.print(table)


if __name__ == "__main__":
    main()
