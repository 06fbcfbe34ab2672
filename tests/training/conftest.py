"""A store of a few subjects with signals that a small network can learn, created once per session."""

from pathlib import Path

import numpy as np
import pytest
from tests.small_models import one_thread  # noqa: F401 - a fixture for the folder

from emeg.sensors import Sensors
from emeg.store import CatalogRow, Event, RecordingAttributes, Store, publish_row, write_recording

SFREQ = 256.0


def sensors_of(n: int) -> Sensors:
    directions = np.random.default_rng(n).normal(size=(n, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return Sensors(
        names=tuple(f"S{i}" for i in range(n)),
        types=np.zeros(n, np.int8),
        units=("V",) * n,
        positions=directions * 0.09,
        orientations=np.zeros((n, 3)),
        coils=np.ones(n, np.int32),
    )


def rhythms(generator, n_channels: int, n_samples: int) -> np.ndarray:
    """Return three slow sources mixed by a fixed pattern, in V, which a few codes can describe."""
    time = np.arange(n_samples) / SFREQ
    rates = np.array([1.5, 3.0, 6.0]) * (1 + 0.1 * generator.normal(size=3))
    sources = np.sin(2 * np.pi * (rates[:, None] * time + generator.uniform(size=(3, 1))))
    pattern = np.random.default_rng(n_channels).normal(size=(n_channels, 3))
    return (30e-6 * (pattern @ sources + 0.1 * generator.normal(size=(n_channels, n_samples)))).astype(np.float32)


def add_recording(store: Store, subject: str, *, device: str, n_channels: int, seconds: float, events=()) -> None:
    sensors = sensors_of(n_channels)
    recording = f"d{subject}{device}"
    generator = np.random.default_rng(list(recording.encode()))
    signal = rhythms(generator, n_channels, round(seconds * SFREQ))
    for onset, duration, kind, _ in events:
        if kind == "strong":
            start = round(onset * SFREQ)
            signal[0, start : start + round(duration * SFREQ)] *= 4
    shared = {"device": device, "dataset": "d", "subject": subject, "config_hash": "c", "version": "0"}
    shared |= {"layout": sensors.layout_id, "source": f"{recording}.edf", "licence": "CC0"}
    write_recording(
        store,
        recording,
        signal,
        sensors=sensors,
        attributes=RecordingAttributes(sfreq=SFREQ, pass_band=(0.1, 96.0), **shared),
        bad=np.zeros((n_channels, int(np.ceil(seconds))), np.uint8),
    )
    row = CatalogRow(
        recording=recording,
        modality="eeg",
        n_channels=n_channels,
        n_eeg=n_channels,
        n_magnetometers=0,
        n_gradiometers=0,
        sfreq_source=SFREQ,
        duration_s=seconds,
        pass_band_low=0.1,
        pass_band_high=96.0,
        n_events=len(events),
        **shared,
    )
    publish_row(store, row, [Event(*event) for event in events])


@pytest.fixture(scope="session")
def root(tmp_path_factory) -> str:
    """Store with a corpus: six subjects with 5 channels, two of them with 9 too."""
    from emeg.data import ShardConfig, shard

    folder: Path = tmp_path_factory.mktemp("training") / "store"
    store = Store.open(folder, create=True)
    for i in range(6):
        add_recording(store, f"{i:02d}", device="x", n_channels=5, seconds=40)
    for i in range(3):
        add_recording(store, f"{i:02d}", device="y", n_channels=9, seconds=20)
    shard(ShardConfig(root=str(folder), held_out=0.3, validation=0.3))
    return str(folder)
