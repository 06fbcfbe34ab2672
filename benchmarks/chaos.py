"""Kill, stop and cancel flow runs and their services while they train, and count what ends in the wrong state.

    python -m benchmarks.chaos --rounds 30

A service in a temporary folder (`emeg up`) trains a small tokenizer in each round; one process is killed, stopped or
cancelled meanwhile. Prints one line of JSON: ``stuck``, runs without a final state 120 s after the
fault; ``wrong_state``; ``repeated``, optimiser steps that a run took twice; ``lost``, checkpoints that a stop should
have left; ``false_alarms``, runs marked as dead although their process lived.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml
from benchmarks._tiny import NETWORK, make_store

FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
LIMIT_S = 120.0
"""Seconds after a fault in which a run must have its final state; healthy runs get as long again."""

EXPECTED = {
    "cancel": "CANCELLED",
    "term-engine": "CRASHED",
    "kill-engine": "CRASHED",
    "kill-worker-and-engine": "CRASHED",
    "kill-worker": "COMPLETED",
    "kill-rank": "FAILED",
    "kill-server": "COMPLETED",
    "stop-engine": "COMPLETED",
}
"""Fault -> state in which the run must end. ``stop-engine`` freezes the process for 45 s: it is slow, not dead."""


class Service:
    """What `emeg up` has started, and its server's API."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = int(listener.getsockname()[1])

    def emeg(self, *arguments: str) -> None:
        """Run a verb in the folder."""
        environment = {**os.environ, "PREFECT_WORKER_QUERY_SECONDS": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "emeg.cli", *arguments]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1):
            raise RuntimeError(f"emeg {arguments[0]}: {done.stderr}")

    def up(self) -> None:
        """Start the processes that are not running."""
        self.emeg("up", "--port", str(self.port), "--password", "false")

    def process(self, name: str) -> int:
        """Return the number of a process of the service."""
        noted = json.loads((self.folder / "emeg-service/processes.json").read_text())
        return int(noted[name]["process"])

    def ask(self, method: str, path: str, **body: Any) -> Any:  # noqa: ANN401 - any JSON
        """Ask the server; `None` while it does not answer."""
        try:
            answer = httpx.request(method, f"http://127.0.0.1:{self.port}/api{path}", json=body or None, timeout=20)
        except httpx.TransportError:
            return None
        return answer.json() if answer.is_success else None


class Round:
    """One training and one fault."""

    def __init__(self, service: Service, seed: int) -> None:
        self.service = service
        found = service.ask("GET", "/deployments/name/train-tokenizer/tiny")
        parameters = {"config": found["parameters"]["config"] | {"seed": seed}}
        state = {"type": "SCHEDULED", "name": "Scheduled"}
        path = f"/deployments/{found['id']}/create_flow_run"
        self.run = service.ask("POST", path, parameters=parameters, state=state)["id"]
        before = set((service.folder / "store/runs").glob("*"))
        self.engine = int(json.loads(self._note().read_text())["process"])
        self.work = wait(lambda: next(iter(set((service.folder / "store/runs").glob("*")) - before), None), 60)
        wait(lambda: self.steps() >= 5 or None, 90)

    def _note(self) -> Path:
        file = self.service.folder / f"emeg-service/prefect/emeg/processes/{self.run}.json"
        wait(lambda: file.exists() or None, 60)
        return file

    def steps(self) -> int:
        """Return the number of steps in the run's history."""
        return len(self.losses())

    def losses(self) -> list[str]:
        """Return the steps in the history, as often as they were taken."""
        file = self.work / "metrics.csv"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line.split(",")[0] for line in lines if ",train,loss," in line]

    def state(self) -> str | None:
        """Return the final state of the run; `None` while it has none."""
        found = self.service.ask("GET", f"/flow_runs/{self.run}")
        return found["state_type"] if found and found["state_type"] in FINAL else None

    def strike(self, fault: str) -> None:
        """Inject the fault."""
        if fault == "cancel":
            state = {"type": "CANCELLING", "name": "Cancelling"}
            self.service.ask("POST", f"/flow_runs/{self.run}/set_state", state=state)
        if fault in ("kill-worker", "kill-worker-and-engine"):
            os.kill(self.service.process("worker"), signal.SIGKILL)
        if fault in ("kill-engine", "kill-worker-and-engine"):
            os.kill(self.engine, signal.SIGKILL)
        if fault == "term-engine":
            os.kill(self.engine, signal.SIGTERM)
        if fault == "kill-rank":
            for child in psutil.Process(self.engine).children(recursive=True):
                if "emeg.training.launch.worker" in child.cmdline():
                    child.kill()
        if fault == "kill-server":
            os.kill(self.service.process("server"), signal.SIGKILL)
            time.sleep(3)
            self.service.up()
        if fault == "stop-engine":
            os.kill(self.engine, signal.SIGSTOP)
            time.sleep(45)
            os.kill(self.engine, signal.SIGCONT)


def wait(ask: Callable[[], Any], seconds: float) -> Any:  # noqa: ANN401 - what `ask` returns
    """Return the first answer that is not `None`."""
    end = time.monotonic() + seconds
    while (answer := ask()) is None:
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(0.5)
    return answer


def play(service: Service, fault: str, seed: int, counts: Counter[str]) -> None:
    """Run one round and count the failures."""
    service.up()
    one = Round(service, seed)
    one.strike(fault)
    seconds = 2 * LIMIT_S if EXPECTED[fault] == "COMPLETED" else LIMIT_S
    try:
        state = wait(one.state, seconds)
        if fault == "cancel" and state == "CRASHED":  # on its way to Cancelled
            state = wait(lambda: found if (found := one.state()) == "CANCELLED" else None, 30)
    except TimeoutError:
        state = "stuck"
        counts["stuck"] += 1
    counts["wrong_state"] += state not in (EXPECTED[fault], "stuck")
    counts["false_alarms"] += fault == "stop-engine" and state == "CRASHED"
    steps = one.losses()
    counts["repeated"] += len(steps) - len(set(steps))
    if fault in ("cancel", "term-engine"):
        counts["lost"] += not any((one.work / "checkpoints").glob("last-*.sha256"))
    sys.stderr.write(f"{fault}: {state}, {len(steps)} steps\n")


def main() -> None:
    """Run the rounds and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    counts: Counter[str] = Counter(dict.fromkeys(("stuck", "wrong_state", "repeated", "lost", "false_alarms"), 0))
    with tempfile.TemporaryDirectory(prefix="emeg-chaos-") as name:
        folder = Path(name)
        make_store(folder / "store", people=5, seconds=40.0)
        options = {
            "steps": arguments.steps,
            "ramp_steps": 10,
            "log_every": 1,
            "checkpoint_every": 1000,
            "device": "cpu",
        }
        options |= {"threads": 1, "validate_every": 1000, "overrides": NETWORK}
        options |= {"sampling": {"budget_channel_seconds": 40, "crop_s": 2.0, "micro_batches": 2}}
        trainings = {"tiny": {"verb": "train-tokenizer", "store": "main", "options": options}}
        settings = {"name": "chaos", "stores": {"main": "store"}, "trainings": trainings}
        (folder / "emeg.yaml").write_text(yaml.safe_dump(settings))
        (folder / "store/runs").mkdir(exist_ok=True)
        service = Service(folder)
        try:
            for number in range(arguments.rounds):
                play(service, list(EXPECTED)[number % len(EXPECTED)], number, counts)
        finally:
            service.emeg("down")
    sys.stdout.write(json.dumps({"rounds": arguments.rounds, **counts}) + "\n")


if __name__ == "__main__":
    main()
