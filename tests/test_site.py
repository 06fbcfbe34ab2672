"""The documentation builds without a warning, and every verb, option, recipe and public name has its entry."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from sphinx.util.inventory import InventoryFile

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))

from generate.names import public_names  # noqa: E402
from generate.options import options_of  # noqa: E402

from emeg.cli import VERBS  # noqa: E402


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site once; any warning fails, including one of a reference without target."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "--fail-on-warning", "--keep-going", "-b", "html"]
    done = subprocess.run(
        [*command, "-d", str(folder / "doctrees"), str(ROOT / "docs"), str(folder / "html")],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return folder / "html"


@pytest.fixture(scope="session")
def entries(site: Path) -> dict[str, set[str]]:
    """Return the names that the site describes, by kind of entry."""
    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="").data
    return {kind: set(names) for kind, names in inventory.items()}


def test_every_public_name_has_an_entry(entries: dict[str, set[str]]):
    described = set().union(*(names for kind, names in entries.items() if kind.startswith("py:")))
    public = {f"{room}.{name}" for room, names in public_names().items() for name in names}
    assert len(public) > 100
    assert public - described == set()


def test_every_option_of_every_verb_has_an_entry(entries: dict[str, set[str]]):
    expected = set()
    for name, verb in VERBS.items():
        config = getattr(importlib.import_module(verb.module), verb.config)
        expected |= {f"emeg-{name}.{option.flag}" for option in options_of(config)}
        assert f"verb-{name}" in entries["std:label"]
    assert expected - entries["std:cmdoption"] == set()


def test_every_recipe_has_a_page(entries: dict[str, set[str]]):
    recipes = {path.stem for path in (ROOT / "src/emeg/recipes").glob("*.yaml")}
    assert {f"recipe-{name}" for name in recipes} - entries["std:label"] == set()


def test_the_site_shows_version_and_changelog(site: Path):
    from emeg.version import __version__

    assert __version__ in (site / "index.html").read_text(encoding="utf-8")
    assert __version__ in (site / "changelog.html").read_text(encoding="utf-8")


def test_every_public_class_and_verb_is_explained(site: Path, entries: dict[str, set[str]]):
    """A class has a docstring of its own, a verb has a summary; names without either must be in the glossary."""
    terms = {name.lower() for name in entries["std:term"]}
    unexplained = [name for name, verb in VERBS.items() if not verb.summary.endswith(".")]
    for room, names in public_names().items():
        module = importlib.import_module(room)
        for name in names:
            value = getattr(module, name)
            if isinstance(value, type) and not (vars(value).get("__doc__") or "").strip() and name.lower() not in terms:
                unexplained.append(f"{room}.{name}")
    assert unexplained == []
