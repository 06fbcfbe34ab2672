"""Ingest many small recordings through the flow on a real Prefect server: time spent in Prefect, and server memory.

    python -m benchmarks.flow_overhead --recordings 1000

Prints one line of JSON. ``prefect_share`` is the share of the flow's wall time outside the library's own work: start
and end of the run, artifacts, progress updates and log records. ``prefect_cpu_share`` is the share of CPU time of the
flow's process and its children that is not the library's. ``server_mib`` is the server's memory at the start of the
run, at half of it and at its end.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from benchmarks._prefect import running_server


def write_archive(folder: Path, n: int) -> None:
    """Write `n` recordings of 4 channels and 20 s, one a subject."""
    from edfio import Edf, EdfSignal

    rng = np.random.default_rng(0)
    for number in range(n):
        names = ("Fp1", "Fp2", "O1", "O2")
        data = rng.normal(scale=20.0, size=(len(names), 20 * 128))
        signals = [
            EdfSignal(row, 128, label=name, physical_dimension="uV", physical_range=(-200, 200))
            for name, row in zip(names, data, strict=True)
        ]
        file = folder / f"sub-{number:04d}/eeg/sub-{number:04d}_task-rest_eeg.edf"
        file.parent.mkdir(parents=True)
        Edf(signals).write(file)


def cpu_s() -> float:
    """Return the CPU time of this process and its finished children, s."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


class Stopwatch:
    """Measures the library's part of a flow: its call, without the calls of the flow's progress."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def around(self, function: Any, sign: int) -> Any:  # noqa: ANN401 - any callable
        """Return a function that adds its time, or subtracts it if `sign` is -1."""

        def measured(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            wall, cpu = time.perf_counter(), cpu_s()
            try:
                return function(*args, **kwargs)
            finally:
                self.wall += sign * (time.perf_counter() - wall)
                self.cpu += sign * (cpu_s() - cpu)

        return measured


def measure(archive: Path, store: Path, workers: int, server: psutil.Process) -> dict[str, Any]:
    """Run the flow once and return the shares and the server's memory."""
    from emeg import ingest
    from emeg.flows.engine import ArtifactProgress, show_log_lines
    from emeg.flows.ingest import ingest_flow

    show_log_lines()  # as in the run of a deployment
    library = Stopwatch()
    ingest.ingest = library.around(ingest.ingest, 1)
    ArtifactProgress.__call__ = library.around(ArtifactProgress.__call__, -1)
    memory: list[float] = []
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(1.0):
            memory.append(server.memory_info().rss / 2**20)

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        wall, cpu = time.perf_counter(), cpu_s()
        result = ingest_flow(ingest.IngestConfig(archive=str(archive), root=str(store), workers=workers))
        wall, cpu = time.perf_counter() - wall, cpu_s() - cpu
    finally:
        ended.set()
        sampler.join()
    return {
        "recordings": len(result.ready),
        "seconds": round(wall, 1),
        "prefect_share": round(1 - library.wall / wall, 4),
        "prefect_cpu_share": round(1 - library.cpu / cpu, 4),
        "server_mib": [round(memory[index]) for index in (0, len(memory) // 2, -1)],
    }


def main() -> None:
    """Run the measurement and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="emeg-flow-") as name:
        folder = Path(name)
        write_archive(folder / "archive", arguments.recordings)
        with running_server(folder) as (url, server):
            os.environ |= {"PREFECT_API_URL": url, "PREFECT_HOME": str(folder / "prefect"), "DO_NOT_TRACK": "1"}
            os.environ["PREFECT_LOGGING_EXTRA_LOGGERS"] = "emeg"
            found = measure(folder / "archive", folder / "store", arguments.workers, server)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
