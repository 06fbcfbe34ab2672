"""The deployments of ``infra/prefect.yaml`` on a real Prefect server with a real database, ingest through a worker."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.integration.postgres import find_binaries, running_postgres

from emeg.store import Store, read_catalog

ROOT = Path(__file__).parents[2]
PREFECT = str(Path(sys.executable).with_name("prefect"))
VERBS = {"ingest", "shard", "train-tokenizer", "tokenize", "pretrain", "finetune", "evaluate", "pipeline"}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(ask: Callable[[], Any], seconds: float, what: str) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = ask()
        if answer is not None:
            return answer
        time.sleep(0.5)
    raise AssertionError(f"{what}: not within {seconds} s")


class Server:
    """A Prefect server of its own, its command line and its API."""

    def __init__(self, home: Path, database: str | None) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/api"
        self.environment = os.environ | {
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
        }
        if database is not None:
            self.environment["PREFECT_API_DATABASE_CONNECTION_URL"] = database
        self.process = self.start("server", "start", "--host", "127.0.0.1", "--port", str(port))

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with (Path(self.environment["PREFECT_HOME"]) / f"{arguments[0]}.log").open("ab") as log:
            return subprocess.Popen(
                [PREFECT, *arguments], cwd=ROOT, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [PREFECT, "--no-prompt", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ask(self, method: str, path: str, **json: Any) -> Any:
        """The answer; asked again while SQLite is locked by another request, which the server says with 503."""
        end = time.monotonic() + 60
        while True:
            answer = httpx.request(method, self.url + path, json=json or None, timeout=60)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > end:
                answer.raise_for_status()
                return answer.json()
            time.sleep(1)

    def healthy(self) -> bool | None:
        try:
            return True if httpx.get(f"{self.url}/health", timeout=5).is_success else None
        except httpx.TransportError:
            return None


def stop(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def database() -> Iterator[str | None]:
    """A PostgreSQL, as a lab's server has it; None, so Prefect's own SQLite, where the machine has no PostgreSQL."""
    binaries = find_binaries()
    if binaries is None:
        yield None
        return
    with running_postgres(binaries, free_port()) as url:
        yield url


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, database: str | None) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("prefect"), database)
    try:
        wait_for(server.healthy, 90, "Prefect server")
        server.run("work-pool", "create", "emeg", "--type", "process")
        server.run("deploy", "--all", "--prefect-file", "infra/prefect.yaml")
        yield server
    finally:
        stop(server.process)


@pytest.mark.slow
def test_every_verb_is_deployed_with_its_schedule_and_trigger(server: Server):
    deployments = {row["name"]: row for row in server.ask("POST", "/deployments/filter", limit=50)}
    assert set(deployments) == VERBS
    schedules = [entry["schedule"]["cron"] for entry in deployments["ingest"]["schedules"]]
    assert schedules == ["15 2 * * *"]
    (automation,) = server.ask("POST", "/automations/filter", limit=50)
    assert automation["trigger"]["expect"] == ["prefect.flow-run.Completed"]
    assert automation["actions"][0]["deployment_id"] == deployments["evaluate"]["id"]


@pytest.mark.slow
def test_ingest_runs_through_a_worker(server: Server, shared: Path, tmp_path: Path):
    deployment = next(d for d in server.ask("POST", "/deployments/filter", limit=50) if d["name"] == "ingest")
    store = tmp_path / "store"
    run = server.ask(
        "POST",
        f"/deployments/{deployment['id']}/create_flow_run",
        parameters={"config": {"archive": str(shared / "data" / "oddball"), "root": str(store), "workers": 2}},
        state={"type": "SCHEDULED", "name": "Scheduled"},
    )
    worker = server.start("worker", "start", "--pool", "emeg")
    try:
        state = wait_for(lambda: ended(server, run["id"]), 150, "the run of ingest")
    finally:
        stop(worker)
    assert state == "COMPLETED"
    assert len(read_catalog(Store.open(store))) == 8
    artifacts = server.ask("POST", "/artifacts/filter", limit=50)
    kinds = {row["type"] for row in artifacts}
    assert {"markdown", "table", "progress"} <= kinds
    (counts,) = [json.loads(row["data"]) for row in artifacts if row["key"] == "ingest-quality"]
    assert {row["what"]: row["recordings"] for row in counts}["ready"] == 8


def ended(server: Server, run: str) -> str | None:
    state: str = server.ask("GET", f"/flow_runs/{run}")["state_type"]
    return state if state in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"} else None


@pytest.mark.slow
def test_a_completed_pretraining_run_starts_evaluate(server: Server):
    """The event that a finished run sends is what the trigger waits for; the run itself needs no training here."""
    (flow,) = [f for f in server.ask("POST", "/flows/filter", limit=50) if f["name"] == "pretrain"]
    deployments = {row["name"]: row for row in server.ask("POST", "/deployments/filter", limit=50)}
    run = server.ask("POST", "/flow_runs/", flow_id=flow["id"], state={"type": "RUNNING", "name": "Running"})
    server.ask("POST", f"/flow_runs/{run['id']}/set_state", state={"type": "COMPLETED", "name": "Completed"})
    evaluate = deployments["evaluate"]["id"]
    wait_for(lambda: started_runs(server, evaluate) or None, 60, "a run of evaluate")


def started_runs(server: Server, deployment: str) -> list[Any]:
    chosen = {"deployments": {"id": {"any_": [deployment]}}}
    runs: list[Any] = server.ask("POST", "/flow_runs/filter", **chosen)
    return [run for run in runs if not run["auto_scheduled"]]
