"""Record which process of the service has received a stop signal, so that `emeg up` does not take it for a running one.

Such a process leaves a file ``<PREFECT_HOME>/emeg/ending/<process number>``.
"""

import os
from pathlib import Path

import psutil


def note_ending(home: Path) -> None:
    """Record that this process has received a stop signal. It may need minutes to end, because it stops its runs."""
    file = _file(home, os.getpid())
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()


def is_ending(home: Path, process: psutil.Process) -> bool:
    """Return whether a process has received a stop signal; the file of an earlier process of its number is ignored."""
    try:
        return bool(_file(home, process.pid).stat().st_mtime >= process.create_time())
    except (FileNotFoundError, psutil.NoSuchProcess):
        return False


def _file(home: Path, process: int) -> Path:
    return home / "emeg" / "ending" / str(process)
