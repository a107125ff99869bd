"""The command line: quick help, one-line errors with exit status 2, and a whole run."""

import subprocess
import sys
import time

import pandas as pd
import pytest
import xarray as xr

from bayesjoint import cli

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
    assert cli._load_module(path).ANSWER == 42


def test_broken_model_file(monkeypatch, capsys, tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("import no_such_package")
    message = error_of(monkeypatch, capsys, "check", path)
    assert "cannot be loaded" in message and "no_such_package" in message


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
