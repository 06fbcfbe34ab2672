"""Units of work that fail, in a module that a worker imports quickly."""

import os
import signal
import time
from pathlib import Path

from emeg.ingest import IngestConfig, Outcome, Source
from emeg.store import Store
from emeg.store.claims import claimed


def fail_as_named(source: Source, config: IngestConfig) -> Outcome:
    """Simulate an ingest on a cluster: the child crashes or hangs, the worker is killed or frozen, or it works."""
    with claimed(Store.open(config.root), source.path) as ours:
        if not ours:
            return Outcome(source.path, source.path, "claimed")
        tries = Path(source.archive) / f"{source.path}.tries"
        with tries.open("a") as file:
            file.write("x")
        worker, first = os.getppid(), tries.stat().st_size == 1
        if "crash" in source.path:
            os.abort()
        if "hang" in source.path:
            time.sleep(120)
        if "doomed" in source.path or ("killed" in source.path and first):
            os.kill(worker, signal.SIGKILL)
            time.sleep(120)
        if "frozen" in source.path and first:
            os.kill(worker, signal.SIGSTOP)
        return Outcome(source.path, source.path, "ready")
