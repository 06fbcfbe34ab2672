"""Commands in the pages can be typed, links have targets, and Python examples are run by a test."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
from tests.pages import GUIDES, PAGES, ROOT, commands_of, files_of, mentions_of, named, python_of

from emeg.cli import VERBS, parse_config
from emeg.options import list_options

PYTHON_IS_RUN_BY = {
    "docs/tutorial.md": "test_the_tutorials_python_runs",
    "README.md": "tests/inference/test_readme.py",
    "docs/how-to/use-a-model.md": "tests/inference/test_readme.py",
    "docs/reference/formats.md": "tests/integration/test_pages.py",
    "docs/how-to/add-a-tokenizer.md": "tests/training/test_added_tokenizer.py",
    "docs/how-to/add-an-encoder.md": "tests/training/test_added_encoder.py",
    "docs/how-to/intracranial.md": "tests/integration/test_intracranial.py",
}
"""Page with Python examples: the test that runs them."""


@pytest.mark.parametrize("page", GUIDES, ids=named)
def test_every_command_is_understood(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Verb and flags; nothing is run. Files that a page shows beside a command are there."""
    monkeypatch.chdir(tmp_path)
    for name, text in files_of(page).items():
        Path(name).write_text(text, encoding="utf-8")
    for line in commands_of(page):
        program, verb, *flags = shlex.split(line)
        assert program == "emeg", line
        config = getattr(importlib.import_module(VERBS[verb].module), VERBS[verb].config)
        assert parse_config(verb, config, flags) is not None, line


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path):
    """Files of the repository and anchors of a page must exist; of other addresses only the form is checked."""
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"", text):
        link = target[0] or target[1]
        if "://" in link:
            assert re.fullmatch(r"https?://[\w.-]+\.[a-z]{2,}(/\S*)?", link), f"{named(page)}: {link}"
            continue
        path = link.partition("#")[0]
        if "reference/generated/" in (page.parent / path).as_posix():
            continue  # written when the site is built, which checks these links (tests/test_site.py)
        assert (page.parent / path).exists(), f"{named(page)}: {link}"


@pytest.mark.parametrize("page", GUIDES, ids=named)
def test_commands_that_a_sentence_mentions_exist(page: Path):
    """A mention names a verb and options of it, without the values that a whole command needs."""
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for mention in mentions_of(page):
        program, *words = mention.split()
        if program == "make":
            assert {word for word in words if "=" not in word} <= targets, f"{named(page)}: {mention}"
            continue
        verb = words[0]
        if verb.startswith(("-", "VERB", "<")):
            continue
        assert verb in VERBS, f"{named(page)}: {mention}"
        config = getattr(importlib.import_module(VERBS[verb].module), VERBS[verb].config)
        flags = {f"--{option.name}" for option in list_options(config)} | {"--config", "--help"}
        for word in words[1:]:
            known = not word.startswith("--") or word.partition("=")[0] in flags or word.replace("--no-", "--") in flags
            assert known, f"{named(page)}: {mention}"


def test_every_python_example_is_run_by_a_test():
    assert {named(page) for page in PAGES if python_of(page)} == set(PYTHON_IS_RUN_BY)


def test_the_tutorials_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from emeg.synthetic import SynthesizeConfig, synthesize

    synthesize(SynthesizeConfig(out=str(tmp_path / "bids"), n_subjects=1, n_trials=2, short_s=12))
    (code,) = python_of(ROOT / "docs/tutorial.md")
    monkeypatch.chdir(tmp_path)
    code = code.replace("/data/my-bids", str(tmp_path / "bids")).replace('root="store"', 'root="store", workers=0')
    exec(compile(code, "tutorial", "exec"), {"__name__": "tutorial"})


@pytest.mark.parametrize("picture", sorted((ROOT / "docs/pictures").glob("*.[ps][nv]g")), ids=named)
def test_pictures_are_small(picture: Path):
    assert picture.stat().st_size < 200_000


def glossary() -> dict[str, str]:
    """Return every term of the glossary and its meaning; a term has exactly one line."""
    found = {}
    blocks = re.findall(
        r"```\{glossary\}\n(.*?)```", (ROOT / "docs/glossary.md").read_text(encoding="utf-8"), re.DOTALL
    )
    for entry in "\n".join(blocks).split("\n\n"):
        term, meaning = entry.strip().split("\n  ")
        assert term not in found, term
        found[term] = meaning
    return found


def test_the_glossary_has_one_line_for_each_term():
    terms = glossary()
    assert {"sensor", "channel", "montage", "layout", "recording", "segment", "window", "epoch", "event_epoch"} <= set(
        terms
    )
    assert {"quantizer", "codebook", "code", "token", "latent source query", "step", "recipe", "scale"} <= set(terms)
    for term, meaning in terms.items():
        assert meaning.endswith("."), term
        assert len(meaning) < 140, term


def test_the_design_page_lists_the_floors_that_the_imports_are_checked_against():
    from tests.test_floors import FLOORS

    rows = re.findall(r"^\| (\d) \| (.*?) \|", (ROOT / "docs/design.md").read_text(encoding="utf-8"), re.MULTILINE)
    shown = {int(floor): set(re.findall(r"`(\w+)`", rooms)) for floor, rooms in rows}
    assert shown == {number: set(rooms) - {""} for number, rooms in enumerate(FLOORS)}
