"""The command line: run, check and report."""

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bayesjoint._command.faults import Interrupted, UserError, one_line_errors
from bayesjoint._command.messages import say, say_error, show_table
from bayesjoint._command.models import load_problem
from bayesjoint._command.options import as_options

if TYPE_CHECKING:
    from bayesjoint.problem import JointProblem

MOST_ROWS = 10_000  # of a field, in summary.csv
CHAINS, TUNE, SEED = 4, 300, 1
ENOUGH = 100  # draws of each chain that an interrupted run must have for a page

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

ModelFile = Annotated[
    Path, typer.Argument(help="Python file that defines problem(data, **options).")
]
Data = Annotated[Path | None, typer.Option(help="Folder of the data, handed to problem().")]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        help="NAME=VALUE for problem(); may be repeated.  Read by the annotation of the parameter "
        "(lists are written with commas, None as none), or as the type of its default; without "
        "either true, false and numbers are read as such.",
    ),
]


@app.callback()
def about() -> None:
    """Bayesian joint inversion: several data sets, one posterior."""


@app.command()
def run(
    model: ModelFile,
    data: Data = None,
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("bayesjoint_output"),
    draws: Annotated[int, typer.Option(min=1, help="Draws kept of each chain.")] = 1000,
    tune: Annotated[
        int | None, typer.Option(min=1, help=f"Warm-up draws of each chain.  [default: {TUNE}]")
    ] = None,
    chains: Annotated[int | None, typer.Option(min=1, help=f"[default: {CHAINS}]")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help=f"Random seed.  [default: {SEED}]")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with an interrupted run in the output folder, with its chains, warm-up and "
            "seed.",
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a finished run in the output folder.")
    ] = False,
    option: Options = None,
) -> None:
    """Sample the posterior; write posterior.zarr, report.html and summary.csv."""
    _writable(out)
    store, tree = out / "posterior.zarr", None
    try:
        problem = load_problem(model, data, option)
        say(f": {_describe(problem)}", title=model.stem)
        say("finding the maximum a posteriori and compiling (quicker the second time)")
        settings = _settings(store if resume else None, tune=tune, chains=chains, seed=seed)
        with one_line_errors(model.parent, spelled=as_options):
            tree = _sampled(
                problem, settings, draws=draws, store=store, resume=resume, overwrite=overwrite
            )
            made = tree["sample_stats"].sizes["draw"]
            _label(
                store, model=model.name, options=list(option or []), seed=settings["random_seed"]
            )
            kept = (made, draws) if made < draws else None
            summary = (
                _write_results(tree, out, model.stem, kept) if made >= ENOUGH or not kept else None
            )
    except KeyboardInterrupt as error:
        raise Interrupted(_kept(store, overwrite and not resume and tree is None)) from error
    if kept:
        page = f"; {out / 'report.html'} tells of these alone" if summary is not None else ""
        raise Interrupted(
            f"interrupted: {made} of {draws} draws of each chain are kept in {store}{page}; the "
            "same command with --resume goes on"
        )
    show_table(summary)
    say(f"\n{tree['posterior'].attrs['diagnostics']}")
    say(f"\nposterior  {store}\nsummary    {out / 'summary.csv'}")
    say(f"       {out / 'report.html'}", title="open")


@app.command()
def check(model: ModelFile, data: Data = None, option: Options = None) -> None:
    """Print what the data can tell, before anyone samples: the linearised preview."""
    try:
        problem = load_problem(model, data, option)
        say(f": {_describe(problem)}", title=model.stem)
        with one_line_errors(model.parent):
            _preview(problem)
    except KeyboardInterrupt as error:
        raise Interrupted("interrupted") from error


def _preview(problem: "JointProblem") -> None:
    import bayesjoint as bj

    tree = bj.linearize(problem)
    show_table(_summary(tree))
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
        say(
            "the maximum a posteriori was not reached: read these numbers with care",
            style="yellow",
        )


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
    with one_line_errors():
        tree = bj.open_store(store)
        made, asked = tree["sample_stats"].sizes["draw"], tree["posterior"].attrs.get("draws_asked")
        kept = None if asked is not None and made >= int(asked) else (made, asked)
        title = Path(str(tree.attrs.get("model", run_folder.name))).stem
        _write_results(tree, run_folder, title, kept)
    say(f"       {run_folder / 'report.html'}", title="open")


def main() -> None:
    """Run the command line; faults of users end in one line and exit status 2, Ctrl-C in 130."""
    try:
        app()
    except UserError as error:
        if error.details:
            print(error.details, file=sys.stderr)  # noqa: T201 a traceback as Python prints it
        say_error(str(error))
        sys.exit(2)
    except Interrupted as error:
        say_error(str(error))
        sys.exit(130)


def _settings(store: Path | None, **given: int | None) -> dict[str, int]:
    """Return warm-up, chains and seed: as given, else those of the run in a store, else default."""
    defaults = {"tune": TUNE, "chains": CHAINS, "seed": SEED, **(_stored(store) if store else {})}
    chosen = {k: v if v is not None else defaults[k] for k, v in given.items()}
    return {"tune": chosen["tune"], "chains": chosen["chains"], "random_seed": chosen["seed"]}


def _stored(store: Path) -> dict[str, int]:
    """Return the settings of the run in a store; none where there is no such run."""
    import xarray as xr

    try:
        sampler = xr.open_dataset(store, group="sampler", engine="zarr", consolidated=False)
        attrs = sampler.attrs
        return {
            "tune": int(attrs["tuning_steps"]),
            "chains": sampler.sizes["chain"],
            "seed": int(attrs["entropy"]),
        }
    except (OSError, KeyError, ValueError):  # what is wrong with it, bj.sample tells
        return {}


def _sampled(problem: Any, settings: dict[str, int], **more: Any) -> Any:
    import bayesjoint as bj

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "interrupted", UserWarning)  # told in one line, below
        return bj.sample(problem, **settings, **more)


def _kept(store: Path, replacing: bool) -> str:
    """Return what an interrupt left; ``replacing`` says that a finished run is an earlier one."""
    draws = 0
    if store.exists():
        from bayesjoint._sampler.store import finished, recorded

        draws = recorded(store)
        if replacing and finished(store):
            return f"interrupted before the first draw: the finished run in {store} is untouched"
    if not draws:
        return "interrupted before the first draw: there is nothing to keep"
    return (
        f"interrupted: {draws} draws of each chain are kept in {store}; the same command with "
        "--resume goes on"
    )


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


def _write_results(tree: Any, out: Path, title: str, kept: tuple | None) -> Any:
    """Write page and summary, of a run that is partial where ``kept`` says so; return the summary.

    ``kept`` holds the draws made, and those asked for where they are known.
    """
    import bayesjoint as bj

    summary = _summary(tree)
    _summary(tree, MOST_ROWS).to_csv(out / "summary.csv", index_label="parameter")
    title = title.replace("_", " ")
    if kept:
        made, asked = kept
        title += f" (partial: {made} {f'of {asked} ' if asked else ''}draws of each chain)"
    bj.report(tree, out / "report.html", title=title)
    return summary


def _summary(tree: Any, largest: int | None = None) -> Any:
    """Return the table of estimates as a data frame; larger latents are left out."""
    from bayesjoint.reports import summary

    frame = summary(tree, largest=largest).to_dataframe()
    order = ["mean", "sd", "eti_lower", "eti_upper", "ess_bulk", "r_hat", "units"]
    return frame[[column for column in order if column in frame]]


def _describe(problem: "JointProblem") -> str:
    data = ", ".join(f"{m.name} ({m.places.size})" for m in problem.modalities)
    return f"{', '.join(problem.latent)} from {data}"


if __name__ == "__main__":
    main()
