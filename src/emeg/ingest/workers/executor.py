"""Distribute recordings to workers: this process, child processes, a Dask cluster, or task runs of a flow.

In every case the unit of work is `ingest_recording` on one source, and its result is an `Outcome`. In this process
(``workers=0``) a debugger sees everything, and a recording that crashes its reader ends the run.
"""

import time
from collections.abc import Callable, Iterable

from emeg.errors import TransientError
from emeg.ingest.config import IngestConfig
from emeg.ingest.outcome import Outcome
from emeg.ingest.recording import ingest_recording
from emeg.ingest.source import Source
from emeg.ingest.workers.processes import Done, WorkerPool, failed, in_processes, kept_pool

NATIVE_FORMATS = frozenset({"cnt"})
"""Formats that are read by a library in C, which a damaged file can crash or hang: never in this process."""

BATCH_BYTES, BATCH_RECORDINGS = 256 * 2**20, 16
"""Most bytes and recordings of a batch; a task run of Prefect costs a fifth of a second."""

Executor = Callable[[list[Source], IngestConfig], Done]
"""Processes sources in place of the workers that the configuration names, and yields each with its outcome."""

_WAIT_S = 0.5
"""Time between two checks of a recording that another run has claimed, s."""

_CLAIM_LIMITS = 2.0
"""Number of time limits after which a held claim is no longer awaited."""


def fan_out(sources: list[Source], config: IngestConfig, executor: Executor | None = None) -> Done:
    """Ingest sources and yield each with its outcome: ready, quarantined or failed.

    A recording that another run is working on is awaited, and processed here if that run ends without it. A
    claim that is held for longer than any recording may take is reported as failed and left to the next run.

    Raises
    ------
    TypeError
        The executor yields an object that is no outcome.
    """
    waiting, moved = sources, time.monotonic()
    with WorkerPool() as pool:
        while waiting:
            claimed = []
            for source, outcome in executor(waiting, config) if executor else _workers(waiting, config, pool):
                if not isinstance(outcome, Outcome):
                    raise TypeError(f"{source.shown}: the executor yields {outcome!r} where an Outcome is due")
                if outcome.state == "claimed":
                    claimed.append(source)
                else:
                    yield source, outcome
            if len(claimed) < len(waiting):
                moved = time.monotonic()
            elif time.monotonic() - moved > _CLAIM_LIMITS * config.time_limit_s:
                yield from ((source, _stuck(source, config)) for source in claimed)
                return
            else:
                time.sleep(_WAIT_S)
            waiting = claimed


def _stuck(source: Source, config: IngestConfig) -> Outcome:
    reason = (
        f"{source.shown}: another worker has held its claim for {_CLAIM_LIMITS * config.time_limit_s:g} s without"
        " finishing it; end that worker, then run again"
    )
    return Outcome(source.shown, "", "failed", reason, made=False)


def _workers(sources: list[Source], config: IngestConfig, pool: WorkerPool) -> Done:
    if config.dask is not None:
        from emeg.ingest.workers.dask_cluster import on_cluster

        return on_cluster(sources, config)
    if config.workers and not any(_in_memory(uri) for uri in (config.archive, config.root)):
        return in_processes(sources, config, pool=pool)
    native = [source for source in sources if source.format in NATIVE_FORMATS]
    rest = [source for source in sources if source.format not in NATIVE_FORMATS]
    return _chained(_in_this_process(rest, config), in_processes(native, config, pool=pool))


def _in_memory(uri: str) -> bool:
    """Return whether the files lie in this process's memory, where no other process sees them."""
    return uri.startswith("memory:")


def _chained(*parts: Iterable[tuple[Source, Outcome]]) -> Done:
    for part in parts:
        yield from part


def _in_this_process(sources: list[Source], config: IngestConfig) -> Done:
    for source in sources:
        try:
            yield source, ingest_recording(source, config)
        except TransientError as error:
            yield source, failed(source, error)


def batches(sources: list[Source]) -> list[list[Source]]:
    """Split sources into batches that are each worth a task run, large recordings first."""
    parts: list[list[Source]] = []
    free = 0
    for source in sorted(sources, key=lambda source: (-source.size, source.path)):
        if not parts or source.size > free or len(parts[-1]) == BATCH_RECORDINGS:
            parts.append([])
            free = BATCH_BYTES
        parts[-1].append(source)
        free -= source.size
    return parts


def ingest_batch(sources: list[Source], config: IngestConfig) -> list[tuple[Source, Outcome]]:
    """Ingest a few recordings one after another, in a child process that is kept for the next batch."""
    return list(in_processes(sources, config.model_copy(update={"workers": 1}), pool=kept_pool()))
