"""Interrupted recordings keep their interruptions through an export: read by MNE-Python, MNE-BIDS and ingest."""

import json
from pathlib import Path

import mne
import numpy as np
import pytest
from tests.export.conftest import SCALES, SFREQ, device_info
from tests.export.test_bids import as_raw, table, validate
from tests.ingest.conftest import ingested

from emeg.export import ExportBidsConfig, export_bids
from emeg.sensors import SensorType, sensors_from_info
from emeg.store import (
    CatalogRow,
    Event,
    RecordingAttributes,
    Store,
    Stretch,
    open_recording,
    publish_row,
    read_catalog,
    read_events,
    write_recording,
)

N = 3840
STRETCHES = (Stretch(0, 1024, 0.0), Stretch(1024, 2000, 63.0), Stretch(2560, N, None))
"""A pause of a minute at 4 s, and samples that fill a pause from 7.8125 to 10 s."""
EVENTS = (Event(1.25, 0.0, "go", "1"), Event(6.5, 0.5, "stop", "2"), Event(12.0, 0.0, "go", "1"))
INTERRUPTIONS = [(4.0, 0.0, "BAD boundary"), (4.0, 0.0, "EDGE boundary"), (7.8125, 2.1875, "BAD_ACQ_SKIP")]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stretches")
    store = Store.open(folder / "store", create=True)
    for recording, device, task in (("e" * 16, "standard19", "eeg"), ("f" * 16, "ctf275", "meg")):
        sensors = sensors_from_info(device_info(device)).sensors
        scale = SCALES[SensorType(int(sensors.types[0]))]
        signal = scale * np.random.default_rng(0).standard_normal((len(sensors), N)).astype(np.float32)
        signal[:, 2000:2560] = 0.0
        shared = {
            "layout": sensors.layout_id, "source": f"sub-01/{task}.x", "dataset": "ours", "subject": "sub-01",
            "licence": "CC0-1.0", "config_hash": "0" * 16, "version": "0.1.0",
        }  # fmt: skip
        attributes = RecordingAttributes(sfreq=SFREQ, pass_band=(0.1, 96.0), notches=(), stretches=STRETCHES, **shared)
        bad = np.zeros((len(sensors), N // 256), np.uint8)
        write_recording(store, recording, signal, sensors=sensors, attributes=attributes, bad=bad)
        n_eeg = int(sensors.is_eeg.sum())
        row = CatalogRow(
            recording=recording, modality=sensors.modality, task=task, n_channels=len(sensors), n_eeg=n_eeg,
            n_magnetometers=0, n_gradiometers=len(sensors) - n_eeg, sfreq_source=500.0, duration_s=N / SFREQ,
            pass_band_low=0.1, pass_band_high=96.0, notches=(), mains=0.0, n_events=len(EVENTS), **shared,
        )  # fmt: skip
        publish_row(store, row, EVENTS)
    export_bids(ExportBidsConfig(root=str(folder / "store"), out=str(folder / "bids")))
    return folder / "bids"


def file_of(exported: Path, task: str) -> Path:
    suffix = "eeg.vhdr" if task == "eeg" else "meg.fif"
    return exported / f"sub-01/{task}/sub-01_task-{task}_desc-preproc_{suffix}"


@pytest.mark.parametrize("task", ["eeg", "meg"])
def test_the_table_lists_events_and_interruptions_at_their_times(exported: Path, task: str):
    rows = table(exported / f"sub-01/{task}/sub-01_task-{task}_desc-preproc_events.tsv")
    found = [(float(row["onset"]), float(row["duration"]), row["trial_type"]) for row in rows]
    expected = [*INTERRUPTIONS, *((event.onset_s, event.duration_s, event.trial_type) for event in EVENTS)]
    assert sorted(found) == sorted(expected)
    stated = json.loads(file_of(exported, task).with_suffix(".json").read_text())
    assert stated["RecordingType"] == "discontinuous"
    assert [(one["Onset"], one["ClockOnset"]) for one in stated["Stretches"]] == [
        (0.0, 0.0),
        (4.0, 63.0),
        (10.0, "n/a"),
    ]


def test_the_public_validator_accepts_it(exported: Path):
    assert validate(exported) == []


def test_mne_reads_the_boundaries_of_both_formats(exported: Path):
    raw = mne.io.read_raw_fif(file_of(exported, "meg"), verbose="error")
    notes = raw.annotations
    found = zip(notes.onset - raw.first_time, notes.duration, notes.description, strict=True)
    assert [(pytest.approx(a), pytest.approx(b), str(c)) for a, b, c in found] == INTERRUPTIONS
    events = mne.make_fixed_length_events(raw, duration=1.0)
    epochs = mne.Epochs(raw, events, tmin=-0.4, tmax=0.4, baseline=None, reject_by_annotation=True, verbose="error")
    kept = {int(sample) for sample, *_ in epochs.drop_bad().events / SFREQ}
    assert kept == {1, 2, 3, 5, 6, 7, 11, 12, 13, 14}
    raw = mne.io.read_raw_brainvision(file_of(exported, "eeg"), verbose="error")
    assert [round(onset * SFREQ) for onset in raw.annotations.onset] == [1024, 2000, 2560]
    assert set(raw.annotations.description) == {"New Segment/"}


def test_mne_bids_reads_events_and_boundaries(exported: Path):
    mne_bids = pytest.importorskip("mne_bids")
    path = mne_bids.BIDSPath(
        root=exported, subject="01", task="eeg", datatype="eeg", description="preproc", suffix="eeg"
    )
    notes = mne_bids.read_raw_bids(path, verbose="error").annotations
    found = sorted(zip(notes.onset.tolist(), notes.duration.tolist(), map(str, notes.description), strict=True))
    own = [(event.onset_s, event.duration_s, event.trial_type) for event in EVENTS]
    assert [one for one in found if one[2] in {"go", "stop"}] == sorted(own)
    assert [one for one in found if one[2].startswith(("BAD", "EDGE"))] == INTERRUPTIONS


@pytest.mark.parametrize("task", ["eeg", "meg"])
def test_ingest_finds_the_same_stretches_and_events_again(exported: Path, tmp_path: Path, task: str):
    raw = as_raw(exported, tmp_path / "raw")  # ingest leaves derivatives out
    for header in raw.rglob("*.v*"):
        header.write_text(header.read_text().replace("_desc-preproc", ""))
    made = ingested(raw, tmp_path / "store")
    [row] = [row for row in read_catalog(made.store) if row.task == task]
    recording = open_recording(made.store, row.recording)
    assert [(one.start, one.stop) for one in recording.stretches] == [(one.start, one.stop) for one in STRETCHES]
    found = [(event.onset_s, event.duration_s, event.trial_type) for event in read_events(made.store, row.recording)]
    assert found == [(event.onset_s, event.duration_s, event.trial_type) for event in EVENTS]
