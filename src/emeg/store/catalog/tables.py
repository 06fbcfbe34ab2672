"""Catalogue, events and quarantine of a store.

A recording exists if and only if its row does: the row is written last, after the signal and the events.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from emeg.hashing import NAME_LENGTH, hash_json, sha256_bytes
from emeg.store.catalog.parquet import parquet_bytes, table_of
from emeg.store.catalog.records import CatalogRow, Event, QuarantineRecord
from emeg.store.connection_errors import connection_to
from emeg.store.files import PARALLEL_REQUESTS, StoreFiles
from emeg.uri import Location

T = TypeVar("T")

_SUFFIX = ".parquet"
_COMPACT = "compact-"

MOST_SCATTERED = 250
"""Number of rows in single files from which ingest merges them; reading them takes about a second (4 ms each)."""

_ABOUT_EVENTS = re.compile(r".*events\.tsv|\d+ of \d+ events lie outside")
"""Notes of ingest about a recording's events."""

_COLUMN_TYPES: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    float | None: pa.float64(),
    bool: pa.bool_(),
    tuple[str, ...]: pa.list_(pa.string()),
    tuple[float, ...]: pa.list_(pa.float64()),
    dict[str, str]: pa.map_(pa.string(), pa.string()),
}

CATALOG_SCHEMA = pa.schema(
    [pa.field(name, _COLUMN_TYPES[field.annotation]) for name, field in CatalogRow.model_fields.items()]
)
"""Columns of the catalogue, in the order of `CatalogRow`."""

EVENTS_SCHEMA = pa.schema(
    [("onset_s", pa.float64()), ("duration_s", pa.float64()), ("trial_type", pa.string()), ("value", pa.string())]
)
"""Columns of a recording's events."""


def publish_row(store: StoreFiles, row: CatalogRow, events: Sequence[Event]) -> None:
    """Write a recording's events, then its catalogue row: with it the recording exists."""
    table = pa.Table.from_pylist([event._asdict() for event in events], schema=EVENTS_SCHEMA)
    store.write_bytes(parquet_bytes(table), "catalog", "events", row.recording + _SUFFIX)
    store.write_bytes(parquet_bytes(_rows_table([row])), "catalog", "recordings", row.recording + _SUFFIX)


def replace_events(store: StoreFiles, recording: str, events: Sequence[Event], notes: Sequence[str]) -> None:
    """Replace a recording's events, with their count and the notes about them in its row.

    Parameters
    ----------
    store : Store
    recording : str
    events : sequence of Event
    notes : sequence of str
        What ingest says about the events; earlier notes about a table of events are dropped.
    """
    [fields] = _read_rows(store.location("catalog", "recordings", recording + _SUFFIX)).to_pylist(
        maps_as_pydicts="strict"
    )
    row = CatalogRow.model_validate(fields)
    kept = [note for note in row.notes if not _ABOUT_EVENTS.match(note)]
    changed = {"n_events": len(events), "notes": tuple(dict.fromkeys((*kept, *notes)))}
    publish_row(store, row.model_copy(update=changed), events)


def has_row(store: StoreFiles, recording: str) -> bool:
    """Return whether the recording exists, that is, whether its row does."""
    return store.exists("catalog", "recordings", recording + _SUFFIX)


def catalog_table(store: StoreFiles) -> pa.Table:
    """Return the catalogue as an Arrow table with the columns of `CatalogRow`, sorted by recording.

    Rows merged by `compact_catalog` come from the merged file, all others from their own, many at a time.
    """
    rows = {location.name.removesuffix(_SUFFIX): location for location in _files(store, "recordings")}
    merged = _merged_table(store)
    known = merged["recording"]
    kept = merged.filter(pc.is_in(known, value_set=pa.array(sorted(rows), pa.string())))
    fresh = sorted(rows.keys() - set(known.to_pylist()))
    if not fresh:  # merged files are sorted
        return kept.combine_chunks()
    single = _map(_read_rows, [rows[recording] for recording in fresh])
    return pa.concat_tables([kept, *single]).sort_by("recording").combine_chunks()


def read_catalog(store: StoreFiles) -> list[CatalogRow]:
    """Read the catalogue rows, sorted by recording."""
    return [CatalogRow.model_validate(row) for row in catalog_table(store).to_pylist(maps_as_pydicts="strict")]


def compact_catalog(store: StoreFiles) -> str:
    """Merge all rows into one file, so that a large catalogue is read in one request; return the file's name.

    The rows' own files stay, since they say what exists. Older merged files are removed.
    """
    # Build the table from rows: one read from one file and one joined from many differ in details of their bytes.
    data = parquet_bytes(_rows_table(read_catalog(store)))
    name = f"{_COMPACT}{sha256_bytes(data)[:NAME_LENGTH]}{_SUFFIX}"
    store.write_bytes(data, "catalog", name)
    for location in _merged_files(store):
        if location.name != name:
            store.remove("catalog", location.name)
    return name


def recompact(store: StoreFiles) -> None:
    """Merge the rows again if there is a merged file: a row that it holds has changed."""
    merged = _merged_files(store)
    for location in merged:  # rows of a merged file go before those of their own files
        store.remove("catalog", location.name)
    if merged:
        compact_catalog(store)


def compact_if_scattered(store: StoreFiles) -> bool:
    """Merge the rows if more than `MOST_SCATTERED` have been written since they were merged last; return whether."""
    merged = set(_merged_table(store)["recording"].to_pylist())
    scattered = {location.name.removesuffix(_SUFFIX) for location in _files(store, "recordings")} - merged
    if len(scattered) <= MOST_SCATTERED:
        return False
    compact_catalog(store)
    return True


def read_events(store: StoreFiles, recording: str) -> list[Event]:
    """Read the events of a recording in their order; empty where there are none."""
    if not store.exists("catalog", "events", recording + _SUFFIX):
        return []
    table = _read_parquet(store.location("catalog", "events", recording + _SUFFIX))
    return [Event(**row) for row in table.to_pylist()]


def quarantine(store: StoreFiles, record: QuarantineRecord) -> None:
    """Record that a source was refused; a later record of the same source replaces it."""
    name = _quarantine_name(record.dataset, record.source)
    store.write_json(record.model_dump(mode="json"), "catalog", "quarantine", name)


def read_quarantine(store: StoreFiles) -> list[QuarantineRecord]:
    """Read all refused sources, sorted by dataset and source."""
    places = _files(store, "quarantine", ".json")
    records = [QuarantineRecord.checked(fields, source="quarantine") for fields in _map(_read_json, places)]
    return sorted(records, key=lambda record: (record.dataset, record.source))


def find_refusal(store: StoreFiles, dataset: str, source: str) -> QuarantineRecord | None:
    """Return the record of a refused source; `None` where it is not refused."""
    parts = ("catalog", "quarantine", _quarantine_name(dataset, source))
    if not store.exists(*parts):
        return None
    return QuarantineRecord.checked(_read_json(store.location(*parts)), source="/".join(parts))


def release(store: StoreFiles, dataset: str, source: str) -> bool:
    """Remove the record of a source that is accepted now; return whether there was one."""
    return store.remove("catalog", "quarantine", _quarantine_name(dataset, source))


def _quarantine_name(dataset: str, source: str) -> str:
    return f"{hash_json([dataset, source])}.json"


def _rows_table(rows: Iterable[CatalogRow]) -> pa.Table:
    columns = [row.model_dump() for row in rows]
    for fields in columns:
        fields["dropped"] = sorted(fields["dropped"].items())
    return pa.Table.from_pylist(columns, schema=CATALOG_SCHEMA)


def _read_parquet(location: Location) -> pa.Table:
    with connection_to(location):
        data = location.read_bytes()
    return table_of(data)


def _read_json(location: Location) -> dict[str, Any]:
    with connection_to(location):
        fields: dict[str, Any] = location.read_json()
    return fields


def _files(store: StoreFiles, folder: str, suffix: str = _SUFFIX) -> list[Location]:
    return [location for location in _children(store, folder) if location.name.endswith(suffix)]


def _merged_files(store: StoreFiles) -> list[Location]:
    return [location for location in _children(store) if location.name.startswith(_COMPACT)]


def _children(store: StoreFiles, *folder: str) -> list[Location]:
    return store.children("catalog", *folder)


def _merged_table(store: StoreFiles) -> pa.Table:
    while merged := _merged_files(store):
        try:
            return _read_rows(merged[-1])
        except FileNotFoundError:  # a newer one has replaced it since: look again
            continue
    return CATALOG_SCHEMA.empty_table()


def _read_rows(location: Location) -> pa.Table:
    """Read rows; columns that are younger than the file have their defaults."""
    table = _read_parquet(location)
    for name, field in CatalogRow.model_fields.items():
        if name not in table.column_names and not field.is_required():
            values = pa.array(
                [field.get_default(call_default_factory=True)] * table.num_rows, _COLUMN_TYPES[field.annotation]
            )
            table = table.append_column(name, values)
    return table.select([name for name in CATALOG_SCHEMA.names if name in table.column_names])


def _map(function: Callable[[Location], T], places: Sequence[Location]) -> list[T]:
    with ThreadPoolExecutor(PARALLEL_REQUESTS) as pool:
        return list(pool.map(function, places))
