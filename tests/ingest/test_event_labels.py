"""Labels change no name: tables of events and of subjects are updated, signals and products stay as they are."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.ingest.test_archive import tree

from emeg.curation import WithdrawConfig, withdraw
from emeg.data import ShardConfig, shard
from emeg.ingest import IngestConfig, ingest
from emeg.ingest import recording as recording_module
from emeg.ingest.event_labels import content_of_events, read_labels
from emeg.ingest.pseudonyms import KEY_VARIABLE
from emeg.ingest.transfer import download
from emeg.store import (
    CatalogConfig,
    Store,
    compact_catalog,
    query_catalog,
    read_catalog,
    read_events,
    read_facts,
    read_quarantine,
)

TABLE = """participant_id\tage\tgroup\tname\tdate_of_birth
sub-01\t61\tMDD\tAnna Schmidt\t1961-07-23
sub-02\t35\tHC\tBernd Vogel\t1970-01-02
sub-03\t93\tMDD\tCarla Meier\t1930-04-05
sub-04\tn/a\tHC\tDora Lang\t1980-09-09
sub-99\t20\tHC\tnobody here\t2000-01-01
"""


@pytest.fixture
def lab(shared, tmp_path) -> SimpleNamespace:
    """Four people with one short recording each, and a table about them."""
    folder = tmp_path / "lab"
    for i in range(1, 5):
        shutil.copytree(shared / f"data/ssvep/sub-{i:02d}", folder / f"sub-{i:02d}")
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    (folder / "dataset_description.json").write_text('{"Name": "lab", "BIDSVersion": "1.9.0"}')
    (folder / "participants.tsv").write_text(TABLE)
    (folder / "participants.json").write_text(json.dumps({"group": {"Levels": {"MDD": "depression", "HC": "none"}}}))
    for i in (1, 2):
        name = f"sub-{i:02d}_task-ssvep_eeg.vhdr"
        scans = f"filename\tacq_time\tmedication\neeg/{name}\t1987-11-29T13:37:41\t{('on', 'off')[i % 2]}\n"
        (folder / f"sub-{i:02d}/sub-{i:02d}_scans.tsv").write_text(scans)
    return SimpleNamespace(
        folder=folder,
        root=tmp_path / "store",
        config=IngestConfig(archive=str(folder), root=str(tmp_path / "store"), workers=0),
    )


def names(lab) -> dict[str, str]:
    return {row.source: row.recording for row in read_catalog(Store.open(lab.root))}


def events_file(lab) -> Path:
    return next(lab.folder.glob("sub-01/**/*_events.tsv"))


def signals(lab) -> dict[str, bytes]:
    return {name: content for name, content in tree(lab.root).items() if name.startswith("recordings/")}


@pytest.mark.parametrize("merged", [False, True])
def test_rows_added_to_a_table_of_events_update_the_events_and_nothing_else(lab, monkeypatch, merged):
    ingest(lab.config)
    store = Store.open(lab.root)
    corpus = shard(ShardConfig(root=str(lab.root), segment_s=5.0, held_out=0.25)).corpus
    before, made, own = names(lab), signals(lab), next(r for s, r in names(lab).items() if "sub-01" in s)
    n_events = len(read_events(store, own))
    if merged:
        compact_catalog(store)
    events_file(lab).write_text(events_file(lab).read_text() + "2.5\t0.5\tblink\n")
    with monkeypatch.context() as patch:
        patch.setattr(recording_module, "write_signal", lambda *_: pytest.fail("the signal was made again"))
        result = ingest(lab.config)
    assert (result.n_new, result.replaced, names(lab)) == (1, (), before)
    found = read_events(store, own)
    assert len(found) == n_events + 1
    assert any((event.onset_s, event.trial_type) == (2.5, "blink") for event in found)
    assert {row.recording: row.n_events for row in read_catalog(store)}[own] == n_events + 1
    assert signals(lab) == made
    again = shard(ShardConfig(root=str(lab.root), segment_s=5.0, held_out=0.25))
    assert (again.corpus, again.done_before) == (corpus, True)
    assert ingest(lab.config).n_new == 0
    fresh = lab.config.model_copy(update={"root": str(lab.root) + "-fresh"})
    assert set(ingest(fresh).ready) == set(before.values())


def test_a_table_that_cannot_be_used_leaves_the_events_and_is_tried_again(lab):
    ingest(lab.config)
    before, own = names(lab), next(r for s, r in names(lab).items() if "sub-01" in s)
    store, text = Store.open(lab.root), events_file(lab).read_text()
    kept = read_events(store, own)
    events_file(lab).write_text(text.replace("onset", "time"))
    result = ingest(lab.config)
    assert (names(lab), result.quarantined, read_events(store, own)) == (before, (), kept)
    assert ingest(lab.config).n_new == 1
    events_file(lab).write_text(text)
    ingest(lab.config)
    assert ingest(lab.config).n_new == 0


def test_a_refused_recording_is_tried_again_when_its_events_are_corrected(lab):
    text = events_file(lab).read_text()
    events_file(lab).write_text(text.replace("onset", "time"))
    assert len(ingest(lab.config).quarantined) == 1
    assert ingest(lab.config).n_new == 0
    events_file(lab).write_text(text)
    result = ingest(lab.config)
    assert (result.n_new, result.quarantined) == (1, ())
    assert not read_quarantine(Store.open(lab.root))


def test_rows_that_mark_bad_data_or_pauses_are_content(lab):
    ingest(lab.config)
    before = names(lab)
    events_file(lab).write_text(events_file(lab).read_text() + "2.0\t1.0\tBAD_muscle\n")
    result = ingest(lab.config)
    assert len(result.replaced) == 1
    assert sum(names(lab)[source] != before[source] for source in before) == 1
    table = "onset\tduration\ttrial_type\n1\t0\tleft\n"
    assert content_of_events(table.encode()) == ""
    marked = {
        content_of_events(f"{table}{row}\n".encode()) for row in ("2\t1\tBAD_x", "2\t0\tboundary", "2\t0\tNew Segment/")
    }
    assert len(marked - {""}) == 3
    assert content_of_events((table + "2\t1\tBAD_x\n").encode()) == content_of_events(
        b"onset\tduration\tkind\n2\t1\tBAD_x\n"
    )


def test_recordings_of_an_older_version_keep_their_names(lab, monkeypatch):
    """An older version hashed whole tables of events; its recordings are found, now and after an edit."""
    with monkeypatch.context() as patch:
        patch.setattr("emeg.ingest.archive.with_event_content", lambda store, sources, config: tuple(sources))
        patch.setattr("emeg.ingest.archive.write_labels", lambda *_: None)
        ingest(lab.config)
    older = names(lab)
    fresh = lab.config.model_copy(update={"root": str(lab.root) + "-fresh"})
    assert not set(ingest(fresh).ready) & set(older.values())
    result = ingest(lab.config)
    assert (result.n_new, names(lab)) == (0, older)
    assert len(read_labels(Store.open(lab.root), "lab").older_names) == 4
    events_file(lab).write_text(events_file(lab).read_text() + "2.5\t0.5\tblink\n")
    result = ingest(lab.config)
    assert (result.n_new, result.replaced, names(lab)) == (1, (), older)
    own = next(r for s, r in older.items() if "sub-01" in s)
    assert "blink" in {event.trial_type for event in read_events(Store.open(lab.root), own)}


def test_subjects_and_scans_are_tables_without_private_columns(lab):
    result = ingest(lab.config)
    store = Store.open(lab.root)
    people = read_facts(store, "subjects")
    assert people.to_pydict() == {
        "dataset": ["lab"] * 4,
        "subject": [f"sub-0{i}" for i in range(1, 5)],
        "age": [61, 35, 89, None],
        "group": ["MDD", "HC", "MDD", "HC"],
    }
    assert read_facts(store, "scans")["medication"].to_pylist() == ["off", "on"]
    assert set(result.columns_left_out) == {
        "participants.tsv: name",
        "participants.tsv: date_of_birth",
        "scans.tsv: acq_time",
    }
    whole = str(tree(lab.root)).lower()
    assert not re.search("schmidt|1961|1987-11", whole)
    config = CatalogConfig(
        root=str(lab.root), columns=("subject",), where="subject_group = 'HC' and scan_medication = 'on'"
    )
    assert query_catalog(config).rows == (("sub-02",),)


def test_an_edited_table_of_subjects_updates_the_tables_and_nothing_else(lab):
    ingest(lab.config)
    before = tree(lab.root)
    (lab.folder / "participants.tsv").write_text(TABLE.replace("35\tHC", "35\tMDD"))
    result = ingest(lab.config)
    assert (result.n_new, result.done_before) == (0, True)
    after = tree(lab.root)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    products = {name for name in changed if not name.startswith("runs/")}
    assert products == {"catalog/subjects/lab.parquet", "catalog/listings/lab.parquet"}
    (lab.folder / "participants.tsv").unlink()
    ingest(lab.config)
    assert read_facts(Store.open(lab.root), "subjects").num_rows == 0


def test_with_a_key_the_tables_have_pseudonyms(lab, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    ingest(lab.config)
    store = Store.open(lab.root)
    subjects = {row.subject for row in read_catalog(store)}
    assert set(read_facts(store, "subjects")["subject"].to_pylist()) == subjects
    assert "sub-01" not in str(read_facts(store, "scans").to_pylist())


def test_a_withdrawn_subject_leaves_the_tables_and_stays_away(lab):
    ingest(lab.config)
    config = WithdrawConfig(root=str(lab.root), dataset="lab", subject="01", dry_run=True)
    assert withdraw(config).table_rows == 2
    assert read_facts(Store.open(lab.root), "subjects").num_rows == 4
    assert withdraw(config.model_copy(update={"dry_run": False})).table_rows == 2
    store = Store.open(lab.root)
    assert "sub-01" not in read_facts(store, "subjects")["subject"].to_pylist()
    ingest(lab.config)
    assert "sub-01" not in str([read_facts(store, kind).to_pylist() for kind in ("subjects", "scans")])


def test_a_table_of_events_is_read_once(lab, monkeypatch):
    read = []
    monkeypatch.setattr(
        "emeg.ingest.event_labels.read_listed",
        lambda root, file, config: read.append(file.path) or download.read_listed(root, file, config),
    )
    ingest(lab.config)
    assert len(read) == 4
    ingest(lab.config)
    assert len(read) == 4


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("participants.tsv", b"\0\1\2\xff" * 50),
        ("participants.tsv", b"age\tsex\n30\tF\n"),
        ("participants.json", b"{"),
        ("participants.json", b"[1]"),
    ],
)
def test_a_table_of_subjects_that_cannot_be_used_is_named_and_costs_no_recording(lab, file, content):
    if file == "participants.json":
        subjects = sorted(path.name for path in lab.folder.glob("sub-*"))
        (lab.folder / "participants.tsv").write_text("participant_id\n" + "".join(f"{one}\n" for one in subjects))
    (lab.folder / file).write_bytes(content)
    result = ingest(lab.config)
    assert result.ready
    assert file in result.columns_left_out
