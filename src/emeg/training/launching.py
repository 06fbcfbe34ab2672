"""Training in processes of its own: signals, allocator and threads are then the training's.

The child says what it does on standard output, one JSON object a line for progress; every other line goes to the
log. What it returns, or the error that ended it, comes back in a file.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emeg.config import Config
from emeg.errors import EmegError, RecordingError, TransientError, UserError
from emeg.progress import Progress, silent

logger = logging.getLogger(__name__)

PROGRESS_PREFIX = "@progress "
"""Start of a line that reports progress."""

WORKER = ("-m", "emeg.training.worker")
"""What an interpreter is told to run."""

ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**36)}
"""Keep freed memory: glibc gives large blocks back to the system and page-faults every activation again."""

ERRORS: dict[str, type[EmegError]] = {
    error.__name__: error for error in (UserError, RecordingError, TransientError, EmegError)
}
"""Errors that cross the process boundary as what they are."""


def is_launched(environment: Mapping[str, str]) -> bool:
    """Whether torchrun or a scheduler has already started the ranks (``RANK`` and ``WORLD_SIZE`` are set)."""
    return "RANK" in environment and "WORLD_SIZE" in environment


def launch(verb: str, config: Config, processes: int, *, progress: Progress = silent) -> dict[str, Any]:
    """Run a training verb in `processes` new processes and wait for it.

    Parameters
    ----------
    verb : str
        Name in `emeg.training.worker`.
    config : Config
        Parameters of the verb.
    processes : int
        Ranks on this machine; above 1 they are started by torchrun.

    Returns
    -------
    dict
        Fields of the verb's result.

    Raises
    ------
    UserError, RecordingError, TransientError
        The verb raised it.
    RuntimeError
        The process ended in any other way; the message has its last line.
    """
    with tempfile.TemporaryDirectory(prefix="emeg-launch-") as folder:
        asked, answer = Path(folder) / "config.json", Path(folder) / "result.json"
        asked.write_text(config.model_dump_json(), encoding="utf-8")
        command = [*_starter(processes), *WORKER, verb, str(asked), str(answer)]
        last_line, code = _run(command, progress)
        reply = json.loads(answer.read_text(encoding="utf-8")) if answer.exists() else {}
    if "result" in reply and code == 0:
        result: dict[str, Any] = reply["result"]
        return result
    raise _failure(verb, reply.get("error"), last_line, code)


def _starter(processes: int) -> list[str]:
    if processes == 1:
        return [sys.executable]
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]


def _run(command: list[str], progress: Progress) -> tuple[str, int]:
    """Forward the child's lines until it ends; its last words and exit code."""
    environment = {**os.environ, **ALLOCATOR, "PYTHONUNBUFFERED": "1"}
    last = deque([""], maxlen=1)
    child = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    try:
        for line in child.stdout or ():
            text = line.rstrip()
            if text.startswith(PROGRESS_PREFIX):
                _report(text.removeprefix(PROGRESS_PREFIX), progress)
            elif text:
                last.append(text)
                logger.info("%s", text)
        code = child.wait()
    except BaseException:
        _end(child)
        raise
    finally:
        if child.stdout is not None:
            child.stdout.close()
    return last[0], code


def _report(text: str, progress: Progress) -> None:
    done = json.loads(text)
    progress(done["done"], done["total"], done["message"])


def _end(child: subprocess.Popen[str]) -> None:
    """Ask the child to checkpoint and stop; insist after half a minute."""
    child.terminate()
    try:
        child.wait(timeout=30)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _failure(verb: str, error: dict[str, str] | None, last_line: str, code: int) -> Exception:
    if error is not None and error["kind"] in ERRORS:
        return ERRORS[error["kind"]](error["message"])
    said = f"{error['kind']}: {error['message']}" if error else last_line or "it said nothing"
    return RuntimeError(
        f"{verb}: the training process ended with exit code {code}; its last words: {said}."
        " The lines before are in the log at level INFO; the same command goes on from the newest checkpoint."
    )
