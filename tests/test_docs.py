"""Commands in the pages can be typed, and links lead somewhere."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from emeg.cli import VERBS, parse_config

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("docs/**/*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [page for page in PAGES if "decisions" not in page.parts], ids=named)
def test_every_command_is_understood(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Verb and flags; nothing is run. Files that a page shows beside a command are there."""
    text = page.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for name, block in re.findall(r"```yaml\n# (\S+)\n(.*?)```", text, re.DOTALL):
        Path(name).write_text(block, encoding="utf-8")
    for line in re.findall(r"^\$ (.*)$", text, re.MULTILINE):
        program, verb, *flags = shlex.split(line)
        assert program == "emeg", line
        config = getattr(importlib.import_module(VERBS[verb].module), VERBS[verb].config)
        assert parse_config(verb, config, flags) is not None, line


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", text):
        assert (page.parent / target).exists(), f"{named(page)}: {target}"


def test_the_tutorials_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from emeg.synthetic import SynthesizeConfig, synthesize

    synthesize(SynthesizeConfig(out=str(tmp_path / "bids"), n_subjects=1, n_trials=2, short_s=12))
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/tutorial.md").read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    code = code.replace("/data/my-bids", str(tmp_path / "bids")).replace('root="store"', 'root="store", workers=0')
    exec(compile(code, "tutorial", "exec"), {"__name__": "tutorial"})
