"""The verb ``catalog``: a summary of a store, and questions in SQL to its catalogue and tables of facts.

DuckDB answers. ``catalog`` has one row a recording: the columns of `CatalogRow`, then the facts about its subject,
session and scan as ``subject_…``, ``session_…`` and ``scan_…``. ``subjects``, ``sessions`` and ``scans`` are the tables
of facts themselves.
"""

import io
import json
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from emeg.config import Config, runtime_field
from emeg.errors import UserError
from emeg.progress import Progress, silent
from emeg.store.catalog.facts import KEYS, PREFIXES, read_facts
from emeg.store.catalog.parquet import parquet_bytes
from emeg.store.catalog.summary import aligned, summarise_store
from emeg.store.catalog.tables import CATALOG_SCHEMA, catalog_table, compact_catalog
from emeg.store.connection_errors import connection_to
from emeg.store.products import Store
from emeg.uri import locate

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

Format = Literal["table", "csv", "json", "parquet"]

ENDINGS: dict[str, Format] = {".csv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}
"""Format by the ending of a file's name; any other ending means an aligned table."""

SHOWN = ("recording", "dataset", "subject", "task", "device", "modality", "n_channels", "duration_s")
"""Columns of recordings that are shown where none are named."""

Table = Literal["recordings", "subjects", "sessions", "scans"]


class CatalogConfig(Config):
    """Show what a store holds, or query its catalogue in SQL."""

    root: str = runtime_field(..., group="data")
    """Store: a folder or any fsspec URI. Without a further option: a summary of the store."""
    table: Table = "recordings"
    """Table to query: recordings, with the facts about their subjects as subject_…, or the facts alone."""
    where: str = ""
    """Condition in SQL, such as "device = 'ctf275' and subject_age > 60"; all rows if empty."""
    columns: tuple[str, ...] = ()
    """Columns, or expressions in SQL such as "count(*)"; if not given, the main columns of recordings, all of other
    tables."""
    group_by: tuple[str, ...] = ()
    """Columns to group by, for expressions such as "sum(duration_s) / 3600 as hours"."""
    limit: int | None = Field(None, ge=1)
    """Largest number of rows."""
    format: Format | None = None
    """Format of the answer: an aligned table, CSV, one JSON object a line, or Parquet with the types of the columns;
    if not set, by the ending of `out`, else a table."""
    out: str | None = runtime_field(None, group="data")
    """File to write the answer to, a path or any fsspec URI, replaced if it exists; Parquet needs one."""
    compact: bool = runtime_field(False, group="data")
    """First merge the rows into one file, so that a large catalogue is read in one request."""

    @property
    def asks_nothing(self) -> bool:
        """Whether only the store is named, so that a summary is the answer."""
        return self == CatalogConfig(root=self.root, compact=self.compact)


class CatalogAnswer(Config):
    """Rows that a query found, and the summary of the store where nothing was asked."""

    columns: tuple[str, ...]
    """Names of the columns."""
    rows: tuple[tuple[object, ...], ...]
    """One tuple a row."""
    format: Format
    """Format in which `written` returns the rows."""
    out: str | None = None
    """File that the rows were written to."""
    summary: str = ""
    """Summary of the store; empty where something was asked."""

    def as_text(self) -> str:
        """Return the summary, the rows, or the file that the rows were written to."""
        if self.summary:
            return self.summary
        return self.written() if self.out is None else f"{len(self.rows)} rows\n{self.out}"

    def written(self) -> str:
        """Return the rows as text in their format."""
        if self.format == "json":
            rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
            return "\n".join(json.dumps(row, default=str, ensure_ascii=False) for row in rows)
        if self.format == "csv":
            import csv

            sink = io.StringIO()
            writer = csv.writer(sink, lineterminator="\n")
            writer.writerows([self.columns, *self.rows])
            return sink.getvalue().rstrip("\n")
        cells = [self.columns, *(tuple(map(_cell, row)) for row in self.rows)]
        lines = aligned(cells)
        return "\n".join([*lines, f"({len(self.rows)} rows)"])


def query_catalog(config: CatalogConfig, *, progress: Progress = silent) -> CatalogAnswer:
    """Query the catalogue of a store, or summarise the store where only its root is given.

    The query can read the tables `catalog`, `subjects`, `sessions` and `scans` and nothing else; only `out` is written.

    Raises
    ------
    UserError
        There is no store, DuckDB does not understand the question (the message says where), or Parquet has no file.
    """
    kind = config.format or ENDINGS.get(f".{(config.out or '').rpartition('.')[2].lower()}", "table")
    if kind == "parquet" and config.out is None:
        raise UserError("format parquet: cannot be shown on a terminal; name a file with out (--out rows.parquet)")
    store = Store.open(config.root)
    if config.compact:
        compact_catalog(store)
    tables: dict[str, pa.Table] = {"rows": catalog_table(store)}
    tables |= {name: read_facts(store, name) for name in KEYS}
    progress(1, 2, f"{tables['rows'].num_rows} recordings")
    table = _ask(_question(config), tables)
    rows = tuple(zip(*(column.to_pylist(maps_as_pydicts="strict") for column in table.columns), strict=True))
    answer = CatalogAnswer(
        columns=tuple(table.column_names),
        rows=rows,
        format=kind,
        out=config.out,
        summary=summarise_store(store) if config.asks_nothing else "",
    )
    if config.out is not None:
        location = locate(config.out)
        with connection_to(location):
            location.write_bytes(parquet_bytes(table) if kind == "parquet" else f"{answer.written()}\n".encode())
    progress(2, 2, f"{len(rows)} rows")
    return answer


def _question(config: CatalogConfig) -> str:
    columns = config.columns or (SHOWN if config.table == "recordings" else ("*",))
    query = f"select {', '.join(columns)} from {'catalog' if config.table == 'recordings' else config.table}"
    if config.where.strip():
        query += f" where ({config.where})"
    if config.group_by:
        query += f" group by {', '.join(config.group_by)}"
    query += " order by all"
    return query if config.limit is None else f"{query} limit {config.limit}"


def _joined(tables: "dict[str, pa.Table]") -> str:
    """Return the query for the table `catalog`: the rows with the facts that belong to them, by prefix."""
    columns, joins = ["rows.*"], ""
    for kind, keys in KEYS.items():
        facts = [name for name in tables[kind].column_names if name not in keys]
        if facts:
            columns += [f"{kind}.{_quoted(name)} as {_quoted(PREFIXES[kind] + name)}" for name in facts]
            joins += f" left join {kind} on " + " and ".join(f"rows.{key} = {kind}.{key}" for key in keys)
    return f"select {', '.join(columns)} from rows{joins}"


def _quoted(name: str) -> str:
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def _ask(query: str, tables: "dict[str, pa.Table]") -> "pa.Table":
    import duckdb

    with duckdb.connect(
        ":memory:", config={"enable_external_access": "false", "python_enable_replacements": "false"}
    ) as connection:
        for name, table in tables.items():
            connection.register(name, table)
        connection.execute(f"create view catalog as {_joined(tables)}")
        connection.execute("set lock_configuration = true")
        try:
            return connection.sql(_single(connection, query)).to_arrow_table()
        except duckdb.Error as error:
            reason = str(error).splitlines()[0]
            names = [
                PREFIXES[kind] + name for kind in KEYS for name in tables[kind].column_names if name not in KEYS[kind]
            ]
            raise UserError(f"{reason}; use the columns {', '.join([*CATALOG_SCHEMA.names, *names])}") from error


def _single(connection: "duckdb.DuckDBPyConnection", query: str) -> "duckdb.Statement":
    import duckdb

    statements = connection.extract_statements(query)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise UserError("where and columns: only one question at a time; remove the ';'")
    return statements[0]


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ",".join(map(_cell, value))
    return "" if value is None else str(value)
