"""Kill, stop and cancel flow runs and their services while they train, and count what ends in the wrong state.

    python -m benchmarks.chaos --record rounds.jsonl             # 30 rounds, two of each kind of fault
    python -m benchmarks.chaos --record rounds.jsonl --healthy --rounds 10
    python -m benchmarks.chaos --record rounds.jsonl --report    # counts of the rounds recorded so far

A service in a temporary folder (`emeg up`) trains a small tokenizer in each round. In the middle of it one process is
killed, stopped or cancelled; with ``--healthy`` one is suspended for a while, which must not count as death. Rounds of
Slurm jobs need a Slurm on the machine and are skipped without one.

Prints one line of JSON: ``stuck``, runs without a final state 120 s after the fault (240 s where the training must
still finish), and slots of concurrency limits that are still held after the last round; ``wrong_state``; ``repeated``,
optimiser steps taken again although a graceful stop had completed them, and jobs submitted twice; ``lost``,
checkpoints or models that should exist and do not; ``false_alarms``, runs marked as dead although their process
lived. One line for each round goes to standard error and to the file of ``--record``, where each round is written as
soon as it has ended. A round that this file holds is not played again, so that a measurement can be cut off and
continued; ``--again KIND`` drops the rounds of a kind from the file first, for instance after its cause was mended.
"""

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil
import yaml
from benchmarks import _slurm
from benchmarks._tiny import NETWORK, make_store

from emeg.flows.engine import SLOT_LEASE_S

FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
COUNTS = ("stuck", "wrong_state", "repeated", "lost", "false_alarms")
LIMIT_S = 120.0
"""Seconds after a fault within which a run must have its final state; twice as many if the training continues."""
START_S = 300.0
"""Seconds that a training has to reach its first checkpoint, before the fault; long, for a busy machine."""
SUSPENDED_S = 45.0
"""Seconds for which a healthy process is suspended."""
CHECKPOINT_EVERY = 20


class Fault(NamedTuple):
    """What happens to a training, and how its run must end."""

    state: str
    """State in which the flow run must end."""
    is_graceful: bool = False
    """Whether the ranks can write a checkpoint before they end."""
    continues: bool = False
    """Whether the same deployment is run once more and must then complete the model."""
    is_job: bool = False
    """Whether the training is a Slurm job."""


FAULTS = {
    "cancel": Fault("CANCELLED", is_graceful=True),
    "kill-job": Fault("COMPLETED", is_job=True),
    "kill-engine": Fault("CRASHED", continues=True),
    "term-server": Fault("COMPLETED"),
    "kill-worker-and-engine": Fault("CRASHED"),
    "term-engine": Fault("CRASHED", is_graceful=True, continues=True),
    "cancel-job": Fault("CANCELLED", is_graceful=True, is_job=True),
    "kill-rank": Fault("COMPLETED"),
    "kill-server": Fault("COMPLETED"),
    "term-worker": Fault("CRASHED", is_graceful=True),  # the worker stops its runs
    "term-job": Fault("COMPLETED", is_graceful=True, is_job=True),
    "term-rank": Fault("CRASHED", is_graceful=True),
    "kill-worker": Fault("COMPLETED"),
    "kill-engine-of-job": Fault("CRASHED", continues=True, is_job=True),
    "kill-server-of-job": Fault("COMPLETED", is_job=True),
}
"""Faults in the order in which rounds take them."""

HEALTHY = {
    "suspend-engine": Fault("COMPLETED"),
    "suspend-server": Fault("COMPLETED"),
    "suspend-rank": Fault("COMPLETED"),
}
"""Interruptions that a run must survive without being marked as dead."""


class Service:
    """What `emeg up` has started, and its server's API."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.environment = environment | {"PREFECT_WORKER_QUERY_SECONDS": "1", "OMP_NUM_THREADS": "1"}
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = int(listener.getsockname()[1])

    def emeg(self, *arguments: str) -> None:
        """Run a verb in the folder."""
        command = [sys.executable, "-m", "emeg.cli", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode not in (0, 1):
            raise RuntimeError(f"emeg {arguments[0]}: {done.stderr}")

    def up(self) -> None:
        """Start the processes that are not running."""
        self.emeg("up", "--port", str(self.port), "--password", "false")

    def process(self, name: str) -> psutil.Process:
        """Return a process of the service."""
        noted = json.loads((self.folder / "emeg-service/processes.json").read_text())
        return psutil.Process(noted[name]["process"])

    def ask(self, method: str, path: str, **body: Any) -> Any:  # noqa: ANN401 - any JSON
        """Ask the server; `None` while it does not answer."""
        try:
            answer = httpx.request(method, f"http://127.0.0.1:{self.port}/api{path}", json=body or None, timeout=20)
        except httpx.TransportError:
            return None
        return answer.json() if answer.is_success else None

    def start(self, deployment: str, seed: int) -> str:
        """Start a run of a deployment and return its id."""
        found = wait(lambda: self.ask("GET", f"/deployments/name/train-tokenizer/{deployment}"), LIMIT_S)
        parameters = {"config": found["parameters"]["config"] | {"seed": seed}}
        body = {"parameters": parameters, "state": {"type": "SCHEDULED", "name": "Scheduled"}}
        return str(wait(lambda: self.ask("POST", f"/deployments/{found['id']}/create_flow_run", **body), LIMIT_S)["id"])

    def state(self, run: str) -> str | None:
        """Return the final state of a run; `None` while it has none."""
        found = self.ask("GET", f"/flow_runs/{run}")
        return found["state_type"] if found and found["state_type"] in FINAL else None

    def held_slots(self) -> int:
        """Return the slots of concurrency limits that are held, after the leases of killed runs must have ended."""
        end = time.monotonic() + LIMIT_S + SLOT_LEASE_S
        while time.monotonic() < end:
            limits = wait(lambda: self.ask("POST", "/v2/concurrency_limits/filter", limit=100), 60)
            if not any(limit["active_slots"] for limit in limits):
                return 0
            time.sleep(5)
        return sum(limit["active_slots"] for limit in limits)

    def was_crashed(self, run: str) -> bool:
        """Return whether a run was ever marked as Crashed."""
        states = wait(lambda: self.ask("GET", f"/flow_run_states/?flow_run_id={run}"), 60)
        return any(state["type"] == "CRASHED" for state in states)


class Round:
    """One training and what happens to it."""

    def __init__(self, service: Service, fault: Fault, seed: int) -> None:
        self.service, self.fault, self.seed = service, fault, seed
        self.deployment = "job" if fault.is_job else "tiny"
        runs = service.store / "runs"
        before = set(runs.glob("*"))
        self.run = service.start(self.deployment, seed)
        note = service.folder / f"emeg-service/prefect/emeg/processes/{self.run}.json"
        wait(lambda: note.exists() or None, START_S)
        self.engine = psutil.Process(json.loads(note.read_text())["process"])
        self.work = wait(lambda: next(iter(set(runs.glob("*")) - before), None), START_S)
        wait(lambda: len(self.steps()) > CHECKPOINT_EVERY or None, START_S)

    def steps(self) -> list[int]:
        """Return the steps in the run's history, each as often as it is there."""
        file = self.work / "metrics.csv"
        lines = file.read_text().splitlines() if file.exists() else []
        return [int(line.split(",")[0]) for line in lines if ",train,loss," in line]

    def saved(self) -> list[int]:
        """Return the steps of which there is a complete checkpoint."""
        names = (self.work / "checkpoints").glob("last-*.ckpt.sha256")
        return sorted(int(name.name.removeprefix("last-").partition(".")[0]) for name in names)

    def ranks(self) -> list[psutil.Process]:
        """Return the processes that train."""
        found = []
        for process in psutil.process_iter(["cmdline", "environ"]):
            command = process.info["cmdline"] or []
            if "emeg.training.launch.worker" in command and str(self.service.folder) in str(process.info["environ"]):
                found.append(process)
        return found

    def job(self) -> dict[str, Any]:
        """Return the note of the Slurm job."""
        return json.loads((self.work / "job.json").read_text())

    def strike(self, name: str) -> None:
        """Do what the round is named for."""
        verb, _, target = name.partition("-")
        targets = target.removesuffix("-of-job").split("-and-")
        if verb == "cancel":
            state = {"type": "CANCELLING", "name": "Cancelling"}
            self.service.ask("POST", f"/flow_runs/{self.run}/set_state", state=state)
        elif target == "job" and verb == "term":
            command = ["scancel", "--signal=TERM", self.job()["job"]]
            subprocess.run(command, env=self.service.environment, check=True)
        else:
            numbers = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "suspend": signal.SIGSTOP}
            for process in [process for one in targets for process in self._processes(one)]:
                process.send_signal(numbers[verb])
                if verb == "suspend":
                    time.sleep(SUSPENDED_S)
                    process.send_signal(signal.SIGCONT)
        if target.startswith("server") and verb != "suspend":
            time.sleep(5)
            self.service.up()

    def _processes(self, name: str) -> list[psutil.Process]:
        if name == "engine":
            return [self.engine]
        return self.ranks() if name in ("rank", "job") else [self.service.process(name)]

    def end(self) -> str:
        """Wait for the final state and return it, or ``stuck``."""
        seconds = 2 * LIMIT_S if self.fault.state == "COMPLETED" else LIMIT_S
        try:
            state = wait(lambda: self.service.state(self.run), seconds)
            if self.fault.state == "CANCELLED" and state == "CRASHED":  # on its way to Cancelled
                state = wait(lambda: "CANCELLED" if self.service.state(self.run) == "CANCELLED" else None, 30)
        except TimeoutError:
            return "stuck"
        return str(state)

    def repeated(self) -> int:
        """Count steps that are twice in the history, or that a graceful stop completed and did not save."""
        steps = self.steps()
        twice = len(steps) - len(set(steps))
        if self.fault.is_job:
            log = (self.work / f"slurm-{self.job()['job']}.log").read_text()
            stopped = re.search(r"stopped after step (\d+)", log)
            resumed = re.search(r"going on from \S*last-(\d+)", log)
            twice += int(stopped[1]) - int(resumed[1]) if stopped and resumed else 0
            return twice + self.job()["attempts"] - 1
        saved = self.saved()
        return twice + (max(steps) - saved[-1] if self.fault.is_graceful and saved else 0)

    def lost(self) -> int:
        """Count missing results: the model of a completed run, or a checkpoint as new as the fault allows."""
        if self.fault.state == "COMPLETED":
            return int(not (self.service.store / "models" / self.work.name).exists())
        saved = self.saved()
        return int(not saved or max(self.steps()) - saved[-1] > 2 * CHECKPOINT_EVERY)

    def continues(self) -> str:
        """Run the training once more and return the state in which it ends; ``no model`` if it made none."""
        run = self.service.start(self.deployment, self.seed)
        try:
            state = str(wait(lambda: self.service.state(run), 2 * LIMIT_S))
        except TimeoutError:
            return "stuck"
        has_model = (self.service.store / "models" / self.work.name).exists()
        return state if state != "COMPLETED" or has_model else "no model"


def wait(ask: Callable[[], Any], seconds: float) -> Any:  # noqa: ANN401 - what `ask` returns
    """Return the first answer that is not `None`."""
    end = time.monotonic() + seconds
    while (answer := ask()) is None:
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(0.5)
    return answer


def play(service: Service, name: str, fault: Fault, seed: int) -> dict[str, Any]:
    """Run one round and return its line of the record."""
    began = time.monotonic()
    service.up()
    one = Round(service, fault, seed)
    one.strike(name)
    struck = time.monotonic()
    state = one.end()
    after = time.monotonic() - struck
    found = Counter(
        stuck=int(state == "stuck"),
        wrong_state=int(state not in (fault.state, "stuck")),
        repeated=one.repeated(),
        lost=one.lost(),
        false_alarms=int(name in HEALTHY and service.was_crashed(one.run)),
    )
    again = ""
    if fault.continues:
        again = one.continues()
        found["stuck"] += again == "stuck"
        found["wrong_state"] += again not in ("COMPLETED", "stuck")
        found["repeated"] += one.repeated() if fault.is_job else 0
    left = [process.pid for process in one.ranks()]
    report = {"round": name, "seed": seed, "state": state, "after_s": round(after, 1), "again": again, "ranks": left}
    report |= {"faults": dict(+found), "seconds": round(time.monotonic() - began), "load": round(os.getloadavg()[0], 1)}
    if state == "stuck" or left:
        _clear(service, one)
    return report


def _clear(service: Service, one: Round) -> None:
    """End what a failed round has left, so that the next one starts from nothing."""
    state = {"type": "CRASHED", "name": "Crashed", "message": "ended by the benchmark"}
    service.ask("POST", f"/flow_runs/{one.run}/set_state", state=state, force=True)
    for process in [*one.ranks(), one.engine]:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


@contextmanager
def running_service(folder: Path, environment: dict[str, str], *, steps: int) -> Iterator[Service]:
    """Write a store and ``emeg.yaml``, and yield the service, which starts with the first round."""
    make_store(folder / "store", people=5, seconds=40.0)
    (folder / "store/runs").mkdir(exist_ok=True)
    options: dict[str, Any] = {"steps": steps, "ramp_steps": 10, "log_every": 1, "checkpoint_every": CHECKPOINT_EVERY}
    options |= {"device": "cpu", "threads": 1, "validate_every": 1000, "overrides": NETWORK, "final_segments": 2}
    options |= {"sampling": {"budget_channel_seconds": 40, "crop_s": 2.0, "micro_batches": 2}}
    job = options | {"launcher": "slurm"}
    trainings = {
        name: {"verb": "train-tokenizer", "store": "main", "options": chosen}
        for name, chosen in {"tiny": options, "job": job}.items()
    }
    settings = {"name": "chaos", "stores": {"main": "store"}, "trainings": trainings}
    (folder / "emeg.yaml").write_text(yaml.safe_dump(settings))
    service = Service(folder, environment)
    try:
        yield service
    finally:
        service.emeg("down")


class Record:
    """File with one JSON line for each round that has ended."""

    def __init__(self, path: Path | None, *, again: list[str]) -> None:
        self.path = path
        text = path.read_text() if path and path.exists() else ""
        self.rounds = [one for one in map(json.loads, text.splitlines()) if one["round"] not in again]
        if path and again:
            path.write_text("".join(json.dumps(one) + "\n" for one in self.rounds))

    def add(self, one: dict[str, Any]) -> None:
        """Append a round to the file and write it to standard error."""
        self.rounds.append(one)
        text = json.dumps(one) + "\n"
        sys.stderr.write(text)
        if self.path:
            with self.path.open("a") as file:
                file.write(text)

    def missing(self, kinds: list[str], rounds: int) -> list[tuple[int, str]]:
        """Return number and kind of the rounds that are not recorded, of a sequence that takes the kinds in turn."""
        played = {(one["seed"], one["round"]) for one in self.rounds}
        sequence = [(number, kinds[number % len(kinds)]) for number in range(rounds)]
        return [one for one in sequence if one not in played]

    def summary(self) -> dict[str, Any]:
        """Return the number of rounds of each kind and the sums of their counts."""
        counts = Counter(dict.fromkeys(COUNTS, 0))
        for one in self.rounds:
            counts.update(one["faults"])
        kinds = Counter(one["round"] for one in self.rounds)
        healthy = sum(kinds[name] for name in HEALTHY)
        return {"rounds": len(self.rounds) - healthy, "healthy": healthy, "kinds": dict(kinds), **counts}


def main() -> None:
    """Run the rounds and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--steps", type=int, default=150, help="optimiser steps of a training")
    parser.add_argument("--healthy", action="store_true", help="suspend processes instead of ending them")
    parser.add_argument("--kinds", nargs="*", default=[], help="only these kinds of rounds")
    parser.add_argument("--record", type=Path, help="file of the rounds that have ended; they are not played again")
    parser.add_argument("--again", nargs="*", default=[], help="drop the recorded rounds of these kinds")
    parser.add_argument("--report", action="store_true", help="only print the counts of the recorded rounds")
    parser.add_argument("--folder", type=Path, help="new folder for the service, which is kept; default: temporary")
    arguments = parser.parse_args()
    record = Record(arguments.record, again=arguments.again)
    known = HEALTHY if arguments.healthy else FAULTS
    no_slurm = _slurm.missing()
    kinds = {
        name: fault
        for name, fault in known.items()
        if (not arguments.kinds or name in arguments.kinds) and not (fault.is_job and no_slurm)
    }
    wanted = [] if arguments.report else record.missing(list(kinds), arguments.rounds)
    with ExitStack() as stack:
        if wanted:
            folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="emeg-chaos-")))
            folder.mkdir(parents=True, exist_ok=True)
            environment = dict(os.environ)
            if any(kinds[name].is_job for _, name in wanted):
                (folder / "slurm").mkdir()
                environment = stack.enter_context(_slurm.cluster(folder / "slurm"))
            service = stack.enter_context(running_service(folder, environment, steps=arguments.steps))
        for number, name in wanted:
            one = play(service, name, kinds[name], number)
            if (number, name) == wanted[-1]:
                one["faults"]["stuck"] = one["faults"].get("stuck", 0) + service.held_slots()
            record.add(one)
    line = record.summary()
    if no_slurm and not arguments.healthy:
        line["skipped"] = no_slurm
    sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
