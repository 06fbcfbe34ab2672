"""The verb ``tidy``: remove work in progress, logs and pages that nothing needs any more. Products stay.

runs/ ──▶ trainings and logs without a change for N days      reports/ ──▶ pages that a newer page replaces
.partial/ ──▶ what interrupted writers have left
"""

import logging
import re
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from pydantic import PositiveInt

from emeg.config import Config, runtime_field
from emeg.progress import Progress, silent
from emeg.store import Store
from emeg.store.claims import claimed
from emeg.store.runs import read_run
from emeg.uri import Location

logger = logging.getLogger(__name__)

_TRAINING = re.compile(r"[0-9a-f]{16}")
_LOG = re.compile(r"ingest-.+")
FIGURES = "figures.json"
"""File that a report shares with the evaluation that it shows."""


class TidyConfig(Config):
    """Remove old work in progress, logs and replaced report pages of a store. Products are never removed."""

    root: str = runtime_field(..., group="data")
    """Store: a folder or any fsspec URI."""
    keep_days: PositiveInt = runtime_field(30)
    """Days for which everything is kept. What has changed since then stays."""
    keep_unfinished_days: PositiveInt = runtime_field(180)
    """Days for which the checkpoints of a training without a finished model are kept."""
    dry_run: bool = runtime_field(False)
    """Only list what would be removed."""


class TidyResult(Config):
    """What was removed; with a dry run, what would be removed."""

    runs: tuple[str, ...] = ()
    """Runs of finished models: checkpoints, logs and curves below runs/."""
    unfinished_runs: tuple[str, ...] = ()
    """Runs without a finished model that nobody has continued."""
    logs: tuple[str, ...] = ()
    """Logs of ingests below runs/."""
    reports: tuple[str, ...] = ()
    """Report pages that a newer page of the same evaluation replaces, or whose evaluation is gone."""
    n_partial: int = 0
    """Pieces that interrupted writers have left below .partial; 0 with a dry run."""
    in_use: tuple[str, ...] = ()
    """Old runs that are kept because a process works on them."""
    elsewhere: tuple[str, ...] = ()
    """Folders and URIs outside the store with files of the removed runs: remove them by hand."""
    freed_mib: float = 0.0
    """Size of what was listed, MiB."""
    dry_run: bool = False
    """Whether nothing was removed."""


class _Old(NamedTuple):
    """A folder in which nothing has changed for some time."""

    name: str
    days: float
    n_bytes: int


def tidy(config: TidyConfig, *, progress: Progress = silent) -> TidyResult:
    """Remove what a store no longer needs, or list it.

    A run goes if its model is finished and nothing in it has changed for `keep_days`, or if it has no model and nothing
    has changed for `keep_unfinished_days`. A run on which a process works always stays.

    Raises
    ------
    UserError
        There is no such store.
    """
    store = Store.open(config.root)
    now = datetime.now(UTC)
    old = [entry for entry in _entries(store, "runs", now) if entry.days > config.keep_days]
    runs, unfinished, in_use = _sort_runs(store, old, config)
    logs = [entry for entry in old if _LOG.fullmatch(entry.name)]
    reports = _replaced_reports(store, now, config.keep_days)
    listed = [*runs, *unfinished, *logs, *reports]
    result = TidyResult(
        runs=tuple(entry.name for entry in runs),
        unfinished_runs=tuple(entry.name for entry in unfinished),
        logs=tuple(entry.name for entry in logs),
        reports=tuple(entry.name for entry in reports),
        in_use=tuple(in_use),
        elsewhere=tuple(sorted(place for entry in (*runs, *unfinished) for place in _elsewhere(store, entry.name))),
        freed_mib=round(sum(entry.n_bytes for entry in listed) / 2**20, 2),
        dry_run=config.dry_run,
    )
    if config.dry_run:
        return result
    for done, (kind, name) in enumerate(_removals(result)):
        progress(done, len(listed), f"remove {kind}/{name}")
        with claimed(store, f"model-{name}") as is_free:  # a training may have begun since
            if is_free:
                store.remove(kind, name)
    logger.info("%s: removed %d folders of %.1f MiB", config.root, len(listed), result.freed_mib)
    return result.model_copy(update={"n_partial": store.sweep()})


def _removals(result: TidyResult) -> list[tuple[str, str]]:
    runs = (*result.runs, *result.unfinished_runs, *result.logs)
    return [("runs", name) for name in runs] + [("reports", name) for name in result.reports]


def _entries(store: Store, kind: str, now: datetime) -> list[_Old]:
    """Return the entries of a folder with the days since the newest change in each, and their size."""
    found = []
    for location in store.children(kind):
        files = _files(location)
        if files:
            newest = max(changed for changed, _ in files)
            days = (now - newest) / timedelta(days=1)
            found.append(_Old(location.name, days, sum(size for _, size in files)))
    return found


def _files(location: Location) -> list[tuple[datetime, int]]:
    """Return when each file of a folder was changed last, and its size in bytes."""
    location.fs.invalidate_cache(location.path)
    details = location.fs.find(location.path, detail=True)
    found = []
    for path, entry in details.items():
        changed = location.fs.modified(path)
        found.append((changed if changed.tzinfo else changed.replace(tzinfo=UTC), int(entry["size"] or 0)))
    return found


def _sort_runs(store: Store, old: list[_Old], config: TidyConfig) -> tuple[list[_Old], list[_Old], list[str]]:
    """Divide old trainings into those of finished models, unfinished ones to remove, and those in use."""
    finished, unfinished, in_use = [], [], []
    products = {name for kind in ("models", "tokens") for name in store.names(kind)}
    for entry in old:
        if not _TRAINING.fullmatch(entry.name):
            continue
        is_finished = entry.name in products
        if not is_finished and entry.days <= config.keep_unfinished_days:
            continue
        with claimed(store, f"model-{entry.name}") as is_free:
            if not is_free:
                in_use.append(entry.name)
            elif is_finished:
                finished.append(entry)
            else:
                unfinished.append(entry)
    return finished, unfinished, in_use


def _elsewhere(store: Store, run: str) -> list[str]:
    """Return the folders and URIs outside the store with files of a run."""
    note = read_run(store, run)
    inside = str(store.root).rstrip("/") + "/"
    return [place for place in (note.places if note is not None else ()) if not place.startswith(inside)]


def _replaced_reports(store: Store, now: datetime, keep_days: int) -> list[_Old]:
    """Return old pages whose evaluation is gone or has a newer page; a page of another kind stays."""
    evaluations = {
        store.location("evaluations", name, FIGURES).read_bytes()
        for name in store.names("evaluations")
        if store.exists("evaluations", name, FIGURES)
    }
    pages = defaultdict(list)
    for entry in _entries(store, "reports", now):
        if store.exists("reports", entry.name, FIGURES):
            pages[store.location("reports", entry.name, FIGURES).read_bytes()].append(entry)
    replaced = []
    for figures, entries in pages.items():
        newest_first = sorted(entries, key=lambda entry: (entry.days, entry.name))
        replaced += newest_first[1:] if figures in evaluations else newest_first
    return sorted(entry for entry in replaced if entry.days > keep_days)
