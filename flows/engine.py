"""Shared by all flows: which errors are retried, and how progress, results and products are published."""

import functools
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar
from uuid import UUID

import httpx
from prefect import Flow, Task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.schemas.objects import FlowRun, State, TaskRun
from prefect.concurrency.sync import concurrency
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, get_current_settings, temporary_settings
from prefect.tasks import exponential_backoff
from pydantic import BaseModel
from rich.console import Console

from emeg.errors import StoppedError, TransientError
from emeg.flows.processes import register
from emeg.terminal import discard_output

SLOT_LEASE_S = 120.0
"""Seconds after which the slot of a killed run is free again; a living run renews its lease."""

P = ParamSpec("P")
R = TypeVar("R")

SECONDS_BETWEEN_UPDATES = 2.0
"""Least seconds between two updates of an artifact; each is a request to the server of a tenth of a second."""

PAUSE_FACTOR = 50.0
"""Least time between two updates, in durations of the last one: a busy server slows the run by 2 % at most."""


def is_transient(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Return whether the same call may succeed later; any other error ends the run at once."""
    return isinstance(state.result(raise_on_failure=False), TransientError)


def verb_task(name: str) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a task that is retried after about 10, 20 and 40 s, on transient errors only.

    A run that receives a stop signal ends as Prefect ends a process: the flow run is Crashed at once, or Cancelled if
    that was the reason. A `StoppedError` would make it Failed.
    """

    def decorate(function: Callable[P, R]) -> Task[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except StoppedError as error:
                logging.getLogger(f"emeg.flows.{name}").warning("%s", error)
                raise SystemExit(error.exit_code) from error

        return Task(
            call,
            name=name,
            retries=3,
            retry_delay_seconds=exponential_backoff(backoff_factor=10),
            retry_jitter_factor=0.5,
            retry_condition_fn=is_transient,
        )

    return decorate


def verb_flow(function: Flow[P, R]) -> Flow[P, R]:
    """Add to a flow what every deployed run needs: a note of its process, and the limits of its deployment.

    ``EMEG_LIMITS`` in the environment names the concurrency limits of the server that a run takes part in.
    """
    body = function.fn

    @functools.wraps(body)
    def limited(*args: P.args, **kwargs: P.kwargs) -> R:
        names = [name for name in os.environ.get("EMEG_LIMITS", "").split(",") if name]
        if is_deployed():
            outlive_readers()
            show_log_lines()
        if not names or not is_deployed():
            return body(*args, **kwargs)
        logging.getLogger("emeg.flows.limits").info("waiting for a slot of %s", ", ".join(names))
        with concurrency(names, occupy=1, lease_duration=SLOT_LEASE_S):
            return body(*args, **kwargs)

    function.fn = limited
    function.on_running_hooks.append(note_process)
    return function


def outlive_readers() -> None:
    """Prevent a broken pipe from ending the run: the worker that read its output may have been killed.

    Without this, the next log line would end the process: rich exits on a broken pipe.
    """
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    for handler in {handler for one in loggers for handler in getattr(one, "handlers", ())}:
        console = getattr(handler, "console", None)
        if isinstance(console, Console):
            console.on_broken_pipe = discard_output  # type: ignore[method-assign]


def show_log_lines() -> None:
    """Send emeg's INFO lines to the server; the setting for extra loggers adds a handler to them, but no level."""
    logger = logging.getLogger("emeg")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)


def is_deployed() -> bool:
    """Return whether this is the run of a deployment, not a flow that a person called."""
    context = FlowRunContext.get()
    return context is not None and context.flow_run is not None and context.flow_run.deployment_id is not None


def note_process(flow: Flow[P, R], flow_run: FlowRun, state: State[R]) -> None:
    """Note the process of a run that has started, for `emeg watch`."""
    settings = get_current_settings()
    if settings.api.url:
        register(settings.home, str(flow_run.id), str(settings.api.url))


class ArtifactProgress:
    """A progress artifact, and a log line for each tenth of the work."""

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._artifact: UUID | None = None
        self._due = 0.0
        self._said = -1
        self._is_silent = False

    def __enter__(self) -> Self:
        created = create_progress_artifact(progress=0.0, key=f"{self._verb}-progress", description=f"emeg {self._verb}")
        self._artifact = created if isinstance(created, UUID) else None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._artifact is not None:
            update_progress_artifact(artifact_id=self._artifact, progress=100.0)

    def __call__(self, done: int, total: int, message: str) -> None:
        """Update the artifact every two seconds, or more rarely if the server is slow or does not answer."""
        percent = 100.0 * done / max(total, 1)
        if int(percent) // 10 != self._said:
            self._said = int(percent) // 10
            logging.getLogger(f"emeg.flows.{self._verb}").info("%s: %d/%d %s", self._verb, done, total, message)
        began = time.monotonic()
        if self._artifact is not None and began >= self._due:
            self._update(self._artifact, min(percent, 100.0))
            now = time.monotonic()
            self._due = now + max(SECONDS_BETWEEN_UPDATES, PAUSE_FACTOR * (now - began))

    def _update(self, artifact: UUID, percent: float) -> None:
        """Send one update, without retries: a run whose server is down continues, and its next update is sent later."""
        logger = logging.getLogger(f"emeg.flows.{self._verb}")
        try:
            with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
                update_progress_artifact(artifact_id=artifact, progress=percent)
        except (httpx.TransportError, PrefectHTTPStatusError) as error:
            if isinstance(error, PrefectHTTPStatusError) and not error.response.is_server_error:
                raise
            if not self._is_silent:
                logger.warning("the Prefect server does not answer (%s); the run continues without it", error)
            self._is_silent = True
        else:
            if self._is_silent:
                logger.info("the Prefect server answers again")
            self._is_silent = False


def show(verb: str, config: BaseModel, result: BaseModel) -> None:
    """Leave a table of the result and a page with the parameters beside the run."""
    fields = result.model_dump(mode="json")
    create_table_artifact(
        key=f"{verb}-result",
        table=[{"field": name, "value": _cell(value)} for name, value in fields.items()],
        description=f"What emeg {verb} made",
    )
    create_markdown_artifact(
        key=f"{verb}-parameters",
        markdown=f"# emeg {verb}\n\n{parameter_table(config)}",
        description="Parameters of this run",
    )


def parameter_table(config: BaseModel) -> str:
    """Return the parameters as a table in Markdown, one row for each, those of a group as ``group.parameter``."""
    rows = "".join(f"| {name} | `{_cell(value)}` |\n" for name, value in _leaves(config.model_dump(mode="json")))
    return f"| parameter | value |\n| --- | --- |\n{rows}"


def _leaves(values: dict[str, Any], group: str = "") -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{group}{name}.")
        else:
            yield f"{group}{name}", value


def publish(kind: str, root: str, name: str, **more: str) -> None:
    """Send the event ``emeg.<kind>.published`` that names a new product, for automations that continue from it.

    Parameters
    ----------
    kind : str
        ``corpus``, ``tokens``, ``model``, ``evaluation`` or ``report``.
    root : str
        Store of the product.
    name : str
        Name of the product.
    more : str
        Further values that automations can match and pass on, such as the network of a model.
    """
    emit_event(
        f"emeg.{kind}.published",
        resource={
            "prefect.resource.id": f"emeg.{kind}.{name}",
            "prefect.resource.name": name,
            "emeg.root": root,
            **{f"emeg.{key}": value for key, value in more.items()},
        },
        payload={"root": root, kind: name, **more},
    )


def show_rows(key: str, rows: Sequence[BaseModel], description: str) -> None:
    """Leave a table beside the run, one row for each entry."""
    create_table_artifact(key=key, table=[row.model_dump(mode="json") for row in rows], description=description)


def _cell(value: object) -> str:
    text = str(value)
    return text if len(text) <= 300 else f"{text[:297]}…"
