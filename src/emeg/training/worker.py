"""``python -m emeg.training.worker VERB CONFIG.json RESULT.json``: what a launched training process runs."""

import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from emeg.config import Config
from emeg.errors import EmegError, TransientError
from emeg.progress import Progress
from emeg.training.launching import ERRORS, PROGRESS_PREFIX
from emeg.uri import locate


def find_verb(name: str) -> tuple[type[Config], Callable[..., Config]]:
    """Give configuration and function of a verb that can be launched; only its own modules are loaded."""
    if name == "train-tokenizer":
        from emeg.training.configs import TrainTokenizerConfig
        from emeg.training.tokenizer import fit_tokenizer

        return TrainTokenizerConfig, fit_tokenizer
    if name == "pretrain":
        from emeg.training.configs import PretrainConfig
        from emeg.training.pretraining import fit_pretraining

        return PretrainConfig, fit_pretraining
    raise EmegError(f"{name!r}: not a verb that can be launched; there are train-tokenizer and pretrain")


def report_progress(done: int, total: int, message: str) -> None:
    """Write one line that the launching process understands."""
    line = json.dumps({"done": done, "total": total, "message": message})
    sys.stdout.write(f"{PROGRESS_PREFIX}{line}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str]) -> int:
    """Run one verb and write its result, or the error that ended it; the exit code."""
    verb, config_file, result_file = arguments
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.getLogger("lightning").setLevel(logging.WARNING)
    config_class, function = find_verb(verb)
    config = config_class.checked(json.loads(Path(config_file).read_bytes()), source=config_file)
    return run(function, config, result_file, progress=report_progress)


def run(function: Callable[..., Config], config: Config, result_file: str, *, progress: Progress) -> int:
    """Call `function` and leave the outcome in `result_file`.

    An error of ours is answered with its class and text; any other leaves its traceback in the output and is
    answered too, so that the launching process can name it.
    """
    rank = int(os.environ.get("RANK", "0"))
    try:
        result = function(config, progress=progress)
    except EmegError as error:
        kind = next(name for name, known in ERRORS.items() if isinstance(error, known))
        _answer(result_file, {"error": {"kind": kind, "message": str(error)}})
        return 75 if isinstance(error, TransientError) else 2
    except Exception as error:
        _answer(result_file, {"error": {"kind": type(error).__name__, "message": str(error)}})
        raise
    if rank == 0:
        _answer(result_file, {"result": result.model_dump(mode="json")})
    return 0


def _answer(result_file: str, reply: dict[str, Any]) -> None:
    locate(Path(result_file).resolve()).write_json(reply)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
