"""The verb ``work``: run the flows of a work pool on this machine.

It is Prefect's process worker with two differences. A stop signal ends the runs before the worker, so that trainings
write a checkpoint, as a container runtime or systemd expects of the process that they signal. A server that does not
answer for hours ends neither the worker, which would take its runs with it, nor its attention to cancelled runs.
"""

import functools
import logging
import signal
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import psutil
from pydantic import PositiveFloat

from emeg.config import Config, option
from emeg.errors import TransientError
from emeg.progress import Progress, silent
from emeg.service.api import Api
from emeg.service.ending import note_ending

if TYPE_CHECKING:
    import anyio
    from prefect.workers.process import ProcessWorker

logger = logging.getLogger(__name__)

R = TypeVar("R")
Request = Callable[[], Coroutine[Any, Any, R]]

SECONDS_BETWEEN_CHECKS = 0.2
"""Seconds between two checks of runs that have received a stop signal."""


class WorkConfig(Config):
    """Run the flows of a work pool on this machine, until a stop signal."""

    pool: str = option("emeg", group="data")
    """Work pool whose runs are executed: `work_pool` of ``emeg.yaml``."""
    stop_s: PositiveFloat = option(100.0, group="options")
    """Seconds that runs have to write a checkpoint and to end after a stop signal. Give the supervisor of this process
    some seconds more before it kills: stop_grace_period, terminationGracePeriodSeconds, TimeoutStopSec."""


class WorkResult(Config):
    """What a stopped worker left."""

    stopped: int
    """Runs that were in progress and were stopped."""


def work(config: WorkConfig, *, progress: Progress = silent) -> WorkResult:
    """Run a worker until SIGTERM or SIGINT, then stop its runs and wait for them.

    Raises
    ------
    UserError
        No server is configured, or it refuses the password.
    """
    import anyio
    from prefect.context import root_settings_context
    from prefect.logging.configuration import setup_logging

    with Api() as api:
        try:
            api.ask("GET", f"/work_pools/{config.pool}")  # refuses a wrong password before anything starts
        except TransientError as error:
            logger.warning("%s; the worker waits for it", error)
    with root_settings_context():
        setup_logging()
        return WorkResult(stopped=anyio.run(_work, config, progress))


async def _work(config: WorkConfig, progress: Progress) -> int:
    """Run the worker's loops and wait for a stop signal; return the number of runs that were stopped."""
    import anyio
    from prefect.settings import get_current_settings
    from prefect.workers.process import ProcessWorker

    _make_cancellation_lasting()
    worker = ProcessWorker(work_pool_name=config.pool)
    stopping = anyio.Event()
    _make_lasting(worker, stopping)
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(functools.partial(worker.start, printer=logger.info))
            progress(0, 1, f"waiting for runs of the pool {config.pool}")
            await anext(signals)
            stopping.set()
            note_ending(get_current_settings().home)
            n_stopped = await anyio.to_thread.run_sync(stop_runs, config.stop_s)
            tasks.cancel_scope.cancel()
    return n_stopped


def _make_lasting(worker: "ProcessWorker", stopping: "anyio.Event") -> None:
    """Make a worker wait for a server that does not answer, and start no run while it is stopped."""
    from prefect.client.schemas.objects import FlowRun

    find_runs: Request[list[FlowRun]] = _patient(worker.get_and_submit_flow_runs, [])

    async def find_runs_unless_stopping() -> list[FlowRun]:
        return [] if stopping.is_set() else await find_runs()

    worker.get_and_submit_flow_runs = find_runs_unless_stopping  # type: ignore[method-assign]
    worker.sync_with_backend = _patient(worker.sync_with_backend, None)  # type: ignore[method-assign]


def _make_cancellation_lasting() -> None:
    """Make Prefect look for cancelled runs again after the server was down; it would give up after three failures."""
    from prefect._internal.observers import FlowRunCancellingObserver

    begin = FlowRunCancellingObserver.__init__

    @functools.wraps(begin)
    def begin_patiently(observer: FlowRunCancellingObserver, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        begin(observer, *args, **kwargs)
        check = _patient(observer._check_for_cancelled_flow_runs, None)
        observer._check_for_cancelled_flow_runs = check  # type: ignore[method-assign]

    FlowRunCancellingObserver.__init__ = begin_patiently  # type: ignore[method-assign, assignment]


def _patient(call: Request[R], otherwise: R) -> Request[R]:
    """Return a function that logs a server that does not answer, instead of raising; Prefect's loop calls it again."""
    import httpx

    is_silent = False

    async def patient() -> R:
        nonlocal is_silent
        try:
            answer = await call()
        except (httpx.TransportError, httpx.HTTPStatusError) as error:
            if (
                isinstance(error, httpx.HTTPStatusError)
                and error.response.status_code < httpx.codes.INTERNAL_SERVER_ERROR
            ):
                raise
            if not is_silent:
                logger.warning("the Prefect server does not answer (%s); the worker asks again", error)
            is_silent = True
            return otherwise
        if is_silent:
            logger.info("the Prefect server answers again")
        is_silent = False
        return answer

    return patient


def stop_runs(wait_s: float) -> int:
    """Send SIGTERM to the child processes, which are runs, and wait until they have ended; return their number.

    A child is not waited for by number, because the worker's event loop reads its exit code.
    """
    runs = psutil.Process().children()
    for run in runs:
        _send(run, signal.SIGTERM)
    end = time.monotonic() + wait_s
    while any(map(_lives, runs)) and time.monotonic() < end:
        time.sleep(SECONDS_BETWEEN_CHECKS)
    for run in filter(_lives, runs):
        logger.warning("process %d has not ended within %.0f s of a stop signal and is killed", run.pid, wait_s)
        _send(run, signal.SIGKILL)
    return len(runs)


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        logger.debug("process %d has already ended", process.pid)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
