"""The verb ``report``: write one page about an evaluation."""

import logging

from emeg.config import Config, runtime_field
from emeg.evaluation.generation.products import read_generation
from emeg.evaluation.products import kind_of, read_arrays, read_summary
from emeg.evaluation.protocol.grid.cells import check_not_running
from emeg.hashing import hash_json
from emeg.progress import Progress, silent
from emeg.reports.page import page_context
from emeg.reports.render import PAGE_VERSION, render
from emeg.reports.sections.evaluated import read_evaluated
from emeg.reports.sections.generation import generation_context
from emeg.reports.withdrawals import stop_if_outdated
from emeg.reports.write_grid_page import write_grid_page
from emeg.store import Store, read_catalog, read_quarantine
from emeg.version import __version__

logger = logging.getLogger(__name__)


class ReportConfig(Config):
    """Write one self-contained HTML page about an evaluation and the products behind it."""

    root: str = runtime_field(..., group="data")
    """Store: a folder or any fsspec URI."""
    evaluation: str | None = None
    """Evaluation to show; not needed if the store holds only one."""


class ReportResult(Config):
    """Location of the page."""

    report: str
    """Name of the product below <root>/reports."""
    evaluation: str
    """Evaluation that it shows."""
    done_before: bool
    """Whether the page existed before."""
    path: str
    """Path of the page, or its URI if the store is a bucket."""


def report(config: ReportConfig, *, progress: Progress = silent) -> ReportResult:
    """Write ``reports/<report>/``: ``index.html`` and the figures of the evaluation as JSON and Parquet.

    An evaluation over tasks also gets its rows and a table with MOABB's columns; see `write_grid_page`.

    The name covers the evaluation, the catalogue and the quarantine, so that a store that has grown gets a new page.

    Raises
    ------
    UserError
        There is no such evaluation, it was removed while its page was drawn, or it compares models on tasks and is not
        finished; the message names the cells that are missing.
    """
    store = Store.open(config.root)
    check_not_running(store, config.evaluation)
    evaluation = store.only("evaluations", config.evaluation)
    rows, refused = read_catalog(store), read_quarantine(store)
    name = hash_json(
        {
            "evaluation": evaluation,
            "recordings": [row.recording for row in rows],
            "quarantine": [record.model_dump(mode="json") for record in refused],
            "version": __version__,
            "page": PAGE_VERSION,
        }
    )
    result = ReportResult(
        report=name,
        evaluation=evaluation,
        done_before=store.has("reports", name),
        path=str(store.location("reports", name, "index.html")),
    )
    if result.done_before:
        return result
    progress(0, 2, "gathering")
    kind = kind_of(store, evaluation)
    if kind == "grid":
        write_grid_page(store, name, [read_evaluated(store, evaluation)], progress)
        return result
    arrays = read_arrays(store, evaluation)
    progress(1, 2, "drawing")
    if kind == "generation":
        files = ("figures.json", "arrays.npz")
        html = render(generation_context(read_generation(store, evaluation), arrays, evaluation), "generation.html.j2")
    else:
        files = ("figures.json", "figures.parquet")
        html = render(page_context(store, rows, refused, read_summary(store, evaluation), arrays))
    with store.publishing("reports", name) as folder:
        (folder / "index.html").write_text(html, encoding="utf-8")
        for file in files:
            (folder / file).write_bytes(store.location("evaluations", evaluation, file).read_bytes())
    stop_if_outdated(store, name, [evaluation])
    progress(2, 2, "written")
    logger.info("wrote %s: %d kB", result.path, len(html) // 1000)
    return result
