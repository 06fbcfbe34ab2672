"""The verbs ``up``, ``status`` and ``down``: server, worker and watcher as processes of this machine.

Each process has a session of its own, a log file, and a line in ``<folder>/processes.json``, by which the verbs find it
again. `up` starts only what does not run.
"""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
from pydantic import Field

from emeg.config import Config, option
from emeg.errors import UserError
from emeg.locks import locked
from emeg.progress import Progress, silent
from emeg.service.ending import is_ending
from emeg.service.settings import ServiceConfig, read_settings

SERVICES = ("server", "worker", "watch", "reports")
"""Processes in the order in which they start."""

LOCK = "up.lock"
"""File in the service's folder that `up` and `down` lock, so that they wait for each other."""

STOP_S = 100.0
"""Seconds that runs have to write a checkpoint after a stop signal."""

READY_S = 300.0
"""Seconds that the server has to answer; a slow machine needs minutes, and a server that dies is noticed at once."""

STARTS = 3
"""How often `up` starts what has ended while it worked."""


class UpConfig(Config):
    """Start server, worker and watcher on this machine, and deploy ``emeg.yaml``."""

    file: str = option("emeg.yaml", group="data")
    """File that declares stores, archives, trainings, schedules and notifications."""
    folder: str = option("emeg-service", group="data")
    """Folder for the database, the password and the logs."""
    database: str | None = option(None, group="options")
    """Address of a PostgreSQL database (postgresql+asyncpg://user:password@host/name); default: SQLite."""
    host: str = option("127.0.0.1", group="options")
    """Address on which the server listens."""
    port: int = option(4200, group="options", ge=1024, le=65535)
    """Port of the server; the reports are served on the port after it."""
    password: bool = option(True, group="options")
    """Protect the server by a password, which is written to the folder for its owner only."""


class StatusConfig(Config):
    """Show which processes run on this machine, and the runs of the server."""

    folder: str = option("emeg-service", group="data")
    """Folder that `emeg up` was given."""


class DownConfig(Config):
    """Stop what `emeg up` has started. Runs in progress write a checkpoint and end."""

    folder: str = option("emeg-service", group="data")
    """Folder that `emeg up` was given."""
    wait_s: float = option(STOP_S + 20.0, group="options", gt=0)
    """Seconds that a process has to end before it is killed; runs have 20 s less to write a checkpoint."""


class ServiceStatus(Config):
    """Processes of the service and the state of its server."""

    url: str
    """Address of the server's page."""
    processes: dict[str, str] = Field(default_factory=dict)
    """Name -> ``running``, ``stopping`` or ``not answering`` with the process number, or ``stopped``."""
    runs: dict[str, int] = Field(default_factory=dict)
    """State -> flow runs in it."""
    logs: str = ""
    """Folder of the log files."""
    settings: tuple[str, ...] = ()
    """Environment variables by which Prefect's own commands reach the server."""

    @property
    def failed(self) -> bool:
        """Whether a process that should run does not."""
        return any(not text.startswith("running") for text in self.processes.values())

    def as_text(self) -> str:
        """Return the state as text."""
        lines = [f"{name:<8} {text}" for name, text in self.processes.items()]
        counts = ", ".join(f"{n} {state.lower()}" for state, n in sorted(self.runs.items())) or "none"
        lines += [f"runs     {counts}", f"page     {self.url}", f"logs     {self.logs}"]
        lines += [f"export {setting}" for setting in self.settings]
        return "\n".join(lines)


def up(config: UpConfig, *, progress: Progress = silent) -> ServiceStatus:
    """Start what does not run yet, wait until the server answers, and deploy the file.

    A process that is stopping is waited for and started again.

    Raises
    ------
    UserError
        The file is not valid, the port is taken, the server does not start, or a process does not stop.
    """
    settings = read_settings(Path(config.file))
    folder = Path(config.folder).absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(folder / LOCK, wait=True):  # two calls at once would start everything twice
        for _ in range(STARTS):
            _wait_for_ending(folder, progress)
            _start_missing(config, settings, folder, progress)
            found = status(StatusConfig(folder=config.folder))
            if not found.failed:
                break  # nothing that was found running has ended meanwhile
    return found


def _wait_for_ending(folder: Path, progress: Progress) -> None:
    """Wait until processes that received a stop signal before this call have ended."""
    state = _read_state(folder)
    for name in SERVICES:
        found = _process(state, name)
        if found is None:
            continue
        if name == "server":
            _wait_until_server_answers(state)
        elif is_ending(_home(folder), found):
            progress(0, len(SERVICES) + 1, f"wait for {name}, which is stopping")
            _wait_for_end(found, name)


def _wait_for_end(process: psutil.Process, name: str) -> None:
    wait_s = STOP_S + 20.0
    try:
        process.wait(wait_s)
    except psutil.TimeoutExpired as error:
        raise UserError(
            f"{name} (process {process.pid}) has not ended {wait_s:.0f} s after a stop signal;"
            " see its log, run `emeg down`, then `emeg up`"
        ) from error


def _start_missing(config: UpConfig, settings: ServiceConfig, folder: Path, progress: Progress) -> None:
    """Start the processes that do not run, and deploy the file as soon as the server answers."""
    state = _read_state(folder)
    running = {name for name in SERVICES if _process(state, name) is not None}
    for name, port in (("server", config.port), ("reports", config.port + 1)):
        if name not in running:
            _check_port(config.host, port, name)
    if "server" not in running:
        state["environment"] = _environment(config, folder)
    environment = {**os.environ, **state["environment"]}
    commands = _commands(config, settings)
    for done, name in enumerate(SERVICES):
        progress(done, len(SERVICES) + 1, f"start {name}")
        if name not in running:
            state[name] = _start(commands[name], folder, name, environment)
            _write_state(folder, state)
        if name == "server":
            _wait_for_server(state, folder)
            progress(1, len(SERVICES) + 1, "deploy")
            _deploy(config.file, environment)


def status(config: StatusConfig, *, progress: Progress = silent) -> ServiceStatus:
    """Return what runs on this machine, and how many flow runs are in which state.

    Raises
    ------
    UserError
        Nothing was ever started from the folder.
    """
    folder = Path(config.folder).absolute()
    state = _started_state(folder)
    processes = {}
    for name in SERVICES:
        found = _process(state, name)
        if found is None:
            processes[name] = f"stopped; see {folder / 'logs' / name}.log"
        else:
            what = "stopping" if is_ending(_home(folder), found) else "running"
            processes[name] = f"{what} (process {found.pid})"
    runs = _count_runs(state)
    server = _process(state, "server")
    if runs is None and server is not None:
        processes["server"] = f"not answering (process {server.pid}); see {folder / 'logs' / 'server.log'}"
    api = state["environment"]["PREFECT_API_URL"]
    return ServiceStatus(
        url=api.removesuffix("/api"),
        processes=processes,
        runs=runs or {},
        logs=str(folder / "logs"),
        settings=tuple(
            f"{key}={value if key != 'PREFECT_API_AUTH_STRING' else f'$(cat {folder / PASSWORD})'}"
            for key, value in state["environment"].items()
            if key in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING")
        ),
    )


class DownResult(Config):
    """Processes that were stopped."""

    stopped: tuple[str, ...]
    """Processes that ran and were stopped."""


def down(config: DownConfig, *, progress: Progress = silent) -> DownResult:
    """Stop the processes in reverse order, the worker's runs with it.

    Raises
    ------
    UserError
        Nothing was ever started from the folder.
    """
    folder = Path(config.folder).absolute()
    _started_state(folder)
    stopped: list[str] = []
    with locked(folder / LOCK, wait=True):
        state = _read_state(folder)
        for name in reversed(SERVICES):
            found = _process(state, name)
            if found is not None:
                progress(len(stopped), len(SERVICES), f"stop {name}")
                _stop(found, config.wait_s)
                stopped.append(name)
    return DownResult(stopped=tuple(stopped))


LEASES = "prefect.server.concurrency.lease_storage.filesystem"
"""Where the server records who holds a slot of a concurrency limit. Its default, memory, is lost when the server is
restarted: the slots of the runs of that time are then never free again."""

PASSWORD = "password"
"""File in the service's folder with user and password, readable by its owner only."""


def _home(folder: Path) -> Path:
    """Return Prefect's home, which all processes of the service share."""
    return folder / "prefect"


def _environment(config: UpConfig, folder: Path) -> dict[str, str]:
    """Return the settings that server and worker share; the password is made once and kept in a file."""
    environment = {
        "PREFECT_HOME": str(_home(folder)),
        "PREFECT_PROFILES_PATH": str(_home(folder) / "profiles.toml"),
        "PREFECT_API_URL": f"http://{config.host}:{config.port}/api",
        "EMEG_REPORTS_URL": f"http://{config.host}:{config.port + 1}",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": LEASES,
        "DO_NOT_TRACK": "1",
    }
    if config.database is not None:
        environment["PREFECT_API_DATABASE_CONNECTION_URL"] = config.database
    if config.password:
        file = folder / PASSWORD
        if not file.exists():
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
                handle.write(f"emeg:{secrets.token_urlsafe(18)}\n")
        text = file.read_text().strip()
        environment |= {"PREFECT_SERVER_API_AUTH_STRING": text, "PREFECT_API_AUTH_STRING": text}
    return environment


def _commands(config: UpConfig, settings: ServiceConfig) -> dict[str, list[str]]:
    python = [sys.executable, "-m"]
    local = [store for store in settings.stores.values() if "://" not in store]
    disk = ["--disk-free-gib", str(settings.disk_free_gib), *(part for store in local for part in ("--disk", store))]
    return {
        "server": [*python, "prefect", "server", "start", "--host", config.host, "--port", str(config.port)],
        "worker": [*python, "emeg.cli", "work", "--pool", settings.work_pool, "--stop-s", str(STOP_S)],
        "watch": [*python, "emeg.cli", "watch", *disk],
        "reports": [*python, "emeg.service.report_server", config.host, str(config.port + 1), *local],
    }


def _check_port(host: str, port: int, name: str) -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise UserError(
                f"{host}:{port} for {name}: {error.strerror}; choose another --port; the next one is used as well"
            ) from error


def _start(command: list[str], folder: Path, name: str, environment: Mapping[str, str]) -> dict[str, Any]:
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    _home(folder).mkdir(exist_ok=True)
    with (logs / f"{name}.log").open("ab") as log:
        child = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return {"process": child.pid, "started": psutil.Process(child.pid).create_time()}


def _process(state: Mapping[str, Any], name: str) -> psutil.Process | None:
    """Return the process of a service if it runs; a process that took over its number is another one."""
    noted = state.get(name)
    if noted is None:
        return None
    try:
        found = psutil.Process(noted["process"])
        is_same = abs(found.create_time() - noted["started"]) < 1.0 and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return None
    return found if is_same else None


def _stop(process: psutil.Process, wait_s: float) -> None:
    """Send SIGTERM to a process, wait for it and its children, and kill what is left."""
    family = [process, *process.children(recursive=True)]
    process.terminate()
    _, alive = psutil.wait_procs(family, timeout=wait_s)
    for one in alive:
        one.kill()
    psutil.wait_procs(alive, timeout=10)


def _wait_for_server(state: Mapping[str, Any], folder: Path) -> None:
    if not _wait_until_server_answers(state):
        url = state["environment"]["PREFECT_API_URL"]
        raise UserError(f"{url}: the server did not start; see {folder / 'logs' / 'server.log'}")


def _wait_until_server_answers(state: Mapping[str, Any]) -> bool:
    """Wait until the server answers or its process has ended; return whether it answers."""
    import httpx

    end = time.monotonic() + READY_S
    while time.monotonic() < end and _process(state, "server") is not None:
        try:
            if httpx.get(f"{state['environment']['PREFECT_API_URL']}/health", timeout=5).is_success:
                return True
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    return False


def _deploy(file: str, environment: Mapping[str, str]) -> None:
    """Run `emeg deploy` with the settings of the new server, which this process does not have."""
    command = [sys.executable, "-m", "emeg.cli", "deploy", "--file", str(Path(file).absolute()), "--apply"]
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError(f"emeg deploy: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done.stdout}")


def _count_runs(state: Mapping[str, Any]) -> dict[str, int] | None:
    """Return the number of flow runs by state; `None` if the server does not answer."""
    import httpx

    environment = state["environment"]
    user, _, password = environment.get("PREFECT_API_AUTH_STRING", "").partition(":")
    counts = {}
    try:
        with httpx.Client(base_url=environment["PREFECT_API_URL"], auth=(user, password), timeout=30) as client:
            for name in ("RUNNING", "PENDING", "FAILED", "CRASHED", "COMPLETED"):
                answer = client.post("/flow_runs/count", json={"flow_runs": {"state": {"type": {"any_": [name]}}}})
                counts[name] = int(answer.json()) if answer.is_success else 0
    except httpx.TransportError:
        return None
    return {name: n for name, n in counts.items() if n}


def _started_state(folder: Path) -> dict[str, Any]:
    """Read the state of a service, and raise if none was ever started from the folder."""
    state = _read_state(folder)
    if "environment" not in state:
        raise UserError(f"{folder}: nothing was started from here; run `emeg up`, or name its folder with --folder")
    return state


def _read_state(folder: Path) -> dict[str, Any]:
    file = folder / "processes.json"
    return json.loads(file.read_text()) if file.exists() else {}


def _write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write the list of processes, readable by its owner only, because it contains the password."""
    file = folder / "processes.json"
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
        json.dump(state, handle, indent=1)
