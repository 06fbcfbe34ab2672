"""The verb ``compare``: write one page that compares evaluations over tasks."""

from emeg.config import Config, runtime_field
from emeg.errors import UserError
from emeg.evaluation.protocol.products import is_grid
from emeg.hashing import hash_json
from emeg.progress import Progress, silent
from emeg.reports.render import PAGE_VERSION
from emeg.reports.sections.evaluated import read_evaluated
from emeg.reports.write_grid_page import write_grid_page
from emeg.store import Store
from emeg.version import __version__


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
    report = hash_json({"kind": "comparison", "evaluations": names, "version": __version__, "page": PAGE_VERSION})
    result = CompareResult(
        report=report,
        evaluations=tuple(names),
        done_before=store.has("reports", report),
        path=str(store.location("reports", report, "index.html")),
    )
    if result.done_before:
        return result
    write_grid_page(store, report, [read_evaluated(store, name) for name in names], progress)
    return result


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
