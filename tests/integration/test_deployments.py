"""`emeg deploy` on a real Prefect server with a real database: plan, apply, change, remove; runs, chains and alerts."""

import json
import shutil
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
import yaml
from tests.integration.postgres import find_binaries, running_postgres
from tests.integration.prefect_server import PYTHON, Server, free_port, running_server, running_worker, wait_for

from emeg.store import Store, read_catalog

pytestmark = pytest.mark.slow


class Receiver(BaseHTTPRequestHandler):
    """Keeps the messages that come in."""

    messages: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        self.messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Mailbox(socketserver.StreamRequestHandler):
    """A mail server that keeps what comes in."""

    mails: ClassVar[list[str]] = []

    def handle(self) -> None:
        self.reply("220 ready")
        lines: list[str] | None = None
        for raw in self.rfile:
            line = raw.decode().rstrip("\r\n")
            if lines is not None and line != ".":
                lines.append(line)
            elif lines is not None:
                self.mails.append("\n".join(lines))
                lines = None
                self.reply("250 kept")
            elif line.upper() == "DATA":
                lines = []
                self.reply("354 go on")
            elif line.upper() == "QUIT":
                self.reply("221 bye")
                return
            else:
                self.reply("250 ok")

    def reply(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@pytest.fixture(scope="module")
def mail() -> Iterator[str]:
    """Address of the mail server, as `notifications` takes it."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mailbox) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"mailto://127.0.0.1:{server.server_address[1]}?from=emeg@example.org&to=ops@example.org&mode=insecure"
        server.shutdown()


@pytest.fixture(scope="module")
def receiver() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/hook"
        server.shutdown()


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
def server(
    tmp_path_factory: pytest.TempPathFactory, database: str | None, receiver: str, mail: str
) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("prefect")
    with running_server(home, database) as server:
        server.environment["OPS_WEBHOOK"] = receiver
        server.environment["OPS_MAIL"] = mail
        write_settings(server)
        server.emeg("deploy", "--apply")
        yield server


def write_settings(server: Server, **changes: Any) -> None:
    settings = {
        "name": "lab",
        "stores": {"main": "store"},
        "archives": {
            "raw": {
                "archive": "archive",
                "store": "main",
                "schedule": {"cron": "15 2 * * *", "timezone": "Europe/Berlin"},
            }
        },
        "trainings": {"nano": {"verb": "pretrain", "store": "main", "options": {"recipe": "brainomni-nano"}}},
        "notifications": {
            "ops": {"url": "$OPS_WEBHOOK", "alerts": ["failed"]},
            "mail": {"url": "$OPS_MAIL", "alerts": ["failed"]},
        },
    }
    (server.home / "emeg.yaml").write_text(yaml.safe_dump(settings | changes))


def test_everything_of_the_file_is_deployed_once(server: Server):
    deployments = server.deployments()
    verbs = {"shard", "tokenize", "train-tokenizer", "pretrain", "finetune", "evaluate"}
    assert set(deployments) == {"ingest/raw", "pretrain/nano", *(f"{verb}/main" for verb in verbs)}
    (schedule,) = deployments["ingest/raw"]["schedules"]
    assert schedule["schedule"]["cron"] == "15 2 * * *"
    assert schedule["schedule"]["timezone"] == "Europe/Berlin"
    assert deployments["ingest/raw"]["global_concurrency_limit"]["limit"] == 1
    assert deployments["pretrain/nano"]["parameters"] == {
        "config": {"root": str(server.home / "store"), "recipe": "brainomni-nano"}
    }
    assert "no changes" in server.emeg("deploy", "--apply")


def test_the_plan_names_each_change_and_changes_nothing(server: Server):
    before = server.deployments()
    write_settings(
        server,
        archives={"raw": {"archive": "archive", "store": "main"}},
        trainings={"large": {"verb": "pretrain", "store": "main"}},
    )
    plan = server.emeg("deploy").splitlines()
    assert "+ deployment pretrain/large" in plan
    assert "- deployment pretrain/nano" in plan
    assert any(line.startswith("~ deployment ingest/raw: schedules") for line in plan)
    assert server.deployments() == before
    server.emeg("deploy", "--apply")
    assert {"pretrain/large"} == set(server.deployments()) - set(before)
    assert server.deployments()["ingest/raw"]["schedules"] == []
    write_settings(server)
    server.emeg("deploy", "--apply")
    assert set(server.deployments()) == set(before)


def test_a_change_by_hand_is_found_and_taken_back(server: Server):
    found = server.deployments()["shard/main"]
    server.ask(
        "PATCH", f"/deployments/{found['id']}", parameters={"config": found["parameters"]["config"] | {"seed": 7}}
    )
    assert "~ deployment shard/main: parameters" in server.emeg("deploy", "--apply")
    assert server.deployments()["shard/main"]["parameters"] == found["parameters"]


def test_the_secret_of_a_notification_is_shown_nowhere(server: Server, receiver: str):
    assert receiver not in server.emeg("deploy")
    write_settings(server, notifications={"ops": {"url": "$OPS_WEBHOOK/other"}})
    assert receiver not in server.emeg("deploy")
    write_settings(server)
    rows = server.ask("POST", "/block_documents/filter", include_secrets=False)
    assert receiver not in json.dumps(rows)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stores": {"other": "x"}}, ("archives.raw.store", "other")),
        ({"name": "Not a name"}, ("name",)),
        (
            {"maintenance": {"verify": {"cron": "0 5 * * 0", "timezone": "Mars"}}},
            ("maintenance.verify", "Europe/Berlin"),
        ),
        ({"maintenance": {"verify": {"cron": "late"}}}, ("maintenance.verify.cron",)),
        ({"storse": {}}, ("storse",)),
        (
            {"trainings": {"x": {"verb": "pretrain", "store": "main", "options": {"stepz": 3}}}},
            ("trainings.x", "stepz"),
        ),
    ],
)
def test_a_wrong_file_is_one_line_that_names_the_field(server: Server, changes: dict[str, Any], words: tuple[str, ...]):
    write_settings(server, **changes)
    command = [PYTHON, "-m", "emeg.cli", "deploy"]
    done = subprocess.run(command, cwd=server.home, env=server.environment, capture_output=True, text=True, check=False)
    write_settings(server)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert all(word in done.stderr for word in words)


def test_a_wrong_parameter_is_refused_before_there_is_a_run(server: Server):
    found = server.deployments()["pretrain/nano"]
    answer = httpx.post(
        f"{server.url}/deployments/{found['id']}/create_flow_run",
        json={"parameters": {"config": found["parameters"]["config"] | {"steps": "many"}}},
        timeout=30,
    )
    assert answer.status_code in (409, 422)
    assert "steps" in answer.text or "many" in answer.text


def test_each_new_model_starts_an_evaluation_of_itself(server: Server):
    """As two pretrainings one after another would: both events, one run each, with the model by name."""
    root = str(server.home / "store")
    for model in ("first-model", "second-model"):
        server.python(
            "from emeg.flows.engine import publish\n"
            "from prefect.events.worker import EventsWorker\n"
            f"publish('model', {root!r}, {model!r}, network='brainomni')\n"
            f"publish('model', {root!r}, 'tokenizer', network='braintokenizer')\n"
            f"publish('model', '/elsewhere', 'foreign', network='brainomni')\n"
            "EventsWorker.instance().drain()\n"
        )
    runs = wait_for(lambda: found if len(found := server.runs_of("evaluate/main")) >= 2 else None, 60, "two runs")
    assert {run["parameters"]["config"]["model"] for run in runs} == {"first-model", "second-model"}
    assert all(run["parameters"]["config"]["root"] == root for run in runs)
    assert all(run["parameters"]["finetune"]["model"] == run["parameters"]["config"]["model"] for run in runs)
    for run in runs:
        server.ask("DELETE", f"/flow_runs/{run['id']}")


def test_ingest_runs_through_a_worker_and_a_failure_is_told(server: Server, shared: Path):
    shutil.copytree(shared / "data" / "oddball", server.home / "archive")
    root = str(server.home / "store")
    with running_worker(server):
        run = server.run("ingest/raw")
        failing = server.run("tokenize/main")  # there is no corpus
        state = wait_for(lambda: server.ended(run), 150, "the run of ingest")
        assert wait_for(lambda: server.ended(failing), 60, "the run of tokenize") == "FAILED"
    assert state == "COMPLETED"
    assert len(read_catalog(Store.open(root))) == 8
    artifacts = server.ask("POST", "/artifacts/filter", limit=50)
    assert {"markdown", "table", "progress"} <= {row["type"] for row in artifacts}
    (counts,) = [json.loads(row["data"]) for row in artifacts if row["key"] == "ingest-quality"]
    assert {row["what"]: row["recordings"] for row in counts}["ready"] == 8
    (message,) = wait_for(lambda: Receiver.messages or None, 60, "a message")
    assert message["subject"].startswith("Failed: tokenize/")
    assert root in message["body"]
    (mail,) = wait_for(lambda: Mailbox.mails or None, 60, "a mail")
    assert "Subject: Failed: tokenize/" in mail
    assert "To: ops@example.org" in mail
