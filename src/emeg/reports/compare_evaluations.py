"""The verb ``compare``: write one page that compares evaluations over tasks."""

import io
import logging

import pyarrow as pa
import pyarrow.csv as pa_csv

from emeg.config import Config, runtime_field
from emeg.errors import UserError
from emeg.evaluation.protocol.products import GridSummary, is_grid, read_grid, read_results
from emeg.hashing import hash_json
from emeg.progress import Progress, silent
from emeg.reports.moabb_table import moabb_table
from emeg.reports.sections.comparison import comparison_context
from emeg.reports.write_report import render
from emeg.store import Store
from emeg.store.catalog.parquet import parquet_bytes
from emeg.uri import locate
from emeg.version import __version__

logger = logging.getLogger(__name__)


class CompareConfig(Config):
    """Write one self-contained HTML page that compares evaluations over tasks."""

    root: str = runtime_field(..., group="data")
    """Store: a folder or any fsspec URI."""
    evaluations: tuple[str, ...] = ()
    """Evaluations to compare; default: all of the store that were made with `emeg evaluate --tasks`."""


class CompareResult(Config):
    """Location of the page."""

    report: str
    """Name of the product below <root>/reports."""
    evaluations: tuple[str, ...]
    """Evaluations that it compares."""
    done_before: bool
    """Whether the page existed before."""
    path: str
    """Path of the page, or its URI if the store is a bucket."""


def compare(config: CompareConfig, *, progress: Progress = silent) -> CompareResult:
    """Write ``reports/<report>/``: ``index.html``, the figures as JSON and Parquet, and a table with MOABB's columns.

    Raises
    ------
    UserError
        An evaluation is missing or of another kind, or two evaluations have other definitions or splits of one task.
    """
    store = Store.open(config.root)
    names = _named(store, config)
    grids = {name: read_grid(store, name) for name in names}
    report = hash_json({"kind": "comparison", "evaluations": names, "version": __version__})
    result = CompareResult(
        report=report,
        evaluations=tuple(names),
        done_before=store.has("reports", report),
        path=str(store.location("reports", report, "index.html")),
    )
    if result.done_before:
        return result
    progress(0, 1, f"comparing {len(names)} evaluations")
    html = render(comparison_context(grids), "compare.html.j2")
    tables = {name: read_results(store, name) for name in names}
    with store.publishing("reports", report) as folder:
        (folder / "index.html").write_text(html, encoding="utf-8")
        (locate(folder) / "figures.json").write_json(
            {name: grid.model_dump(mode="json") for name, grid in grids.items()}
        )
        everything = pa.concat_tables(
            table.append_column("evaluation", pa.array([name] * len(table), pa.string()))
            for name, table in tables.items()
        )
        (folder / "results.parquet").write_bytes(parquet_bytes(everything))
        (folder / "moabb.csv").write_bytes(moabb_csv(grids, tables))
    progress(1, 1, "written")
    logger.info("wrote %s: %d kB", result.path, len(html) // 1000)
    return result


def moabb_csv(grids: dict[str, GridSummary], tables: dict[str, pa.Table]) -> bytes:
    """Return the results of evaluations as CSV with MOABB's columns, each row once."""
    found: dict[tuple[str, str, str], dict[str, object]] = {}
    schema = None
    for name, grid in grids.items():
        metrics = {task.id: task.metric for task in grid.tasks}
        table = moabb_table(tables[name], metrics, {task.id: task.n_channels for task in grid.tasks})
        schema = table.schema
        for row in table.to_pylist():
            found.setdefault((row["dataset"], row["subject"], row["pipeline"]), row)
    buffer = io.BytesIO()
    pa_csv.write_csv(pa.Table.from_pylist([found[key] for key in sorted(found)], schema=schema), buffer)
    return buffer.getvalue()


def _named(store: Store, config: CompareConfig) -> list[str]:
    known = [name for name in sorted(store.names("evaluations")) if is_grid(store, name)]
    names = list(dict.fromkeys(config.evaluations)) or known
    if missing := [name for name in names if name not in known]:
        raise UserError(
            f"{store.root}: no evaluation over tasks is called {missing[0]}; choose from {', '.join(known) or 'none'},"
            " or run `emeg evaluate --tasks …`"
        )
    if not names:
        raise UserError(f"{store.root}: no evaluation over tasks exists; run `emeg evaluate --tasks …` first")
    return names
