"""Work in processes beside this one, each of which may die or hang without another.

A process that dies takes nothing with it but the recording in its hands, which is tried once more, alone; one that
takes too long is ended. What ends its process twice, or hangs, is quarantined.
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
from emeg.ingest.recording import Outcome, ingest_recording, refuse
from emeg.ingest.source import Source

POOL_FROM_BYTES = 64 * 2**20
"""Less than this is done by one worker before a second has started."""

Unit = Callable[[Source, IngestConfig], Outcome]
"""What a worker does with a source; importable by name, since other processes do it."""


class _Worker:
    """One process; its death is nobody else's."""

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
        if not self.started:  # still importing: that is not the recording's time
            self._began = time.monotonic()
        return self._began + limit_s - time.monotonic()

    def end(self) -> None:
        """Kill the process: what it holds comes back as broken."""
        self.overdue = True
        with suppress(ProcessLookupError):
            os.kill(self._pid.result(), signal.SIGKILL)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


class Crew:
    """Workers that have nothing to do; starting one takes seconds, so that they are kept for the next recording."""

    def __init__(self) -> None:
        self._idle: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._idle:
            worker.close()

    def start(self, unit: Unit, source: Source, config: IngestConfig) -> tuple[Future[Outcome], _Worker]:
        """Give a recording to a worker, a new one where all are busy."""
        while self._idle:
            worker = self._idle.pop()
            try:
                return worker.start(unit, source, config), worker
            except BrokenProcessPool:  # died with nothing in its hands
                worker.close()
        worker = _Worker()
        return worker.start(unit, source, config), worker

    def rest(self, worker: _Worker) -> None:
        """Take back a worker that has done its recording and lives."""
        self._idle.append(worker)


def in_processes(
    sources: list[Source], config: IngestConfig, unit: Unit = ingest_recording, crew: Crew | None = None
) -> Iterator[tuple[Source, Outcome | str]]:
    """Work in processes, then on what ended its worker once more, one at a time."""
    if crew is None:
        with Crew() as own:
            yield from in_processes(sources, config, unit, own)
        return
    suspects: list[Source] = []
    many = sum(source.size for source in sources) >= POOL_FROM_BYTES
    for source, outcome in _in_processes(sources, config, crew, max(1, config.workers) if many else 1, unit):
        if outcome is None:
            suspects.append(source)
        else:
            yield source, outcome
    for source in suspects:
        for _, outcome in _in_processes([source], config, crew, 1, unit):
            yield source, outcome if outcome is not None else refuse(source, config, died(source))


_kept = threading.local()


def kept_crew() -> Crew:
    """Give the workers of this thread that live as long as this process: what a worker of a cluster works with.

    It outlives its recordings so, and keeps their time limit.
    """
    # Dask's workers are daemons, which may have no children, lest these outlive them; ours end with their parent.
    if multiprocessing.current_process().daemon:
        multiprocessing.current_process().daemon = False
    if not hasattr(_kept, "crew"):
        _kept.crew = Crew()
    crew: Crew = _kept.crew
    return crew


def in_a_child(source: Source, config: IngestConfig, unit: Unit = ingest_recording) -> Outcome | str | None:
    """Work on one recording in a process that is kept for the next; `None` if that died on it."""
    ((_, outcome),) = _in_processes([source], config, kept_crew(), 1, unit)
    return outcome


def _in_processes(
    sources: list[Source], config: IngestConfig, crew: Crew, n_workers: int, unit: Unit
) -> Iterator[tuple[Source, Outcome | str | None]]:
    """Keep the workers busy, with no more on its way than the scratch space holds; `None` for a worker that died.

    Large ones first, so that no worker is left alone with one at the end.
    """
    bound = config.transfer.scratch_gib * 2**30
    waiting = deque(sorted(sources, key=lambda source: (-source.size, source.path)))
    running: dict[Future[Outcome], _Worker] = {}
    try:
        while waiting or running:
            held = sum(worker.source.size for worker in running.values() if worker.source is not None)
            while waiting and len(running) < n_workers and (not running or held + waiting[0].size <= bound):
                held += waiting[0].size
                future, worker = crew.start(unit, waiting.popleft(), config)
                running[future] = worker
            for future in _next_done(running, config.time_limit_s):
                worker = running[future]
                finished = worker.source
                assert finished is not None
                outcome = _outcome(future, worker, finished, config)
                del running[future]
                if outcome is None or worker.overdue:
                    worker.close()
                else:
                    crew.rest(worker)
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


def _outcome(future: Future[Outcome], worker: _Worker, source: Source, config: IngestConfig) -> Outcome | str | None:
    try:
        return future.result()
    except TransientError as error:
        return source.scrubbed(str(error))
    except BrokenProcessPool as error:
        if not worker.started:
            raise UserError(
                "a worker process did not start: a script must call it under `if __name__ == '__main__':`, since"
                " workers import it; or give workers=0, and all is done in one process"
            ) from error
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
