"""The house keeps its floors: a room imports only from the rooms under it."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "emeg"
FLOORS = (
    ("sensors", "registry", "bids_files", "config", "errors", "hashing", "uri", "progress", "terminal"),
    ("store", "tokenizers"),
    ("synthetic", "ingest", "export", "data", "models"),
    ("training", "inference"),
    ("evaluation",),
    ("reports",),
    ("flows", "cli"),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
ROOMS = (
    "sensors",
    "registry",
    "store",
    "synthetic",
    "ingest",
    "export",
    "data",
    "models",
    "training",
    "inference",
    "evaluation",
    "reports",
)
HEAVY = ("torch", "mne", "prefect", "lightning")
SMALL = {"config", "errors", "hashing", "uri", "progress"}
"""Modules of the ground floor that its other modules may use: `config` uses `errors`, `sensors` uses `hashing`."""


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Room and syntax tree of every module, those behind the links included."""
    for folder, _, files in os.walk(PACKAGE, followlinks=True):
        for name in files:
            path = Path(folder) / name
            if path.suffix == ".py" and path != PACKAGE / "__init__.py":
                room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
                yield room, ast.parse(path.read_text(encoding="utf-8"))


def imported_rooms(tree: ast.Module) -> Iterator[str]:
    """Rooms named by any import in the module, wherever it stands: lazy ones and those for types too."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
            names = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        for name in names:
            parts = name.split(".")
            if parts[0] == "emeg" and len(parts) > 1 and parts[1] in FLOOR_OF:
                yield parts[1]


def test_imports_go_down_the_floors_only():
    edges = {(room, used) for room, tree in modules() for used in imported_rooms(tree)}
    wrong = sorted(
        f"{room} imports {used}"
        for room, used in edges
        if room != used and FLOOR_OF[room] <= FLOOR_OF[used] and not (FLOOR_OF[room] == 0 and used in SMALL)
    )
    assert not wrong
    assert ("flows", "training") in edges, "the walk sees the flows behind their link"


def test_every_room_has_a_floor():
    assert {room for room, _ in modules()} <= set(FLOOR_OF)


@pytest.mark.parametrize("module", ["emeg", *(f"emeg.{room}" for room in ROOMS)])
def test_importing_a_room_loads_no_heavy_library(module):
    loaded = run_python(f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])")
    assert loaded.strip() == "[]"


@pytest.mark.parametrize("room", ["sensors", "store", "ingest", "export", "data", "synthetic"])
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
