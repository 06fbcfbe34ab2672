"""Measure the memory that the ingest of a recording of two hours, 306 channels and 1,000 Hz needs.

The recording is synthetic: noise with a falling spectrum at the sensors of a VectorView, written piece by piece as
16-bit integers to split FIF files. A separate process with one worker ingests it. `peak_gib` is the largest resident
set of that process or of its worker. `--hours` sets another length.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import mne
import numpy as np

from emeg.synthetic.devices import DEVICES, describe_sensors
from emeg.synthetic.people import draw_person

RATE = 1000.0
SCALES = {"grad": 2e-11, "mag": 1e-12, "eeg": 1e-5}
"""Amplitude of each sensor type, in V, T or T/m."""


class Noise(mne.io.BaseRaw):
    """Synthetic recording that is generated when it is read, in steps of an amplifier's resolution."""

    def __init__(self, info: mne.Info, n_samples: int) -> None:
        scale = np.array([SCALES[kind] for kind in info.get_channel_types()])
        super().__init__(
            info, preload=False, last_samps=[n_samples - 1], orig_format="short", raw_extras=[{"scale": scale / 4}]
        )

    def _read_segment_file(self, *place: Any) -> None:  # noqa: ANN401 - MNE names no types
        data, index, file, start, stop, *_ = place
        scale = self._raw_extras[file]["scale"]
        rng = np.random.default_rng(start)
        noise = rng.standard_normal((len(scale), stop - start), np.float32)
        for lag in (1, 2, 4, 8):
            noise[:, lag:] += noise[:, :-lag].copy()
        data[:] = (noise * scale[:, None])[index]


def write_archive(folder: Path, hours: float, device: str = "vectorview306") -> None:
    """Write a BIDS archive with one recording."""
    info = describe_sensors(DEVICES[device], draw_person(0, n_subjects=1, seed=0), seed=0)
    with info._unlock():
        info["sfreq"], info["lowpass"], info["line_freq"] = RATE, RATE / 3, 50.0
        for channel, kind in zip(info["chs"], info.get_channel_types(), strict=True):
            channel["cal"] = SCALES[kind] / 100.0  # value of one integer step
    meg = folder / "sub-01/meg"
    meg.mkdir(parents=True)
    (folder / "dataset_description.json").write_text('{"Name": "memory", "BIDSVersion": "1.9.0"}')
    Noise(info, round(hours * 3600 * RATE)).save(
        meg / "sub-01_task-rest_meg.fif", fmt="short", split_naming="bids", buffer_size_sec=10.0, verbose="ERROR"
    )


def ingest(archive: Path, root: Path) -> None:
    """Ingest in this process and print the largest resident set sizes."""
    from emeg.ingest import IngestConfig
    from emeg.ingest import ingest as run

    result = run(IngestConfig(archive=str(archive), root=str(root), workers=0))
    own, workers = (
        resource.getrusage(who).ru_maxrss / 2**20 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(json.dumps({"ready": len(result.ready), "own_gib": own, "workers_gib": workers}))


def main() -> None:
    """Measure, and print the result as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--ingest", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ingest:
        ingest(*arguments.ingest)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_archive(folder / "archive", arguments.hours)
        began = time.monotonic()
        command = [
            sys.executable,
            "-m",
            "benchmarks.memory",
            "--ingest",
            str(folder / "archive"),
            str(folder / "store"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "TMPDIR": name})
        figures = json.loads(done.stdout.splitlines()[-1])
        on_disk = sum(path.stat().st_size for path in (folder / "store/recordings").rglob("*") if path.is_file())
    n_values = 306 * arguments.hours * 3600 * 256
    print(
        json.dumps(
            {
                "peak_gib": round(max(figures["own_gib"], figures["workers_gib"]), 3),
                "hours": arguments.hours,
                "channels": 306,
                "sfreq": RATE,
                "ready": figures["ready"],
                "seconds": round(time.monotonic() - began, 1),
                "bytes_ratio": round(on_disk / (4 * n_values), 3),
            }
        )
    )


if __name__ == "__main__":
    main()
