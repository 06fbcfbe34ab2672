"""A Prefect server for one test, with its command line, its API and workers."""

import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, chdir, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from emeg.service import DeployConfig, deploy

ROOT = Path(__file__).parents[2]
PYTHON = sys.executable


def free_port(n: int = 1) -> int:
    """Return the first of `n` neighbouring ports that nobody listens on."""
    for _ in range(100):
        with ExitStack() as stack:
            listeners = [stack.enter_context(socket.socket()) for _ in range(n)]
            listeners[0].bind(("127.0.0.1", 0))
            first = int(listeners[0].getsockname()[1])
            try:
                for k, listener in enumerate(listeners[1:], start=1):
                    listener.bind(("127.0.0.1", first + k))
            except OSError:
                continue
            return first
    raise AssertionError(f"no {n} neighbouring ports are free")


LIMIT_S = 600.0
"""Limit of every wait, against tests that hang. What must happen soon is asserted by what has happened, not by time."""


def wait_for(ask: Callable[[], Any], what: str) -> Any:
    """Return the first answer that is not None."""
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        answer = ask()
        if answer is not None:
            return answer
        time.sleep(0.3)
    raise AssertionError(f"{what}: not within {LIMIT_S} s")


class Server:
    """A Prefect server, emeg's commands with its settings, and its API."""

    def __init__(self, home: Path, database: str | None = None, environment: Mapping[str, str] | None = None) -> None:
        port = free_port()
        self.home = home
        self.url = f"http://127.0.0.1:{port}/api"
        self.environment = os.environ | {
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_LOCAL_STORAGE_PATH": str(home / "storage"),
            "OMP_NUM_THREADS": "1",
        }
        self.environment |= environment or {}
        if database is not None:
            self.environment["PREFECT_API_DATABASE_CONNECTION_URL"] = database
        self.process = self.start("prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))

    def start(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.home / f"{arguments[0]}.log").open("ab") as log:
            return subprocess.Popen(
                [PYTHON, "-m", module, *arguments],
                cwd=self.home,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def emeg(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [PYTHON, "-m", "emeg.cli", *arguments],
            cwd=self.home,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def in_this_process(self) -> Iterator[None]:
        """Let this process use the server during the block, which saves the start of another process."""
        here = {PREFECT_API_URL: self.url, PREFECT_HOME: self.home}
        with patch.dict(os.environ, self.environment), chdir(self.home), temporary_settings(here):
            try:
                yield
            finally:  # a service that lives on would send the events of later tests to this server
                EventsWorker.drain_all()
                APILogWorker.drain_all()

    def deploy(self, *, apply: bool = False) -> str:
        """Plan or apply ``emeg.yaml`` and return the text."""
        with self.in_this_process(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'imghdr'", DeprecationWarning)  # Prefect's notifications import it
            return deploy(DeployConfig(apply=apply)).as_text()

    def ask(self, method: str, path: str, **json: Any) -> Any:
        """Return the answer; repeat the request while SQLite is locked by another one (the server answers 503)."""
        end = time.monotonic() + 60
        while True:
            answer = httpx.request(method, self.url + path, json=json or None, timeout=60)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > end:
                answer.raise_for_status()
                return answer.json() if answer.content else None
            time.sleep(1)

    def healthy(self) -> bool | None:
        try:
            return True if httpx.get(f"{self.url}/health", timeout=5).is_success else None
        except httpx.TransportError:
            return None

    def deployments(self) -> dict[str, dict[str, Any]]:
        """Deployments by ``flow/name``."""
        flows = {row["id"]: row["name"] for row in self.ask("POST", "/flows/filter", limit=100)}
        rows = self.ask("POST", "/deployments/filter", limit=100)
        return {f"{flows[row['flow_id']]}/{row['name']}": row for row in rows}

    def run(self, deployment: str, **parameters: Any) -> str:
        """Start a run of a deployment, and give its id."""
        found = self.deployments()[deployment]
        state = {"type": "SCHEDULED", "name": "Scheduled"}
        path = f"/deployments/{found['id']}/create_flow_run"
        run = self.ask("POST", path, parameters=found["parameters"] | parameters, state=state)
        return str(run["id"])

    def state(self, run: str) -> dict[str, Any]:
        state: dict[str, Any] = self.ask("GET", f"/flow_runs/{run}")["state"]
        return state

    def ended(self, run: str) -> str | None:
        state = self.state(run)["type"]
        return state if state in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"} else None

    def logs(self, run: str) -> list[dict[str, Any]]:
        """Lines of a run's log."""
        found: list[dict[str, Any]] = self.ask("POST", "/logs/filter", logs={"flow_run_id": {"any_": [run]}})
        return found

    def runs_of(self, deployment: str) -> list[dict[str, Any]]:
        """Runs without a schedule."""
        chosen = {"deployments": {"id": {"any_": [self.deployments()[deployment]["id"]]}}}
        return [run for run in self.ask("POST", "/flow_runs/filter", **chosen) if not run["auto_scheduled"]]


def stop(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):  # it has ended, and its children too
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def running_server(
    home: Path, database: str | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    server = Server(home, database, environment)
    try:
        wait_for(server.healthy, "Prefect server")
        yield server
    finally:
        stop(server.process)


@contextmanager
def running_worker(server: Server) -> Iterator[subprocess.Popen[bytes]]:
    worker = server.start("emeg.cli", "work", "--stop-s", "60")
    try:
        yield worker
    finally:
        stop(worker)
