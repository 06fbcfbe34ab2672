"""Stores in folders and buckets, and small recordings."""

import uuid
from collections.abc import Callable

import numpy as np
import pytest

from emeg.sensors import Sensors
from emeg.store import CatalogRow, RecordingAttributes, Store


@pytest.fixture
def sensors() -> Callable[[int], Sensors]:
    def build(n: int) -> Sensors:
        positions = np.random.default_rng(n).normal(size=(n, 3))
        positions *= 0.09 / np.linalg.norm(positions, axis=1, keepdims=True)
        return Sensors(
            names=tuple(f"E{i}" for i in range(n)),
            types=np.zeros(n, np.int8),
            units=("V",) * n,
            positions=positions,
            orientations=np.zeros((n, 3)),
            coils=np.ones(n, np.int32),
        )

    return build


@pytest.fixture
def attributes() -> Callable[[Sensors], RecordingAttributes]:
    def build(sensors: Sensors) -> RecordingAttributes:
        return RecordingAttributes(
            sfreq=256.0,
            pass_band=(0.1, 96.0),
            notches=(50.0,),
            device="device",
            layout=sensors.layout_id,
            source="sub-01/eeg/sub-01_task-rest_eeg.edf",
            dataset="dataset",
            subject="01",
            licence="CC0",
            config_hash="0" * 16,
            version="0.1.0",
        )

    return build


@pytest.fixture
def row() -> Callable[..., CatalogRow]:
    def build(recording: str, **changes: object) -> CatalogRow:
        fields: dict[str, object] = {
            "recording": recording,
            "dataset": "dataset",
            "subject": "01",
            "modality": "eeg",
            "source": "sub-01/eeg/sub-01_task-rest_eeg.edf",
            "n_channels": 3,
            "n_eeg": 3,
            "n_magnetometers": 0,
            "n_gradiometers": 0,
            "layout": "f" * 16,
            "sfreq_source": 500.0,
            "duration_s": 60.5,
            "pass_band_low": 0.1,
            "pass_band_high": 96.0,
            "notches": (50.0, 100.0),
            "bad_channels": ("E1",),
            "dropped": {"STATUS": "no EEG or MEG", "ECG": "no EEG or MEG"},
            "config_hash": "0" * 16,
            "version": "0.1.0",
        }
        return CatalogRow.model_validate(fields | changes)

    return build


@pytest.fixture(params=["local", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path) -> Store:
    uri = {
        "local": lambda: str(tmp_path / "store"),
        "memory": lambda: f"memory://{uuid.uuid4().hex}",
        "s3": lambda: request.getfixturevalue("bucket"),
    }[request.param]()
    return Store.open(uri, create=True)


@pytest.fixture
def local_store(tmp_path) -> Store:
    return Store.open(tmp_path / "store", create=True)
