"""A store of noise recordings with EEG, MEG and both, and the data that an export of it must contain."""

from dataclasses import dataclass
from pathlib import Path

import mne
import numpy as np
import pytest
from numpy.typing import NDArray

from emeg.sensors import Sensors, SensorType, sensors_from_info
from emeg.store import BadReason, CatalogRow, Event, RecordingAttributes, Store, publish_row, write_recording
from emeg.synthetic.devices import DEVICES, describe_sensors
from emeg.synthetic.people import draw_person

SFREQ = 256.0
SCALES = {SensorType.EEG: 1e-5, SensorType.MAGNETOMETER: 3e-13, SensorType.GRADIOMETER: 5e-12}
EVENTS = (
    Event(1.25, 0.0, "left imagery", "S  1"),
    Event(0.5, 2.0, "", "T0"),
    Event(3.00390625, 0.5, "right\timagery", ""),
)


@dataclass(frozen=True)
class Stored:
    """A store and the data that were written into it."""

    root: Path
    store: Store
    infos: dict[str, mne.Info]
    signals: dict[str, NDArray[np.float32]]
    rows: dict[str, CatalogRow]


def device_info(name: str) -> mne.Info:
    return describe_sensors(DEVICES[name], draw_person(0, n_subjects=1, seed=0), seed=0)


def joined(one: Sensors, other: Sensors) -> Sensors:
    return Sensors.from_records([*one.to_records(), *other.to_records()])


def put(stored: Stored, recording: str, sensors: Sensors, seconds: float, **changes: object) -> None:
    """Write a recording with a flat, a marked and a noisy channel, and a second in which all are clipped."""
    rng = np.random.default_rng(len(recording) + len(sensors))
    scale = np.array([SCALES[SensorType(int(kind))] for kind in sensors.types])[:, None]
    signal = (rng.standard_normal((len(sensors), round(seconds * SFREQ))) * scale).astype(np.float32)
    bad = np.zeros((len(sensors), int(np.ceil(seconds))), np.uint8)
    bad[0] = BadReason.FLAT | BadReason.INTERPOLATED
    bad[1] = BadReason.MARKED
    bad[2, 2:4] |= np.uint8(BadReason.NOISY)
    bad[3, 2:4] |= np.uint8(BadReason.NOISY)
    bad[:, 5] |= np.uint8(BadReason.CLIPPED)
    fields: dict[str, object] = {
        "recording": recording,
        "dataset": "ours",
        "modality": sensors.modality,
        "source": f"sub-01/{recording}.edf",
        "n_channels": len(sensors),
        "n_eeg": int(sensors.is_eeg.sum()),
        "n_magnetometers": int(sensors.of_type(SensorType.MAGNETOMETER).sum()),
        "n_gradiometers": int(sensors.of_type(SensorType.GRADIOMETER).sum()),
        "layout": sensors.layout_id,
        "sfreq_source": 500.0,
        "duration_s": signal.shape[1] / SFREQ,
        "pass_band_low": 0.1,
        "pass_band_high": 96.0,
        "notches": (50.0,),
        "mains": 50.0,
        "bad_channels": sensors.names[:2],
        "interpolated": sensors.names[:1],
        "licence": "CC0-1.0",
        "n_events": len(EVENTS),
        "config_hash": "0" * 16,
        "version": "0.1.0",
    }
    row = CatalogRow.model_validate(fields | changes)
    shared = {"layout", "source", "dataset", "subject", "licence", "config_hash", "version"}
    attributes = RecordingAttributes(
        sfreq=SFREQ, pass_band=(0.1, 96.0), notches=(50.0,), **{key: getattr(row, key) for key in shared}
    )
    write_recording(stored.store, recording, signal, sensors=sensors, attributes=attributes, bad=bad)
    publish_row(stored.store, row, EVENTS)
    stored.signals[recording] = signal
    stored.rows[recording] = row


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    root = tmp_path_factory.mktemp("export") / "store"
    infos = {name: device_info(name) for name in ("standard19", "hydrocel128", "vectorview306", "ctf275")}
    stored = Stored(root, Store.open(root, create=True), infos, {}, {})
    sensors = {name: sensors_from_info(info).sensors for name, info in infos.items()}
    put(stored, "a" * 16, sensors["hydrocel128"], 63.3, subject="sub-01", task="imagery", run="1", device="hydrocel128")
    put(stored, "b" * 16, sensors["standard19"], 7.5, subject="sub-01", task="imagery", run="2")
    both = joined(sensors["vectorview306"], sensors["standard19"])
    put(stored, "c" * 16, both, 62.0, subject="sub-xdeadbeef", session="a", task="rest", acquisition="both", mains=0.0)
    put(stored, "d" * 16, sensors["ctf275"], 6.0, subject="S-02", task="", run="x12", notches=())
    return stored
