"""Recordings to workers: in this process, in processes beside it, or on a Dask cluster.

Whatever the way, the unit is `ingest_recording` on one source, and what comes back is an outcome, or a text where the
same call may succeed later. A worker process that dies takes nothing with it but the recording in its hands, which is
tried once more, alone; one that takes too long is ended. What ends its worker twice, or hangs, is quarantined.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress

from emeg.errors import RecordingError, TransientError
from emeg.ingest.config import IngestConfig
from emeg.ingest.listing import Source
from emeg.ingest.recording import Outcome, ingest_recording, refuse

POOL_FROM_BYTES = 64 * 2**20
"""Less than this is done before worker processes have started (4 s to import MNE-Python and zarr in each)."""

NATIVE_FORMATS = frozenset({"cnt"})
"""Formats that are read by a library in C, which a damaged file can crash or hang: never in this process."""

Unit = Callable[[Source, IngestConfig], Outcome]
"""What a worker does with a source; importable by name, since other processes do it."""

_WAIT_S = 0.5
"""Between two looks at a recording that another run has claimed."""


def fan_out(sources: list[Source], config: IngestConfig) -> Iterator[tuple[Source, Outcome | str]]:
    """Ingest sources; a text instead of an outcome is a fault worth another try.

    A recording that another run is working on is waited for, and taken over should that run end without it.
    """
    round_ = sources
    while round_:
        elsewhere = []
        for source, outcome in _workers(round_, config):
            if isinstance(outcome, Outcome) and outcome.state == "elsewhere":
                elsewhere.append(source)
            else:
                yield source, outcome
        if len(elsewhere) == len(round_):
            time.sleep(_WAIT_S)
        round_ = elsewhere


def _workers(sources: list[Source], config: IngestConfig) -> Iterator[tuple[Source, Outcome | str]]:
    if config.dask is not None:
        from emeg.ingest.cluster import on_cluster

        return on_cluster(sources, config)
    alone = config.workers == 1 or len(sources) <= 1 or sum(source.size for source in sources) < POOL_FROM_BYTES
    if not alone:
        return in_processes(sources, config)
    native = [source for source in sources if source.format in NATIVE_FORMATS]
    rest = [source for source in sources if source.format not in NATIVE_FORMATS]
    return _chained(_in_this_process(rest, config), in_processes(native, config))


def _chained(*parts: Iterable[tuple[Source, Outcome | str]]) -> Iterator[tuple[Source, Outcome | str]]:
    for part in parts:
        yield from part


def _in_this_process(sources: list[Source], config: IngestConfig) -> Iterator[tuple[Source, Outcome | str]]:
    for source in sources:
        try:
            yield source, ingest_recording(source, config)
        except TransientError as error:
            yield source, source.scrubbed(str(error))


class _Worker:
    """One process; its death is nobody else's."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=_start_worker)
        self._pid = self._pool.submit(os.getpid)
        self.source: Source | None = None
        self.overdue = False
        self._began = time.monotonic()

    def start(self, source: Source, config: IngestConfig) -> Future[Outcome]:
        self.source, self._began = source, time.monotonic()
        return self._pool.submit(self._unit, source, config)

    def left_s(self, limit_s: float) -> float:
        if not self._pid.done():  # still importing: that is not the recording's time
            self._began = time.monotonic()
        return self._began + limit_s - time.monotonic()

    def end(self) -> None:
        """Kill the process: what it holds comes back as broken."""
        self.overdue = True
        with suppress(ProcessLookupError):
            os.kill(self._pid.result(), signal.SIGKILL)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def in_processes(
    sources: list[Source], config: IngestConfig, unit: Unit = ingest_recording
) -> Iterator[tuple[Source, Outcome | str]]:
    """Work in processes, then on what ended its worker once more, one at a time."""
    suspects: list[Source] = []
    for source, outcome in _in_processes(sources, config, min(config.workers, len(sources)), unit):
        if outcome is None:
            suspects.append(source)
        else:
            yield source, outcome
    for source in suspects:
        for _, outcome in _in_processes([source], config, 1, unit):
            yield source, outcome if outcome is not None else refuse(source, config, died(source))


def _in_processes(
    sources: list[Source], config: IngestConfig, n_workers: int, unit: Unit
) -> Iterator[tuple[Source, Outcome | str | None]]:
    """Keep the workers busy, with no more on its way than the scratch space holds; `None` for a worker that died.

    Large ones first, so that no worker is left alone with one at the end.
    """
    bound = config.transfer.scratch_gib * 2**30
    waiting = deque(sorted(sources, key=lambda source: (-source.size, source.path)))
    idle: list[_Worker] = []
    running: dict[Future[Outcome], _Worker] = {}
    try:
        while waiting or running:
            held = sum(worker.source.size for worker in running.values() if worker.source is not None)
            while waiting and len(running) < n_workers and (not running or held + waiting[0].size <= bound):
                source, worker = waiting.popleft(), idle.pop() if idle else _Worker(unit)
                held += source.size
                running[worker.start(source, config)] = worker
            for future in _next_done(running, config.time_limit_s):
                worker = running.pop(future)
                finished = worker.source
                assert finished is not None
                outcome = _outcome(future, worker, finished, config)
                if outcome is None or worker.overdue:
                    worker.close()
                else:
                    idle.append(worker)
                yield finished, outcome
    finally:
        for worker in [*idle, *running.values()]:
            worker.close()


def _next_done(running: dict[Future[Outcome], _Worker], limit_s: float) -> set[Future[Outcome]]:
    while True:
        left = min(worker.left_s(limit_s) for worker in running.values())
        done = wait(running, timeout=max(left, 0.0), return_when=FIRST_COMPLETED).done
        if done:
            return done
        for worker in running.values():
            if worker.left_s(limit_s) <= 0.0 and not worker.overdue:
                worker.end()


def _outcome(future: Future[Outcome], worker: _Worker, source: Source, config: IngestConfig) -> Outcome | str | None:
    try:
        return future.result()
    except TransientError as error:
        return source.scrubbed(str(error))
    except BrokenProcessPool:
        return refuse(source, config, overdue(source, config)) if worker.overdue else None


def died(source: Source) -> RecordingError:
    """Say that a source has ended its worker twice."""
    return RecordingError(
        f"{source.shown}: the worker process died on it twice, the second time with nothing beside it",
        next_action="the file may crash its reader, or need more memory than there is; look at it, then run with"
        " retry_quarantined",
    )


def overdue(source: Source, config: IngestConfig) -> RecordingError:
    """Say that a source was given up."""
    return RecordingError(
        f"{source.shown}: was not finished after {config.time_limit_s:g} s and was given up",
        next_action="the file may hang its reader; look at it, then run with a larger time_limit_s and"
        " retry_quarantined",
    )


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
