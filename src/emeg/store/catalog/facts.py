"""Facts about subjects, sessions and recordings beside the catalogue, one table a dataset.

``catalog/subjects/<dataset>.parquet``   dataset, subject, columns of participants.tsv
``catalog/sessions/<dataset>.parquet``   dataset, subject, session, columns of sessions.tsv
``catalog/scans/<dataset>.parquet``      dataset, subject, source, columns of scans.tsv

They are labels: no product's name depends on them, except that of an export, which contains them.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from emeg.errors import UserError
from emeg.store.catalog.parquet import parquet_bytes, table_of
from emeg.store.catalog.records import CatalogRow
from emeg.store.files import StoreFiles

FactKind = Literal["subjects", "sessions", "scans"]

KEYS: dict[FactKind, tuple[str, ...]] = {
    "subjects": ("dataset", "subject"),
    "sessions": ("dataset", "subject", "session"),
    "scans": ("dataset", "subject", "source"),
}
"""Columns that match a table's rows with rows of the catalogue."""

PREFIXES: dict[FactKind, str] = {"subjects": "subject_", "sessions": "session_", "scans": "scan_"}
"""Prefix of a fact's column in the catalogue's table, as in ``subject_age``."""

_ABOUT = b"emeg.about"
_SUFFIX = ".parquet"


def with_about(table: pa.Table, about: Mapping[str, Mapping[str, Any]]) -> pa.Table:
    """Return the table with a description of its columns, as a BIDS JSON file has it, in its metadata."""
    kept = {name: about[name] for name in table.column_names if about.get(name)}
    text = json.dumps(kept, sort_keys=True, ensure_ascii=False)
    return table.replace_schema_metadata({_ABOUT: text.encode()} if kept else None)


def about_of(table: pa.Table) -> dict[str, dict[str, Any]]:
    """Return the description of a table's columns; empty where the source had none."""
    found: dict[str, dict[str, Any]] = json.loads((table.schema.metadata or {}).get(_ABOUT, b"{}"))
    return found


def write_facts(store: StoreFiles, kind: FactKind, dataset: str, table: pa.Table | None) -> bool:
    """Write a dataset's table, or remove it where there is none; return whether anything changed.

    Raises
    ------
    UserError
        The table lacks a key column.
    """
    parts = ("catalog", kind, dataset + _SUFFIX)
    if table is None or not table.num_rows or table.column_names == list(KEYS[kind]):
        return store.remove(*parts)
    missing = [key for key in KEYS[kind] if key not in table.column_names]
    if missing:
        raise UserError(f"table of {kind} of {dataset}: no column {missing[0]!r}; add its keys {', '.join(KEYS[kind])}")
    data = parquet_bytes(table)
    if store.exists(*parts) and store.read_bytes(*parts) == data:
        return False
    store.write_bytes(data, *parts)
    return True


def read_facts(store: StoreFiles, kind: FactKind, datasets: Iterable[str] | None = None) -> pa.Table:
    """Read the tables of one kind as one, sorted by its keys; columns that a dataset lacks are null there.

    A column that is numeric in one dataset and text in another is text.

    Parameters
    ----------
    store : Store
    kind : str
        ``subjects``, ``sessions`` or ``scans``.
    datasets : iterable of str, optional
        Datasets to read; all by default.
    """
    wanted = None if datasets is None else set(datasets)
    names = [location.name.removesuffix(_SUFFIX) for location in store.children("catalog", kind)]
    tables = [
        table_of(store.read_bytes("catalog", kind, name + _SUFFIX))
        for name in names
        if wanted is None or name in wanted
    ]
    if not tables:
        return pa.schema([(key, pa.string()) for key in KEYS[kind]]).empty_table()
    about: dict[str, dict[str, Any]] = {}
    for table in tables:
        about = {**about_of(table), **about}
    types = _common_types(tables)
    whole = pa.concat_tables(
        [pa.table({name: _column(table, name, kind_of) for name, kind_of in types.items()}) for table in tables]
    )
    return with_about(whole.sort_by([(key, "ascending") for key in KEYS[kind]]), about)


def _common_types(tables: Sequence[pa.Table]) -> dict[str, pa.DataType]:
    found: dict[str, pa.DataType] = {}
    for table in tables:
        for field in table.schema:
            known = found.setdefault(field.name, field.type)
            if known != field.type:
                text = pa.string() in {known, field.type}
                found[field.name] = pa.string() if text else pa.float64()
    return found


def _column(table: pa.Table, name: str, kind: pa.DataType) -> pa.ChunkedArray | pa.Array:
    return table[name].cast(kind) if name in table.column_names else pa.nulls(table.num_rows, kind)


def remove_subject_facts(store: StoreFiles, dataset: str, subject: str, *, only_count: bool = False) -> int:
    """Remove a subject's rows from all tables; return how many there are."""
    removed = 0
    for kind in KEYS:
        if not store.exists("catalog", kind, dataset + _SUFFIX):
            continue
        table = table_of(store.read_bytes("catalog", kind, dataset + _SUFFIX))
        left = table.filter(pc.not_equal(table["subject"], subject))
        removed += table.num_rows - left.num_rows
        if left.num_rows < table.num_rows and not only_count:
            write_facts(store, kind, dataset, left.combine_chunks())
    return removed


def find_labels(store: StoreFiles, rows: Sequence[CatalogRow], column: str) -> dict[str, str]:
    """Return the text of one column for each recording that has a value there.

    The column is looked for in the table of scans, then of sessions, then of subjects; a recording's own value wins.
    Its name may have the prefix that it has in the catalogue (``subject_group``).

    Raises
    ------
    UserError
        No table of these datasets has the column; the message lists those that are there.
    """
    datasets = {row.dataset for row in rows}
    found: dict[str, str] = {}
    known: set[str] = set()
    there = False
    for kind, keys in reversed(KEYS.items()):
        table = read_facts(store, kind, datasets)
        facts = set(table.column_names) - set(keys)
        known |= facts
        name = column if column in facts else column.removeprefix(PREFIXES[kind])
        if name not in facts:
            continue
        there = True
        values = {cells[:-1]: cells[-1] for cells in _tuples(table, (*keys, name))}
        for row in rows:
            value = values.get(tuple(getattr(row, key) for key in keys))
            if value is not None:
                found.setdefault(row.recording, label_text(value))
    if not there:
        listed = ", ".join(sorted(known)) or "none"
        raise UserError(
            f"no column {column!r} in the tables of subjects, sessions and scans of {', '.join(sorted(datasets))};"
            f" columns there: {listed}. Add it to participants.tsv and ingest again, or name another column"
        )
    return found


def label_text(value: object) -> str:
    """Return a cell as the text that classes name: whole numbers without a point."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _tuples(table: pa.Table, columns: Sequence[str]) -> Iterable[tuple[Any, ...]]:
    return zip(*(table[name].to_pylist() for name in columns), strict=True)
