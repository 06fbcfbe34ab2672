"""The verb ``withdraw``: remove a subject from a store and from every product that holds the subject, for good.

recordings ─▶ corpora ─▶ tokens ─▶ models ─▶ evaluations ─▶ reports: found by following the names in every product's own
JSON files, and removed from right to left, so that the same call after an interruption finds the rest.
"""

import logging

from emeg.config import Config, runtime_field
from emeg.curation.product_graph import WITHDRAWN, ProductGraph
from emeg.curation.unfinished_runs import HeldRuns, find_runs, forget_in_logs
from emeg.data.corpus.removed import keep_splits, removed_corpora_of
from emeg.errors import UserError
from emeg.ingest.dataset_records import KeptDataset, Withdrawn, note_withdrawn, read_kept, read_withdrawn
from emeg.ingest.event_labels import read_labels, write_labels
from emeg.ingest.pseudonyms import Pseudonyms
from emeg.progress import Progress, silent
from emeg.registry import Registry
from emeg.store import MARKERS, CatalogRow, Store, compact_catalog, read_catalog, read_quarantine, release
from emeg.store.catalog.facts import remove_subject_facts
from emeg.store.copies import read_copies, write_copies
from emeg.store.removal import remove_recording

logger = logging.getLogger(__name__)


BEYOND = (
    "not known to the store: BIDS exports (their code/emeg-export.json names recordings), local copies of shards"
    " (emeg cache), models on a hub, copies of the store"
)
"""Copies outside the store that may hold the subject; their owners must remove the subject there."""


class WithdrawConfig(Config):
    """Remove a subject from a store."""

    root: str = runtime_field(..., group="data")
    """Store: a folder or any fsspec URI."""
    dataset: str
    """Short name of the dataset, as in the catalogue."""
    subject: str
    """Subject label, as in the catalogue or, with the same key in the environment, in the archive; ``sub-`` may be left
    out."""
    dry_run: bool = False
    """Only list what holds the subject."""


class WithdrawResult(Config):
    """Products that held the subject: removed, models marked; with a dry run only found."""

    person: str
    """Global name, dataset/subject."""
    recordings: tuple[str, ...] = ()
    """Recordings removed."""
    refused: tuple[str, ...] = ()
    """Quarantine notes removed, by source."""
    corpora: tuple[str, ...] = ()
    """Corpora removed."""
    tokens: tuple[str, ...] = ()
    """Token sets removed."""
    models: tuple[str, ...] = ()
    """Models marked: weights cannot be cleared of a subject, so their users must decide."""
    others: tuple[str, ...] = ()
    """Evaluations, reports and other products removed, as kind/name."""
    runs: tuple[str, ...] = ()
    """Work in progress removed: checkpoints and logs of trainings, parts of token sets."""
    runs_elsewhere: tuple[str, ...] = ()
    """Folders and URIs outside the store with files of these runs: remove them by hand."""
    runs_unknown: tuple[str, ...] = ()
    """Runs without a record of their inputs, started by an earlier version; check them by hand."""
    log_lines: int = 0
    """Lines about the subject removed from ingest's logs."""
    table_rows: int = 0
    """Rows about the subject removed from the tables of subjects, sessions and scans."""
    also_in: tuple[str, ...] = ()
    """Recordings in the store of datasets with the same subjects under the same label: withdraw these, too."""
    beyond: str = BEYOND
    """Copies that the store does not know."""
    done_before: bool = False
    """Whether there was nothing to remove."""


def withdraw(config: WithdrawConfig, *, progress: Progress = silent) -> WithdrawResult:
    """Remove a subject from a store, list every product that held the subject, and prevent another ingest.

    Recordings, corpora, token sets, evaluations and reports are removed (all can be made again without the subject);
    models are marked. The split of the other subjects of a removed corpus is kept, so that its models are not tested on
    their training subjects. Work in progress under ``runs/`` that was made from one of these is removed: stop such
    trainings first; an evaluation over tasks stops by itself. What lies outside the store is listed as far as it is
    known.

    Raises
    ------
    UserError
        The store knows no such subject.
    """
    store = Store.open(config.root)
    rows = [row for row in read_catalog(store) if row.dataset == config.dataset]
    kept = read_kept(store, config.dataset)
    subject = _known(config, rows, store)
    person = Withdrawn(dataset=config.dataset, subject=subject)
    if not config.dry_run:
        note_withdrawn(store, [person])  # before products are looked for: an evaluation that runs looks for the note
    name = f"{config.dataset}/{subject}"
    own = [row for row in rows if row.subject == subject]
    refused = _refused(store, config.dataset, subject)
    found = _Holders(store, name, {row.recording for row in own})
    result = WithdrawResult(
        person=name,
        recordings=tuple(sorted(row.recording for row in own)),
        refused=refused,
        corpora=tuple(sorted(found.names("corpora"))),
        tokens=tuple(sorted(found.names("tokens"))),
        models=tuple(sorted(model for model in found.names("models") if name not in _marks(store, model))),
        others=tuple(sorted(f"{kind}/{one}" for kind in found.other_rooms for one in found.names(kind))),
        also_in=_also_in(store, kept, config.dataset, subject),
        **found.runs()._asdict(),
    )
    rows_left = remove_subject_facts(store, config.dataset, subject, only_count=True)
    left = rows_left + sum(
        map(len, (result.recordings, refused, result.corpora, result.tokens, result.models, result.others, result.runs))
    )
    result = result.model_copy(update={"done_before": left == 0})
    sources = {*refused, *(row.source for row in own)}
    lines = forget_in_logs(store, result.recordings, sources, config.dataset, only_count=config.dry_run)
    result = result.model_copy(update={"log_lines": lines, "table_rows": rows_left})
    if config.dry_run:
        return result
    _remove(store, result, kept)
    progress(left, left, f"{name}: {left} products")
    logger.info("withdrew %s: %d products", name, left)
    return result


def _known(config: WithdrawConfig, rows: list[CatalogRow], store: Store) -> str:
    withdrawn = {person.subject for person in read_withdrawn(store) if person.dataset == config.dataset}
    refused = {_subject_in(r.source) for r in read_quarantine(store) if r.dataset == config.dataset}
    subjects = {row.subject for row in rows} | withdrawn | refused
    labels = (config.subject, f"sub-{config.subject}")
    for label in (*labels, *map(Pseudonyms.from_environment().subject, labels)):
        if label in subjects:
            return label
    there = f"choose from {', '.join(sorted(subjects)[:8])}" if subjects else "name another dataset"
    raise UserError(f"{store.root}: no subject {config.subject!r} in dataset {config.dataset}; {there}")


def _subject_in(source: str) -> str:
    """Return the subject of a refused BIDS source; notes of refusals hold paths only."""
    return next((part for part in source.split("/") if part.startswith("sub-")), "")


def _refused(store: Store, dataset: str, subject: str) -> tuple[str, ...]:
    records = [r for r in read_quarantine(store) if r.dataset == dataset]
    return tuple(r.source for r in records if subject in r.source.split("/") or _subject_in(r.source) == subject)


def _also_in(store: Store, kept: KeptDataset | None, dataset: str, subject: str) -> tuple[str, ...]:
    entry = kept.entry if kept is not None else dataset
    others = Registry.load().sharing_with(entry) - {entry, dataset}
    return tuple(
        sorted(
            f"{row.dataset}/{row.subject}: {row.recording}"
            for row in read_catalog(store)
            if row.dataset in others and row.subject == subject
        )
    )


class _Holders:
    """Products that name the subject, one of their recordings, or a product that does."""

    def __init__(self, store: Store, person: str, recordings: set[str]) -> None:
        self.other_rooms = sorted(set(MARKERS) - {"recordings", "corpora", "tokens", "models"})
        graph = ProductGraph(store)
        self._store, self._every = store, set(graph.texts)
        self._held = graph.holders({person, *recordings, *removed_corpora_of(store, person)})

    def names(self, kind: str) -> set[str]:
        """Return the names of the held products of one kind."""
        return {name for held, name in self._held if held == kind}

    def runs(self) -> HeldRuns:
        """Return the work in progress that was made from one of them."""
        held = {name for _, name in self._held}
        return find_runs(self._store, held, {name for _, name in self._every} - held)


def _marks(store: Store, model: str) -> set[str]:
    if not store.exists("models", model, WITHDRAWN):
        return set()
    return set(store.read_json("models", model, WITHDRAWN)["people"])


def _forget_copies(store: Store, gone: set[str]) -> None:
    found = read_copies(store)
    left = [copy for copy in found if gone.isdisjoint((copy.first, copy.second))]
    if len(left) < len(found):
        write_copies(store, left)


def _remove(store: Store, result: WithdrawResult, kept: KeptDataset | None) -> None:
    """Remove and mark, products made of others first."""
    for run in result.runs:
        store.remove("runs", run)
    for other in result.others:
        store.remove(*other.split("/", 1))
    for model in result.models:
        store.write_json({"people": sorted(_marks(store, model) | {result.person})}, "models", model, WITHDRAWN)
    keep_splits(store, result.corpora, without=result.person)
    for kind, names in (("tokens", result.tokens), ("corpora", result.corpora)):
        for name in names:
            store.remove(kind, name)
    dataset = result.person.split("/", 1)[0]
    for source in result.refused:
        release(store, dataset, source)
    remove_subject_facts(store, dataset, result.person.split("/", 1)[1])
    _forget_copies(store, set(result.recordings))
    merged = any(location.name.startswith("compact-") for location in store.children("catalog"))
    for recording in result.recordings:
        remove_recording(store, recording)
    if merged and result.recordings:
        compact_catalog(store)
    if kept is not None and result.recordings:
        gone = set(result.recordings)
        recordings = {
            config: {source: name for source, name in ready.items() if name not in gone}
            for config, ready in kept.recordings.items()
        }
        left = {name for ready in recordings.values() for name in ready.values()}
        write_labels(store, kept.dataset, read_labels(store, kept.dataset), left)
        facts = kept.model_copy(update={"recordings": recordings})
        store.write_json(facts.model_dump(mode="json"), "catalog", "datasets", f"{kept.dataset}.json")
