"""The verb ingest: list an archive, skip what is settled, ingest the rest."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

from emeg.errors import TransientError, UserError
from emeg.ingest.config import IngestConfig, IngestResult
from emeg.ingest.dataset_identity import note_origin, refuse_clash, was_here
from emeg.ingest.dataset_records import KeptDataset, keep, read_kept, read_withdrawn
from emeg.ingest.event_labels import (
    Labels,
    labels_identity,
    match_older_names,
    read_labels,
    with_event_content,
    write_labels,
)
from emeg.ingest.listing.sources import Listing, list_archive
from emeg.ingest.outcome import Outcome
from emeg.ingest.source import Source
from emeg.ingest.subjects.tables import store_facts
from emeg.ingest.transfer.checksums import identify
from emeg.ingest.transfer.download import clear_scratch, recording_id, scratch_name
from emeg.ingest.workers.executor import Executor, fan_out
from emeg.ingest.workers.progress_log import ProgressLog
from emeg.progress import Progress, silent
from emeg.store import CatalogRow, Store, read_catalog, read_quarantine, release
from emeg.store.catalog.tables import compact_if_scattered, recompact
from emeg.store.claims import claimed, sweep_claims
from emeg.store.removal import remove_recording
from emeg.uri import locate

logger = logging.getLogger(__name__)

_NAME_WAIT_S, _NAME_CHECK_S = 120.0, 0.1
"""How long another run may hold the claim to a dataset's name, and the time between two attempts to get it, s."""


class _Settled(NamedTuple):
    """Sources that an earlier run has ingested or refused, with the same content and settings; and all others."""

    outcomes: list[Outcome]
    remaining: list[Source]


def ingest(config: IngestConfig, *, progress: Progress = silent, executor: Executor | None = None) -> IngestResult:
    """Ingest every recording of an archive into the store, or quarantine it with the reason.

    A recording that is in the store with the same content and settings is kept, and none of its files is fetched again.
    A source that has changed replaces its older recording. Each recording is complete or absent, whenever the run is
    stopped; running again finishes it, and the store's bytes are those of an undisturbed run.

    Parameters
    ----------
    config : IngestConfig
    progress : Progress
    executor : callable, optional
        Function that processes the sources, in place of the processes or the cluster that `config` names.

    Raises
    ------
    UserError
        The archive does not exist or has no recording, there is no store at `root`, or the store holds another dataset
        of the same name.
    TransientError
        Some recordings could not be fetched, or a worker process died; all others are done. Run again.
    """
    listing = list_archive(config)  # before the store, which is not created for an archive without recordings
    if _applied(listing):
        logger.info("registry: %s", _applied(listing))
    store = _open_store(config, listing)
    leftovers = store.sweep()
    if leftovers:
        logger.info("removed %d unfinished products of an interrupted run", leftovers)
    here = was_here(store, listing, config)
    identified = with_event_content(store, identify(store, listing.sources, max(1, config.workers)), config)
    listing = _without_withdrawn(store, replace(listing, sources=identified))
    _take_name(store, listing, config, here=here)
    rows = [row for row in read_catalog(store) if row.dataset == listing.dataset]
    listing, labels = _with_known_names(store, listing, config, {row.recording for row in rows})
    names = {source.shown: recording_id(source, config) for source in listing.sources}
    settled = _settle(store, listing.sources, names, {row.recording for row in rows}, config)
    if not locate(config.archive).is_local:
        clear_scratch(config.archive, config.transfer, {scratch_name(source) for source in settled.remaining})
    outcomes = _process(store, settled, listing, config, progress, executor)
    config_hash = config.standardise.product_hash()
    before = read_kept(store, listing.dataset)
    ready = {outcome.source: outcome.recording for outcome in outcomes if outcome.state == "ready"}
    replaced = _replace_older(store, rows, before, ready, config_hash)
    vanished = tuple(sorted({row.source for row in rows if row.config_hash == config_hash} - names.keys()))
    if vanished:
        logger.warning("%d sources have vanished from %s, first %s", len(vanished), config.archive, vanished[0])
    keep(store, listing, {**(before.recordings if before is not None else {}), config_hash: ready})
    _keep_labels(store, listing, outcomes, labels, {row.recording for row in rows} - set(replaced))
    dropped = store_facts(
        store,
        locate(config.archive),
        listing.dataset,
        listing.files,
        listing.sources,
        listing.pseudonyms,
        config.transfer,
    )
    compact_if_scattered(store)
    store.sweep()  # again: the workers of a killed run live a moment longer than the run
    sweep_claims(store)
    n_new = sum(outcome.made for outcome in outcomes[len(settled.outcomes) :])
    return IngestResult(
        dataset=listing.dataset,
        ready=tuple(sorted(o.recording for o in outcomes if o.state == "ready")),
        quarantined=tuple(sorted(o.source for o in outcomes if o.state == "quarantined")),
        skipped=listing.skipped,
        skipped_examples=listing.skipped_examples,
        vanished=vanished,
        replaced=replaced,
        snapshot=listing.snapshot,
        registry=_applied(listing),
        people=listing.pseudonyms.told,
        n_new=n_new,
        n_known=len(outcomes) - n_new,
        columns_left_out=dropped,
    )


def _applied(listing: Listing) -> str:
    return ": ".join(part for part in (listing.entry.id if listing.entry else "", listing.entry_by) if part)


def _with_known_names(store: Store, listing: Listing, config: IngestConfig, ready: set[str]) -> tuple[Listing, Labels]:
    """Return the sources with the ids that earlier versions gave their content; mark those with outdated events."""
    refused = {record.recording for record in read_quarantine(store) if record.dataset == listing.dataset}
    known = read_labels(store, listing.dataset)
    sources, labels = match_older_names(listing.sources, config, ready | refused, known)
    planned = {recording_id(source, config) for source in sources}
    write_labels(store, listing.dataset, labels, ready | refused | planned)  # a killed run's recordings are up to date
    return replace(listing, sources=sources), labels


def _keep_labels(store: Store, listing: Listing, outcomes: list[Outcome], labels: Labels, before: set[str]) -> None:
    """Record which tables of events the recordings have now; compact rows whose number of events has changed."""
    of_source = {source.shown: source for source in listing.sources}
    updated = {
        outcome.recording: labels_identity(of_source[outcome.source])
        for outcome in outcomes
        if of_source[outcome.source].relabel and not (outcome.state == "ready" and outcome.reason)
    }
    events = {**labels.events, **updated}
    known = {outcome.recording for outcome in outcomes} | before
    write_labels(store, listing.dataset, labels.model_copy(update={"events": events}), known)
    if updated:
        recompact(store)


def _take_name(store: Store, listing: Listing, config: IngestConfig, *, here: bool) -> None:
    """Record what the dataset is, before anything of it is in the store; refuse a name that another dataset has.

    If two runs start at once with one name for two datasets, the second finds the record of the first here.

    Raises
    ------
    UserError
        The store holds another dataset of this name.
    TransientError
        Another run holds the claim to the name.
    """
    with _name_claimed(store, listing.dataset):
        refuse_clash(store, listing, config, here=here)
        kept = read_kept(store, listing.dataset)
        keep(store, listing, kept.recordings if kept is not None else {})
        note_origin(store, listing, config)


@contextmanager
def _name_claimed(store: Store, dataset: str) -> Iterator[None]:
    deadline = time.monotonic() + _NAME_WAIT_S
    while time.monotonic() < deadline:
        with claimed(store, f"dataset-{dataset}") as ours:
            if ours:
                yield
                return
        time.sleep(_NAME_CHECK_S)
    raise TransientError(
        f"{store.root}: another run has held the claim to the dataset name {dataset!r} for {_NAME_WAIT_S:g} s; end that"
        " run, then run again"
    )


def _open_store(config: IngestConfig, listing: Listing) -> Store:
    """Open or create the store; refuse an archive that has no recording now and had none before."""
    if listing.sources:
        return Store.open(config.root, create=True)
    if (locate(config.root) / "store.json").exists():
        store = Store.open(config.root, create=True)
        if any(row.dataset == listing.dataset for row in read_catalog(store)):
            return store
    skipped = "; ".join(
        f"{reason}: {n}, such as {', '.join(listing.skipped_examples.get(reason, ()))}"
        for reason, n in listing.skipped.items()
    )
    raise UserError(
        f"{config.archive}: no recording was found in it ({skipped or 'it is empty'}); give the folder that contains"
        " the sub-… folders or the recordings; for other layouts give --mapping FILE.yaml"
    )


def _without_withdrawn(store: Store, listing: Listing) -> Listing:
    withdrawn = {subject.subject for subject in read_withdrawn(store) if subject.dataset == listing.dataset}
    sources = tuple(source for source in listing.sources if source.subject not in withdrawn)
    if len(sources) == len(listing.sources):
        return listing
    skipped = {**listing.skipped, "withdrawn": len(listing.sources) - len(sources)}
    return replace(listing, sources=sources, skipped=dict(sorted(skipped.items())))


def _settle(
    store: Store, sources: tuple[Source, ...], names: dict[str, str], ready: set[str], config: IngestConfig
) -> _Settled:
    refused = {(r.dataset, r.source): r for r in read_quarantine(store)}
    settled = _Settled([], [])
    for source in sources:
        name = names[source.shown]
        record = refused.get((source.dataset, source.shown))
        if name in ready and not source.relabel:
            if record is not None:  # stopped between the row and the release of an older refusal
                release(store, source.dataset, source.shown)
            settled.outcomes.append(Outcome(source.shown, name, "ready"))
        elif record is not None and record.recording == name and not (config.retry_quarantined or source.relabel):
            settled.outcomes.append(Outcome(source.shown, name, "quarantined", record.reason))
        else:
            settled.remaining.append(source)
    return settled


def _process(
    store: Store,
    settled: _Settled,
    listing: Listing,
    config: IngestConfig,
    progress: Progress,
    executor: Executor | None,
) -> list[Outcome]:
    """Process the remaining sources and return the outcomes of all, settled ones first."""
    outcomes = list(settled.outcomes)
    failures: list[str] = []
    total = len(listing.sources)
    log = ProgressLog(store, listing.dataset, len(settled.remaining), len(settled.outcomes))
    try:
        for source, outcome in fan_out(settled.remaining, config, executor):
            pace = log.note(source.shown, source.size, outcome)
            if not outcome.is_settled:
                failures.append(outcome.reason)
                continue
            outcomes.append(outcome)
            logger.info("%s %s %s", outcome.source, outcome.state, outcome.reason or outcome.recording)
            progress(len(outcomes), total, f"{outcome.source}: {outcome.state}; {pace}")
    finally:
        if settled.remaining:
            log.close()
    if failures:
        raise TransientError(
            f"{len(failures)} of {total} recordings could not be processed, first {failures[0]};"
            " run the same command again"
        )
    return outcomes


def _replace_older(
    store: Store, rows: list[CatalogRow], before: KeptDataset | None, ready: dict[str, str], config_hash: str
) -> tuple[str, ...]:
    """Remove recordings of an older content of sources that are ready; a refused source keeps its older recording.

    The record of the last ingest is used besides the rows: a run may have been stopped between the removal of an older
    row and that of its signal.
    """
    older = {(row.source, row.recording) for row in rows if row.config_hash == config_hash}
    if before is not None:
        older |= set(before.recordings.get(config_hash, {}).items())
    stale = sorted({name for source, name in older if source in ready and ready[source] != name})
    return tuple(name for name in stale if remove_recording(store, name))
