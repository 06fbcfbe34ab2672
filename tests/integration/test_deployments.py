"""`emeg deploy` on a real Prefect server with a real database: plan, apply, change, remove; runs, chains and alerts."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import httpx
import pytest
import yaml
from benchmarks._tiny import NETWORK, add_recording
from tests.integration.postgres import find_binaries, running_postgres
from tests.integration.prefect_server import PYTHON, Server, free_port, running_server, running_worker, wait_for
from tests.integration.receivers import Mailbox, Slack, Webhook, mailbox, slack, webhook

from emeg.curation import TidyConfig
from emeg.flows.engine import publish
from emeg.flows.grow import grow_flow
from emeg.flows.missing_stores import was_found_before
from emeg.flows.tidy import tidy_flow
from emeg.store import Store, VerifyConfig, read_catalog, verify
from emeg.tokenizers.braintokenizer import BrainTokenizer, BrainTokenizerConfig

pytestmark = pytest.mark.slow


class Alerts(NamedTuple):
    """Receivers of the alerts of one installation."""

    hook: Webhook
    mail: Mailbox
    slack: Slack | None


@pytest.fixture(scope="module")
def alerts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alerts]:
    with webhook() as hook, mailbox() as mail, slack(tmp_path_factory.mktemp("slack")) as chat:
        yield Alerts(hook, mail, chat)


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
def server(tmp_path_factory: pytest.TempPathFactory, database: str | None, alerts: Alerts) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("prefect")
    environment = {"OPS_WEBHOOK": alerts.hook.url, "OPS_MAIL": alerts.mail.url, "OPS_SLACK": Slack.url}
    environment |= {"PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS": "1"}
    environment |= {"PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "1"}
    environment |= alerts.slack.environment if alerts.slack else {}
    environment |= SECRETS
    with running_server(home, database, environment) as server:
        write_settings(server)
        server.deploy(apply=True)
        yield server


@pytest.fixture(scope="module")
def worker(server: Server) -> Iterator[Server]:
    """The server with a worker, for the tests that run flows."""
    with running_worker(server):
        yield server


SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "planted-aws-rCz81qYpH2",
    "AWS_SESSION_TOKEN": "planted-session-4kQ0vXwTz9",
    "EMEG_PSEUDONYM_KEY": "planted-pseudonym-7mJ3sLdNe5",
    "WANDB_API_KEY": "planted-wandb-9tB6gRfUa1",
    "MLFLOW_TRACKING_PASSWORD": "planted-mlflow-2hV8cKiOo6",
}
"""Environment of server, worker and flows that must appear nowhere."""

SUNDAY = {"cron": "0 5 * * 0", "timezone": "Europe/Berlin"}


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
        "chains": {"shard_after": 5},
        "maintenance": {"verify": SUNDAY, "tidy": SUNDAY},
        "late_after_s": 10,
        "notifications": {
            "ops": {"url": "$OPS_WEBHOOK"},
            "mail": {"url": "$OPS_MAIL", "alerts": ["failed"]},
            "chat": {"url": "$OPS_SLACK", "alerts": ["failed"]},
        },
    }
    (server.home / "emeg.yaml").write_text(yaml.safe_dump(settings | changes))


def test_everything_of_the_file_is_deployed_once(server: Server):
    deployments = server.deployments()
    verbs = {"shard", "tokenize", "train-tokenizer", "pretrain", "finetune", "evaluate", "generate"}
    verbs |= {"grow", "verify", "tidy"}
    assert set(deployments) == {"ingest/raw", "pretrain/nano", *(f"{verb}/main" for verb in verbs)}
    (schedule,) = deployments["ingest/raw"]["schedules"]
    assert schedule["schedule"]["cron"] == "15 2 * * *"
    assert schedule["schedule"]["timezone"] == "Europe/Berlin"
    assert deployments["ingest/raw"]["global_concurrency_limit"]["limit"] == 1
    assert deployments["pretrain/nano"]["parameters"] == {
        "config": {"root": str(server.home / "store"), "recipe": "brainomni-nano"}
    }
    assert "no changes" in server.deploy(apply=True)


def test_the_plan_names_each_change_and_changes_nothing(server: Server):
    before = server.deployments()
    write_settings(
        server,
        archives={"raw": {"archive": "archive", "store": "main"}},
        trainings={"large": {"verb": "pretrain", "store": "main"}},
    )
    plan = server.deploy().splitlines()
    assert "+ deployment pretrain/large" in plan
    assert "- deployment pretrain/nano" in plan
    assert any(line.startswith("~ deployment ingest/raw: schedules") for line in plan)
    assert server.deployments() == before
    server.deploy(apply=True)
    assert {"pretrain/large"} == set(server.deployments()) - set(before)
    assert server.deployments()["ingest/raw"]["schedules"] == []
    write_settings(server)
    server.deploy(apply=True)
    assert set(server.deployments()) == set(before)


def test_a_change_by_hand_is_found_and_taken_back(server: Server):
    found = server.deployments()["shard/main"]
    server.ask(
        "PATCH", f"/deployments/{found['id']}", parameters={"config": found["parameters"]["config"] | {"seed": 7}}
    )
    assert "~ deployment shard/main: parameters" in server.deploy(apply=True)
    assert server.deployments()["shard/main"]["parameters"] == found["parameters"]


def test_the_secret_of_a_notification_is_shown_nowhere(server: Server, alerts: Alerts):
    receiver = alerts.hook.url
    assert receiver not in server.deploy()
    write_settings(server, notifications={"ops": {"url": "$OPS_WEBHOOK/other"}})
    assert receiver not in server.deploy()
    write_settings(server)
    rows = server.ask("POST", "/block_documents/filter", include_secrets=False)
    assert receiver not in json.dumps(rows)


def test_a_wrong_file_is_one_line_that_names_the_field(server: Server):
    write_settings(server, name="Not a name")
    command = [PYTHON, "-m", "emeg.cli", "deploy"]
    done = subprocess.run(command, cwd=server.home, env=server.environment, capture_output=True, text=True, check=False)
    write_settings(server)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "name" in done.stderr


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
    with server.in_this_process():
        publish("model", root, "first-model", role="encoder", network="brainomni")
        publish("model", root, "tokenizer", role="tokenizer", network="braintokenizer")
        publish("model", "/elsewhere", "foreign", role="encoder", network="brainomni")
        publish("model", root, "second-model", role="encoder", network="causal")
    runs = wait_for(lambda: found if len(found := server.runs_of("evaluate/main")) >= 2 else None, "two runs")
    assert {run["parameters"]["config"]["model"] for run in runs} == {"first-model", "second-model"}
    assert all(run["parameters"]["config"]["root"] == root for run in runs)
    assert all(run["parameters"]["finetune"]["model"] == run["parameters"]["config"]["model"] for run in runs)
    for run in runs:
        server.ask("DELETE", f"/flow_runs/{run['id']}")


def test_a_run_that_nobody_starts_is_reported_as_late(server: Server, alerts: Alerts):
    run = server.run("verify/main")  # no worker is there yet
    message = wait_for(lambda: alerts.hook.subject("Late: verify/"), "a message")
    assert run in message["body"]
    server.ask("DELETE", f"/flow_runs/{run}")


def test_a_disk_that_is_nearly_full_is_reported(server: Server, alerts: Alerts):
    server.emeg("watch", "--rounds", "1", "--disk", "store", "--disk-free-gib", "1e9")
    message = wait_for(lambda: alerts.hook.subject("Disk nearly full"), "a message")
    assert str(server.home) in message["body"] or "store" in message["body"]
    assert "GiB are free" in message["body"]


def test_ingest_runs_through_a_worker_and_tells_of_refused_recordings(worker: Server, alerts: Alerts, shared: Path):
    archive = worker.home / "archive"
    shutil.copytree(shared / "data" / "oddball", archive)
    for number in range(3):
        broken = archive / f"sub-9{number}/eeg/sub-9{number}_task-p300_eeg.edf"
        broken.parent.mkdir(parents=True)
        broken.write_bytes(b"0       no recording" * 40)
    root = str(worker.home / "store")
    for number in range(3):  # of another dataset: two subjects would be too few for a corpus
        add_recording(Store.open(root, create=True), f"{number:02d}", 6, 40.0)
    run = worker.run("ingest/raw")
    assert wait_for(lambda: worker.ended(run), "the run of ingest") == "COMPLETED"
    assert len([row for row in read_catalog(Store.open(root)) if row.dataset != "d"]) == 8
    chosen = {"flow_run_id": {"any_": [run]}}
    wait_for(
        lambda: {"emeg.flows.ingest", "emeg.ingest.archive"} <= {row["name"] for row in worker.logs(run)} or None,
        "emeg's lines in the run's log",
    )
    artifacts = worker.ask("POST", "/artifacts/filter", artifacts=chosen)
    assert {"markdown", "table", "progress"} <= {row["type"] for row in artifacts}
    (counts,) = [json.loads(row["data"]) for row in artifacts if row["key"] == "ingest-quality"]
    assert {row["what"]: row["recordings"] for row in counts}["ready"] == 8
    message = wait_for(lambda: alerts.hook.subject("Many refused recordings"), "a message")
    assert "3 of 11 recordings" in message["body"]
    assert root in message["body"]


def test_enough_new_recordings_become_a_corpus_and_its_tokens(worker: Server):
    """The ingest above has started `grow`."""
    store = Store.open(worker.home / "store")

    def ended() -> list[str] | None:
        return [state for run in worker.runs_of("grow/main") if (state := worker.ended(run["id"]))] or None

    assert wait_for(ended, "the run of grow") == ["COMPLETED"]
    (corpus,) = store.names("corpora")
    assert store.names("tokens") == []  # there is no tokenizer yet
    with store.publishing("models", "tokenizer") as folder:
        BrainTokenizer(BrainTokenizerConfig(**NETWORK)).save_pretrained(folder, provenance={})
    store.remove("corpora", corpus)
    with worker.in_this_process():
        assert grow_flow(root=str(store.root), threshold=1) == corpus
    assert store.names("corpora") == [corpus]
    (tokens,) = store.names("tokens")
    assert store.read_json("tokens", tokens, "manifest.json")["corpus"] == corpus
    assert grow_flow.fn(root=str(store.root), threshold=1) is None  # every recording is in a corpus
    assert store.names("corpora") == [corpus]


def test_a_damaged_store_fails_the_check_and_is_told_by_all_three_ways(worker: Server, alerts: Alerts):
    root = worker.home / "store"
    assert not verify(VerifyConfig(root=str(root))).faults
    damaged = max((root / "recordings").rglob("c/*/*"), key=lambda file: file.stat().st_size)
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 0xFF
    damaged.write_bytes(bytes(data))
    run = worker.run("verify/main")
    assert wait_for(lambda: worker.ended(run), "the run of verify") == "FAILED"
    message = wait_for(lambda: alerts.hook.subject("Failed: verify/"), "a message")
    assert str(root) in message["body"]
    mail = wait_for(lambda: alerts.mail.mails[0] if alerts.mail.mails else None, "a mail")
    assert "Subject: Failed: verify/" in mail
    assert "To: ops@example.org" in mail
    if alerts.slack is None:
        pytest.skip("no openssl for a certificate: Slack was not tried")
    path, posted = wait_for(lambda: alerts.slack.messages[0] if alerts.slack.messages else None, "Slack")
    assert f"https://{path}" == Slack.url
    assert posted["attachments"][0]["title"].startswith("Failed: verify/")
    assert str(root) in posted["attachments"][0]["text"]


def test_the_plan_of_tidying_is_an_artifact_before_anything_goes(worker: Server):
    root = str(worker.home / "store")
    with worker.in_this_process():
        tidy_flow(TidyConfig(root=root))
    keys = {row["key"] for row in worker.ask("POST", "/artifacts/filter", limit=100)}
    assert {"tidy-plan-result", "tidy-result"} <= keys


def test_the_server_knows_which_stores_a_deployment_has_found(worker: Server):
    root = str(worker.home / "store")
    ingest = UUID(worker.deployments()["ingest/raw"]["id"])
    with worker.in_this_process():
        assert was_found_before(ingest, root)
        assert not was_found_before(ingest, f"{root}-2")
        assert not was_found_before(UUID(worker.deployments()["shard/main"]["id"]), root)


def test_no_secret_is_in_logs_artifacts_runs_or_the_store(worker: Server, alerts: Alerts):
    """All flows above ran with these secrets, successfully and not."""
    secrets = [*SECRETS.values(), alerts.hook.url.rpartition("/")[2], *Slack.url.split("/")[-3:]]
    files = [path for path in worker.home.rglob("*") if path.is_file() and not path.name.startswith("prefect.db")]
    assert {"work.log", "zarr.json", "log.jsonl"} <= {path.name for path in files}
    found = {path for path in files for secret in secrets if secret.encode() in path.read_bytes()}
    assert not found
    for route in ("/artifacts/filter", "/logs/filter", "/flow_runs/filter", "/deployments/filter", "/events/filter"):
        rows = worker.ask("POST", route, limit=200) if route != "/events/filter" else worker.ask("POST", route)
        text = json.dumps(rows)
        assert len(text) > 100, route
        assert not [secret for secret in secrets if secret in text], route
