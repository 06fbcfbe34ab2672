"""Ingest of one source: the effect of tables and headers, and refusals."""

import json

import mne
import numpy as np
import pytest
from tests.ingest.conftest import ingested
from tests.messages import check_message

from emeg.store import read_events

NAMES = ["Fp1", "Fp2", "C3", "C4", "P3", "P4", "O1", "O2", "T7", "T8"]
SFREQ = 250.0


def signal(n_channels=10, seconds=20, seed=0):
    rng = np.random.default_rng(seed)
    common = rng.standard_normal(round(seconds * SFREQ))
    return 1e-5 * (common + 0.7 * rng.standard_normal((n_channels, len(common))))


def bids(tmp_path, data, *, names=NAMES, kinds="eeg", extension="vhdr", **sidecars):
    """Write one recording as BIDS, with sidecars given as text by their suffix."""
    folder = tmp_path / "archive/sub-01/eeg"
    folder.mkdir(parents=True)
    raw = mne.io.RawArray(data, mne.create_info(list(names), SFREQ, kinds), verbose="ERROR")
    path = folder / f"sub-01_task-rest_eeg.{extension}"
    if extension == "fif":
        raw.save(path, verbose="ERROR")
    else:
        mne.export.export_raw(path, raw, verbose="ERROR")
    for suffix, text in sidecars.items():
        dot = "json" if suffix in {"eeg", "coordsystem"} else "tsv"
        (folder / f"sub-01_task-rest_{suffix}.{dot}").write_text(text)
    return path


def run(tmp_path, **fields):
    return ingested(tmp_path / "archive", tmp_path / "store", **fields)


def table(*rows):
    return "\n".join("\t".join(row) for row in rows) + "\n"


def test_types_and_bad_marks_come_from_the_channels_table(tmp_path):
    kinds = ["EEG"] * 7 + ["EOG", "MISC", "EEG"]
    status = ["good"] * 9 + ["bad"]
    rows = [(name, kind, "uV", mark) for name, kind, mark in zip(NAMES, kinds, status, strict=True)]
    bids(tmp_path, signal(), channels=table(("name", "type", "units", "status"), *rows))
    made = run(tmp_path)
    row = made.rows["sub-01"]
    assert row.n_eeg == 8
    assert set(row.dropped) == {"O2", "T7"}
    assert row.bad_channels == ("T8",)
    assert made.recording("sub-01").bad[7].min() & 32


def test_a_unit_from_the_table_counts_only_where_the_file_has_none(tmp_path):
    path = bids(tmp_path, signal(), extension="edf")
    header = path.read_bytes()
    start = 256 + int(header[252:256]) * (16 + 80)  # after labels and transducers come the units, 8 bytes each
    path.write_bytes(header[:start] + b" " * 80 + header[start + 80 :])
    rows = [(name, "EEG", "uV") for name in NAMES]
    (path.parent / "sub-01_task-rest_channels.tsv").write_text(table(("name", "type", "units"), *rows))
    made = run(tmp_path)
    assert any("file states none" in note for note in made.rows["sub-01"].notes)
    deviation = made.recording("sub-01").read(0, 4096).std()
    assert 5e-6 < deviation < 2e-5


def test_a_contradicting_unit_is_noted_and_the_file_believed(tmp_path):
    rows = [(name, "EEG", "mV") for name in NAMES]
    bids(tmp_path, signal(), channels=table(("name", "type", "units"), *rows))
    made = run(tmp_path)
    assert any("the file says" in note for note in made.rows["sub-01"].notes)
    assert 5e-6 < made.recording("sub-01").read(0, 4096).std() < 2e-5


def test_mains_and_lowpass_come_from_the_sidecar(tmp_path):
    sidecar = {"PowerLineFrequency": 50, "SoftwareFilters": {"Low-pass": {"cutoff (Hz)": 70}}, "Manufacturer": "ACME"}
    bids(tmp_path, signal(), eeg=json.dumps(sidecar))
    row = run(tmp_path).rows["sub-01"]
    assert (row.mains, row.notches, row.pass_band_high, row.device) == (50.0, (50.0,), 70.0, "acme")


def test_an_unknown_mains_leaves_no_notch(tmp_path):
    bids(tmp_path, signal(), eeg='{"PowerLineFrequency": "n/a"}')
    row = run(tmp_path).rows["sub-01"]
    assert (row.mains, row.notches) == (0.0, ())


def test_a_sample_that_is_no_number_quarantines_the_recording_with_its_sensors(tmp_path):
    data = signal()
    data[4, 1000:1003] = np.nan
    bids(tmp_path, data, extension="fif")
    record = run(tmp_path).refused["sub-01"]
    check_message(record, "3 samples", "1 of 10 channels", "'P3'", action="channels.tsv")
    assert len(record.sensors) == 10


def test_a_recording_that_is_mostly_bad_is_quarantined(tmp_path):
    data = signal()
    data[:6] = 3e-5
    bids(tmp_path, data)
    check_message(run(tmp_path).refused["sub-01"], "6 of 10 channels", action="max_bad_share")


def test_a_recording_of_a_fifth_of_a_second_is_ready(tmp_path):
    bids(tmp_path, signal(seconds=0.2))
    made = run(tmp_path)
    assert made.rows["sub-01"].duration_s == 51 / 256
    assert made.recording("sub-01").n_samples == 51


@pytest.mark.parametrize(
    ("sidecar", "text", "words"),
    [
        ("eeg", "{broken", "sub-01_task-rest_eeg.json: not readable as JSON"),
        ("channels", "kind\tunits\nEEG\tuV\n", "channels.tsv has no column 'name'"),
        ("channels", "name\ttype\nA\tEEG\n", "channels.tsv names none of the recording's 10 channels"),
        ("events", "time\n1\n", "events.tsv has no column 'onset'"),
        ("events", "onset\n1\t2\t3\n", "line 2: 3 fields under 1 names"),
    ],
)
def test_a_sidecar_that_cannot_be_read_is_named(tmp_path, sidecar, text, words):
    bids(tmp_path, signal(), **{sidecar: text})
    assert words in run(tmp_path).refused["sub-01"].reason


def test_electrodes_in_millimetres_declared_as_metres_are_refused(tmp_path):
    places = mne.channels.make_standard_montage("colin27_1005").get_positions()["ch_pos"]
    rows = [(name, *(f"{1000 * v:.1f}" for v in places[name])) for name in NAMES]
    system = {"EEGCoordinateSystem": "CapTrak", "EEGCoordinateUnits": "m"}
    path = bids(tmp_path, signal(), electrodes=table(("name", "x", "y", "z"), *rows), coordsystem=json.dumps(system))
    assert "millimetres" in run(tmp_path).refused["sub-01"].reason
    system["EEGCoordinateUnits"] = "mm"
    (path.parent / "sub-01_task-rest_coordsystem.json").write_text(json.dumps(system))
    sensors = run(tmp_path).recording("sub-01").sensors
    assert np.allclose(sensors.positions, [places[name] for name in NAMES], atol=1e-4)


def test_a_cut_brainvision_file_is_named(tmp_path):
    path = bids(tmp_path, signal())
    data = path.with_suffix(".eeg")
    data.write_bytes(data.read_bytes()[:-3])
    assert "is truncated" in run(tmp_path).refused["sub-01"].reason


def test_ctf_data_reach_the_highest_grade_whatever_grade_they_come_with(devices, shared, tmp_path):
    raw = mne.io.read_raw_fif(shared / "data/devices/ctf275/test_ctf_comp_raw.fif", preload=True, verbose="ERROR")
    raw.apply_gradient_compensation(0, verbose="ERROR")
    (tmp_path / "archive/ctf275").mkdir(parents=True)
    raw.save(tmp_path / "archive/ctf275/grade0_raw.fif", verbose="ERROR")
    made = run(tmp_path)
    assert made.rows["ctf275"].compensation_grade == 3
    ours, theirs = (made_.recording("ctf275") for made_ in (made, devices))
    expected = theirs.read(0, theirs.n_samples)
    assert np.allclose(ours.read(0, ours.n_samples), expected, atol=0.02 * expected.std())


def test_bad_channels_of_every_type_are_replaced_or_marked(shared, tmp_path):
    file = shared / "data/devices/neuromag306/sample_audvis_trunc_raw_sss.fif"
    raw = mne.io.read_raw_fif(file, preload=True, verbose="ERROR")
    bad = ("MEG 0113", "MEG 0111", "EEG 001")
    healthy = {name: raw.get_data(picks=[name])[0] for name in bad}
    for name in bad:
        raw._data[raw.ch_names.index(name)] = 0.0
    (tmp_path / "archive/a").mkdir(parents=True)
    raw.save(tmp_path / "archive/a/x_raw.fif", verbose="ERROR")
    made = run(tmp_path)
    assert set(made.rows["a"].bad_channels) == set(made.rows["a"].interpolated) == set(bad)
    recording = made.recording("a")
    values = recording.read(0, recording.n_samples)
    for name, truth in healthy.items():
        row = recording.sensors.names.index(name)
        moments = np.linspace(0, len(truth) - 1, recording.n_samples)
        assert np.corrcoef(values[row], np.interp(moments, np.arange(len(truth)), truth))[0, 1] > 0.5
    marked = ingested(tmp_path / "archive", tmp_path / "marked", standardise={"bad_channels": "mark"})
    assert marked.rows["a"].interpolated == ()
    assert set(marked.rows["a"].bad_channels) == set(bad)


def test_a_long_recording_through_scratch_files_is_the_same(tmp_path):
    """The bytes in the store do not depend on the memory that a worker may use."""
    data = signal(seconds=30)
    data[3] *= 40.0
    bids(tmp_path, data)
    whole = ingested(tmp_path / "archive", tmp_path / "whole")
    scratch = ingested(tmp_path / "archive", tmp_path / "scratch", memory_mib=0.01)
    assert whole.rows["sub-01"].interpolated == scratch.rows["sub-01"].interpolated == ("C4",)
    files = sorted(path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*") if path.is_file())
    assert len(files) > 5
    for file in files:
        if file.parts[0] in {"recordings", "catalog"}:
            assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "scratch" / file).read_bytes(), file


def test_a_recording_in_which_every_second_of_every_channel_is_flat_is_quarantined(tmp_path):
    """Each second has a value of its own, so that no channel is constant throughout."""
    rng = np.random.default_rng(4)
    steps = 1e-5 * rng.standard_normal((10, 20))
    bids(tmp_path, np.repeat(steps, round(SFREQ), axis=1), extension="fif")
    record = run(tmp_path).refused["sub-01"]
    check_message(record, "10 channels", action="amplifier")


@pytest.mark.parametrize(
    ("sidecar", "text", "named"),
    [
        ("coordsystem", "CapTrak, metres", "coordsystem.json"),
        ("coordsystem", "[1, 2]", "coordsystem.json"),
        ("electrodes", "label\tx\ty\tz\nFp1\t1\t2\t3\n", "'name'"),
        ("electrodes", "name\tx\nFp1\t1\t2\t3\n", "line 2"),
        ("electrodes", "a\0b\0\0\0", "electrodes.tsv"),
    ],
)
def test_a_damaged_file_of_positions_costs_positions_and_nothing_else(tmp_path, sidecar, text, named):
    places = mne.channels.make_standard_montage("colin27_1005").get_positions()["ch_pos"]
    rows = [(name, *(f"{v:.4f}" for v in places[name])) for name in NAMES]
    right = {
        "electrodes": table(("name", "x", "y", "z"), *rows),
        "coordsystem": json.dumps({"EEGCoordinateSystem": "CapTrak", "EEGCoordinateUnits": "m"}),
    }
    bids(tmp_path, signal(), **{**right, sidecar: text})
    made = run(tmp_path)
    assert [note for note in made.rows["sub-01"].notes if f"_{sidecar}." in note and named in note]
    assert made.recording("sub-01").sensors.names == tuple(NAMES)


def test_where_positions_are_needed_the_refusal_names_the_damaged_file(tmp_path):
    path = bids(tmp_path, signal(), coordsystem="{", electrodes="name\tx\ty\tz\nX1\t0\t0\t0.1\n")
    header = path.read_text()
    for number, name in enumerate(NAMES, start=1):
        header = header.replace(f"={name},", f"=X{number},")
    path.write_text(header)
    check_message(run(tmp_path).refused["sub-01"], "coordsystem.json", "X1", action="electrodes.tsv")


def test_what_a_sidecar_states_twice_is_noted(tmp_path):
    """Of columns with one name the first counts, of keys of a JSON file the last; both notes name what is doubled."""
    doubled = "onset\tduration\ttrial_type\ttrial_type\n1\t0\tgo\tother\n2\t-1\tstop\tother\n"
    bids(tmp_path, signal(), events=doubled, eeg='{"PowerLineFrequency": 50, "PowerLineFrequency": 60}')
    made = run(tmp_path)
    row = made.rows["sub-01"]
    assert [event.trial_type for event in read_events(made.store, row.recording)][:2] == ["go", "stop"]
    assert row.mains == 60.0
    for name in ("trial_type", "PowerLineFrequency"):
        assert [note for note in row.notes if name in note and "more than once" in note]
    assert [note for note in row.notes if "1 durations" in note]
