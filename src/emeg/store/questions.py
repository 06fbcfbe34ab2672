"""``emeg catalog``: questions to the catalogue, answered by DuckDB."""

import io
import json
from typing import Literal

from pydantic import Field

from emeg.config import Config, runtime_field
from emeg.errors import UserError
from emeg.progress import Progress, silent
from emeg.store.catalog import CATALOG_SCHEMA, catalog_table, compact_catalog
from emeg.store.products import Store

SHOWN = ("recording", "dataset", "subject", "task", "device", "modality", "n_channels", "duration_s")
"""Columns of an answer where none are named."""


class CatalogConfig(Config):
    """Ask the catalogue."""

    root: str = runtime_field(...)
    """Store: a folder or any fsspec URI."""
    where: str = ""
    """Condition in SQL, such as "device = 'ctf275' and duration_s > 600". Empty: all recordings."""
    columns: tuple[str, ...] = SHOWN
    """Columns, or expressions in SQL such as "count(*)"."""
    group_by: tuple[str, ...] = ()
    """Columns to group by, for expressions such as "sum(duration_s) / 3600 as hours"."""
    limit: int | None = Field(None, ge=1)
    """Rows at most."""
    format: Literal["table", "csv", "json"] = "table"
    """How the answer is written."""
    compact: bool = runtime_field(False)
    """Merge the rows into one file first, so that a large catalogue is read in one request."""


class CatalogAnswer(Config):
    """Rows that fit."""

    columns: tuple[str, ...]
    """Their columns."""
    rows: tuple[tuple[object, ...], ...]
    """A tuple a row."""
    format: Literal["table", "csv", "json"]
    """How it wants to be written."""

    def as_text(self) -> str:
        """Write the answer in its format."""
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
    nothing be written.

    Raises
    ------
    UserError
        There is no store, or DuckDB does not understand the question; the message says where.
    """
    import duckdb

    store = Store.open(config.root)
    if config.compact:
        compact_catalog(store)
    catalog = catalog_table(store)
    progress(1, 2, f"{catalog.num_rows} recordings")
    query = f"select {', '.join(config.columns)} from catalog"
    if config.where.strip():
        query += f" where ({config.where})"
    if config.group_by:
        query += f" group by {', '.join(config.group_by)}"
    query += " order by all"
    if config.limit is not None:
        query += f" limit {config.limit}"
    with duckdb.connect(
        ":memory:", config={"enable_external_access": "false", "python_enable_replacements": "false"}
    ) as connection:
        connection.register("catalog", catalog)
        connection.execute("set lock_configuration = true")
        try:
            statements = connection.extract_statements(query)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise UserError("where and columns: one question at a time, without ';'")
            answer = connection.execute(statements[0])
            names = tuple(column[0] for column in answer.description)
            rows = tuple(tuple(row) for row in answer.fetchall())
        except duckdb.Error as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{reason} (columns are {', '.join(CATALOG_SCHEMA.names)})") from error
    progress(2, 2, f"{len(rows)} rows")
    return CatalogAnswer(columns=names, rows=rows, format=config.format)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ",".join(map(_cell, value))
    return "" if value is None else str(value)
