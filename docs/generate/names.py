"""Public names of the package, read from the stubs without importing a room."""

import ast
import os
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "src" / "emeg"

OPEN_MODULES = ("errors", "config", "progress")
"""Single modules whose public classes and functions callers use."""


def public_names() -> dict[str, dict[str, str]]:
    """Return, for each room, its public names and the module that defines each of them."""
    found = {}
    for folder, _, files in sorted(os.walk(PACKAGE, followlinks=True)):
        path = Path(folder)
        room = ".".join(("emeg", *path.relative_to(PACKAGE).parts))
        if "__init__.pyi" in files:
            names = _names_of_stub(path / "__init__.pyi", room)
        elif "__init__.py" in files:
            names = _names_of_all(path / "__init__.py")
        else:
            continue
        if names:
            found[room] = names
    for module in OPEN_MODULES:
        found[f"emeg.{module}"] = _names_of_module(PACKAGE / f"{module}.py", f"emeg.{module}")
    return found


def _names_of_stub(path: Path, room: str) -> dict[str, str]:
    names = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                names[alias.asname or alias.name] = f"{room}.{node.module}"
    return names


def _names_of_all(path: Path) -> dict[str, str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = {
        alias.asname or alias.name: node.module or ""
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for node in tree.body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.List)
            and ast.unparse(node.targets[0]) == "__all__"
        ):
            return {name: modules[name] for name in ast.literal_eval(node.value)}
    return {}


def _names_of_module(path: Path, module: str) -> dict[str, str]:
    return {
        node.name: module
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")
    }
