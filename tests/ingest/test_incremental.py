"""Later runs fetch only new or changed files, report vanished ones, and never ingest a withdrawn subject again."""

import shutil
from types import SimpleNamespace

import pytest
from tests.ingest.test_archive import tree
from tests.messages import refusal

from emeg.curation import WithdrawConfig, withdraw
from emeg.data import ShardConfig, shard
from emeg.errors import UserError
from emeg.ingest import IngestConfig, ingest
from emeg.ingest.dataset_records import LISTING_SCHEMA, read_kept
from emeg.ingest.transfer import checksums
from emeg.store import Store, read_catalog
from emeg.store.removal import remove_recording
from emeg.store.runs import RunNote, note_run


@pytest.fixture
def lab(shared, tmp_path):
    """Four people with one short recording each."""
    folder = tmp_path / "lab"
    sources = shared / "data/ssvep"
    for i in range(1, 5):
        shutil.copytree(sources / f"sub-{i:02d}", folder / f"sub-{i:02d}")
    shutil.copy(sources / "dataset_description.json", folder)
    config = IngestConfig(archive=str(folder), root=str(tmp_path / "store"), workers=0)
    return SimpleNamespace(folder=folder, config=config, root=tmp_path / "store", result=ingest(config))


def rows(lab):
    return {row.source: row.recording for row in read_catalog(Store.open(lab.root))}


def touch_signal(lab):
    """Change a file that belongs to the content of one recording."""
    header = next(lab.folder.glob("sub-01/**/*.vhdr"))
    header.write_text(header.read_text() + "\n; seen again\n")


def test_a_changed_source_replaces_its_recording_and_a_vanished_one_is_reported(lab):
    before = rows(lab)
    changed, vanished = sorted(before)[:2]
    touch_signal(lab)
    shutil.rmtree(lab.folder / "sub-02")
    result = ingest(lab.config)
    after = rows(lab)
    assert (result.n_new, result.n_known) == (1, 2)
    assert result.replaced == (before[changed],)
    assert result.vanished == (vanished,)
    assert {s for s in after if after[s] != before[s]} == {changed}
    assert not (lab.root / "recordings" / f"{before[changed]}.zarr").exists()
    assert not (lab.root / "catalog/events" / f"{before[changed]}.parquet").exists()
    assert ingest(lab.config).n_new == 0
    fresh = ingest(lab.config.model_copy(update={"root": str(lab.root) + "-fresh"}))
    assert set(fresh.ready) == set(after.values()) - {before[vanished]}


def test_a_source_that_is_damaged_later_keeps_its_older_recording(lab):
    before = rows(lab)
    source = sorted(before)[0]
    header = next(lab.folder.glob("sub-01/**/*.vhdr"))
    header.write_text("nonsense")
    result = ingest(lab.config)
    assert (result.replaced, result.quarantined) == ((), (source,))
    assert rows(lab) == before


def test_what_a_killed_run_left_of_an_older_recording_is_removed(lab):
    before = rows(lab)
    source = sorted(before)[0]
    touch_signal(lab)
    undisturbed = ingest(lab.config.model_copy(update={"root": str(lab.root) + "-b"}))
    # as if the run had died between the older recording's row and its signal
    Store.open(lab.root).remove("catalog", "recordings", f"{before[source]}.parquet")
    assert ingest(lab.config).replaced == (before[source],)
    assert tree(lab.root) == tree(lab.root.with_name(lab.root.name + "-b"))
    assert set(undisturbed.ready) == set(rows(lab).values())


def test_the_listing_is_kept_with_what_identifies_every_file(lab):
    import pyarrow.parquet as pq

    table = pq.read_table(lab.root / "catalog/listings/lab.parquet")
    assert table.schema.equals(LISTING_SCHEMA)
    kept = {row["path"]: row for row in table.to_pylist()}
    assert len(kept) == sum(path.is_file() for path in lab.folder.rglob("*"))
    for path in lab.folder.rglob("*.eeg"):
        row = kept[str(path.relative_to(lab.folder))]
        assert row["size"] == path.stat().st_size
        assert len(row["sha256"]) == 64
    facts = read_kept(Store.open(lab.root), "lab")
    assert facts.recordings == {lab.config.standardise.product_hash(): rows(lab)}


def test_a_hash_is_computed_once_and_again_when_a_file_changes(lab, monkeypatch):
    read = []
    monkeypatch.setattr(checksums, "_SETTLED_S", -1.0)
    ingest(lab.config)
    monkeypatch.setattr(checksums, "sha256_file", lambda path: read.append(path.name) or "0" * 64)
    assert ingest(lab.config).n_new == 0
    assert read == []
    events = next(lab.folder.glob("sub-01/**/*_events.tsv"))
    text = events.read_text()
    events.write_text(text[:-2] + ("1" if text[-2] != "1" else "2") + "\n")
    checksums.identify(Store.open(lab.root), tuple(identify_sources(lab)), 1)
    assert read == [events.name]


def identify_sources(lab):
    from emeg.ingest import list_sources

    return list_sources(lab.config)


def products(store, corpus, person):
    """Token sets, models, evaluations and reports as the verbs write them, of this corpus and of another."""
    for name, made_from in (("a", corpus), ("b", "another")):
        store.write_json({"corpus": made_from, "tokenizer": f"tok-{name}"}, "tokens", f"tokens-{name}", "manifest.json")
        config = {"kind": "braintokenizer", "provenance": {"corpus": made_from}}
        store.write_json(config, "models", f"tok-{name}", "config.json")
        config = {"kind": "brainomni", "provenance": {"inputs": {"tokens": f"tokens-{name}"}}}
        store.write_json(config, "models", f"omni-{name}", "config.json")
        figures = {"provenance": {"model": f"omni-{name}"}, "task": {"folds": [{"test": [person]}] * (name == "a")}}
        store.write_json(figures, "evaluations", f"eval-{name}", "figures.json")
        store.write_json(figures, "reports", f"report-{name}", "figures.json")
        store.write_bytes(b"<html>", "reports", f"report-{name}", "index.html")
    for run, inputs, checkpoints in (
        ("1" * 16, {"corpus": corpus}, ()),
        ("2" * 16, {"corpus": "x", "tokens": "tokens-a"}, ("s3://weights/2222222222222222",)),
        ("3" * 16, {"tokens": "tokens-b"}, ()),
    ):
        folder = str(store.location("runs", run))
        note_run(store, run, RunNote(inputs=inputs, places=(folder, *checkpoints)))
        store.write_bytes(b"weights", "runs", run, "checkpoints", "last-00000001.ckpt")
    store.write_bytes(b"weights", "runs", "4" * 16, "checkpoints", "last-00000001.ckpt")


def test_a_person_leaves_every_product_and_stays_away(lab):
    store = Store.open(lab.root)
    corpus = shard(ShardConfig(root=str(lab.root), held_out=0.25, validation=0.25)).corpus
    products(store, corpus, "lab/sub-01")
    own = {name for source, name in rows(lab).items() if source.startswith("sub-01/")}
    config = WithdrawConfig(root=str(lab.root), dataset="lab", subject="01")
    listed = withdraw(config.model_copy(update={"dry_run": True}))
    assert set(listed.recordings) == own
    assert store.has("corpora", corpus)
    done = withdraw(config)
    assert done == listed
    assert (done.runs, done.runs_elsewhere) == (("1" * 16, "2" * 16), ("s3://weights/2222222222222222",))
    assert done.runs_unknown == ("4" * 16,)
    left = {place.name for place in store.children("runs") if len(place.name) == 16}
    assert left == {"3" * 16, "4" * 16}
    assert done.log_lines == len(own)
    logs = "".join(path.read_text() for path in (lab.root / "runs").rglob("log.jsonl"))
    assert "sub-02/" in logs
    assert "sub-01/" not in logs
    assert "BIDS exports" in done.beyond
    assert (done.corpora, done.tokens, done.models) == ((corpus,), ("tokens-a",), ("omni-a", "tok-a"))
    assert done.others == ("evaluations/eval-a", "reports/report-a")
    assert [store.names(room) for room in ("corpora", "tokens", "evaluations", "reports")] == [
        [],
        ["tokens-b"],
        ["eval-b"],
        ["report-b"],
    ]
    assert store.location("models", "omni-a", "withdrawn.json").read_json() == {"people": ["lab/sub-01"]}
    assert not store.exists("models", "omni-b", "withdrawn.json")
    assert own.isdisjoint(row.recording for row in read_catalog(store))
    assert not own & {path.stem for path in (lab.root / "recordings").iterdir()}
    assert not own & {path.stem for path in (lab.root / "catalog/events").iterdir()}
    again = withdraw(config)
    assert again.done_before
    assert (again.runs, again.log_lines) == ((), 0)
    assert (again.recordings, again.models) == ((), ())
    result = ingest(lab.config)
    assert (result.n_new, result.skipped["withdrawn"]) == (0, len(own))
    assert {row.subject for row in read_catalog(store)} == {"sub-02", "sub-03", "sub-04"}
    assert result.vanished == ()


def test_nobody_of_that_name_is_the_callers_mistake(lab):
    with refusal(UserError, "'09'", "dataset lab", action="sub-01"):
        withdraw(WithdrawConfig(root=str(lab.root), dataset="lab", subject="09"))


def test_removing_twice_reports_that_nothing_was_found(lab):
    store = Store.open(lab.root)
    [name] = [n for s, n in rows(lab).items() if s.startswith("sub-01/")]
    assert (remove_recording(store, name), remove_recording(store, name)) == (True, False)
