"""The verb: list an archive, skip what is settled, bring in the rest."""

import logging
from dataclasses import replace
from typing import NamedTuple

from emeg.errors import TransientError, UserError
from emeg.ingest.config import IngestConfig, IngestResult
from emeg.ingest.dataset_records import KeptDataset, keep, read_kept, read_withdrawn
from emeg.ingest.listing.sources import Listing, list_archive
from emeg.ingest.recording import Outcome
from emeg.ingest.source import Source
from emeg.ingest.transfer.checksums import identify
from emeg.ingest.transfer.download import clear_scratch, recording_id, scratch_name
from emeg.ingest.workers.executor import Hands, fan_out
from emeg.ingest.workers.progress_log import Ledger
from emeg.progress import Progress, silent
from emeg.store import CatalogRow, Store, read_catalog, read_quarantine, release
from emeg.store.catalog.tables import compact_if_scattered
from emeg.store.claims import sweep_claims
from emeg.store.removal import remove_recording
from emeg.uri import locate

logger = logging.getLogger(__name__)


class _Settled(NamedTuple):
    """Sources that an earlier run has brought in or refused, with the same content and settings."""

    outcomes: list[Outcome]
    remaining: list[Source]


def ingest(config: IngestConfig, *, progress: Progress = silent, hands: Hands | None = None) -> IngestResult:
    """Bring every recording of an archive into the store, or into quarantine with the reason.

    What is there already with the same content and settings is left alone, and nothing of it is fetched again. A source
    that has changed replaces its older recording. Each recording is complete or absent, whenever the run is stopped;
    running again finishes it, and the store's bytes are those of an undisturbed run.

    Parameters
    ----------
    config : IngestConfig
    progress : Progress
    hands : callable, optional
        Works on sources and gives what became of each, in the place of the processes or the cluster of `config`.

    Raises
    ------
    UserError
        There is no such archive or no recording in it, or the store is none.
    TransientError
        Some recordings could not be fetched, or a worker process died; all others are done. Run again.
    """
    listing = list_archive(config)  # before the store, which is not made where there is nothing to put in
    store = _open_store(config, listing)
    leftovers = store.sweep()
    if leftovers:
        logger.info("removed %d unfinished products of an interrupted run", leftovers)
    listing = _without_withdrawn(store, listing)
    listing = replace(listing, sources=identify(store, listing.sources, max(1, config.workers)))
    names = {source.shown: recording_id(source, config) for source in listing.sources}
    rows = [row for row in read_catalog(store) if row.dataset == listing.dataset]
    settled = _settle(store, listing.sources, names, {row.recording for row in rows}, config)
    if not locate(config.archive).is_local:
        clear_scratch(config.archive, config.transfer, {scratch_name(source) for source in settled.remaining})
    outcomes = _bring_in(store, settled, listing, config, progress, hands)
    config_hash = config.standardise.product_hash()
    before = read_kept(store, listing.dataset)
    ready = {outcome.source: outcome.recording for outcome in outcomes if outcome.state == "ready"}
    replaced = _replace_older(store, rows, before, ready, config_hash)
    vanished = tuple(sorted({row.source for row in rows if row.config_hash == config_hash} - names.keys()))
    if vanished:
        logger.warning("%d sources have vanished from %s, first %s", len(vanished), config.archive, vanished[0])
    keep(store, listing, config_hash, ready, before)
    compact_if_scattered(store)
    store.sweep()  # once more: a killed run's workers live a moment longer than the run
    sweep_claims(store)
    return IngestResult(
        dataset=listing.dataset,
        ready=tuple(sorted(o.recording for o in outcomes if o.state == "ready")),
        quarantined=tuple(sorted(o.source for o in outcomes if o.state == "quarantined")),
        skipped=listing.skipped,
        vanished=vanished,
        replaced=replaced,
        snapshot=listing.snapshot,
        people=listing.pseudonyms.told,
        n_new=len(settled.remaining),
        n_known=len(settled.outcomes),
    )


def _open_store(config: IngestConfig, listing: Listing) -> Store:
    """Open or make the store; refuse an archive in which there is no recording now, and was none before."""
    if listing.sources:
        return Store.open(config.root, create=True)
    if (locate(config.root) / "store.json").exists():
        store = Store.open(config.root, create=True)
        if any(row.dataset == listing.dataset for row in read_catalog(store)):
            return store
    skipped = ", ".join(f"{reason} {n}" for reason, n in listing.skipped.items()) or "it is empty"
    raise UserError(
        f"{config.archive}: no recording was found in it ({skipped}); give the folder in which sub-… folders or"
        " recordings lie; other layouts need --recipe FILE.yaml"
    )


def _without_withdrawn(store: Store, listing: Listing) -> Listing:
    withdrawn = {person.subject for person in read_withdrawn(store) if person.dataset == listing.dataset}
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
        if name in ready:
            if record is not None:  # stopped between the row and the release of an older refusal
                release(store, source.dataset, source.shown)
            settled.outcomes.append(Outcome(source.shown, name, "ready"))
        elif record is not None and record.recording == name and not config.retry_quarantined:
            settled.outcomes.append(Outcome(source.shown, name, "quarantined", record.reason))
        else:
            settled.remaining.append(source)
    return settled


def _bring_in(
    store: Store, settled: _Settled, listing: Listing, config: IngestConfig, progress: Progress, hands: Hands | None
) -> list[Outcome]:
    outcomes = list(settled.outcomes)
    failures: list[str] = []
    total = len(listing.sources)
    ledger = Ledger(store, listing.dataset, len(settled.remaining), len(settled.outcomes))
    try:
        for source, outcome in fan_out(settled.remaining, config, hands):
            pace = ledger.note(source.shown, source.size, outcome)
            if isinstance(outcome, str):
                failures.append(outcome)
                continue
            outcomes.append(outcome)
            logger.info("%s %s %s", outcome.source, outcome.state, outcome.reason or outcome.recording)
            progress(len(outcomes), total, f"{outcome.source}: {outcome.state}; {pace}")
    finally:
        if settled.remaining:
            ledger.close()
    if failures:
        raise TransientError(f"{len(failures)} of {total} recordings could not be worked on, first {failures[0]}")
    return outcomes


def _replace_older(
    store: Store, rows: list[CatalogRow], before: KeptDataset | None, ready: dict[str, str], config_hash: str
) -> tuple[str, ...]:
    """Remove recordings of an older content of sources that are ready; what was refused keeps its older recording.

    The kept list says so too, for a run that was stopped after an older row was gone and before all of it was.
    """
    older = {(row.source, row.recording) for row in rows if row.config_hash == config_hash}
    if before is not None:
        older |= set(before.recordings.get(config_hash, {}).items())
    stale = sorted({name for source, name in older if source in ready and ready[source] != name})
    return tuple(name for name in stale if remove_recording(store, name))
