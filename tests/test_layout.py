"""The shape of the house: imports run one way, heavy packages are loaded where they are used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "bayesjoint"

# Each floor may import from those before it, not from its own and not from those after it.
# Modules that are not named stand above `problem`; of these only the public ones are ordered.
LEAVES = {"latents", "forward", "observation", "noise", "couplings", "discrepancy"}
FLOORS = [
    {"_kernels"},
    {"_compile"},
    {"priors"},
    {"_validate"},
    {"grids"},
    {"_build", "_derivatives", "_processes", "_discrepancy_checks", "_discrepancy_factors"},
    LEAVES,
    {"_marginal", "_marginal_modes", "modalities"},
    {"_problem_checks", "_split"},
    {"problem"},
]
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}
UPSTAIRS = ["linearization", "sampling", "simulation", "cross_validation", "cli"]


def imported(path):
    """Return the full names of what a file imports, but for types only."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def rooms(path):
    """Return the modules of this package that a file imports."""
    parts = [name.split(".") for name in imported(path)]
    return {p[1] for p in parts if p[0] == "bayesjoint" and len(p) > 1}


def outsiders(path):
    return {name.split(".")[0] for name in imported(path)} - set(sys.stdlib_module_names)


def name_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(PACKAGE.rglob("*.py"))


def test_what_is_checked_exists():
    names = {name_of(path) for path in FILES}
    assert set(FLOOR_OF) | set(UPSTAIRS) <= names
    assert LEAVES | {"reports"} <= names


@pytest.mark.parametrize("path", [p for p in FILES if name_of(p) in FLOOR_OF], ids=name_of)
def test_imports_run_one_way(path):
    floor = FLOOR_OF[name_of(path)]
    inside = {room: FLOOR_OF.get(room, len(FLOORS)) for room in rooms(path) - {name_of(path)}}
    # Private helpers of one floor may use each other.
    allowed = {room for room, other in inside.items() if other < floor + room.startswith("_")}
    assert set(inside) == allowed


def reachable(name):
    """Return all modules that importing one loads, by whatever way."""
    found, new = set(), {name}
    while new:
        found |= new
        paths = [p for n in new for p in (PACKAGE / n).glob("*.py")]
        paths += [path for n in new if (path := PACKAGE / f"{n}.py").exists()]
        new = {room for path in paths for room in rooms(path)} - found
    return found


@pytest.mark.parametrize(("index", "name"), enumerate(UPSTAIRS))
def test_the_upper_floors_import_downwards(index, name):
    assert not reachable(name) & {*UPSTAIRS[index + 1 :], "plots", "page"}


@pytest.mark.parametrize("leaf", sorted(LEAVES))
def test_leaves_never_import_each_other(leaf):
    paths = [path for path in FILES if name_of(path) == leaf]
    assert paths
    assert all(not rooms(path) & (LEAVES - {leaf}) for path in paths)


@pytest.mark.parametrize("path", sorted((PACKAGE / "_kernels").glob("*.py")), ids=lambda p: p.stem)
def test_kernels_know_numpy_and_scipy_only(path):
    assert outsiders(path) <= {"numpy", "scipy", "bayesjoint"}
    assert rooms(path) <= {"_kernels"}


@pytest.mark.parametrize("path", sorted((PACKAGE / "reports").glob("*.py")), ids=lambda p: p.stem)
def test_reports_read_trees_and_kernels_only(path):
    assert rooms(path) <= {"reports", "_kernels"}
    assert not outsiders(path) & {"pymc", "pytensor"}


@pytest.mark.parametrize("room", ["plots", "page"])
def test_plots_and_page_read_reports(room):
    for path in (PACKAGE / room).rglob("*.py"):
        assert rooms(path) <= {"reports", "plots", "page", "_kernels", "__version__"}, path.name
        assert not outsiders(path) & {"pymc", "pytensor"}, path.name


@pytest.mark.parametrize("path", sorted((ROOT / "models").glob("*.py")), ids=lambda p: p.stem)
def test_models_use_the_public_interface_only(path):
    assert not {name for name in imported(path) if name.startswith("bayesjoint.")}


@pytest.mark.parametrize(
    "statement",
    [
        "import bayesjoint",
        "import bayesjoint.cli",
        "import bayesjoint.reports",
        "from bayesjoint import resolution, leakage, identifiability, information",
    ],
)
def test_pymc_is_not_loaded_by(statement):
    """So that --help answers at once, and reports are read where PyMC is not installed."""
    code = f"import sys; {statement}; print({{'pymc', 'pytensor'}} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "set()", done.stderr


def test_public_names_do_not_resolve_to_anything_else():
    import bayesjoint as bj

    with pytest.raises(AttributeError, match="module 'bayesjoint' has no attribute 'smaple'"):
        bj.smaple  # noqa: B018
    assert set(bj.__all__) <= set(dir(bj))
