"""Let one process train a model at a time: a second one waits and reports which process trains it and since when."""

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from emeg.errors import TransientError
from emeg.progress import Progress
from emeg.store import Store
from emeg.store.claims import claimed

logger = logging.getLogger(__name__)

HOLDER = "holder.json"
"""File below ``runs/<model>``: host, process and start of the training in progress, or of the last one."""

POLL_S = 2.0
"""Seconds between two checks of a training in progress."""


@contextmanager
def training_alone(store: Store, name: str, progress: Progress) -> Iterator[None]:
    """Wait until no other process trains the model `name`, and keep others waiting during the block.

    The claim ends with the process that holds it, so no process waits for a killed training.
    """
    reported = ""
    while True:
        with claimed(store, f"model-{name}") as is_ours:
            if is_ours:
                _note_holder(store, name)
                yield
                return
        message = f"waiting: {_holder(store, name)}"
        if message != reported:
            reported = message
            logger.info("model %s: %s", name, message)
            progress(0, 1, message)
        time.sleep(POLL_S)


@contextmanager
def training_across_machines(store: Store, name: str) -> Iterator[None]:
    """Claim the model `name` during the block; for the first rank of a training on several machines.

    A second training of the model does not wait, because its other ranks would wait for its first one.

    Raises
    ------
    TransientError
        Another process trains the model.
    """
    with claimed(store, f"model-{name}") as is_ours:
        if not is_ours:
            raise TransientError(
                f"model {name}: {_holder(store, name)}; stop it, or run the same command again when it has ended"
            )
        _note_holder(store, name)
        yield


def _note_holder(store: Store, name: str) -> None:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    store.write_json({"host": socket.gethostname(), "process": os.getpid(), "since": since}, "runs", name, HOLDER)


def _holder(store: Store, name: str) -> str:
    if not store.exists("runs", name, HOLDER):
        return "another process trains this model"
    holder = store.read_json("runs", name, HOLDER)
    return f"process {holder['process']} on {holder['host']} trains this model since {holder['since']}"
