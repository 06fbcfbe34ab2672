"""Stores small enough to be made in every test."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from emeg.sensors import Sensors
from emeg.store import CatalogRow, Event, RecordingAttributes, Store, publish_row, write_recording


def sensors_of(n_eeg: int, n_mag: int = 0) -> Sensors:
    """EEG and magnetometers on a sphere of 9 cm."""
    n = n_eeg + n_mag
    directions = np.random.default_rng(n).normal(size=(n, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    is_meg = np.arange(n) >= n_eeg
    return Sensors(
        names=tuple(f"S{i}" for i in range(n)),
        types=is_meg.astype(np.int8),
        units=tuple("T" if meg else "V" for meg in is_meg),
        positions=directions * 0.09,
        orientations=directions * is_meg[:, None],
        coils=np.where(is_meg, 3024, 1),
    )


@pytest.fixture
def store(tmp_path) -> Store:
    return Store.open(tmp_path / "store", create=True)


@pytest.fixture
def add_recording(store) -> Callable[..., str]:
    """Write a recording of noise with its row and events, and return its id."""
    return recording_writer(store)


@pytest.fixture(scope="session")
def store_of_people(tmp_path_factory) -> Path:
    store = Store.open(tmp_path_factory.mktemp("people") / "store", create=True)
    add = recording_writer(store)
    for i in range(7):
        add(f"{i:02d}", device="x", seconds=30 + 5 * (i % 2))
    for i in range(3):
        add(f"{i:02d}", device="y", sensors=sensors_of(3, 4), seconds=20)
    return store.root.local_path()


@pytest.fixture
def people(store, store_of_people) -> Store:
    """Create a store of seven subjects: all with a 5-channel device, three also with a 3 + 4 channel device."""
    shutil.copytree(store_of_people, store.root.local_path(), dirs_exist_ok=True)
    return store


def recording_writer(store: Store) -> Callable[..., str]:
    def add(
        subject="01",
        *,
        dataset="d",
        device="x",
        sensors=None,
        seconds=35.0,
        events=(),
        bad=None,
        config_hash="c0",
        task="",
    ):
        sensors = sensors or sensors_of(5)
        recording = f"{dataset}{subject}{device}{task}{config_hash}"
        n = round(seconds * 256)
        generator = np.random.default_rng(list(recording.encode()))
        scale = np.where(sensors.types == 0, 2e-5, 1e-12)[:, None]
        signal = (generator.normal(size=(len(sensors), n)) * scale).astype(np.float32)
        write_recording(
            store,
            recording,
            signal,
            sensors=sensors,
            attributes=RecordingAttributes(
                sfreq=256.0,
                pass_band=(0.1, 96.0),
                device=device,
                layout=sensors.layout_id,
                source=f"{recording}.edf",
                dataset=dataset,
                subject=subject,
                config_hash=config_hash,
                version="0",
            ),
            bad=np.zeros((len(sensors), int(np.ceil(seconds))), np.uint8) if bad is None else bad,
        )
        n_eeg = int((sensors.types == 0).sum())
        row = CatalogRow(
            recording=recording,
            dataset=dataset,
            subject=subject,
            device=device,
            task=task,
            modality=sensors.modality,
            source=f"{recording}.edf",
            n_channels=len(sensors),
            n_eeg=n_eeg,
            n_magnetometers=len(sensors) - n_eeg,
            n_gradiometers=0,
            layout=sensors.layout_id,
            sfreq_source=256.0,
            duration_s=seconds,
            pass_band_low=0.1,
            pass_band_high=96.0,
            n_events=len(events),
            config_hash=config_hash,
            version="0",
        )
        publish_row(store, row, [Event(*event) for event in events])
        return recording

    return add
