"""The house keeps its floors: a room imports only from the rooms under it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("sensors", "store", "synthetic", "ingest", "data", "models", "training", "evaluation", "reports")
HEAVY = ("torch", "mne", "prefect", "lightning")


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_imports_go_down_the_floors_only():
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("module", ["emeg", *(f"emeg.{room}" for room in ROOMS)])
def test_importing_a_room_loads_no_heavy_library(module):
    loaded = run_python(f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])")
    assert loaded.strip() == "[]"


@pytest.mark.parametrize("room", ["sensors", "store", "ingest", "data", "synthetic"])
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
