"""The package keeps its layers: a subpackage imports only from the layers below its own."""

import ast
import graphlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "emeg"
FLOORS = (
    (
        "sensors",
        "registry",
        "dsp",
        "bids_files",
        "config",
        "options",
        "errors",
        "files",
        "hashing",
        "locks",
        "uri",
        "progress",
        "terminal",
        "version",
        "metrics",
        "notebook",
        "plugins",
    ),
    ("store", "tokenizers", "doctor"),
    ("synthetic", "ingest", "export", "data", "models"),
    ("training", "inference", "curation"),
    ("evaluation",),
    ("reports",),
    ("flows",),
    ("service",),
    ("cli", ""),
)
"""Rooms by floor, lowest first; the empty name is the package itself, whose public names come from any floor."""
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
MOST_MODULES = 16
"""Modules in one folder, its `__init__` not counted."""
ROOMS = tuple(sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py")))
HEAVY = ("torch", "mne", "prefect", "lightning")
SMALL = {"config", "errors", "files", "hashing", "uri", "progress", "version", "metrics", "notebook"}
"""Modules of the ground floor that its other modules may use: `config` uses `errors`, `sensors` uses `hashing`."""


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def module_files() -> dict[str, Path]:
    """Return the file of every module of `emeg`, including those behind symbolic links."""
    found = {}
    for folder, _, files in os.walk(PACKAGE, followlinks=True):
        for name in files:
            path = Path(folder) / name
            if path.suffix == ".py":
                parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
                found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = module_files()


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def names_in(module: str, path: Path) -> Iterator[str]:
    """Yield every imported name of the module, including lazy imports, imports for types and the package's stub."""
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in (path, path.with_suffix(".pyi")) if file.exists()]
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = f"{module}.{node.module}" if node.level else node.module
            yield from (f"{source}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
            yield from (a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str))


def imported_modules(module: str, path: Path) -> set[str]:
    """Return the modules of emeg that a module imports; a name of a package counts as the package."""
    found = set()
    for name in names_in(module, path):
        while name and name not in MODULES:
            name = name.rpartition(".")[0]
        if name and name != module:
            found.add(name)
    return found


IMPORTS = {module: imported_modules(module, path) for module, path in MODULES.items()}


def test_no_import_goes_up_or_sideways():
    edges = {(room_of(module), room_of(used)) for module, uses in IMPORTS.items() for used in uses}
    wrong = sorted(
        f"{room} imports {used or 'emeg itself'}"
        for room, used in edges
        if room != used and FLOOR_OF[room] <= FLOOR_OF[used] and not (FLOOR_OF[room] == 0 and used in SMALL)
    )
    assert not wrong
    assert ("flows", "training") in edges, "the walk sees the flows behind their link"


def test_no_modules_import_each_other_in_a_circle():
    sorter = graphlib.TopologicalSorter(IMPORTS)
    sorter.prepare()  # raises CycleError, which names the modules of a cycle


def test_no_folder_holds_too_many_modules():
    folders = Counter(path.parent for path in MODULES.values() if path.name != "__init__.py")
    assert {str(folder): n for folder, n in folders.items() if n > MOST_MODULES} == {}


def test_no_module_is_named_like_a_public_name_of_its_package():
    """Importing such a module would replace the public name by the module."""
    for stub in PACKAGE.rglob("*.pyi"):
        names = {
            alias.asname or alias.name
            for node in ast.parse(stub.read_text()).body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        modules = {path.stem for path in stub.parent.iterdir() if path.suffix == ".py" or path.is_dir()}
        assert not names & modules, stub


def test_every_room_has_a_floor():
    assert {room_of(module) for module in MODULES} <= set(FLOOR_OF)


@pytest.mark.parametrize("module", ["emeg", *(f"emeg.{room}" for room in ROOMS)])
def test_importing_a_room_loads_no_heavy_library(module):
    loaded = run_python(f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])")
    assert loaded.strip() == "[]"


@pytest.mark.parametrize("room", ["sensors", "dsp", "store", "ingest", "curation", "export", "data", "synthetic"])
def test_rooms_before_the_networks_know_no_torch(room):
    code = f"""
import importlib, pkgutil, sys
import emeg.{room} as room
for module in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
    importlib.import_module(module.name)
print("torch" in sys.modules)
"""
    assert run_python(code).strip() == "False"


def test_links_into_the_package_are_relative():
    for name in ("flows", "tokenizers"):
        link = ROOT / "src" / "emeg" / name
        assert link.is_symlink()
        assert str(link.readlink()) == f"../../{name}"
        assert not (ROOT / name / "__init__.py").exists()
