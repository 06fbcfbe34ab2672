"""Ingest on a Dask cluster, one task a recording.

A worker of the cluster ingests a recording in a child process (`in_a_child`): a crash or a hang ends the child, and the
worker stays in the cluster. When a worker itself is lost, with its machine or its connection, Dask gives its tasks to
another. Workers need the same version of emeg, and the archive and the store under the same URI.
"""

import time
from collections import deque
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

from emeg.errors import TransientError, UserError
from emeg.ingest.config import IngestConfig
from emeg.ingest.outcome import Outcome
from emeg.ingest.recording import ingest_recording, refuse
from emeg.ingest.source import Source
from emeg.ingest.workers.processes import Done, Unit, died, in_a_child
from emeg.version import __version__

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_S = 30.0
"""How long a scheduler may take to answer, s."""

PATIENCE_S = 120.0
"""How long a cluster may be without a worker, s; lost workers may be starting again."""

_PER_THREAD = 2
"""Recordings for each thread of the cluster: the current one and the next."""

_CHECK_S = 5.0
"""Time between two checks for workers while no recording ends, s."""


def on_cluster(sources: list[Source], config: IngestConfig, unit: Unit = ingest_recording) -> Done:
    """Ingest on the cluster at ``config.dask``; a recording that ends its process twice is quarantined.

    Raises
    ------
    UserError
        Dask is not installed, or the workers have another version of emeg.
    TransientError
        No scheduler answers, it has no workers, or has lost them all.
    """
    with _connected(str(config.dask)) as client:
        suspects: list[Source] = []
        for source, outcome in _on_cluster(client, sources, config, unit):
            if outcome.state == "died":
                suspects.append(source)
            else:
                yield source, outcome
        for source in suspects:
            for _, outcome in _on_cluster(client, [source], config, unit):
                yield source, outcome if outcome.state != "died" else refuse(source, config, died(source))


def check_cluster(address: str) -> None:
    """Check that a scheduler answers and has workers with this version of emeg.

    Raises
    ------
    UserError
        Dask is not installed, or the workers have another version of emeg.
    TransientError
        No scheduler answers, or it has no workers.
    """
    _connected(address).close()


def _connected(address: str) -> "Client":
    try:
        from distributed import Client
    except ImportError as error:
        raise UserError("--dask: Dask is not installed; run pip install 'emeg[dask]'") from error
    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise TransientError(
            f"{address}: no Dask scheduler answers there ({' '.join(str(error).split())});"
            " start `dask scheduler`, or correct --dask"
        ) from error
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


def _on_cluster(client: "Client", sources: list[Source], config: IngestConfig, unit: Unit) -> Done:
    """Yield sources with their outcomes, ``died`` where the process, or one worker after another, died on it."""
    from distributed import wait

    waiting = deque(sorted(sources, key=lambda source: (-source.size, source.path)))
    running: dict[Future[Any], Source] = {}
    seen = time.monotonic()
    while waiting or running:
        n_threads = _n_threads(client, config)
        if n_threads:
            seen = time.monotonic()
        elif time.monotonic() - seen > PATIENCE_S:
            raise _deserted(config, list(running.values()))
        while waiting and len(running) < max(1, _PER_THREAD * n_threads):
            source = waiting.popleft()
            running[client.submit(in_a_child, source, config, unit, pure=False)] = source
        try:
            with client.as_current():  # `wait` needs to know the client of the futures
                done = wait(list(running), timeout=min(_CHECK_S, PATIENCE_S), return_when="FIRST_COMPLETED").done
        except TimeoutError:
            continue
        for future in done:
            yield running[future], _outcome(future, running[future], config)
            del running[future]


def _n_threads(client: "Client", config: IngestConfig) -> int:
    try:
        return sum(client.nthreads().values())
    except (OSError, TimeoutError) as error:
        raise _gone(config) from error


def _outcome(future: "Future[Any]", source: Source, config: IngestConfig) -> Outcome:
    from distributed import KilledWorker

    try:
        outcome: Outcome = future.result()
    except KilledWorker:
        return Outcome(source.shown, "", "died", "its Dask workers were lost, one after another", made=False)
    except CancelledError as error:
        raise _gone(config) from error
    return outcome


def _gone(config: IngestConfig) -> TransientError:
    return TransientError(
        f"{config.dask}: the connection to the Dask scheduler was lost; finished recordings are kept, run again"
    )


def _deserted(config: IngestConfig, held: list[Source]) -> TransientError:
    names = ", ".join(source.shown for source in held[:4])
    return TransientError(
        f"{config.dask}: the Dask cluster has had no worker for {PATIENCE_S:g} s; the last had {names}; start workers"
        " (a nanny restarts lost ones), then run again"
    )
