"""The shape of the house: imports run one way, heavy packages are loaded where they are used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "bayesjoint"

# Each floor may import from those before it, not from its own and not from those after it.
LEAVES = {"latents", "forward", "observation", "noise", "couplings", "discrepancy"}
FLOORS = [
    {"_names", "_warnings"},
    {"_kernels"},
    {"units"},
    {"arrays"},
    {"_arguments"},
    {"reports"},
    {"_graph.compile"},
    {"_families"},
    {"priors"},
    {"_validate", "_replace"},
    {"grids"},
    {"_graph.build", "_graph.outputs", "_errors"},
    {"_graph.simulators", "_graph.differences", "_graph.jacobians"},
    {"_graph.black_box", "_graph.derivatives"},
    LEAVES,
    {"modalities"},
    {"_problem"},
    {"problem"},
    {"_compiled"},
    {"_local"},
    {"linearization"},
    {"_sampler"},
    {"sampling", "simulation"},
    {"studies"},
    {"plots"},
    {"page"},
    {"_command"},
    {"cli"},
]
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}


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


def room_of(parts):
    """Return the room of a module's path below the package: that which has a floor."""
    *_, name = [n for n in (parts[0], ".".join(parts[:2])) if n in FLOOR_OF] or [parts[0]]
    return name


def rooms(path):
    """Return the rooms of this package that a file imports from."""
    parts = [name.split(".") for name in imported(path)]
    return {room_of(p[1:]) for p in parts if p[0] == "bayesjoint" and len(p) > 1}


def outsiders(path):
    return {name.split(".")[0] for name in imported(path)} - set(sys.stdlib_module_names)


def name_of(path):
    return room_of(path.relative_to(PACKAGE).with_suffix("").parts)


FILES = [
    p for p in sorted(PACKAGE.rglob("*.py")) if p.name != "__init__.py" or name_of(p) in FLOOR_OF
]


def test_every_module_has_its_floor():
    assert {name_of(path) for path in FILES} == set(FLOOR_OF)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    own = name_of(path)
    above = {room for room in rooms(path) - {own, "__version__"} if not lower(room, own)}
    assert not above


def lower(room, own):
    """Return whether a room is below; private helpers of one floor may use each other."""
    return FLOOR_OF[room] < FLOOR_OF[own] + (room.startswith("_") and own.startswith("_"))


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
def test_reports_read_trees_arrays_and_kernels_only(path):
    assert rooms(path) <= {"reports", "_kernels", "arrays", "_arguments", "units", "_names"}
    assert not outsiders(path) & {"pymc", "pytensor"}


def test_the_door_knows_nothing_of_models():
    """So that reports and plots may read what a user gives beside a tree."""
    for path in [PACKAGE / "units.py", *(PACKAGE / "arrays").glob("*.py")]:
        assert rooms(path) <= {"arrays", "units", "_warnings"}, path.name
        assert not outsiders(path) & {"pymc", "pytensor"}, path.name


@pytest.mark.parametrize("room", ["plots", "page"])
def test_plots_and_page_read_reports(room):
    allowed = {"reports", "plots", "page", "_kernels", "_names", "arrays", "units"}
    allowed |= {"_arguments", "__version__"}
    for path in (PACKAGE / room).rglob("*.py"):
        assert rooms(path) <= allowed, path.name
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


def test_units_and_tables_are_loaded_where_they_are_met():
    """So that ``import bayesjoint`` answers within 0.3 s."""
    code = (
        "import sys, time; start = time.process_time(); import bayesjoint; "
        "heavy = {'pint', 'cf_xarray', 'pandas', 'xarray', 'numpy'} & set(sys.modules); "
        "print(heavy, time.process_time() - start < 0.3)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "set() True", done.stdout + done.stderr


def test_units_are_parsed_only_where_two_differ():
    code = (
        "import sys; import xarray as xr; from bayesjoint import arrays; "
        "data = xr.DataArray([1.0], dims='x', attrs={'units': 'm'}); "
        "arrays.aligned('sd', 'sd', data, arrays.Axes.of(data), units='m'); "
        "print({'pint', 'cf_xarray'} & set(sys.modules)); "
        "arrays.aligned('sd', 'sd', data, arrays.Axes.of(data), units='cm'); "
        "print('pint' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["set()", "True"], done.stdout + done.stderr


def test_public_names_do_not_resolve_to_anything_else():
    import bayesjoint as bj

    with pytest.raises(AttributeError, match="module 'bayesjoint' has no attribute 'smaple'"):
        bj.smaple  # noqa: B018
    assert set(bj.__all__) <= set(dir(bj))
