"""Every device of the test recordings: ready with the values of its file, or refused for the right reason."""

import re
from collections import Counter

import mne
import numpy as np
import pytest

from emeg.ingest.tables.electrodes import apply_electrodes
from emeg.ingest.tables.sidecars import Sidecars
from emeg.sensors import SensorType
from emeg.store import read_events

# device: channels (EEG, magnetometers, gradiometers), rate, pass band, mains, bad channels
READY = {
    "neuromag306": ("neuromag306", (60, 102, 204), 300.3074951171875, (0.1, 80.0), 60.0, ()),
    "neuromag306-split": ("neuromag306", (60, 102, 204), 300.3074951171875, (0.1, 80.0), 60.0, ()),
    "ctf275": ("ctf275", (0, 0, 274), 480.0, (1.0, 45.0), 0.0, ()),
    "kit157": ("kit157", (0, 0, 157), 1000.0, (0.1, 96.0), 0.0, ()),
    "bti248": ("bti248", (0, 248, 0), 1017.25, (0.1, 96.0), 0.0, ()),
    "brainvision": ("brain-products", (26, 0, 0), 1000.0, (0.1, 96.0), 0.0, ()),
    "brainvision-old": ("brainvision25", (25, 0, 0), 250.0, (0.176839, 50.0), 0.0, ()),
    "edf-bci2000-128hz": ("edf64", (64, 0, 0), 128.0, (0.1, 57.6), 60.0, ()),
    "edf-mixed-names": ("edf19", (19, 0, 0), 128.0, (0.1, 57.6), 0.0, ("EEG F8", "EEG P4", "EEG T6", "EEG O1")),
    "edf-duplicate-names": ("edf1", (1, 0, 0), 250.0, (0.1, 96.0), 0.0, ()),
    "biosemi": ("biosemi-activetwo", (66, 0, 0), 2048.0, (0.1, 96.0), 0.0, ()),
    "egi-raw": ("egi", (256, 0, 0), 250.0, (0.1, 96.0), 0.0, ("E6", "E8")),
    "egi-mff": ("egi", (256, 0, 0), 250.0, (0.1, 96.0), 0.0, ()),
    "ant-waveguard": ("ant-neuro-eego", (63, 0, 0), 1000.0, (0.1, 96.0), 0.0, ()),
    "nicolet": ("nicolet19", (19, 0, 0), 256.0, (0.1, 96.0), 0.0, ()),
    "tiny": ("edf64", (64, 0, 0), 160.0, (0.1, 72.0), 0.0, ()),
}

REFUSED = {
    "ant-duke": ("sensors", "128 such as 'Z2'"),
    "edf-biosemi": ("sensors", "136 such as 'A1'"),
    "edf-bipolar": ("sensors", "18 such as 'Fp1-F7': derivation"),
    "eeglab": ("sensors", "32 such as 'EEG 000'"),
    "eeglab-single": ("sensors", "32 such as 'EEG 000'"),
    "opm-cerca": ("sensors", "128 such as 'LJ_Y': no position"),
    "gtec-gdf": ("signal", "6.95 nV, plausible are 200 nV to 1 mV: numbers too small by a factor near 1,000"),
    "gtec-fif": (
        "sensors",
        "millimetres taken for metres; and the median standard deviation of 8 EEG channels is 6.95 mV",
    ),
    "truncated.edf": ("read", "the header's 125 records of 1 s, of which 8 are whole, need 2596896 bytes"),
    "newline_translated.edf": ("read", "newlines were translated"),
    "empty.edf": ("read", "the file is empty (0 bytes)"),
    "missing_data.vhdr": ("read", "the header names the data file absent.eeg, which is absent"),
    "missing_fdt.set": ("read", "eeglab_data.fdt"),
    "missing_second_part_raw.fif": ("read", "sample_raw-1.fif does not exist"),
    "truncated_raw.fif": ("read", "it ends at byte 200000, inside a tag"),
}


def test_every_device_is_ready_or_refused(devices, shared):
    folders = {path.name for path in (shared / "data/devices").iterdir()} - {"broken"}
    damaged = {path.name for path in (shared / "data/devices/broken").iterdir()} - {"test.vmrk"}
    assert set(devices.rows) == set(READY)
    assert set(devices.refused) == set(REFUSED)
    assert set(READY) | set(REFUSED) == folders | damaged
    assert len(devices.result.ready) == len(READY)
    assert len(devices.result.quarantined) == len(REFUSED)


@pytest.mark.parametrize("name", READY)
def test_ready_devices_have_the_figures_of_their_files(devices, name):
    device, counts, sfreq, band, mains, bad = READY[name]
    row = devices.rows[name]
    recording = devices.recording(name)
    assert row.device == device
    assert (row.n_eeg, row.n_magnetometers, row.n_gradiometers) == counts
    assert row.sfreq_source == sfreq
    assert (row.pass_band_low, row.pass_band_high) == pytest.approx(band, abs=1e-4)
    assert row.mains == mains
    assert row.bad_channels == bad
    assert recording.sensors.layout_id == row.layout
    assert recording.n_samples == round(row.duration_s * 256.0)


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_the_file_and_the_damage(devices, name):
    stage, words = REFUSED[name]
    record = devices.refused[name]
    assert record.stage == stage
    assert words in record.reason
    assert record.source in record.reason
    assert record.next_action


def test_sensors_that_were_read_stay_with_the_refusal(devices):
    assert [s["name"] for s in devices.refused["gtec-gdf"].sensors][:3] == ["Oz", "O1", "O2"]
    assert devices.refused["gtec-gdf"].layout


def test_no_reason_or_note_tells_where_the_archive_lies(devices):
    texts = [r.reason + r.next_action for r in devices.refused.values()]
    texts += [note for row in devices.rows.values() for note in row.notes]
    assert not [text for text in texts if devices.config.archive in text]


MEG = {
    "neuromag306": ("sample_audvis_trunc_raw_sss.fif", {3012: ("T/m", 0), 3022: ("T", 6), 3024: ("T", 6)}),
    "ctf275": ("test_ctf_comp_raw.fif", {5001: ("T", 6)}),
}


@pytest.mark.parametrize("name", MEG)
def test_meg_positions_and_orientations_are_the_coils(devices, shared, name):
    file, coils = MEG[name]
    info = mne.io.read_info(shared / "data/devices" / name / file, verbose="ERROR")
    by_name = {channel["ch_name"]: channel for channel in info["chs"]}
    sensors = devices.recording(name).sensors
    for i in np.flatnonzero(sensors.types != SensorType.EEG):
        channel = by_name[sensors.names[i]]
        unit, axis = coils[channel["coil_type"] & 0xFFFF]
        assert sensors.units[i] == unit
        assert np.allclose(sensors.positions[i], channel["loc"][:3], atol=1e-7)
        # ex for planar gradiometers (along which they differentiate), ez, the normal, for the others
        assert np.allclose(sensors.orientations[i], channel["loc"][3 + axis : 6 + axis], atol=1e-5)


@pytest.mark.parametrize("name", ["edf-bci2000-128hz", "ant-waveguard", "brainvision", "tiny"])
def test_named_electrodes_lie_where_the_10_05_system_has_them(devices, name):
    montage = mne.channels.make_standard_montage("colin27_1005").get_positions()["ch_pos"]
    standard = {key.lower(): place for key, place in montage.items()}
    sensors = devices.recording(name).sensors
    places = np.array([standard[n.strip(".").lower()] for n in sensors.names])
    distances = [np.linalg.norm(p[:, None] - p[None], axis=2) for p in (sensors.positions, places)]
    assert np.allclose(*distances, rtol=0.02, atol=2e-3)  # the head frame is shifted, turned, or fitted to a head size


def test_split_files_are_one_recording_with_the_samples_of_the_whole(devices, shared):
    whole, split = (devices.recording(name) for name in ("neuromag306", "neuromag306-split"))
    assert whole.n_samples == split.n_samples == round(301 / 300.3074951171875 * 256)
    assert np.array_equal(whole.read(0, whole.n_samples), split.read(0, split.n_samples))
    assert devices.rows["neuromag306"].sss
    assert not devices.rows["neuromag306-split"].sss  # that copy lost its processing history
    assert devices.rows["neuromag306"].n_projectors == 1


def test_ctf_keeps_its_compensation_grade(devices):
    assert devices.rows["ctf275"].compensation_grade == 3
    assert devices.rows["kit157"].compensation_grade == 0


def test_flat_channels_are_interpolated_and_say_so(devices):
    row, recording = devices.rows["egi-raw"], devices.recording("egi-raw")
    flat = [recording.sensors.names.index(name) for name in ("E6", "E8")]
    assert row.interpolated == ("E6", "E8")
    assert np.all(recording.bad[flat] & 17 == 17)
    assert recording.read(0, recording.n_samples)[flat].std(axis=1).min() > 1e-6


def test_a_test_signal_is_named(devices):
    assert [name for name, row in devices.rows.items() if any("same signal" in note for note in row.notes)] == [
        "brainvision"
    ]


def test_a_stretch_without_signal_is_marked(devices):
    recording = devices.recording("edf-mixed-names")  # stands still from 5.6 s on
    good = [
        i for i, name in enumerate(recording.sensors.names) if name not in devices.rows["edf-mixed-names"].bad_channels
    ]
    flat = recording.bad[good] & 1
    assert flat[:, :5].sum() == 0
    assert flat[:, 6:].all()


def _lines(raw, names):
    """Count what MNE-Python finds on each trigger line, as it comes from the source."""
    return sum(len(mne.find_events(raw, name, shortest_event=1, verbose="ERROR")) for name in names)


@pytest.mark.parametrize("name", ["biosemi", "kit157", "bti248", "egi-raw"])
def test_events_are_as_many_as_the_triggers_that_mne_finds(devices, shared, name):
    path = shared / "data/devices" / name
    raw = {
        "biosemi": lambda: mne.io.read_raw_bdf(path / "test.bdf", verbose="ERROR"),
        "kit157": lambda: mne.io.read_raw_kit(path / "test.sqd", verbose="ERROR"),
        "bti248": lambda: mne.io.read_raw_bti(
            path / "test_pdf_linux", path / "test_config_linux", None, verbose="ERROR"
        ),
        "egi-raw": lambda: mne.io.read_raw_egi(path / "test_egi.raw", events_as_annotations=True, verbose="ERROR"),
    }[name]()
    lines = [line for line, kind in zip(raw.ch_names, raw.get_channel_types(), strict=True) if kind == "stim"]
    assert devices.rows[name].n_events == _lines(raw, lines)


def test_events_are_as_many_as_the_markers_of_a_brainvision_file(devices, shared):
    text = (shared / "data/devices/brainvision/test.vmrk").read_text()
    listed = re.findall(r"^Mk\d+=([^,]*),([^,]*),(\d+)", text, re.MULTILINE)
    expected = Counter(f"{kind}/{text}" for kind, text, _ in listed if kind != "New Segment")
    events = read_events(devices.store, devices.rows["brainvision"].recording)
    assert Counter(event.trial_type for event in events) == expected


def test_events_are_as_many_as_the_annotations_of_an_edf_file(devices, shared):
    import edfio

    path = shared / "data/devices/edf-bci2000-128hz/test_edf_overlapping_annotations.edf"
    events = read_events(devices.store, devices.rows["edf-bci2000-128hz"].recording)
    expected = sorted((round(a.onset, 6), a.text) for a in edfio.read_edf(path).annotations)
    assert [(round(event.onset_s, 6), event.trial_type) for event in events] == expected


def test_lines_of_markers_keep_their_names(devices):
    events = read_events(devices.store, devices.rows["egi-raw"].recording)
    assert [event.trial_type for event in events] == ["TRSP", "XXX1"]


def test_a_second_ingest_does_nothing(devices):
    from emeg.ingest import ingest

    again = ingest(devices.config)
    assert again.done_before
    assert (again.ready, again.quarantined) == (devices.result.ready, devices.result.quarantined)


def test_electrodes_in_millimetres_and_ctf_axes_reach_the_head_frame():
    info = mne.create_info(["Fz", "T7"], 256.0, "eeg")
    raw = mne.io.RawArray(np.zeros((2, 10)), info, verbose="ERROR")
    table = [
        {"name": "Fz", "x": "80", "y": "0", "z": "70"},
        {"name": "T7", "x": "0", "y": "75", "z": "10"},
    ]
    system = {"EEGCoordinateSystem": "CTF", "EEGCoordinateUnits": "mm"}
    assert apply_electrodes(raw, Sidecars(electrodes=table, coordsystem=system)) == ()
    assert np.allclose(raw.info["chs"][0]["loc"][:3], [0.0, 0.08, 0.07])
    assert np.allclose(raw.info["chs"][1]["loc"][:3], [-0.075, 0.0, 0.01])
