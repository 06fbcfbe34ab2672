"""``emeg catalog``: questions to the catalogue, answered by DuckDB."""

import io
import json
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from emeg.config import Config, runtime_field
from emeg.errors import UserError
from emeg.progress import Progress, silent
from emeg.store.catalog.parquet import parquet_bytes
from emeg.store.catalog.tables import CATALOG_SCHEMA, catalog_table, compact_catalog
from emeg.store.connection_errors import connection_to
from emeg.store.products import Store
from emeg.uri import locate

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

Format = Literal["table", "csv", "json", "parquet"]

ENDINGS: dict[str, Format] = {".csv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}
"""Endings of file names that tell a format; any other is a table for people."""

SHOWN = ("recording", "dataset", "subject", "task", "device", "modality", "n_channels", "duration_s")
"""Columns of an answer where none are named."""


class CatalogConfig(Config):
    """Ask the catalogue."""

    root: str = runtime_field(..., group="data")
    """Store: a folder or any fsspec URI."""
    where: str = ""
    """Condition in SQL, such as "device = 'ctf275' and duration_s > 600". Empty: all recordings."""
    columns: tuple[str, ...] = SHOWN
    """Columns, or expressions in SQL such as "count(*)"."""
    group_by: tuple[str, ...] = ()
    """Columns to group by, for expressions such as "sum(duration_s) / 3600 as hours"."""
    limit: int | None = Field(None, ge=1)
    """Rows at most."""
    format: Format | None = None
    """How the answer is written: for people, as CSV, as a line of JSON a row, as Parquet with the columns' types.
    None: as the ending of `out` says, else for people."""
    out: str | None = runtime_field(None)
    """File for the answer, a path or any fsspec URI, replaced if it is there; Parquet needs one. None: shown."""
    compact: bool = runtime_field(False)
    """Merge the rows into one file first, so that a large catalogue is read in one request."""


class CatalogAnswer(Config):
    """Rows that fit."""

    columns: tuple[str, ...]
    """Their columns."""
    rows: tuple[tuple[object, ...], ...]
    """A tuple a row."""
    format: Format
    """How it wants to be written."""
    out: str | None = None
    """File that it was written into."""

    def as_text(self) -> str:
        """Show the answer, or where it is."""
        return self.written() if self.out is None else f"{len(self.rows)} rows\n{self.out}"

    def written(self) -> str:
        """Write the answer as text in its format."""
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
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]
        lines = [
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in cells
        ]
        return "\n".join([*lines, f"({len(self.rows)} rows)"])


def query_catalog(config: CatalogConfig, *, progress: Progress = silent) -> CatalogAnswer:
    """Answer a question.

    The catalogue is a table `catalog` with the columns of `emeg.store.CatalogRow`; nothing but it can be read, and
    nothing but `out` be written.

    Raises
    ------
    UserError
        There is no store, DuckDB does not understand the question (the message says where), or Parquet has no file.
    """
    kind = config.format or ENDINGS.get(f".{(config.out or '').rpartition('.')[2].lower()}", "table")
    if kind == "parquet" and config.out is None:
        raise UserError("format parquet: nothing to look at on a terminal; name a file with out (--out rows.parquet)")
    store = Store.open(config.root)
    if config.compact:
        compact_catalog(store)
    catalog = catalog_table(store)
    progress(1, 2, f"{catalog.num_rows} recordings")
    table = _ask(_question(config), catalog)
    rows = tuple(zip(*(column.to_pylist(maps_as_pydicts="strict") for column in table.columns), strict=True))
    answer = CatalogAnswer(columns=tuple(table.column_names), rows=rows, format=kind, out=config.out)
    if config.out is not None:
        place = locate(config.out)
        with connection_to(place):
            place.write_bytes(parquet_bytes(table) if kind == "parquet" else f"{answer.written()}\n".encode())
    progress(2, 2, f"{len(rows)} rows")
    return answer


def _question(config: CatalogConfig) -> str:
    query = f"select {', '.join(config.columns)} from catalog"
    if config.where.strip():
        query += f" where ({config.where})"
    if config.group_by:
        query += f" group by {', '.join(config.group_by)}"
    query += " order by all"
    return query if config.limit is None else f"{query} limit {config.limit}"


def _ask(query: str, catalog: "pa.Table") -> "pa.Table":
    import duckdb

    with duckdb.connect(
        ":memory:", config={"enable_external_access": "false", "python_enable_replacements": "false"}
    ) as connection:
        connection.register("catalog", catalog)
        connection.execute("set lock_configuration = true")
        try:
            return connection.sql(_single(connection, query)).to_arrow_table()
        except duckdb.Error as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{reason} (columns are {', '.join(CATALOG_SCHEMA.names)})") from error


def _single(connection: "duckdb.DuckDBPyConnection", query: str) -> "duckdb.Statement":
    import duckdb

    statements = connection.extract_statements(query)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise UserError("where and columns: one question at a time, without ';'")
    return statements[0]


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ",".join(map(_cell, value))
    return "" if value is None else str(value)
