"""Measure a second ingest of 1,000 recordings that have not changed.

The recordings are copies of one file of two seconds under other names. Reported are CPU seconds of this process with
its children, and wall seconds, for the first and the second ingest.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from edfio import Edf, EdfSignal

from emeg.ingest import IngestConfig, ingest

N = int(os.environ.get("EMEG_RERUN_N", "1000"))
NAMES = ("Fp1", "Fp2", "F3", "F4", "C3", "C4", "O1", "O2")


def make(folder: Path) -> None:
    """Write an archive of the recordings into `folder`."""
    rng = np.random.default_rng(0)
    signals = [
        EdfSignal(np.cumsum(rng.normal(size=512)), 256, label=f"EEG {name}", physical_dimension="uV") for name in NAMES
    ]
    Edf(signals).write(folder / "one.edf")
    data = (folder / "one.edf").read_bytes()
    (folder / "one.edf").unlink()
    for number in range(N):
        place = folder / f"sub-{number:04d}" / "eeg"
        place.mkdir(parents=True)
        (place / f"sub-{number:04d}_task-rest_eeg.edf").write_bytes(data)


def timed(work: Callable[[], object]) -> tuple[float, float, object]:
    """Call `work` and return its CPU seconds, its wall seconds and its result."""
    before, began = os.times(), time.perf_counter()
    result = work()
    after = os.times()
    return sum(after[:4]) - sum(before[:4]), time.perf_counter() - began, result


def main() -> None:
    """Measure, and print the result as one JSON object."""
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch) / "tiny"
        archive.mkdir()
        make(archive)
        time.sleep(4)  # ingest hashes files again that changed less than 4 s ago
        config = IngestConfig(archive=str(archive), root=str(Path(scratch) / "store"), workers=1)
        first_cpu, first_wall, first = timed(lambda: ingest(config))
        cpu, wall, second = timed(lambda: ingest(config))
    print(
        json.dumps(
            {
                "benchmark": "rerun",
                "seconds": round(cpu, 2),
                "wall_seconds": round(wall, 2),
                "recordings": N,
                "n_known": second.n_known,  # type: ignore[attr-defined]
                "n_new": second.n_new,  # type: ignore[attr-defined]
                "ready": len(first.ready),  # type: ignore[attr-defined]
                "first_cpu_seconds": round(first_cpu, 2),
                "first_wall_seconds": round(first_wall, 2),
            }
        )
    )


if __name__ == "__main__":
    main()
