"""Print the lowest versions that pyproject.toml allows, as constraints for pip.

Every dependency of the package must state a floor and a ceiling, so that what is tested is what is
promised; those that another one pins (PyTensor, by PyMC) are named in `PINNED`.
"""

import re
import sys
import tomllib
from pathlib import Path

PINNED = {"pytensor"}
FLOOR = re.compile(r"^(?P<name>[\w-]+)(\[[\w,]+\])?>=(?P<floor>[\w.]+),<(?P<ceiling>[\w.]+)$")


def floors(dependencies: list[str]) -> dict[str, str]:
    """Return the lowest version of each dependency."""
    found = {}
    for stated in dependencies:
        match = FLOOR.match(stated)
        if match:
            found[match["name"]] = match["floor"]
        elif stated not in PINNED:
            sys.exit(f"pyproject.toml: {stated!r} has no floor and ceiling; write name>=x,<y")
    return found


if __name__ == "__main__":
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    for name, floor in floors(project["dependencies"]).items():
        print(f"{name}=={floor}")
