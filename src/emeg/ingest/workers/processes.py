"""Work in child processes, each of which may die or hang without ending another.

If a process dies, only its recording is affected, which is tried once more, alone. A process that takes too long is
ended. A recording that ends its process twice, or hangs, is quarantined.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import Self

from emeg.errors import RecordingError, TransientError, UserError
from emeg.ingest.config import IngestConfig
from emeg.ingest.outcome import Outcome
from emeg.ingest.recording import ingest_recording, refuse
from emeg.ingest.source import Source

POOL_FROM_BYTES = 64 * 2**20
"""Total bytes below which one worker is faster than starting a second."""

Unit = Callable[[Source, IngestConfig], Outcome]
"""Function that a worker applies to a source; importable by name in other processes."""

Done = Iterator[tuple[Source, Outcome]]
"""Sources in the order in which the work on them ends, with the result."""


class _Worker:
    """One process; its death ends no other."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=_start_worker)
        self._pid = self._pool.submit(os.getpid)
        self.source: Source | None = None
        self.overdue = False
        self._began = time.monotonic()

    def start(self, unit: Unit, source: Source, config: IngestConfig) -> Future[Outcome]:
        self.source, self._began = source, time.monotonic()
        return self._pool.submit(unit, source, config)

    @property
    def started(self) -> bool:
        return self._pid.done() and self._pid.exception() is None

    def left_s(self, limit_s: float) -> float:
        if not self.started:  # time spent on imports does not count towards the recording's limit
            self._began = time.monotonic()
        return self._began + limit_s - time.monotonic()

    def end(self) -> None:
        """End the process; its future then raises `BrokenProcessPool`."""
        self.overdue = True
        with suppress(ProcessLookupError):
            os.kill(self._pid.result(), signal.SIGKILL)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


class WorkerPool:
    """Idle workers, kept for the next recording since starting one takes seconds."""

    def __init__(self) -> None:
        self._idle: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._idle:
            worker.close()

    def start(self, unit: Unit, source: Source, config: IngestConfig) -> tuple[Future[Outcome], _Worker]:
        """Submit a recording to an idle worker, or to a new one where all are busy."""
        while self._idle:
            worker = self._idle.pop()
            try:
                return worker.start(unit, source, config), worker
            except BrokenProcessPool:  # it died while it was idle
                worker.close()
        worker = _Worker()
        return worker.start(unit, source, config), worker

    def release(self, worker: _Worker) -> None:
        """Put back a worker that has finished its recording and is alive."""
        self._idle.append(worker)


def in_processes(
    sources: list[Source], config: IngestConfig, unit: Unit = ingest_recording, pool: WorkerPool | None = None
) -> Done:
    """Process sources in child processes; a source on which its worker died is tried once more, alone."""
    if pool is None:
        with WorkerPool() as own:
            yield from in_processes(sources, config, unit, own)
        return
    suspects: list[Source] = []
    many = sum(source.size for source in sources) >= POOL_FROM_BYTES
    for source, outcome in _in_processes(sources, config, pool, max(1, config.workers) if many else 1, unit):
        if outcome.state == "died":
            suspects.append(source)
        else:
            yield source, outcome
    for source in suspects:
        for _, outcome in _in_processes([source], config, pool, 1, unit):
            yield source, outcome if outcome.state != "died" else refuse(source, config, died(source))


_kept = threading.local()


def kept_pool() -> WorkerPool:
    """Return this thread's pool of workers, which lives as long as the process.

    A worker of a cluster runs its recordings in such a pool: it survives their crashes, and their time limit holds.
    """
    # Dask's workers are daemons, which may have no children, so that none outlive them; ours end with their parent.
    if multiprocessing.current_process().daemon:
        multiprocessing.current_process().daemon = False
    if not hasattr(_kept, "pool"):
        _kept.pool = WorkerPool()
    pool: WorkerPool = _kept.pool
    return pool


def in_a_child(source: Source, config: IngestConfig, unit: Unit = ingest_recording) -> Outcome:
    """Process one recording in a child process that is kept for the next recording."""
    ((_, outcome),) = _in_processes([source], config, kept_pool(), 1, unit)
    return outcome


def _in_processes(sources: list[Source], config: IngestConfig, pool: WorkerPool, n_workers: int, unit: Unit) -> Done:
    """Yield sources with their outcomes, ``died`` where the worker did; large sources are started first.

    Large ones first, so that no worker ends alone with a large one. What is in progress together has no more bytes than
    the scratch space admits.
    """
    bound = config.transfer.scratch_gib * 2**30
    waiting = deque(sorted(sources, key=lambda source: (-source.size, source.path)))
    running: dict[Future[Outcome], _Worker] = {}
    try:
        while waiting or running:
            held = sum(worker.source.size for worker in running.values() if worker.source is not None)
            while waiting and len(running) < n_workers and (not running or held + waiting[0].size <= bound):
                held += waiting[0].size
                future, worker = pool.start(unit, waiting.popleft(), config)
                running[future] = worker
            for future in _next_done(running, config.time_limit_s):
                worker = running[future]
                finished = worker.source
                assert finished is not None
                outcome = _outcome(future, worker, finished, config)
                del running[future]
                if outcome.state == "died" or worker.overdue:
                    worker.close()
                else:
                    pool.release(worker)
                yield finished, outcome
    finally:
        for worker in running.values():
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


def _outcome(future: Future[Outcome], worker: _Worker, source: Source, config: IngestConfig) -> Outcome:
    try:
        return future.result()
    except TransientError as error:
        return failed(source, error)
    except BrokenProcessPool as error:
        if not worker.started:
            raise UserError(
                "a worker process did not start: a script that calls ingest must do so under"
                " `if __name__ == '__main__':`, since workers import the script; or set workers=0, and all work is done"
                " in one process"
            ) from error
        if worker.overdue:
            return refuse(source, config, overdue(source, config))
        return Outcome(source.shown, "", "died", "the worker process died", made=False)


def failed(source: Source, error: Exception) -> Outcome:
    """Return the outcome of a source whose work met a fault that may pass."""
    return Outcome(source.shown, "", "failed", source.scrubbed(str(error)), made=False)


def died(source: Source) -> RecordingError:
    """Return the error of a source that ended its worker twice."""
    return RecordingError(
        f"{source.shown}: the worker process died on it twice, the second time with no other recording in progress",
        next_action="the file may crash its reader, or need more memory than there is; inspect it, then run with"
        " retry_quarantined",
    )


def overdue(source: Source, config: IngestConfig) -> RecordingError:
    """Return the error of a source that took longer than the time limit."""
    return RecordingError(
        f"{source.shown}: was not finished after {config.time_limit_s:g} s and was stopped",
        next_action="the file may hang its reader; inspect it, then run with a larger time_limit_s and"
        " retry_quarantined",
    )


def _start_worker() -> None:
    """Limit arithmetic to one thread, since the workers share the cores, and end this process with its parent."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    threadpool_limits(1)
    end_with_parent()


def end_with_parent() -> None:
    """End this worker process when its parent does; a parent killed by SIGKILL stops no workers."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
