"""Stores of an older version are brought up to date by who writes; newer ones are refused."""

import json

import numpy as np
import pytest

from emeg.errors import UserError
from emeg.store import SCHEMA, Store, VerifyConfig, publish_row, verify, write_recording
from emeg.store.migrations import MIGRATIONS


@pytest.fixture
def old_store(tmp_path, sensors, attributes, row):
    """As version 1 left it: a recording and its row, no digests."""
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


def files(root):
    return [path for path in (root / "recordings").rglob("*") if path.is_file()]


def test_a_newer_store_is_refused_in_one_line(old_store):
    (old_store / "store.json").write_text(f'{{"schema": {SCHEMA + 1}}}')
    for create in (False, True):
        with pytest.raises(UserError, match=r"newer than this emeg.*update emeg") as refused:
            Store.open(old_store, create=create)
        assert "\n" not in str(refused.value)


def test_verify_tells_a_changed_file_from_one_too_many(old_store):
    Store.open(old_store, create=True)
    metadata = old_store / "recordings/a.zarr/zarr.json"
    metadata.write_text(metadata.read_text().replace('"dataset": "dataset"', '"dataset": "another"'))
    (old_store / "recordings/a.zarr/notes.txt").write_text("mine")
    problems = sorted(fault.problem for fault in verify(VerifyConfig(root=str(old_store))).faults)
    assert problems == ["notes.txt does not belong to it", "zarr.json was changed: its sha256 differs"]
