"""Training flows that are cancelled, told to stop or killed: the right state at once, nothing trained again."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator

import psutil
import pytest
import yaml
from benchmarks._tiny import NETWORK, make_store
from tests.integration.prefect_server import LIMIT_S, PYTHON, Server, running_server, running_worker, stop, wait_for
from tests.integration.receivers import Webhook, webhook

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def hook() -> Iterator[Webhook]:
    with webhook() as hook:
        yield hook


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, hook: Webhook) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("stopping")
    make_store(home / "store", people=5, seconds=40.0)
    options = {"steps": 4000, "ramp_steps": 10, "log_every": 1, "checkpoint_every": 1000, "validate_every": 1000}
    options |= {"device": "cpu", "threads": 1, "overrides": NETWORK}
    options |= {"sampling": {"budget_channel_seconds": 40, "crop_s": 2.0, "micro_batches": 2}}
    plan = {"verb": "train-tokenizer", "store": "main", "options": options}
    settings = {"name": "lab", "stores": {"main": "store"}, "trainings": {"long": plan}}
    settings["notifications"] = {"ops": {"url": "$OPS_WEBHOOK", "alerts": ["crashed"]}}
    (home / "emeg.yaml").write_text(yaml.safe_dump(settings))
    with running_server(home, environment={"OPS_WEBHOOK": hook.url}) as server:
        server.deploy(apply=True)
        yield server


def training_run(server: Server) -> tuple[str, int]:
    """A run that has trained some steps; its id and its process."""
    before = steps(server)
    run = server.run("train-tokenizer/long")
    note = server.home / "emeg" / "processes" / f"{run}.json"
    wait_for(lambda: note.exists() or None, "the process of the run")
    wait_for(lambda: steps(server) > before + 5 or None, "some steps")
    return run, int(json.loads(note.read_text())["process"])


def steps(server: Server) -> int:
    return sum(path.read_text().count(",loss,") for path in (server.home / "store/runs").glob("*/metrics.csv"))


def checkpoints(server: Server) -> set[int]:
    """Steps of which the training `long` has a complete checkpoint."""
    names = (path.name for path in (server.home / "store/runs").glob("*/checkpoints/last-*.ckpt.sha256"))
    return {int(name.removeprefix("last-").partition(".")[0]) for name in names}


def check_stop(server: Server, before: set[int]) -> None:
    """Check that the training ended with a checkpoint of its last step, trained no step twice, and is not retried."""
    (history,) = (server.home / "store/runs").glob("*/metrics.csv")
    trained = [int(line.split(",")[0]) for line in history.read_text().splitlines() if ",train,loss," in line]
    assert checkpoints(server) - before
    assert max(checkpoints(server)) == max(trained)
    assert len(trained) == len(set(trained))
    assert not re.search(r"Retry \d+/\d+ will start", (server.home / "work.log").read_text())
    assert trainings(server) == []


def trainings(server: Server) -> list[int]:
    """Processes of this server's trainings; other tests may train at the same time."""
    found = psutil.process_iter(["pid", "cmdline", "environ"])
    return [
        process.info["pid"]
        for process in found
        if "emeg.training.launch.worker" in (process.info["cmdline"] or [])
        and (process.info["environ"] or {}).get("PREFECT_HOME") == str(server.home)
    ]


@pytest.fixture(scope="class")
def worker(server: Server) -> Iterator[None]:
    with running_worker(server):
        yield


@pytest.mark.usefixtures("worker")
class TestOneWorker:
    """Runs that are stopped while their worker lives."""

    def test_a_cancelled_training_leaves_a_checkpoint_and_is_not_started_again(self, server: Server):
        run, _ = training_run(server)
        before = checkpoints(server)
        state = {"type": "CANCELLING", "name": "Cancelling"}
        server.ask("POST", f"/flow_runs/{run}/set_state", state=state)
        wait_for(lambda: server.state(run)["type"] == "CANCELLED" or None, "Cancelled")
        check_stop(server, before)

    def test_sigterm_ends_a_training_run_as_crashed_at_once(self, server: Server):
        run, process = training_run(server)
        before = checkpoints(server)
        os.kill(process, signal.SIGTERM)
        assert wait_for(lambda: server.ended(run), "an end") == "CRASHED"
        check_stop(server, before)


def test_the_end_of_a_container_leaves_a_checkpoint(server: Server):
    """A container runtime sends SIGTERM to the entry process, a terminal to its group; both then wait for it."""
    worker = server.start("emeg.cli", "work", "--stop-s", "60")
    try:
        run, _ = training_run(server)
        before = checkpoints(server)
        os.killpg(worker.pid, signal.SIGTERM)
        assert worker.wait(LIMIT_S) == 0
    finally:
        stop(worker)
    assert server.ended(run) == "CRASHED"
    check_stop(server, before)


def test_a_dead_run_is_marked_and_told_and_a_stopped_process_is_not(server: Server, hook: Webhook):
    """Worker and run die together; another run hangs meanwhile (SIGSTOP) and must not be taken for dead."""
    with running_worker(server) as worker:
        run, process = training_run(server)
        hanging = server.ask("POST", "/flow_runs/", flow_id=server.deployments()["shard/main"]["flow_id"])["id"]
        server.ask("POST", f"/flow_runs/{hanging}/set_state", state={"type": "RUNNING", "name": "Running"}, force=True)
        code = "import time\nfrom pathlib import Path\nfrom emeg.flows.processes import register\n"
        code += f"register(Path({str(server.home)!r}), {hanging!r}, {server.url!r})\ntime.sleep(300)\n"
        child = subprocess.Popen([PYTHON, "-c", code], env=server.environment)
        try:
            note = server.home / "emeg" / "processes" / f"{hanging}.json"
            wait_for(lambda: note.exists() or None, "its note")
            child.send_signal(signal.SIGSTOP)
            os.kill(worker.pid, signal.SIGKILL)
            os.kill(process, signal.SIGKILL)
            died = time.monotonic()
            watcher = server.start("emeg.cli", "watch", "--every-s", "2", "--grace-s", "10")
            try:
                assert wait_for(lambda: server.ended(run), "a mark") == "CRASHED"
                assert time.monotonic() - died < 120
                assert f"process {process}" in server.state(run)["message"]
                dead = f"process {process} on"
                wait_for(lambda: any(dead in one["body"] for one in hook.messages) or None, "a message")
                assert server.state(hanging)["type"] == "RUNNING"
            finally:
                stop(watcher)
        finally:
            child.kill()
            child.wait()
    wait_for(lambda: trainings(server) == [] or None, "the end of the orphaned rank")


def test_a_run_goes_on_when_its_worker_is_killed(server: Server):
    """Nobody reads its output any more; the next log line must not end it."""
    config = server.deployments()["train-tokenizer/long"]["parameters"]["config"] | {"steps": 60, "seed": 7}
    with running_worker(server) as worker:
        run = server.run("train-tokenizer/long", config=config)
        before = steps(server)
        wait_for(lambda: steps(server) > before or None, "the first steps")
        os.kill(worker.pid, signal.SIGKILL)
        assert wait_for(lambda: server.ended(run), "an end") == "COMPLETED"
    assert len(list((server.home / "store/models").iterdir())) == 1
