"""The command line: quick help, one-line errors with exit status 2, and a whole run."""

import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Literal

import pandas as pd
import pytest
import xarray as xr

import bayesjoint as bj
from bayesjoint import cli
from bayesjoint._command.faults import UserError
from bayesjoint._command.models import load_module
from bayesjoint._command.options import as_options, keywords

SAMPLE = bj.sample

MODEL = '''
import bayesjoint as bj
import numpy as np
import pymc as pm
import xarray as xr


def problem(data=None, n=6, sd=0.5):
    """Return a level seen by two instruments."""
    if data is not None and not (data / "level.txt").exists():
        raise ValueError(f"{data} has no level.txt; make one")
    level = bj.Parameter("level", bj.Prior(pm.Normal, mu=0.0, sigma=1.0), units="m")
    forward = bj.linear_map(np.ones((n, 1)), "level")
    return bj.JointProblem(
        latents=[level],
        modalities=[
            bj.Modality(k, xr.DataArray(np.full(n, v), dims=f"{k}_t"), forward, bj.GaussianNoise(sd=sd))
            for k, v in (("first", 1.0), ("second", 1.2))
        ],
    )
'''  # noqa: E501


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "level_model.py"
    path.write_text(MODEL)
    return path


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["bayesjoint", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code


def test_help_answers_without_importing_pymc():
    code = "import sys; sys.argv = ['bayesjoint', '--help']\nfrom bayesjoint import cli\n"
    code += "try:\n    cli.main()\nexcept SystemExit:\n    pass\nassert 'pymc' not in sys.modules"
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "check" in done.stdout and "report" in done.stdout
    assert time.perf_counter() - start < 5.0  # about 0.3 s; room for a busy machine


def error_of(monkeypatch, capsys, *arguments):
    assert run(monkeypatch, *arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1
    return message


def test_missing_model_file(monkeypatch, capsys):
    assert "none.py does not exist" in error_of(monkeypatch, capsys, "run", "none.py")


def test_a_model_may_import_its_neighbours(tmp_path):
    (tmp_path / "neighbour_of_a_model.py").write_text("ANSWER = 42\n")
    path = tmp_path / "model_with_a_neighbour.py"
    path.write_text("from neighbour_of_a_model import ANSWER\n")
    assert load_module(path).ANSWER == 42


def test_broken_model_file(monkeypatch, capsys, tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("import no_such_package")
    assert run(monkeypatch, "check", path) == 2
    *trace, message = capsys.readouterr().err.splitlines()
    assert str(path) in "".join(trace)
    assert message.startswith("error: ") and "cannot be loaded (line 1)" in message
    assert "no_such_package" in message


def test_model_file_without_problem(monkeypatch, capsys, tmp_path):
    path = tmp_path / "empty.py"
    path.write_text("x = 1")
    assert "defines no function problem" in error_of(monkeypatch, capsys, "check", path)


def test_missing_data_folder(monkeypatch, capsys, model):
    message = error_of(monkeypatch, capsys, "run", model, "--data", "nowhere")
    assert "data folder nowhere does not exist" in message


def test_fault_of_the_data_is_one_line(monkeypatch, capsys, model, tmp_path):
    assert "make one" in error_of(monkeypatch, capsys, "run", model, "--data", tmp_path)


def test_unwritable_output_folder(monkeypatch, capsys, model, tmp_path):
    (tmp_path / "file").write_text("")
    message = error_of(monkeypatch, capsys, "run", model, "--out", tmp_path / "file" / "out")
    assert "cannot be written" in message


def test_unknown_and_malformed_options(monkeypatch, capsys, model):
    assert "colour" in error_of(monkeypatch, capsys, "check", model, "--option", "colour=1")
    assert "NAME=VALUE" in error_of(monkeypatch, capsys, "check", model, "--option", "colour")
    assert "must be positive" in error_of(monkeypatch, capsys, "check", model, "--option", "sd=-1")


def test_report_without_a_run(monkeypatch, capsys, tmp_path):
    assert "does not exist" in error_of(monkeypatch, capsys, "report", tmp_path)


def test_check_prints_the_preview(monkeypatch, capsys, model):
    assert run(monkeypatch, "check", model, "--option", "n=12") == 0
    printed = capsys.readouterr().out
    assert "level" in printed and "nats alone" in printed and "first (12)" in printed


def test_run_and_report_write_all_results(monkeypatch, capsys, model, tmp_path):
    out = tmp_path / "out"
    assert run(monkeypatch, "run", model, "--out", out, "--draws", 200, "--chains", 2) == 0
    summary = pd.read_csv(out / "summary.csv", index_col="parameter")
    columns = ["mean", "sd", "eti_lower", "eti_upper", "ess_bulk", "r_hat"]
    assert list(summary.columns[:6]) == columns
    # Closed form: precision 1 + 12/0.25, mean (6 * 1.0 + 6 * 1.2) / 0.25 over it.
    assert summary.loc["level", "mean"] == pytest.approx(52.8 / 49, abs=0.05)
    assert summary.loc["level", "sd"] == pytest.approx(1 / 7, rel=0.2)
    tree = xr.open_datatree(out / "posterior.zarr", engine="zarr", consolidated=False)
    assert tree["posterior"]["level"].sizes == {"chain": 2, "draw": 200}
    page = out / "report.html"
    assert "level" in page.read_text()
    page.unlink()
    assert run(monkeypatch, "report", out) == 0
    assert page.exists()


# ---- options ----------------------------------------------------------------------------------


def annotated(
    data=None,
    *,
    nx: int = 4,
    flag: bool = True,
    code: str = "a",
    sd: float = 1.0,
    kind: Literal["good", "bad", 3] = "good",
    where: Path = Path(),
    most: int | None = 7,
    level: float | str = "auto",
    depths: list[float] = (),
    pair: tuple[int, str] = (1, "a"),
    late: "int" = 0,
    count=6,
    share=0.5,
    switch=False,
    word="x",
    free=None,
):
    """Take options of every kind."""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("nx=12", 12),
        ("nx=-3", -3),
        ("flag=no", False),
        ("flag=yes", True),
        ("flag=0", False),
        ("code=007", "007"),
        ("code=true", "true"),
        ("code=a=b", "a=b"),
        ("sd=1e-3", 1e-3),
        ("sd=2", 2.0),
        ("kind=bad", "bad"),
        ("kind=3", 3),
        ("where=a/b", Path("a/b")),
        ("most=none", None),
        ("most=8", 8),
        ("level=0.5", 0.5),
        ("level=auto", "auto"),
        ("depths=1,2.5", [1.0, 2.5]),
        ("depths=[1, 2]", [1.0, 2.0]),
        ("depths=", []),
        ("pair=2,b", (2, "b")),
        ("late=4", 4),
        ("count=8", 8),
        ("share=1", 1.0),
        ("switch=on", True),
        ("word=12", "12"),
        ("free=12", 12),
        ("free=0.5", 0.5),
        ("free=007", "007"),
        ("free=true", True),
        ("free=nan_map", "nan_map"),
        ("free=inf", "inf"),
    ],
)
def test_options_are_read_as_problem_annotates_them(text, value):
    name = text.split("=")[0]
    found = keywords(annotated, Path("m.py"), None, [text])[name]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nx=4.5", "--option nx=4.5 is not a whole number"),
        ("nx=many", "--option nx=many is not a whole number"),
        ("flag=maybe", "--option flag=maybe is not true or false"),
        ("sd=wide", "--option sd=wide is not a number"),
        ("kind=ugly", "--option kind=ugly is not one of good, bad, 3"),
        ("depths=1,b", "--option depths=1,b is not of the kind list"),
        ("pair=1", "is not of the kind .*: 2 parts are needed"),
        ("count=4.5", "--option count=4.5 is not a whole number"),
        ("data=here", "problem.. takes no option 'data'; it takes nx, flag"),
        ("nx", "write NAME=VALUE"),
        ("n x=3", "write NAME=VALUE"),
    ],
)
def test_options_of_another_kind_are_refused(text, message):
    with pytest.raises(UserError, match=message):
        keywords(annotated, Path("m.py"), None, [text])


def test_options_that_are_missing_or_given_twice_are_refused():
    def needs(data, *, level: float):
        """Need a level."""

    with pytest.raises(UserError, match="missing a required keyword-only argument: 'level'"):
        keywords(needs, Path("m.py"), None, [])
    with pytest.raises(UserError, match="--option level is given twice"):
        keywords(needs, Path("m.py"), None, ["level=1", "level=2"])
    with pytest.raises(UserError, match="too many positional arguments"):
        keywords(lambda: None, Path("m.py"), None, [])


def test_options_that_are_handed_on():
    def handing_on(data=None, **options):
        """Take whatever comes."""

    def all_numbers(data=None, **options: float):
        """Take numbers."""

    assert keywords(handing_on, Path("m.py"), None, ["n=3", "s=a"]) == {"n": 3, "s": "a"}
    assert keywords(all_numbers, Path("m.py"), None, ["n=3"]) == {"n": 3.0}


# ---- messages and faults ----------------------------------------------------------------------


@pytest.mark.parametrize("told", ["a depth [m] is lost", "in [/m]", "[bold]x[/]", "a :smile: b"])
@pytest.mark.parametrize("where", ["problem", "file"])
def test_brackets_in_an_error_stay_what_they_are(monkeypatch, capsys, tmp_path, told, where):
    path = tmp_path / "brackets.py"
    line = f"raise ValueError({told!r})"
    path.write_text(line if where == "file" else f"def problem(data=None):\n    {line}\n")
    assert told in error_of(monkeypatch, capsys, "check", path)


@pytest.mark.parametrize("code", ["sys.exit(0)", "def problem(data=None):\n    sys.exit(0)"])
def test_a_model_that_exits_is_an_error(monkeypatch, capsys, tmp_path, code):
    path = tmp_path / "exits.py"
    path.write_text(f"import sys\n\n{code}\n")
    assert "called sys.exit(0)" in error_of(monkeypatch, capsys, "check", path)


@pytest.mark.parametrize(
    "bug", ["len(3)", "{}['a']", "int('a')", "1 / 0", "np.zeros((2, 2)) @ np.zeros(3)"]
)
def test_a_bug_inside_problem_keeps_its_traceback(monkeypatch, capsys, tmp_path, bug):
    path = tmp_path / "bug.py"
    path.write_text(f"import numpy as np\n\n\ndef problem(data=None, n: int = 1):\n    {bug}\n")
    monkeypatch.setattr(sys, "argv", ["bayesjoint", "check", str(path), "--option", "n=2"])
    with pytest.raises((TypeError, KeyError, ValueError, ZeroDivisionError)) as caught:
        cli.main()
    frames = [frame.name for frame in caught.traceback]
    assert "problem" in frames


def test_a_bug_while_a_model_is_loaded_is_told_with_line_and_traceback(
    monkeypatch, capsys, tmp_path
):
    (tmp_path / "bug.py").write_text("import json\n\nSETTINGS = json.loads('{')\n")
    monkeypatch.chdir(tmp_path)
    for path in ("bug.py", tmp_path / "bug.py"):
        assert run(monkeypatch, "check", path) == 2
        told = capsys.readouterr().err
        assert told.startswith("Traceback (most recent call last):\n") and "json.loads('{')" in told
        assert "bug.py cannot be loaded (line 3): JSONDecodeError" in told


@pytest.mark.parametrize(
    ("argument", "option"),
    [
        ("give overwrite=True to replace it, or name another store",
         "give --overwrite to replace it, or name another folder with --out"),
        ("with chains=2, and resume=True goes on with it; give chains=2, not 3, or another store",
         "with --chains 2, and --resume goes on with it; give --chains 2, not 3, or another folder "
         "with --out"),
        ("give random_seed=1 or None, not 9", "give --seed 1 or none, not 9"),
        ("modality 'chains': data.rename({'tune': 'x'})", None),
    ],
)  # fmt: skip
def test_arguments_are_told_as_options(argument, option):
    assert as_options(argument) == (option or argument)


@pytest.mark.parametrize("finished", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_ctrl_c_before_a_finished_run_is_replaced_leaves_it(
    monkeypatch, capsys, model, tmp_path, finished
):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    problem = load_module(model).problem()
    kept = interpreted(problem, draws=30, tune=30, chains=2, progress=False, random_seed=1,
                       store=tmp_path / "posterior.zarr")  # fmt: skip
    monkeypatch.setattr("bayesjoint.sample", stopped)
    given = ["--overwrite"] if finished else ["--resume"]
    assert run(monkeypatch, "run", model, "--out", tmp_path, *given) == 130
    told = capsys.readouterr().err
    assert ("the finished run in" in told and "is untouched" in told) == finished
    assert ("30 draws of each chain are kept" in told) != finished
    assert bj.open_store(tmp_path / "posterior.zarr")["posterior"].equals(kept["posterior"])


def test_a_map_that_fails_everywhere_is_told_with_its_traceback(monkeypatch, capsys, tmp_path):
    path = tmp_path / "fails.py"
    path.write_text(
        MODEL.replace(
            'bj.linear_map(np.ones((n, 1)), "level")',
            'bj.numpy_map(solver, "level", finite_differences=True)',
        )
        + "\n\ndef solver(level):\n    return level * unknown_name\n"
    )
    assert run(monkeypatch, "check", path) == 2
    told = capsys.readouterr().err
    assert "Traceback" in told and "level * unknown_name" in told
    *_, last = told.strip().splitlines()
    assert last.startswith("error: map 'solver': it fails at 20 of 20 prior draws")


@pytest.mark.parametrize("option", [("--seed", -1), ("--chains", 0), ("--draws", 0), ("--tune", 0)])
def test_bad_numbers_are_refused_at_once(monkeypatch, capsys, model, option):
    assert run(monkeypatch, "run", model, *option) == 2
    assert "Invalid value" in capsys.readouterr().err


# ---- Ctrl-C, and going on -----------------------------------------------------------------------


def interrupted_at(monkeypatch, place):
    def stop(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(place, stop)


@pytest.mark.parametrize("place", ["bayesjoint.sample", "bayesjoint._command.models.load_module"])
def test_ctrl_c_before_a_draw_ends_in_one_line(monkeypatch, capsys, model, tmp_path, place):
    interrupted_at(monkeypatch, place)
    assert run(monkeypatch, "run", model, "--out", tmp_path) == 130
    told = capsys.readouterr().err
    assert told == "error: interrupted before the first draw: there is nothing to keep\n"


def test_ctrl_c_during_a_check_ends_in_one_line(monkeypatch, capsys, model):
    interrupted_at(monkeypatch, "bayesjoint.linearize")
    assert run(monkeypatch, "check", model) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def partial(problem, draws, store, resume, overwrite, **settings):
    """Stand in for a run that Ctrl-C ends at a tenth of its draws."""
    tree = interpreted(problem, draws=draws // 10, store=store, progress=False, **settings)
    warnings.warn("interrupted: some draws", UserWarning, stacklevel=1)
    return tree


def interpreted(problem, **settings):
    return SAMPLE(problem, backend="interpreted", prior_draws=20, **settings)


@pytest.mark.parametrize(
    ("draws", "page"), [(300, False), pytest.param(2000, True, marks=pytest.mark.slow)]
)
def test_a_partial_run_says_so(monkeypatch, capsys, model, tmp_path, draws, page):
    monkeypatch.setattr("bayesjoint.sample", partial)
    arguments = ["run", model, "--out", tmp_path, "--draws", draws, "--chains", 2, "--tune", 50]
    assert run(monkeypatch, *arguments) == 130
    out, told = capsys.readouterr()
    assert told.count("\n") == 1 and "--resume goes on" in told
    assert f"interrupted: {draws // 10} of {draws} draws of each chain are kept" in told
    assert (tmp_path / "report.html").exists() == page
    assert "posterior  " not in out
    if page:
        assert f"(partial: {draws // 10} of {draws} draws" in (tmp_path / "report.html").read_text()


def test_few_draws_have_a_page_that_says_what_they_do_not_tell(
    monkeypatch, capsys, model, tmp_path
):
    monkeypatch.setattr("bayesjoint.sample", interpreted)
    monkeypatch.setattr("bayesjoint.page.figures.sections", lambda page: [])
    given = ["--draws", 3, "--chains", 2, "--tune", 30, "--out", tmp_path]
    assert run(monkeypatch, "run", model, *given) == 0
    page = (tmp_path / "report.html").read_text()
    assert "importance weights need 25 draws or more, there are 6" in page
    assert (tmp_path / "summary.csv").exists()


@pytest.mark.slow
def test_resuming_takes_the_settings_of_the_run(monkeypatch, capsys, model, tmp_path):
    asked = {}

    def sampled(problem, **settings):
        asked.update(settings)
        return interpreted(problem, progress=False, **settings)

    monkeypatch.setattr("bayesjoint.sample", sampled)
    begin = ["--draws", 20, "--chains", 2, "--tune", 40, "--seed", 5]
    assert run(monkeypatch, "run", model, "--out", tmp_path, *begin) == 0
    assert run(monkeypatch, "run", model, "--out", tmp_path, "--draws", 40, "--resume") == 0
    assert {k: asked[k] for k in ("chains", "tune", "random_seed", "resume")} == {
        "chains": 2, "tune": 40, "random_seed": 5, "resume": True,
    }  # fmt: skip
    capsys.readouterr()
    for other in (["--chains", 3], ["--seed", 6], ["--tune", 30]):
        explicit = ["--out", tmp_path, "--draws", 41, "--resume", *other]
        assert "--resume goes on with it" in error_of(monkeypatch, capsys, "run", model, *explicit)
