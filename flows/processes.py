"""Record which process executes which flow run, so that `emeg watch` can distinguish a dead process from a slow one.

A running flow leaves a file ``<PREFECT_HOME>/emeg/processes/<flow run>.json``. It is removed when the run has ended.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class RunProcess:
    """The process of a flow run."""

    run: str
    """Id of the flow run."""
    process: int
    """Process number on this machine."""
    started: float
    """Start of the process, s since 1970, because process numbers are reused."""
    api: str
    """Address of the server."""

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        try:
            found = psutil.Process(self.process)
            return bool(abs(found.create_time() - self.started) < 1.0 and found.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False


def folder(home: Path) -> Path:
    """Return the folder of the files, below Prefect's home."""
    return home / "emeg" / "processes"


def register(home: Path, run: str, api: str) -> None:
    """Record this process as that of a flow run."""
    process = RunProcess(run, os.getpid(), psutil.Process().create_time(), api)
    file = folder(home) / f"{run}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(process)))
    partial.replace(file)


def registered(home: Path) -> dict[Path, RunProcess]:
    """Return every recorded process by its file."""
    found = {}
    for file in sorted(folder(home).glob("*.json")):
        found[file] = RunProcess(**json.loads(file.read_text()))
    return found
