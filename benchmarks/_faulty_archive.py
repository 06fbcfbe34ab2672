"""Three small synthetic datasets and an S3 server in a separate process, for `benchmarks.faults`."""

import contextlib
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

NAMES = tuple(f"{row}{side}" for row in ("F", "FC", "C", "CP", "P") for side in ("3", "z", "4"))
SECONDS, RATE, PEOPLE = 30, 250, 2


def signals(seed: int) -> np.ndarray:
    """Create 15 channels of 1/f noise with an alpha rhythm, in volts; all channels share a common noise component."""
    rng = np.random.default_rng(seed)
    n = SECONDS * RATE
    spectrum = rng.normal(size=(len(NAMES) + 1, n // 2 + 1)) + 1j * rng.normal(size=(len(NAMES) + 1, n // 2 + 1))
    spectrum /= np.sqrt(np.maximum(np.fft.rfftfreq(n, 1 / RATE), 0.5))
    noise = np.fft.irfft(spectrum, n)
    noise = noise[1:] + 2.0 * noise[:1]
    alpha = np.sin(2 * np.pi * 10 * np.arange(n) / RATE + seed)
    return 15e-6 * (noise / noise.std() + 0.5 * alpha)


def write_dataset(folder: Path, kind: str, number: int) -> None:
    """Write a dataset of two subjects with one recording each; the third dataset also gets a truncated file."""
    import edfio
    import mne
    import pybv

    folder.mkdir(parents=True)
    description = {"Name": folder.name, "BIDSVersion": "1.9.0", "License": "CC0"}
    (folder / "dataset_description.json").write_text(json.dumps(description))
    (folder / "task-rest_eeg.json").write_text(json.dumps({"PowerLineFrequency": 50, "TaskName": "rest"}))
    for person in range(1, PEOPLE + 1):
        place = folder / f"sub-{person:02d}" / "eeg"
        place.mkdir(parents=True)
        stem = f"sub-{person:02d}_task-rest_eeg"
        data = signals(10 * number + person)
        if kind == "edf":
            channels = [
                edfio.EdfSignal(row * 1e6, RATE, label=n, physical_dimension="uV")
                for row, n in zip(data, NAMES, strict=True)
            ]
            edfio.Edf(channels).write(place / f"{stem}.edf")
        else:
            mne.set_log_level("ERROR")
            pybv.write_brainvision(
                data=data, sfreq=RATE, ch_names=NAMES, fname_base=stem, folder_out=place, events=None, unit="µV"
            )
        (place / f"sub-{person:02d}_task-rest_events.tsv").write_text(
            "onset\tduration\ttrial_type\n5\t1\ta\n20\t1\tb\n"
        )
    if number == 3:
        (folder / "sub-04" / "eeg").mkdir(parents=True)
        whole = (folder / "sub-01/eeg/sub-01_task-rest_eeg.edf").read_bytes()
        (folder / "sub-04/eeg/sub-04_task-rest_eeg.edf").write_bytes(whole[: len(whole) // 2])


DATASETS = {"one": "edf", "two": "brainvision", "three": "edf"}


def moto() -> tuple[subprocess.Popen[bytes], str]:
    """Start an S3 server in a separate process; return the process and its URL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return process, f"http://127.0.0.1:{port}"
        time.sleep(0.05)
    raise SystemExit("moto did not start")
