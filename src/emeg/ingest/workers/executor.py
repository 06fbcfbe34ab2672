"""Recordings to workers: in this process, in processes beside it, on a Dask cluster, or as task runs of a flow.

Whatever the way, the unit is `ingest_recording` on one source, and what comes back is an outcome, or a text where the
same call may succeed later. In this process (``workers=0``) a debugger sees everything, and a recording that crashes
its reader ends the run.
"""

import time
from collections.abc import Callable, Iterable, Iterator

from emeg.errors import TransientError
from emeg.ingest.config import IngestConfig
from emeg.ingest.recording import Outcome, ingest_recording
from emeg.ingest.source import Source
from emeg.ingest.workers.processes import Crew, in_processes, kept_crew

NATIVE_FORMATS = frozenset({"cnt"})
"""Formats that are read by a library in C, which a damaged file can crash or hang: never in this process."""

BATCH_BYTES, BATCH_RECORDINGS = 256 * 2**20, 16
"""A batch is full with so many bytes, or so many recordings: a task run of Prefect costs a fifth of a second."""

Done = Iterator[tuple[Source, Outcome | str]]
"""Recordings as they end, with what became of them."""

Hands = Callable[[list[Source], IngestConfig], Done]
"""Whoever works on sources in the place of what the configuration names."""

_WAIT_S = 0.5
"""Between two looks at a recording that another run has claimed."""

_CLAIM_LIMITS = 2.0
"""Time limits of a recording after which a claim on it is waited for no longer."""


def fan_out(sources: list[Source], config: IngestConfig, hands: Hands | None = None) -> Done:
    """Ingest sources; a text instead of an outcome is a fault worth another try.

    A recording that another run is working on is waited for, and taken over should that run end without it; a claim
    that is held for longer than any recording may take is told and left to the next run.
    """
    round_, moved = sources, time.monotonic()
    with Crew() as crew:
        while round_:
            elsewhere = []
            for source, outcome in hands(round_, config) if hands else _workers(round_, config, crew):
                if isinstance(outcome, Outcome) and outcome.state == "elsewhere":
                    elsewhere.append(source)
                else:
                    yield source, outcome
            if len(elsewhere) < len(round_):
                moved = time.monotonic()
            elif time.monotonic() - moved > _CLAIM_LIMITS * config.time_limit_s:
                yield from ((source, _stuck(source, config)) for source in elsewhere)
                return
            else:
                time.sleep(_WAIT_S)
            round_ = elsewhere


def _stuck(source: Source, config: IngestConfig) -> str:
    return (
        f"{source.shown}: another worker has held its claim for {_CLAIM_LIMITS * config.time_limit_s:g} s without"
        " finishing it; end that worker, then run again"
    )


def _workers(sources: list[Source], config: IngestConfig, crew: Crew) -> Done:
    if config.dask is not None:
        from emeg.ingest.workers.dask_cluster import on_cluster

        return on_cluster(sources, config)
    if config.workers and not any(_in_memory(uri) for uri in (config.archive, config.root)):
        return in_processes(sources, config, crew=crew)
    native = [source for source in sources if source.format in NATIVE_FORMATS]
    rest = [source for source in sources if source.format not in NATIVE_FORMATS]
    return _chained(_in_this_process(rest, config), in_processes(native, config, crew=crew))


def _in_memory(uri: str) -> bool:
    """Whether no other process can see what lies there."""
    return uri.startswith("memory:")


def _chained(*parts: Iterable[tuple[Source, Outcome | str]]) -> Done:
    for part in parts:
        yield from part


def _in_this_process(sources: list[Source], config: IngestConfig) -> Done:
    for source in sources:
        try:
            yield source, ingest_recording(source, config)
        except TransientError as error:
            yield source, source.scrubbed(str(error))


def batches(sources: list[Source]) -> list[list[Source]]:
    """Part sources into batches that each are worth a task run, large recordings first."""
    parts: list[list[Source]] = []
    room = 0
    for source in sorted(sources, key=lambda source: (-source.size, source.path)):
        if not parts or source.size > room or len(parts[-1]) == BATCH_RECORDINGS:
            parts.append([])
            room = BATCH_BYTES
        parts[-1].append(source)
        room -= source.size
    return parts


def ingest_batch(sources: list[Source], config: IngestConfig) -> list[tuple[Source, Outcome | str]]:
    """Ingest a few recordings one after another, in a child of this process that is kept for the next batch."""
    return list(in_processes(sources, config.model_copy(update={"workers": 1}), crew=kept_crew()))
