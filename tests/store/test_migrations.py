"""Stores of an older version are migrated by the first writer; newer ones are refused."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.messages import refusal

from emeg.errors import UserError
from emeg.store import (
    SCHEMA,
    Store,
    VerifyConfig,
    compact_catalog,
    open_recording,
    publish_row,
    read_catalog,
    verify,
    write_recording,
)
from emeg.store.migrations import MIGRATIONS

MEASURED = [
    "bad_share", "flat_s", "noisy_s", "clipped_s", "beyond_gate_s", "uncorrelated_s",
    "mains_ratio", "high_frequency_ratio", "neighbour_correlation",
]  # fmt: skip


@pytest.fixture
def old_store(tmp_path, sensors, attributes, row):
    """A store as version 1 wrote it: a recording and its row, no digests."""
    store = Store.open(tmp_path / "old", create=True)
    three = sensors(3)
    signal = np.random.default_rng(0).normal(0, 1e-5, (3, 3000)).astype(np.float32)
    write_recording(
        store, "a", signal, sensors=three, attributes=attributes(three), bad=np.zeros((3, 12), np.uint8), chunk=256
    )
    publish_row(store, row("a", layout=three.layout_id, duration_s=3000 / 256, n_events=0), [])
    store.location("catalog", "digests").remove()
    store.write_json({"schema": 1}, "store.json")
    return store.root.local_path()


def test_a_step_is_registered_from_every_version():
    assert sorted(MIGRATIONS) == list(range(1, SCHEMA))


def test_a_reader_leaves_an_older_store_alone_and_a_writer_brings_it_up(old_store):
    Store.open(old_store)
    assert json.loads((old_store / "store.json").read_text()) == {"schema": 1}
    Store.open(old_store, create=True)
    assert json.loads((old_store / "store.json").read_text()) == {"schema": SCHEMA}
    assert verify(VerifyConfig(root=str(old_store))).faults == ()
    digests = json.loads((old_store / "catalog/digests/a.json").read_text())
    assert set(digests) == {str(p.relative_to(old_store / "recordings/a.zarr")) for p in files(old_store)}


def test_what_an_older_version_ingested_is_read_as_not_measured(old_store):
    """Rows as version 2 wrote them have no columns of quality; merged with newer ones they are null."""
    place = old_store / "catalog/recordings/a.parquet"
    table = pq.read_table(place)
    pq.write_table(table.drop_columns(MEASURED), place)
    store = Store.open(old_store, create=True)
    publish_row(store, read_catalog(store)[0].model_copy(update={"recording": "b", "bad_share": 0.5}), [])
    compact_catalog(store)
    assert {row.recording: row.bad_share for row in read_catalog(store)} == {"a": None, "b": 0.5}
    assert open_recording(store, "a").measures is None
    assert open_recording(store, "a").read(0, 256).shape == (3, 256)


def files(root):
    return [path for path in (root / "recordings").rglob("*") if path.is_file()]


def test_a_newer_store_is_refused_in_one_line(old_store):
    (old_store / "store.json").write_text(f'{{"schema": {SCHEMA + 1}}}')
    for create in (False, True):
        with refusal(UserError, "store.json", SCHEMA + 1, action="update emeg"):
            Store.open(old_store, create=create)


def test_verify_tells_a_changed_file_from_one_too_many(old_store):
    Store.open(old_store, create=True)
    metadata = old_store / "recordings/a.zarr/zarr.json"
    metadata.write_text(metadata.read_text().replace('"dataset": "dataset"', '"dataset": "another"'))
    (old_store / "recordings/a.zarr/notes.txt").write_text("mine")
    problems = sorted(fault.problem for fault in verify(VerifyConfig(root=str(old_store))).faults)
    assert problems == ["notes.txt does not belong to it", "zarr.json was changed: its sha256 differs"]
