"""The verb: list an archive, skip what is settled, fan the rest out over processes."""

import logging
import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

from emeg.errors import TransientError
from emeg.ingest.config import IngestConfig, IngestResult
from emeg.ingest.listing import Source, list_archive
from emeg.ingest.recording import Outcome, ingest_recording
from emeg.ingest.transfer import recording_id
from emeg.progress import Progress, silent
from emeg.store import Store, read_catalog, read_quarantine, release

logger = logging.getLogger(__name__)

_POOL_FROM_BYTES = 64 * 2**20
"""Less than this is done before worker processes have started (4 s to import MNE-Python and zarr in each)."""


class _Settled(NamedTuple):
    """Sources that an earlier run has brought in or refused, with the same content and settings."""

    outcomes: list[Outcome]
    remaining: list[Source]


def ingest(config: IngestConfig, *, progress: Progress = silent) -> IngestResult:
    """Bring every recording of an archive into the store, or into quarantine with the reason.

    What is there already with the same content and settings is left alone. Each recording is complete or absent,
    whenever the run is stopped; running again finishes it, and the store's bytes are those of an undisturbed run.

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
    listing = list_archive(config)
    settled = _settle(store, listing.sources, config)
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
    return IngestResult(
        dataset=listing.dataset,
        ready=tuple(sorted(o.recording for o in outcomes if o.state == "ready")),
        quarantined=tuple(sorted(o.source for o in outcomes if o.state == "quarantined")),
        skipped=listing.skipped,
        n_new=len(settled.remaining),
        n_known=len(settled.outcomes),
    )


def _settle(store: Store, sources: tuple[Source, ...], config: IngestConfig) -> _Settled:
    ready = {row.recording for row in read_catalog(store)}
    refused = {(r.dataset, r.source): r for r in read_quarantine(store)}
    with ThreadPoolExecutor(config.workers) as pool:  # hashing gives the interpreter's lock away
        names = list(pool.map(lambda source: recording_id(source, config), sources))
    settled = _Settled([], [])
    for source, name in zip(sources, names, strict=True):
        record = refused.get((source.dataset, source.path))
        if name in ready:
            if record is not None:  # stopped between the row and the release of an older refusal
                release(store, source.dataset, source.path)
            settled.outcomes.append(Outcome(source.path, name, "ready"))
        elif record is not None and record.config_hash == name and not config.retry_quarantined:
            settled.outcomes.append(Outcome(source.path, name, "quarantined", record.reason))
        else:
            settled.remaining.append(source)
    return settled


def _work(sources: list[Source], config: IngestConfig) -> Iterator[Outcome | str]:
    """Ingest sources, in this process or beside it; a text instead of an outcome is a fault worth another try."""
    if config.workers == 1 or len(sources) <= 1 or sum(f.size for s in sources for f in s.files) < _POOL_FROM_BYTES:
        for source in sources:
            try:
                yield ingest_recording(source, config)
            except TransientError as error:
                yield str(error)
        return
    context = multiprocessing.get_context("spawn")
    workers = min(config.workers, len(sources))
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as pool:
        # Large ones first, so that no worker is left alone with one at the end.
        ordered = sorted(sources, key=lambda s: (-sum(f.size for f in s.files), s.path))
        futures = {pool.submit(ingest_recording, source, config): source for source in ordered}
        try:
            for future in as_completed(futures):
                try:
                    yield future.result()
                except TransientError as error:
                    yield str(error)
                except BrokenProcessPool:
                    path = futures[future].path
                    yield f"{path}: a worker process died, perhaps for want of memory; use fewer workers"
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


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
