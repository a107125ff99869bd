"""Notebooks run from top to bottom, and the README's Python runs as pasted."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "case_studies").glob("*.ipynb"))
EXAMPLES = re.findall(
    r"^```python\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.S | re.M
)
MINUTE = 60

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture
def this_interpreter(tmp_path, monkeypatch):
    """Let the kernel named python3 be the interpreter of the tests, whatever else is installed."""
    from ipykernel.kernelspec import write_kernel_spec

    write_kernel_spec(tmp_path / "kernels" / "python3")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))


def test_there_are_notebooks():
    assert {"reflectometry", "volcano_deformation"} <= {path.stem for path in NOTEBOOKS}


@every_notebook
def test_notebook_is_stored_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.outputs or cell.execution_count for cell in code_of(notebook))


@every_notebook
def test_the_gallery_shows_pictures_of_it(path):
    """One picture a tagged cell, all shown beside a link to the notebook."""
    gallery = (path.parent / "README.md").read_text("utf-8")
    pictures = {f"figures/{p.name}" for p in (path.parent / "figures").glob(f"{path.stem}_*.png")}
    tagged = [c for c in nbformat.read(path, 4).cells if "gallery" in c.metadata.get("tags", [])]
    assert f"({path.name})" in gallery
    assert len(pictures) == len(tagged) > 0
    assert pictures == set(re.findall(rf"\((figures/{path.stem}_\d\.png)\)", gallery))


def require_data(path):
    """Skip, saying what is missing, where a notebook needs data that the repository has not."""
    if path.stem == "volcano_deformation":
        from models.volcano_deformation import data_folder

        try:
            data_folder()
        except ValueError as error:
            pytest.skip(str(error))


@pytest.mark.slow  # minutes: several problems, each compiled
@every_notebook
def test_notebook_runs(path, this_interpreter):
    require_data(path)
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=10 * MINUTE, resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute()
    outputs = [output for cell in code_of(notebook) for output in cell.outputs]
    assert [o.text for o in outputs if o.get("name") == "stderr"] == []
    assert any("image/png" in o.get("data", {}) for o in outputs)


@pytest.mark.slow
def test_the_twenty_lines_of_the_readme_run_as_pasted(tmp_path):
    script = tmp_path / "survey.py"
    script.write_text(EXAMPLES[0], "utf-8")
    run = subprocess.run(
        [sys.executable, script.name],
        cwd=tmp_path, capture_output=True, text=True, timeout=10 * MINUTE,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "</html>" in (tmp_path / "survey.html").read_text("utf-8")


@pytest.mark.parametrize("number", range(1, len(EXAMPLES)))
def test_other_examples_of_the_readme_use_names_that_exist(number, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "models"))
    example = compile(ast.parse(EXAMPLES[number]), f"README example {number + 1}", "exec")
    exec(example, {"__name__": "example"})
