"""Archive to report, by the commands of the walkthrough, and the properties that must hold when they are run again."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.commands import CommandFolder, walkthrough_commands

from emeg.cli import VERB_GROUPS, VERBS
from emeg.data import Corpus
from emeg.store import Store, read_catalog


def tree(folder: Path) -> dict[str, str]:
    """Content of every file that is not work in progress."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "runs" not in path.relative_to(folder).parts
    }


def test_the_walkthrough_shows_every_verb():
    shown = {command.split()[1] for command in walkthrough_commands()}
    on_other_pages = {"demo", "compare", "generate", *VERB_GROUPS["service"]}
    assert shown | on_other_pages == set(VERBS)


def test_every_stage_left_its_product(walkthrough: CommandFolder):
    store = Store.open(walkthrough.store)
    assert len(read_catalog(store)) == 18
    for room, count in (("corpora", 1), ("tokens", 1), ("models", 3), ("evaluations", 1), ("reports", 2)):
        assert len(store.names(room)) == count, room


def test_nobody_is_on_two_sides(walkthrough: CommandFolder):
    """No training stage has seen a subject that the task tests: read from the products themselves."""
    store = Store.open(walkthrough.store)
    subjects = Corpus.open(store).subjects
    figures = json.loads((next((walkthrough.store / "evaluations").iterdir()) / "figures.json").read_text())
    tested = [person for fold in figures["task"]["folds"] for person in fold["test"]]
    assert sorted(tested) == sorted(set(tested)) == sorted(p for p, split in subjects.items() if split == "held_out")
    for fold in figures["task"]["folds"]:
        people = [person for side in ("train", "validation", "test") for person in fold[side]]
        assert len(people) == len(set(people))


@pytest.mark.slow
def test_a_second_run_redoes_nothing(walkthrough: CommandFolder):
    before = tree(walkthrough.store)
    for command in walkthrough_commands():
        looks = {
            "import-reference",
            "synthesize",
            "datasets",
            "doctor",
            "push-to-hub",
            "withdraw",
            "copies",
            "plan",
            "cache",
            "catalog",
            "verify",
            "lineage",
            "tasks",
            "tidy",
        }
        if command.split()[1] not in looks:
            printed = walkthrough.run(command)
            assert re.search(r"done_before\s+True|n_new\s+0", printed), f"{command}\n{printed}"
    assert tree(walkthrough.store) == before


@pytest.mark.slow
def test_the_same_archive_gives_the_same_bytes(walkthrough: CommandFolder, tmp_path: Path):
    """Ingest and shard again, elsewhere: recordings, catalogue and corpus are equal byte for byte."""
    again = CommandFolder(tmp_path)
    shutil.copytree(walkthrough.folder / "archive", tmp_path / "archive")
    for command in walkthrough_commands():
        if command.split()[1] in {"ingest", "copies", "shard"}:
            again.run(command)
    expected = {
        name: digest
        for name, digest in tree(walkthrough.store).items()
        if name.split("/")[0] in {"store.json", "recordings", "catalog", "corpora"}
    }
    assert tree(again.store) == expected


def test_the_public_validator_passes_the_export(walkthrough: CommandFolder):
    program = Path(sys.executable).with_name("bids-validator-deno")
    if not program.exists():
        pytest.skip("bids-validator-deno is not installed (it is in the dev extra)")
    done = subprocess.run(
        [program, walkthrough.folder / "bids", "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if not done.stdout.startswith("{"):
        pytest.skip(f"the validator did not run: {done.stderr[-300:]}")
    found = json.loads(done.stdout)
    assert len(found["summary"]["subjects"]) == 6
    assert [issue for issue in found["issues"]["issues"] if issue["severity"] == "error"] == []


def test_reference_weights_become_a_model(walkthrough: CommandFolder, reference_weights: Path):
    (command,) = [command for command in walkthrough_commands() if "import-reference" in command]
    walkthrough.run(command)
    assert (reference_weights / "brainomni" / "model.safetensors").exists()


def test_the_report_is_one_page_that_asks_for_nothing_else(walkthrough: CommandFolder):
    path = Path(walkthrough.printed["report"].splitlines()[-1])
    html = path.read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)[^"']+["']|url\((?!#)""", html)
    assert "http://" not in re.sub(r"http://www\.w3\.org/[^\"']*", "", html)


def test_a_browser_shows_the_report(walkthrough: CommandFolder, tmp_path: Path):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    path = Path(walkthrough.printed["report"].splitlines()[-1])
    done = subprocess.run(
        [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=10000",
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    for heading in ("What was ingested", "Reconstruction of unseen subjects", "Training", "Task", "provenance"):
        assert heading in done.stdout
    assert done.stdout.count("<svg") > 15
