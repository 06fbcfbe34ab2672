"""Install packages that register tokenizers, encoders and objectives, as an installer leaves them on disk."""

import tomllib
from collections.abc import Mapping
from pathlib import Path

from tests.pages import python_of, toml_of


def install(folder: Path, name: str, groups: Mapping[str, Mapping[str, str]], *, version: str = "1.0") -> None:
    """Write the metadata of a package: its entry points by group and name."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = []
    for group, entries in groups.items():
        lines += [f"[{group}]", *(f"{key} = {value}" for key, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


def install_page(page: Path, folder: Path, module: str) -> None:
    """Install the package of a guide: its Python example as a module, and what its pyproject.toml registers."""
    (code,) = python_of(page)
    (folder / f"{module}.py").write_text(code, encoding="utf-8")
    project = tomllib.loads(toml_of(page)["pyproject.toml"])["project"]
    install(folder, project["name"], project["entry-points"], version=project["version"])
