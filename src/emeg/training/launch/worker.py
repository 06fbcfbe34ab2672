"""Run a training in a launched process: ``python -m emeg.training.launch.worker VERB CONFIG.json RESULT.json``."""

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from emeg.config import Config
from emeg.errors import EmegError, StoppedError, machine_fault
from emeg.progress import Progress
from emeg.terminal import discard_output
from emeg.training.launch.launcher import ERRORS, LAUNCHER, PROGRESS_PREFIX, RANK_SUFFIX, RETRY_CODE
from emeg.uri import locate

logger = logging.getLogger(__name__)


def find_verb(name: str) -> tuple[type[Config], Callable[..., Config]]:
    """Return configuration and function of a verb that can be launched; only its own modules are loaded."""
    if name == "train-tokenizer":
        from emeg.training.configs import TrainTokenizerConfig
        from emeg.training.stages.tokenizer_training import fit_tokenizer

        return TrainTokenizerConfig, fit_tokenizer
    if name == "pretrain":
        from emeg.training.configs import PretrainConfig
        from emeg.training.stages.pretraining import fit_pretraining

        return PretrainConfig, fit_pretraining
    raise EmegError(f"{name!r}: not a verb that can be launched; use train-tokenizer or pretrain")


def report_progress(done: int, total: int, message: str) -> None:
    """Write one line that the launching process understands."""
    line = json.dumps({"done": done, "total": total, "message": message})
    try:
        sys.stdout.write(f"{PROGRESS_PREFIX}{line}\n")
        sys.stdout.flush()
    except BrokenPipeError:  # the launcher was killed; `attend` notices it, and this rank has a checkpoint to write
        discard_output()


def main(arguments: Sequence[str]) -> int:
    """Run one verb, write its result or error, and return the exit code."""
    verb, config_file, result_file = arguments
    # every rank has the metrics of all ranks, so the other ranks would only repeat the lines of the first
    level = logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stdout)
    config_class, function = find_verb(verb)
    attend(Path(config_file).parent)
    stop_at_once(result_file)
    config = config_class.checked(json.loads(Path(config_file).read_bytes()), source=config_file)
    if os.environ.get("RANK") == "0" and getattr(config, "nodes", 1) > 1:
        function = _claimed(verb, function)
    return run(function, config, result_file, progress=report_progress)


def _claimed(verb: str, function: Callable[..., Config]) -> Callable[..., Config]:
    """Return a function that claims the model first; on one machine the launcher has done so."""
    from emeg.store import Store
    from emeg.training.exclusive import training_across_machines
    from emeg.training.product_names import encoder_name, tokenizer_name

    name_of: Callable[[Any], str] = tokenizer_name if verb == "train-tokenizer" else encoder_name

    def call(config: Any, *, progress: Progress) -> Config:  # noqa: ANN401 - of either verb
        with training_across_machines(Store.open(config.root), name_of(config)):
            return function(config, progress=progress)

    return call


def run(function: Callable[..., Config], config: Config, result_file: str, *, progress: Progress) -> int:
    """Call `function` and write the outcome to `result_file`.

    An error of emeg is written with its class and text. Any other error is written too, so that the launcher can name
    it, and leaves its traceback in the output.
    """
    rank = int(os.environ.get("RANK", "0"))
    try:
        result = function(config, progress=progress)
    except EmegError as error:
        kind = next(name for name, known in ERRORS.items() if isinstance(error, known))
        _answer_once(result_file, kind, error)
        return error.exit_code
    except OSError as error:
        fault = machine_fault(error)
        if fault is None:
            _answer_once(result_file, type(error).__name__, error)
            raise
        _answer_once(result_file, type(fault).__name__, fault)
        return fault.exit_code
    except Exception as error:
        _answer_once(result_file, type(error).__name__, error)
        raise
    reply = {"result": result.model_dump(mode="json")}
    if rank == 0:
        _answer(result_file, reply)
    else:  # the result on machines without rank 0
        file = Path(result_file)
        _answer(str(file.with_name(f"{file.stem}-{rank:05d}.json")), reply)
    return 0


def _answer_once(result_file: str, kind: str, error: Exception) -> None:
    # The error of a rank whose peer failed must not replace the error of that peer.
    if not Path(result_file).exists():
        _answer(result_file, {"error": {"kind": kind, "message": str(error)}})


def attend(folder: Path) -> None:
    """Record this rank's process id, and stop the rank if its launcher dies."""
    rank = int(os.environ.get("RANK", "0"))
    (folder / f"{rank:05d}{RANK_SUFFIX}").write_text(str(os.getpid()))
    launcher = folder / LAUNCHER
    if not launcher.exists():
        return
    number = int(launcher.read_text())

    def watch() -> None:
        while _lives(number):
            time.sleep(2.0)
        logger.warning("the launcher has ended; this rank writes a checkpoint and ends")
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="emeg-launcher", daemon=True).start()


def stop_at_once(result_file: str) -> None:
    """Handle a signal before the first or after the last step, when there is nothing to save.

    During the steps, training handles signals itself and finishes the step.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        _answer_once(
            result_file,
            StoppedError.__name__,
            StoppedError(f"stopped by signal {number} before the first step; run the same command again"),
        )
        os._exit(RETRY_CODE)

    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, stop)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _answer(result_file: str, reply: dict[str, Any]) -> None:
    locate(Path(result_file).resolve()).write_json(reply)


if __name__ == "__main__":
    exit_code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # no regular exit: after a lost peer, threads of the process group would block it
    os._exit(exit_code)
