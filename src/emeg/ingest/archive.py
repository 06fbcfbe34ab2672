"""The verb: list an archive, skip what is settled, fan the rest out over processes."""

import logging
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import NamedTuple

from emeg.errors import TransientError
from emeg.ingest.config import IngestConfig, IngestResult
from emeg.ingest.identify import identify
from emeg.ingest.keeping import KeptDataset, keep, read_kept, read_withdrawn
from emeg.ingest.listing import Listing, Source, list_archive
from emeg.ingest.recording import Outcome, ingest_recording
from emeg.ingest.transfer import clear_scratch, recording_id, scratch_name
from emeg.progress import Progress, silent
from emeg.store import CatalogRow, Store, read_catalog, read_quarantine, release
from emeg.store.removal import remove_recording
from emeg.uri import locate

logger = logging.getLogger(__name__)

_POOL_FROM_BYTES = 64 * 2**20
"""Less than this is done before worker processes have started (4 s to import MNE-Python and zarr in each)."""


class _Settled(NamedTuple):
    """Sources that an earlier run has brought in or refused, with the same content and settings."""

    outcomes: list[Outcome]
    remaining: list[Source]


def ingest(config: IngestConfig, *, progress: Progress = silent) -> IngestResult:
    """Bring every recording of an archive into the store, or into quarantine with the reason.

    What is there already with the same content and settings is left alone, and nothing of it is fetched again. A source
    that has changed replaces its older recording. Each recording is complete or absent, whenever the run is stopped;
    running again finishes it, and the store's bytes are those of an undisturbed run.

    Raises
    ------
    UserError
        There is no such archive, or the store is none.
    TransientError
        Some recordings could not be fetched, or a worker process died; all others are done. Run again.
    """
    store = Store.open(config.root, create=True)
    leftovers = store.sweep()
    if leftovers:
        logger.info("removed %d unfinished products of an interrupted run", leftovers)
    listing = _without_withdrawn(store, list_archive(config))
    listing = replace(listing, sources=identify(store, listing.sources, config.workers))
    names = {source.shown: recording_id(source, config) for source in listing.sources}
    rows = [row for row in read_catalog(store) if row.dataset == listing.dataset]
    settled = _settle(store, listing.sources, names, {row.recording for row in rows}, config)
    if not locate(config.archive).is_local:
        clear_scratch(config.archive, config.transfer, {scratch_name(source) for source in settled.remaining})
    outcomes = _bring_in(settled, listing, config, progress)
    config_hash = config.standardise.product_hash()
    before = read_kept(store, listing.dataset)
    ready = {outcome.source: outcome.recording for outcome in outcomes if outcome.state == "ready"}
    replaced = _replace_older(store, rows, before, ready, config_hash)
    vanished = tuple(sorted({row.source for row in rows if row.config_hash == config_hash} - names.keys()))
    if vanished:
        logger.warning("%d sources have vanished from %s, first %s", len(vanished), config.archive, vanished[0])
    keep(store, listing, config_hash, ready, before)
    return IngestResult(
        dataset=listing.dataset,
        ready=tuple(sorted(o.recording for o in outcomes if o.state == "ready")),
        quarantined=tuple(sorted(o.source for o in outcomes if o.state == "quarantined")),
        skipped=listing.skipped,
        vanished=vanished,
        replaced=replaced,
        snapshot=listing.snapshot,
        n_new=len(settled.remaining),
        n_known=len(settled.outcomes),
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


def _bring_in(settled: _Settled, listing: Listing, config: IngestConfig, progress: Progress) -> list[Outcome]:
    outcomes = list(settled.outcomes)
    failures: list[str] = []
    total = len(listing.sources)
    for outcome in _work(settled.remaining, config):
        if isinstance(outcome, str):
            failures.append(outcome)
            continue
        outcomes.append(outcome)
        logger.info("%s %s %s", outcome.source, outcome.state, outcome.reason or outcome.recording)
        progress(len(outcomes), total, f"{outcome.source}: {outcome.state}")
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


def _work(sources: list[Source], config: IngestConfig) -> Iterator[Outcome | str]:
    """Ingest sources, in this process or beside it; a text instead of an outcome is a fault worth another try."""
    if config.workers == 1 or len(sources) <= 1 or sum(source.size for source in sources) < _POOL_FROM_BYTES:
        for source in sources:
            try:
                yield ingest_recording(source, config)
            except TransientError as error:
                yield source.scrubbed(str(error))
        return
    context = multiprocessing.get_context("spawn")
    workers = min(config.workers, len(sources))
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as pool:
        try:
            yield from _work_in(pool, workers, sources, config)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _work_in(
    pool: ProcessPoolExecutor, workers: int, sources: list[Source], config: IngestConfig
) -> Iterator[Outcome | str]:
    """Keep the workers busy, with no more on its way than the scratch space holds.

    Large ones first, so that no worker is left alone with one at the end.
    """
    bound = config.transfer.scratch_gib * 2**30
    waiting = deque(sorted(sources, key=lambda source: (-source.size, source.path)))
    running: dict[Future[Outcome], Source] = {}
    while waiting or running:
        held = sum(source.size for source in running.values())
        while waiting and len(running) < workers and (not running or held + waiting[0].size <= bound):
            source = waiting.popleft()
            held += source.size
            try:
                running[pool.submit(ingest_recording, source, config)] = source
            except BrokenProcessPool:
                yield _died(source)
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            source = running.pop(future)
            try:
                yield future.result()
            except TransientError as error:
                yield source.scrubbed(str(error))
            except BrokenProcessPool:
                yield _died(source)


def _died(source: Source) -> str:
    return f"{source.shown}: a worker process died, perhaps for want of memory; use fewer workers"


def _start_worker() -> None:
    """One thread for arithmetic, since the workers share the cores; and no life after the parent's death."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    threadpool_limits(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End when the parent does: killed by SIGKILL it stops no workers, and they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
