"""The same unit of work on a Dask cluster, one task a recording, so that one can be given up without the others.

Workers need the same emeg, the archive and the store under the same URI, and one thread each.
"""

import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from emeg import __version__
from emeg.errors import TransientError, UserError
from emeg.ingest.config import IngestConfig
from emeg.ingest.fanout import Unit, died, overdue
from emeg.ingest.listing import Source
from emeg.ingest.recording import Outcome, ingest_recording, refuse

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_S = 30
"""How long a scheduler may take to answer, s."""

_PER_THREAD = 2
"""Recordings that a worker has been given, beside the one in hand: it never waits for the next."""

_LOOK_S = 5.0
"""Between two looks for recordings that take too long."""


def on_cluster(
    sources: list[Source], config: IngestConfig, unit: Unit = ingest_recording
) -> Iterator[tuple[Source, Outcome | str]]:
    """Ingest on the cluster at ``config.dask``; a worker that dies costs what `in_processes` says.

    Raises
    ------
    UserError
        Dask is not installed, or the workers have another version of emeg.
    TransientError
        No scheduler answers, or it has no workers.
    """
    with _connected(str(config.dask)) as client:
        suspects: list[Source] = []
        n_tasks = (1 + _PER_THREAD) * sum(client.nthreads().values())
        for source, outcome in _on_cluster(client, sources, config, n_tasks, unit):
            if outcome is None:
                suspects.append(source)
            else:
                yield source, outcome
        for source in suspects:
            for _, outcome in _on_cluster(client, [source], config, 1, unit):
                yield source, outcome if outcome is not None else refuse(source, config, died(source))


def _connected(address: str) -> "Client":
    try:
        from distributed import Client
    except ImportError as error:
        raise UserError("--dask needs Dask: pip install 'emeg[dask]'") from error
    try:
        client = Client(address, timeout=CONNECT_S)
    except (OSError, ValueError) as error:
        raise TransientError(f"{address}: no Dask scheduler answers there ({' '.join(str(error).split())})") from error
    versions = client.run(_version)
    if not versions:
        client.close()
        raise TransientError(f"{address}: the Dask scheduler has no workers; start `dask worker {address}`")
    other = sorted({version for version in versions.values() if version != __version__})
    if other:
        client.close()
        raise UserError(f"{address}: workers have emeg {', '.join(other)}, here it is {__version__}; use one version")
    return client


def _version() -> str:
    return __version__


def _on_cluster(
    client: "Client", sources: list[Source], config: IngestConfig, n_tasks: int, unit: Unit
) -> Iterator[tuple[Source, Outcome | str | None]]:
    from distributed import wait

    waiting = deque(sorted(sources, key=lambda source: (-source.size, source.path)))
    running: dict[Future[Any], Source] = {}
    seen: dict[str, float] = {}
    while waiting or running:
        while waiting and len(running) < n_tasks:
            source = waiting.popleft()
            running[client.submit(unit, source, config, pure=False)] = source
        try:
            done = wait(list(running), timeout=_LOOK_S, return_when="FIRST_COMPLETED").done
        except TimeoutError:
            done = set()
        for future in done:
            yield running[future], _outcome(future, running[future])
            seen.pop(future.key, None)
            del running[future]
        for future in _overdue(client, running, seen, config.time_limit_s):
            yield running[future], refuse(running[future], config, overdue(running[future], config))
            del running[future]


def _outcome(future: "Future[Any]", source: Source) -> Outcome | str | None:
    from distributed import KilledWorker

    try:
        outcome: Outcome = future.result()
    except TransientError as error:
        return source.scrubbed(str(error))
    except KilledWorker:
        return None
    return outcome


def _overdue(
    client: "Client", running: "dict[Future[Any], Source]", seen: dict[str, float], limit_s: float
) -> list["Future[Any]"]:
    """Find what has been in work for too long, and restart its worker: a thread that hangs cannot be ended."""
    now, late = time.monotonic(), []
    call_stacks = client.call_stack(list(running)) if running else {}
    at = {key: worker for worker, stacks in call_stacks.items() for key in stacks}
    for future in list(running):
        if future.key not in at:
            seen.pop(future.key, None)
        elif now - seen.setdefault(future.key, now) > limit_s:
            late.append(future)
    if late:
        client.cancel(late, force=True)
        client.restart_workers(sorted({at[future.key] for future in late}), raise_for_error=False)
    return late
