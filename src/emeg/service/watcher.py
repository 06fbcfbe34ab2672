"""The verb ``watch``: mark flow runs whose process on this machine has died.

Prefect's worker does this while it lives. If worker and run die together, the run would stay Running for ever. This
watcher checks the processes that `emeg.flows.processes` records, and not heartbeats, so that a busy run or a slow
server is not mistaken for a dead process.
"""

import logging
import shutil
import socket
import time
from pathlib import Path
from typing import Any

from pydantic import NonNegativeFloat, PositiveFloat

from emeg.config import Config, option
from emeg.errors import TransientError
from emeg.flows.processes import RunProcess, registered
from emeg.progress import Progress, silent
from emeg.service.api import Api

logger = logging.getLogger(__name__)

FINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
"""States that a run does not leave by itself."""

DISK_EVERY_S = 3600.0
"""Seconds between two alerts about the same disk."""


class WatchConfig(Config):
    """Mark flow runs whose process on this machine has died, and report a disk that is nearly full."""

    every_s: PositiveFloat = option(15.0, group="options")
    """Seconds between two checks of the processes."""
    grace_s: NonNegativeFloat = option(30.0, group="options")
    """Seconds that a worker has to report the death itself before this watcher does."""
    disk: tuple[str, ...] = option((), group="options")
    """Folders whose free space is watched; a folder that does not exist yet stands for the one that will hold it."""
    disk_free_gib: NonNegativeFloat = option(20.0, group="options")
    """Free space below which an alert is sent, GiB."""
    rounds: int | None = option(None, group="options", ge=1)
    """Number of checks after which the watcher ends; default: it runs until it is stopped."""


class WatchResult(Config):
    """What the watcher did."""

    marked: tuple[str, ...]
    """Ids of the flow runs that were marked as Crashed."""


def watch(config: WatchConfig, *, progress: Progress = silent) -> WatchResult:
    """Check the processes of flow runs repeatedly, and mark the runs of dead ones as Crashed.

    Raises
    ------
    UserError
        No server is configured, or it refuses the password.
    """
    from prefect.settings import get_current_settings

    home = get_current_settings().home
    watcher = Watcher(home, grace_s=config.grace_s)
    marked: list[str] = []
    next_alert = dict.fromkeys(config.disk, 0.0)
    done = 0
    with Api() as api:
        while config.rounds is None or done < config.rounds:
            marked += watcher.look(api)
            for disk, due in list(next_alert.items()):
                if time.monotonic() >= due and _report_disk(Path(disk), config):
                    next_alert[disk] = time.monotonic() + DISK_EVERY_S
            done += 1
            progress(done, config.rounds or done + 1, f"{len(marked)} runs marked")
            if done != config.rounds:
                time.sleep(config.every_s)
    return WatchResult(marked=tuple(marked))


class Watcher:
    """Remember when each process was first found dead.

    Parameters
    ----------
    home : Path
        Prefect's home, which the flows of this machine share.
    grace_s : float
        Seconds between the first time a process is found dead and the mark.
    """

    def __init__(self, home: Path, *, grace_s: float) -> None:
        self._home = home
        self._grace_s = grace_s
        self._dead_since: dict[str, float] = {}

    def look(self, api: Api) -> list[str]:
        """Check once and return the runs that were marked; a server that does not answer is asked at the next check."""
        marked = []
        for file, process in registered(self._home).items():
            if process.api.rstrip("/") != api.url or process.is_alive:
                self._dead_since.pop(process.run, None)
                continue
            since = self._dead_since.setdefault(process.run, time.monotonic())
            if time.monotonic() - since < self._grace_s:
                continue
            try:
                if self._settle(api, process):
                    marked.append(process.run)
            except TransientError as error:
                logger.info("%s", error)
                continue
            file.unlink(missing_ok=True)
            del self._dead_since[process.run]
        return marked

    def _settle(self, api: Api, process: RunProcess) -> bool:
        """Mark the run of a dead process unless it has ended or waits to start again; return whether it was marked."""
        run = api.ask("GET", f"/flow_runs/{process.run}")
        if run is None or run["state_type"] != "RUNNING":
            return False
        message = f"process {process.process} on {socket.gethostname()} died without reporting an end"
        state: dict[str, Any] = {"type": "CRASHED", "name": "Crashed", "message": message}
        answer = api.ask("POST", f"/flow_runs/{process.run}/set_state", {"state": state, "force": False})
        is_marked = bool(answer and answer["status"] == "ACCEPT")
        logger.warning("run %s: %s; %s", process.run, message, "marked as Crashed" if is_marked else answer)
        return is_marked


def _report_disk(folder: Path, config: WatchConfig) -> bool:
    """Send ``emeg.disk.low`` if the disk of a folder is nearly full; return whether it is."""
    from prefect.events import emit_event

    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free_gib = shutil.disk_usage(there).free / 2**30
    if free_gib >= config.disk_free_gib:
        return False
    host = socket.gethostname()
    logger.warning("%s: %.1f GiB are free, less than %.1f GiB", folder, free_gib, config.disk_free_gib)
    emit_event(
        "emeg.disk.low",
        resource={"prefect.resource.id": f"emeg.disk.{host}.{folder}", "prefect.resource.name": host},
        payload={"path": str(folder), "free_gib": round(free_gib, 1)},
    )
    return True
