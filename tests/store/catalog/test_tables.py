"""Catalogue, events and quarantine."""

import time
from concurrent.futures import ThreadPoolExecutor

import duckdb
import pyarrow.parquet as pq
import pytest

from emeg.store import (
    Event,
    QuarantineRecord,
    Store,
    catalog_table,
    compact_catalog,
    publish_row,
    quarantine,
    read_catalog,
    read_events,
    read_quarantine,
    release,
)
from emeg.store.catalog.tables import compact_if_scattered, has_row

EVENTS = [Event(1.5, 0.2, "left", "T1"), Event(0.5, 0.0, "rechts µ", ""), Event(1.5, 0.2, "left", "T1")]


def test_row_and_events_round_trip(store: Store, row) -> None:
    assert read_catalog(store) == []
    assert not has_row(store, "b")
    rows = [row("b", session="2"), row("a", dropped={}, notches=(), bad_channels=())]
    publish_row(store, rows[0], EVENTS)
    publish_row(store, rows[1], [])
    assert has_row(store, "b")
    assert read_catalog(store) == [rows[1], rows[0]]
    assert catalog_table(store)["recording"].to_pylist() == ["a", "b"]
    assert read_events(store, "b") == EVENTS
    assert read_events(store, "a") == []
    assert read_events(store, "none") == []


def test_row_is_written_after_the_events(store: Store, row, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    write_bytes = Store.write_bytes
    monkeypatch.setattr(Store, "write_bytes", lambda self, data, *p: (order.append(p[1]), write_bytes(self, data, *p)))
    publish_row(store, row("a"), EVENTS)
    assert order == ["events", "recordings"]


def test_same_row_same_bytes(tmp_path, row) -> None:
    """The order of `dropped` is random; the file holds no time and no host name."""
    stores = [Store.open(tmp_path / name, create=True) for name in ("one", "two")]
    publish_row(stores[0], row("a"), EVENTS)
    time.sleep(1.1)
    publish_row(stores[1], row("a", dropped=dict(reversed(row("a").dropped.items()))), EVENTS)
    for folder in ("recordings", "events"):
        one, two = [store.location("catalog", folder, "a.parquet").read_bytes() for store in stores]
        assert one == two
    written = pq.read_metadata(tmp_path / "one" / "catalog" / "recordings" / "a.parquet")
    assert written.created_by.startswith("parquet-cpp-arrow version ")
    assert set(written.metadata) == {b"ARROW:schema"}


def test_unfinished_files_are_no_rows(local_store: Store, row) -> None:
    publish_row(local_store, row("a"), [])
    (local_store.root.local_path() / "catalog" / "recordings" / ".partial-xyz").write_bytes(b"half")
    assert [r.recording for r in read_catalog(local_store)] == ["a"]


def test_compacted_catalogue_is_the_same(store: Store, row) -> None:
    for name in "dbca":
        publish_row(store, row(name, notes=(f"note {name}",)), [])
    before = read_catalog(store)
    first = compact_catalog(store)
    assert read_catalog(store) == before
    assert compact_catalog(store) == first
    publish_row(store, row("aa"), [])
    store.location("catalog", "recordings", "c.parquet").remove()  # the row's own file says what exists
    assert [r.recording for r in read_catalog(store)] == ["a", "aa", "b", "d"]
    second = compact_catalog(store)
    assert second != first
    assert [r.recording for r in read_catalog(store)] == ["a", "aa", "b", "d"]
    assert [place.name for place in store.location("catalog").children() if place.name.startswith("c")] == [second]


def test_others_can_ask_the_catalogue(local_store: Store, row) -> None:
    publish_row(local_store, row("a"), EVENTS)
    publish_row(local_store, row("b", device="other"), [])
    pattern = str(local_store.root.local_path() / "catalog" / "recordings" / "*.parquet")
    query = f"select device, count(*), max(dropped['ECG']) from '{pattern}' group by device order by device"
    assert duckdb.sql(query).fetchall() == [("", 1, "no EEG or MEG"), ("other", 1, "no EEG or MEG")]


def refused_source(source: str, **changes: object) -> QuarantineRecord:
    fields: dict[str, object] = {
        "source": source,
        "dataset": "dataset",
        "stage": "signal",
        "reason": "channel E1 has NaN at sample 3",
        "next_action": "cut the gap",
        "sensors": ({"name": "E1", "position": [0.0, 0.1, 0.0]},),
        "config_hash": "0" * 16,
    }
    return QuarantineRecord.model_validate(fields | changes)


def test_quarantine(store: Store) -> None:
    assert read_quarantine(store) == []
    for record in [
        refused_source("b.edf"),
        refused_source("a.edf", reason="old"),
        refused_source("a.edf", dataset="another"),
    ]:
        quarantine(store, record)
    quarantine(store, refused_source("a.edf"))
    assert read_quarantine(store) == [
        refused_source("a.edf", dataset="another"),
        refused_source("a.edf"),
        refused_source("b.edf"),
    ]
    assert release(store, "dataset", "a.edf")
    assert not release(store, "dataset", "a.edf")
    assert [record.source for record in read_quarantine(store)] == ["a.edf", "b.edf"]


def test_rows_are_merged_when_many_are_scattered(local_store: Store, row, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emeg.store.catalog.tables.MOST_SCATTERED", 2)
    for name in "ab":
        publish_row(local_store, row(name), [])
    assert not compact_if_scattered(local_store)
    publish_row(local_store, row("c"), [])
    assert compact_if_scattered(local_store)
    assert not compact_if_scattered(local_store)
    assert [r.recording for r in read_catalog(local_store)] == ["a", "b", "c"]


def test_readers_and_writers_do_not_disturb_compaction(local_store: Store, row) -> None:
    """Rows appear while others merge and read: every read returns at least the rows that existed before it."""
    for number in range(10):
        publish_row(local_store, row(f"0{number}"), [])
    with ThreadPoolExecutor(3) as pool:
        writing = pool.submit(lambda: [publish_row(local_store, row(f"1{n}"), []) for n in range(10)])
        merging = [pool.submit(compact_catalog, local_store) for _ in range(6)]
        reading = [pool.submit(lambda: [r.recording for r in read_catalog(local_store)]) for _ in range(6)]
        for future in [writing, *merging]:
            future.result()
        first = [f"0{number}" for number in range(10)]
        assert all(future.result()[:10] == first for future in reading)
    assert len(read_catalog(local_store)) == 20
