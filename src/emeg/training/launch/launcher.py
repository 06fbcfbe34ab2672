"""Run a training in separate processes, so that signals, memory allocator and threads belong to the training.

The child reports progress on standard output as one JSON object per line; every other line goes to the log. It writes
its result, or the error that ended it, to a file.
"""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from emeg.errors import EmegError, MachineError, RecordingError, StoppedError, TransientError, UserError
from emeg.progress import Progress, silent
from emeg.training.configs import TrainingConfig

logger = logging.getLogger(__name__)

PROGRESS_PREFIX = "@progress "
"""Start of a line that reports progress."""

WORKER = ("-m", "emeg.training.launch.worker")
"""Arguments of the interpreter that runs the worker."""

PATIENCE = {"GOMP_SPINCOUNT": "30000"}
"""Spin count of OpenMP threads before they sleep, unless the environment sets one.

Beside other work on the same cores, the default of 300,000 made a step of the nano tokenizer 100 times slower, and
30,000 made it 25 times slower. On idle cores both reached 100 segments a second (2 threads on 2 cores); threads that
never spin reached half.
"""

ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**36)}
"""Settings that keep freed memory: glibc returns large blocks to the system, and every activation faults anew."""

LAUNCHER = "launcher.pid"
"""File beside the configuration with the process id of the launcher."""

RANK_SUFFIX = ".rank.pid"
"""Suffix of the files in which ranks write their process ids."""

_DEATH = re.compile(r"exitcode\s*:\s*-(\d+)")
"""Line of torchrun's summary that names the signal that ended a rank."""

FAILURE_GRACE_S = 45.0
"""Seconds for ranks to end after one of them has failed."""

RETRY_CODE = 75
"""Exit code of a run that should be started again (EX_TEMPFAIL)."""

ERRORS: dict[str, type[EmegError]] = {
    error.__name__: error
    for error in (UserError, RecordingError, TransientError, StoppedError, MachineError, EmegError)
}
"""Errors that keep their class across the process boundary."""


def is_launched(environment: Mapping[str, str]) -> bool:
    """Return whether torchrun or a scheduler has already started the ranks: it sets ``RANK`` and ``WORLD_SIZE``."""
    return "RANK" in environment and "WORLD_SIZE" in environment


def count_ranks(config: TrainingConfig, environment: Mapping[str, str]) -> int:
    """Return the number of ranks: those that are started already, or those that will be."""
    return int(environment["WORLD_SIZE"]) if is_launched(environment) else config.nodes * config.processes


def count_nodes(config: TrainingConfig, environment: Mapping[str, str]) -> int:
    """Return the number of machines of ranks that torchrun or a scheduler has started."""
    world, local = int(environment["WORLD_SIZE"]), int(environment.get("LOCAL_WORLD_SIZE", "0"))
    return max(config.nodes, world // local) if local else config.nodes


def launch(
    verb: str, config: TrainingConfig, *, signs: Path | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """Run a training verb in new processes and wait for it.

    SIGTERM and SIGUSR1 are forwarded to the ranks, which write a checkpoint and end; the launcher waits for them. It
    then calls the handler that the caller had installed for the signal, such as the one with which Prefect ends a run.

    Parameters
    ----------
    verb : str
        Name in `emeg.training.launch.worker`.
    config : TrainingConfig
        Parameters of the verb; ``processes`` ranks are started on this machine, by torchrun where there are several
        or several ``nodes``, which then meet at ``rendezvous``.
    signs : Path, optional
        Folder in which a rank that makes no progress leaves a message.

    Returns
    -------
    dict
        Fields of the verb's result.

    Raises
    ------
    UserError, RecordingError, TransientError, MachineError
        The verb raised it.
    StoppedError
        The run received a stop signal.
    RuntimeError
        The process ended in any other way; the message has its last line.
    """
    with tempfile.TemporaryDirectory(prefix="emeg-launch-") as name:
        folder = Path(name)
        asked, answer = folder / "config.json", folder / "result.json"
        asked.write_text(config.model_dump_json(), encoding="utf-8")
        (folder / LAUNCHER).write_text(str(os.getpid()))
        began = time.time()
        command = [*_starter(verb, config), *WORKER, verb, str(asked), str(answer)]
        ending = _run(command, folder, progress)
        reply = json.loads(answer.read_text(encoding="utf-8")) if answer.exists() else {}
        # only the first machine has rank 0, which writes the result
        if ending.code == 0 and not reply and config.nodes > 1:
            reply = _result_of(folder)
    if "result" in reply and ending.code == 0:
        result: dict[str, Any] = reply["result"]
        return result
    ending = ending._replace(last_line=_word_of_lost(signs, began) or ending.last_line)
    raise _failure(verb, reply.get("error"), ending)


def _starter(verb: str, config: TrainingConfig) -> list[str]:
    """Return the command that starts the ranks of this machine."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={config.processes}"]
    if config.nodes > 1:
        if config.rendezvous is None:
            raise UserError(
                f"nodes={config.nodes}: the machines must meet; give --rendezvous host:port,"
                " the first one's name and a free port"
            )
        run = [
            "--rdzv-backend=c10d",
            f"--rdzv-endpoint={config.rendezvous}",
            f"--rdzv-id={rendezvous_id(verb, config, os.environ)}",
            "--max-restarts=0",
        ]
        return [*torchrun, f"--nnodes={config.nodes}", *run]
    return [sys.executable] if config.processes == 1 else [*torchrun, "--standalone"]


def rendezvous_id(verb: str, config: TrainingConfig, environment: Mapping[str, str]) -> str:
    """Return the name under which the machines of a run meet: the same on all of them, another for another job."""
    parts = [verb, config.product_hash(), *(environment.get(n, "") for n in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT"))]
    return "-".join(["emeg", *filter(None, parts)])


class Ending(NamedTuple):
    """End of a child process."""

    last_line: str
    code: int
    """Exit code; negative for a signal."""
    death: int
    """Number of the signal that ended the child or, under torchrun, one of its ranks; 0 for none."""


def _run(command: list[str], folder: Path, progress: Progress) -> Ending:
    """Forward the child's lines until it ends."""
    environment = {**PATIENCE, **os.environ, **ALLOCATOR, "PYTHONUNBUFFERED": "1"}
    last = deque([""], maxlen=1)
    death = 0
    # a new session: signals of a terminal or a scheduler to all processes reach the ranks from here, once
    child = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    ended = threading.Event()
    threading.Thread(target=_end_after_failure, args=(child, folder, ended), daemon=True).start()
    try:
        with _forwarding(child, folder):
            for line in child.stdout or ():
                text = line.rstrip()
                if text.startswith(PROGRESS_PREFIX):
                    _report(text.removeprefix(PROGRESS_PREFIX), progress)
                elif text:
                    last.append(text)
                    found = _DEATH.search(text)
                    death = int(found[1]) if found else death
                    logger.info("%s", text)
            code = child.wait()
    except BaseException:
        _end(child, folder)
        raise
    finally:
        ended.set()
        if child.stdout is not None:
            child.stdout.close()
    return Ending(last[0], code, -code if code < 0 else death)


@contextmanager
def _forwarding(child: subprocess.Popen[str], folder: Path) -> Iterator[None]:
    """Forward signals to the ranks directly, because torchrun would kill them half a minute later."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    received: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if not _signal_ranks(folder, number):
            child.send_signal(signal.SIGTERM)  # no rank has started: there is nothing to checkpoint

    former = {int(number): signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        for received_number in dict.fromkeys(received):
            former_handler = former[received_number]
            if callable(former_handler):
                former_handler(received_number, None)


def _signal_ranks(folder: Path, number: int) -> int:
    """Send a signal to the ranks of this machine and return their number."""
    ranks = [int(path.read_text()) for path in folder.glob(f"*{RANK_SUFFIX}")]
    for rank in ranks:
        with suppress(ProcessLookupError):
            os.kill(rank, number)
    return len(ranks)


def _end_after_failure(child: subprocess.Popen[str], folder: Path, ended: threading.Event) -> None:
    """End all ranks if one has failed and the others do not end: they may wait for it."""
    while not ended.wait(1.0):
        answer = folder / "result.json"
        if answer.exists() and time.time() - answer.stat().st_mtime > FAILURE_GRACE_S:
            logger.warning("a rank has answered %.0f s ago and others have not ended; they are killed", FAILURE_GRACE_S)
            _signal_ranks(folder, signal.SIGKILL)
            child.kill()
            return


def _result_of(folder: Path) -> dict[str, Any]:
    """Return the result of a rank other than 0."""
    found = sorted(folder.glob("result-*.json"))
    return json.loads(found[0].read_bytes()) if found else {}


def _word_of_lost(signs: Path | None, began: float) -> str:
    """Return the message of a rank that ended itself because it made no progress."""
    words = sorted(signs.glob("*.lost")) if signs is not None else []
    return next((path.read_text() for path in words if path.stat().st_mtime >= began), "")


def _report(text: str, progress: Progress) -> None:
    done = json.loads(text)
    progress(done["done"], done["total"], done["message"])


def _end(child: subprocess.Popen[str], folder: Path) -> None:
    """Ask the ranks to checkpoint and stop; insist after half a minute."""
    if not _signal_ranks(folder, signal.SIGTERM):
        child.terminate()
    try:
        child.wait(timeout=30)
    except subprocess.TimeoutExpired:
        _signal_ranks(folder, signal.SIGKILL)
        child.kill()
        child.wait()


def _failure(verb: str, error: dict[str, str] | None, ending: Ending) -> Exception:
    if error is not None and error["kind"] in ERRORS:
        return ERRORS[error["kind"]](error["message"])
    if ending.code in (RETRY_CODE, -RETRY_CODE):
        return StoppedError(f"{verb}: {ending.last_line}. Run the same command again to continue from the checkpoint")
    if error is None and ending.death:
        return TransientError(
            f"{verb}: a rank was ended by {signal.Signals(ending.death).name}; last line: {ending.last_line or 'none'}."
            " Causes are a lack of memory (SIGKILL) or a broken connection between GPUs (SIGABRT). Run the same command"
            " again to continue from the newest checkpoint"
        )
    said = f"{error['kind']}: {error['message']}" if error else ending.last_line or "none"
    return RuntimeError(
        f"{verb}: the training process ended with exit code {ending.code}; last line: {said}."
        " The log has the lines before it at level INFO; the same command continues from the newest checkpoint."
    )
