"""Retention: what is old and unused goes, products and whatever a process works on stay."""

import json
import os
import time
from pathlib import Path

import fsspec
import pytest

from emeg.curation import TidyConfig, tidy
from emeg.store import Store
from emeg.store.claims import claimed
from emeg.store.runs import RunNote, note_run

DAY = 86400.0
DONE, LEFT, USED, FRESH, TOKENS = (letter * 16 for letter in "abcde")


def write(file: Path, text: str, *, days: float) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    then = time.time() - days * DAY
    os.utime(file, (then, then))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with products, trainings, logs and report pages of several ages."""
    root = tmp_path / "store"
    store = Store.open(root, create=True)
    for name in (DONE, USED):
        write(root / "models" / name / "config.json", "{}", days=400)
    write(root / "tokens" / TOKENS / "manifest.json", "{}", days=400)
    write(root / "evaluations/e1/figures.json", '{"of": 1}', days=400)
    note_run(store, DONE, RunNote(places=(str(root / "runs" / DONE), "s3://elsewhere/checkpoints")))
    for name, days in ((DONE, 40), (LEFT, 200), (USED, 40), (FRESH, 40), (TOKENS, 40)):
        write(root / "runs" / name / "checkpoints/last-00000001.ckpt", "x" * 2**20, days=days)
    write(root / "runs" / DONE / "made_from.json", (root / "runs" / DONE / "made_from.json").read_text(), days=40)
    write(root / "runs/ingest-1/log.jsonl", "{}\n", days=40)
    write(root / "runs/ingest-2/log.jsonl", "{}\n", days=1)
    write(root / "runs/ingest/d-hashes.json", "{}", days=400)  # what the next ingest compares with
    for name, figures, days in (("old", 1, 90), ("new", 1, 50), ("newest", 1, 2), ("orphan", 2, 60), ("young", 2, 1)):
        write(root / "reports" / name / "figures.json", json.dumps({"of": figures}), days=days)
        write(root / "reports" / name / "index.html", "page", days=days)
    write(root / "reports/quality-1/index.html", "page", days=400)
    return root


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_a_dry_run_lists_and_changes_nothing(root: Path):
    before = files(root)
    found = tidy(TidyConfig(root=str(root), dry_run=True))
    assert (found.runs, found.unfinished_runs, found.logs) == ((DONE, USED, TOKENS), (LEFT,), ("ingest-1",))
    assert found.reports == ("new", "old", "orphan")
    assert found.elsewhere == ("s3://elsewhere/checkpoints",)
    assert found.freed_mib == pytest.approx(4.0, abs=0.01)
    assert files(root) == before


def test_only_what_was_listed_goes_and_products_stay(root: Path):
    before = files(root)
    planned = tidy(TidyConfig(root=str(root), dry_run=True))
    made = tidy(TidyConfig(root=str(root)))
    assert made.model_copy(update={"dry_run": True, "n_partial": 0}) == planned
    gone = {path.split("/")[1] for path in before - files(root)}
    assert gone == {DONE, USED, TOKENS, LEFT, "ingest-1", "new", "old", "orphan"}
    assert {path.split("/")[0] for path in before - files(root)} == {"runs", "reports"}
    assert tidy(TidyConfig(root=str(root))).freed_mib == 0.0


def test_a_run_that_a_process_works_on_stays(root: Path):
    with claimed(Store.open(root), f"model-{USED}") as is_ours:
        assert is_ours
        found = tidy(TidyConfig(root=str(root)))
    assert found.in_use == (USED,)
    assert (root / "runs" / USED).exists()
    assert not (root / "runs" / DONE).exists()


def test_an_unfinished_run_is_kept_for_as_long_as_asked(root: Path):
    assert tidy(TidyConfig(root=str(root), keep_unfinished_days=300, dry_run=True)).unfinished_runs == ()
    assert FRESH in tidy(TidyConfig(root=str(root), keep_unfinished_days=35, dry_run=True)).unfinished_runs


def test_what_interrupted_writers_left_is_removed(root: Path):
    write(root / ".partial/models-x-1/config.json", "{}", days=0)
    assert tidy(TidyConfig(root=str(root))).n_partial >= 1
    assert not (root / ".partial/models-x-1").exists()


def test_a_bucket_is_tidied_too():
    fs = fsspec.filesystem("memory")
    store = Store.open("memory://tidied", create=True)
    store.write_bytes(b"{}", "models", DONE, "config.json")
    store.write_bytes(b"x", "runs", DONE, "metrics.csv")
    file = fs.store["/tidied/runs/" + DONE + "/metrics.csv"]
    assert tidy(TidyConfig(root="memory://tidied")).runs == ()
    file.modified = file.modified.replace(year=2020)
    assert tidy(TidyConfig(root="memory://tidied")).runs == (DONE,)
    assert not store.exists("runs", DONE)
    assert store.exists("models", DONE, "config.json")
