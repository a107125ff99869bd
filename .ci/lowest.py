"""Print the lowest versions that pyproject.toml allows, as constraints for pip.

Every dependency of the package and of its plots must state a floor and a ceiling, so that what is
tested is what is promised; versions that are dates have no ceiling.
"""

import re
import sys
import tomllib
from pathlib import Path

FLOOR = re.compile(r"^(?P<name>[\w-]+)>=(?P<floor>[\w.]+)(,<(?P<ceiling>[\w.]+))?$")


def floors(dependencies: list[str]) -> dict[str, str]:
    """Return the lowest version of each dependency."""
    found = {}
    for stated in dependencies:
        match = FLOOR.match(stated)
        if match and (match["ceiling"] or match["floor"].startswith("20")):
            found[match["name"]] = match["floor"]
        else:
            sys.exit(f"pyproject.toml: {stated!r} has no floor and ceiling; write name>=x,<y")
    return found


if __name__ == "__main__":
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    stated = [*project["dependencies"], *project["optional-dependencies"]["plots"]]
    for name, floor in floors(stated).items():
        print(f"{name}=={floor}")
