"""The pictures of the gallery: notebooks are run, figures of cells tagged "gallery" are kept.

    python case_studies/gallery.py [NOTEBOOK ...]

Without names all notebooks are run; the volcano's needs its data (`models/volcano_deformation.py`).
"""

import sys
from base64 import b64decode
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
HOUR = 3600


def figures(path: Path) -> list[bytes]:
    """Return the figures of the tagged cells of a notebook, as PNG."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=HOUR, resources={"metadata": {"path": str(HERE)}}).execute()
    tagged = [cell for cell in notebook.cells if "gallery" in cell.metadata.get("tags", [])]
    outputs = [output.get("data", {}) for cell in tagged for output in cell.outputs]
    return [b64decode(data["image/png"]) for data in outputs if "image/png" in data]


def main(*names: str) -> None:
    """Run notebooks and write ``figures/<notebook>_<number>.png``."""
    (HERE / "figures").mkdir(exist_ok=True)
    for name in names or sorted(path.stem for path in HERE.glob("*.ipynb")):
        for number, figure in enumerate(figures(HERE / f"{name}.ipynb"), 1):
            (HERE / "figures" / f"{name}_{number}.png").write_bytes(figure)


if __name__ == "__main__":
    main(*sys.argv[1:])
