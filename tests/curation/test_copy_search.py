"""The verb finds copies in a store, says what it cannot compare, and computes nothing twice."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from emeg.curation import CopiesConfig, copies
from emeg.sensors import Sensors
from emeg.store import CatalogRow, RecordingAttributes, Store, publish_row, write_recording
from emeg.store.copies import read_copies

SFREQ = 256


def noise(seed: int, seconds: float) -> NDArray[np.float32]:
    return (1e-5 * np.random.default_rng(seed).standard_normal((6, round(seconds * SFREQ)))).astype(np.float32)


def put(store: Store, recording: str, signal: NDArray[np.float32], **changes: str) -> None:
    places = np.random.default_rng(1).normal(size=(6, 3))
    sensors = Sensors(
        names=tuple("ABCDEF"),
        types=np.zeros(6, np.int8),
        units=("V",) * 6,
        positions=places,
        orientations=np.zeros((6, 3)),
        coils=np.ones(6, np.int32),
    )
    shared = {"layout": sensors.layout_id, "config_hash": "c", "version": "0", "source": f"{recording}.edf"}
    shared |= {"dataset": "ours", "subject": "sub-01"} | changes
    attributes = RecordingAttributes(sfreq=SFREQ, pass_band=(0.1, 96.0), **shared)
    seconds = signal.shape[1] / SFREQ
    bad = np.zeros((6, int(np.ceil(seconds))), np.uint8)
    write_recording(store, recording, signal, sensors=sensors, attributes=attributes, bad=bad)
    counts = {"n_channels": 6, "n_eeg": 6, "n_magnetometers": 0, "n_gradiometers": 0}
    counts |= {"sfreq_source": 256.0, "duration_s": seconds, "pass_band_low": 0.1, "pass_band_high": 96.0}
    publish_row(store, CatalogRow.model_validate({"recording": recording, "modality": "eeg", **counts, **shared}), [])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.open(tmp_path / "store", create=True)
    put(store, "a", noise(1, 40.0))
    put(store, "b", 0.2 * noise(1, 40.0)[::-1, 9 * SFREQ : 34 * SFREQ], subject="sub-02")
    put(store, "c", noise(2, 40.0))
    put(store, "d", noise(3, 12.0), dataset="theirs")
    put(store, "e", noise(3, 12.0))
    put(store, "f", noise(4, 12.0))
    return store


def test_pairs_are_found_and_noted(store: Store):
    result = copies(CopiesConfig(root=str(store.root)))
    assert result.copies == ("ours/a.edf = ours/b.edf", "theirs/d.edf = ours/e.edf")
    assert result.n_across_people == 2
    assert result.too_short == ("ours/e.edf", "ours/f.edf", "theirs/d.edf")
    first, second = read_copies(store)
    assert (first.first, first.second, first.offset_s) == ("a", "b", pytest.approx(9.0, abs=0.05))
    assert (second.first, second.second, second.correlation) == ("d", "e", 1.0)


def test_a_fingerprint_is_computed_once(store: Store, monkeypatch: pytest.MonkeyPatch):
    before = copies(CopiesConfig(root=str(store.root)))
    monkeypatch.setattr("emeg.curation.copy_search.open_recording", lambda *_: pytest.fail("read again"))
    assert copies(CopiesConfig(root=str(store.root))) == before


def test_an_empty_fingerprint_of_an_earlier_version_is_made_anew(store: Store):
    expected = copies(CopiesConfig(root=str(store.root)))
    place = store.location("catalog", "fingerprints", "b.npy").local_path()
    np.save(place, np.empty(0, np.float32))
    assert copies(CopiesConfig(root=str(store.root))) == expected
