"""Write the page on evaluations over tasks with its tables."""

import io
import logging
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.csv as pa_csv

from emeg.progress import Progress, silent
from emeg.reports.markup import figure_table
from emeg.reports.moabb_table import moabb_table
from emeg.reports.render import render
from emeg.reports.sections.evaluated import Evaluated
from emeg.reports.sections.grid import grid_page
from emeg.reports.withdrawals import stop_if_outdated
from emeg.store import Store
from emeg.store.catalog.parquet import parquet_bytes
from emeg.uri import locate

logger = logging.getLogger(__name__)


def write_grid_page(store: Store, report: str, evaluations: Sequence[Evaluated], progress: Progress = silent) -> None:
    """Publish ``reports/<report>/``.

    ``index.html``       the page
    ``figures.json``     summary, leak checks and probes of each evaluation
    ``figures.parquet``  every number of the page: `emeg.reports.markup.FIGURES`
    ``results.parquet``  the rows of all evaluations, with their name
    ``moabb.csv``        results with MOABB's columns

    Parameters
    ----------
    store : Store
    report : str
        Name of the product.
    evaluations : sequence of Evaluated
    progress : Progress

    Raises
    ------
    UserError
        An evaluation was removed, or a subject withdrawn, while the page was drawn.
    """
    page = grid_page(store, evaluations, progress)
    html = render(page.context, "grid.html.j2")
    tables = (
        one.results.append_column("evaluation", pa.array([one.name] * len(one.results), pa.string()))
        for one in evaluations
    )
    everything = pa.concat_tables(tables, promote_options="default")  # older evaluations have fewer columns
    with store.publishing("reports", report) as folder:
        (folder / "index.html").write_text(html, encoding="utf-8")
        (locate(folder) / "figures.json").write_json(
            {
                one.name: one.summary.model_dump(mode="json") | {"checks": one.checks, "probes": one.probes}
                for one in evaluations
            }
        )
        (folder / "figures.parquet").write_bytes(parquet_bytes(figure_table(page.figures)))
        (folder / "results.parquet").write_bytes(parquet_bytes(everything))
        (folder / "moabb.csv").write_bytes(moabb_csv(evaluations))
    subjects = {name for one in evaluations for name in one.results["subject"].unique().to_pylist() if name}
    stop_if_outdated(store, report, [one.name for one in evaluations], subjects)
    progress(1, 1, "written")
    logger.info("wrote reports/%s: %d kB", report, len(html) // 1000)


def moabb_csv(evaluations: Sequence[Evaluated]) -> bytes:
    """Return the results of evaluations as CSV with MOABB's columns, each row once."""
    found: dict[tuple[str, str, str], dict[str, object]] = {}
    schema = None
    for one in evaluations:
        metrics = {task.id: task.metric for task in one.summary.tasks}
        table = moabb_table(one.results, metrics, {task.id: task.n_channels for task in one.summary.tasks})
        schema = table.schema
        for row in table.to_pylist():
            found.setdefault((row["dataset"], row["subject"], row["pipeline"]), row)
    buffer = io.BytesIO()
    pa_csv.write_csv(pa.Table.from_pylist([found[key] for key in sorted(found)], schema=schema), buffer)
    return buffer.getvalue()
