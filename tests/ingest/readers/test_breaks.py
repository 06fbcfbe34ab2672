"""Recordings that were interrupted: each part by itself, with correct times and no filtering across a pause."""

import shutil
from types import SimpleNamespace

import edfio
import mne
import numpy as np
import pytest
from tests.ingest.conftest import ingested
from tests.ingest.faults.intact import NAMES, truth
from tests.messages import check_message, refusal

from emeg.data.corpus.cutting import cut
from emeg.data.tasks.definition import TaskConfig
from emeg.data.tasks.windows import task_windows
from emeg.errors import RecordingError, UserError
from emeg.ingest.readers import breaks
from emeg.ingest.readers.breaks import Break, Stretch, find_breaks, stretches_of, to_file_time
from emeg.ingest.readers.header_cnt import splices
from emeg.ingest.readers.header_ctf import trial_pauses
from emeg.ingest.source import Source
from emeg.ingest.tables.sidecars import Sidecars
from emeg.store import BadReason, read_events

CASE = "cases/ingest/pauses-taken-as-continuous/archive"
READERS = {
    "vhdr": mne.io.read_raw_brainvision,
    "bdf": mne.io.read_raw_bdf,
    "set": mne.io.read_raw_eeglab,
    "fif": mne.io.read_raw_fif,
}


@pytest.fixture(scope="module")
def paused(shared, tmp_path_factory):
    return ingested(shared / CASE, tmp_path_factory.mktemp("paused"))


def alone(path, folder, start_s, stop_s):
    """Ingest one side of a pause, cut out by MNE-Python, as a recording of its own."""
    raw = READERS[path.suffix[1:]](path, preload=True, verbose="ERROR").crop(start_s, stop_s, include_tmax=False)
    raw.set_annotations(None).pick("eeg")
    (folder / "archive").mkdir(parents=True)
    raw.save(folder / "archive/x_raw.fif", verbose="ERROR")
    made = ingested(folder / "archive", folder / "store")
    (row,) = made.rows.values()
    return made.recording(next(iter(made.rows))), row


@pytest.mark.parametrize(("subject", "extension"), [("01", "vhdr"), ("02", "bdf"), ("03", "set"), ("05", "fif")])
def test_each_side_of_a_pause_is_what_it_is_as_a_recording_of_its_own(shared, paused, tmp_path, subject, extension):
    recording = paused.recording(f"sub-{subject}")
    assert [(one.start, one.stop) for one in recording.stretches] == [(0, 2560), (2560, 5120)]
    path = next((shared / CASE / f"sub-{subject}").rglob(f"*.{extension}"))
    for start_s in (0, 10):
        side, row = alone(path, tmp_path / str(start_s), start_s, start_s + 10)
        ours = recording.read(256 * start_s, 256 * start_s + 2560)
        order = [side.sensors.names.index(name) for name in recording.sensors.names]
        theirs = side.read(0, 2560)[order]
        kept = [i for i, name in enumerate(recording.sensors.names) if name not in row.bad_channels]
        # the two differ by quantisation, and by float32's rounding of offsets of millivolts
        assert np.abs(ours - theirs)[kept].max() < 0.3e-6


def test_no_sample_shows_the_step_between_two_sides(paused):
    """The offsets differ by 2 mV: a filter that ran over the pause leaves 1160 µV, 305 µV still after four seconds."""
    assert len(paused.rows) == 5
    for subject in paused.rows:
        assert np.abs(paused.recording(subject).read(0, 5120)).max() < 70e-6
        assert any("2 stretches" in note for note in paused.rows[subject].notes)


def test_a_stated_length_of_a_pause_is_kept_with_the_stretch(paused):
    onsets = {subject: paused.recording(subject).stretches[1].onset_s for subject in paused.rows}
    assert onsets == {"sub-01": None, "sub-02": None, "sub-03": None, "sub-04": 3600.0, "sub-05": None}


def test_neither_segments_nor_task_windows_contain_a_pause(paused):
    for subject in paused.rows:
        found = cut(paused.recording(subject), 3 * 256, 1.0)
        assert found.starts == (0, 768, 1536, 2560, 3328, 4096)
    row = paused.rows["sub-01"]
    events = [event for event in read_events(paused.store, row.recording) if event.trial_type.startswith("Stimulus")]
    assert [event.onset_s for event in events] == [2.0, 14.0]
    task = {"name": "t", "dataset": row.dataset, "classes": {"a": ["Stimulus/S  1"], "b": ["go"]}, "window_s": 2.0}
    whole = task_windows(paused.store, TaskConfig.model_validate(task))
    assert len(whole) == 5
    across = task_windows(paused.store, TaskConfig.model_validate({**task, "window_s": 7.0, "offset_s": -0.5}))
    assert len(across) == 3  # 1.5 to 8.5 s
    with refusal(UserError, "recording': 3", action="shorter window"):  # 1.5 to 10.5 s
        task_windows(paused.store, TaskConfig.model_validate({**task, "window_s": 9.0, "offset_s": -0.5}))
    opened = {r.recording: paused.recording(s) for s, r in paused.rows.items()}
    for windows in (whole, across):
        for name, start in zip(windows.recordings, windows.starts.tolist(), strict=True):
            assert opened[name].is_continuous(start, start + windows.n_samples)


def write_edf_with_gaps(path, starts, seconds=24, sfreq=200):
    """EDF+D: one-second records with given start times, each with an event 0.5 s after its start."""
    values = np.tile(truth(n_samples=seconds * sfreq) * 1e6, 1)
    signals = [
        edfio.EdfSignal(row, sfreq, label=name, physical_dimension="uV", physical_range=(-500, 500))
        for name, row in zip(NAMES, values, strict=True)
    ]
    edf = edfio.Edf(signals, annotations=[edfio.EdfAnnotation(2.0, 0.0, "x" * 30)], data_record_duration=1)
    edf.write(path)
    data = bytearray(path.read_bytes())
    data[192:236] = b"EDF+D".ljust(44)
    n_header, n_signals = int(data[184:192]), int(data[252:256])
    at = 256 + n_signals * 216
    counts = [int(data[at + 8 * i : at + 8 * i + 8]) for i in range(n_signals)]
    events = {start + 0.5: f"e{i}" for i, start in enumerate(starts)}
    for i, start in enumerate(starts):
        begin = n_header + 2 * (i * sum(counts) + sum(counts[:-1]))
        tal = f"+{start:g}\x14\x14\0+{start + 0.5:g}\x14{events[start + 0.5]}\x14\0".encode()
        assert len(tal) <= 2 * counts[-1]
        data[begin : begin + 2 * counts[-1]] = tal.ljust(2 * counts[-1], b"\0")
    path.write_bytes(data)
    return values * 1e-6


def test_edf_plus_d_with_gaps_keeps_every_sample_and_every_event_at_its_sample(tmp_path):
    folder = tmp_path / "archive"
    folder.mkdir()
    starts = [float(i) + (100.0 if i >= 10 else 0.0) + (7.25 if i >= 18 else 0.0) for i in range(24)]
    write_edf_with_gaps(folder / "x.edf", starts)
    made = ingested(folder, tmp_path / "store")
    (name, row) = next(iter(made.rows.items()))
    recording = made.recording(name)
    assert recording.n_samples == 24 * 256
    assert recording.stretches == ((0, 2560, 0.0), (2560, 18 * 256, 110.0), (18 * 256, 24 * 256, 125.25))
    events = read_events(made.store, row.recording)
    assert [(event.trial_type, event.onset_s) for event in events] == [(f"e{i}", i + 0.5) for i in range(24)]
    expected = mne.filter.resample(truth(n_samples=24 * 200), 256, 200, npad="auto", verbose="ERROR")
    ours = recording.read(0, recording.n_samples).astype(float)
    for i, electrode in enumerate(recording.sensors.names):
        one = mne.filter.filter_data(np.stack([ours[i], expected[NAMES.index(electrode)]]), 256.0, 2, 35, verbose=False)
        assert np.corrcoef(one[:, 256:-256])[0, 1] > 0.99


def test_an_events_table_beside_edf_plus_d_counts_by_the_clock(tmp_path):
    folder = tmp_path / "archive/sub-01/eeg"
    folder.mkdir(parents=True)
    starts = [float(i) + (100.0 if i >= 10 else 0.0) for i in range(24)]
    write_edf_with_gaps(folder / "sub-01_task-x_eeg.edf", starts)
    rows = ["onset\tduration\ttrial_type", "3.5\t0\ta", "50\t0\tlost", "112.25\t0\tb", "120\t0\tc"]
    (folder / "sub-01_task-x_events.tsv").write_text("\n".join(rows) + "\n")
    made = ingested(tmp_path / "archive", tmp_path / "store")
    row = made.rows["sub-01"]
    found = [(event.trial_type, event.onset_s) for event in read_events(made.store, row.recording)]
    assert [one for one in found if one[0] in "abclost"] == [("a", 3.5), ("b", 12.25), ("c", 20.0)]
    assert any("1 of 4 events lie in a pause" in note for note in row.notes)


def test_bad_data_across_a_pause_are_marked_on_both_sides_and_nowhere_else(tmp_path):
    """A pause of 100 s at 10 s; by the clock, data are bad from 8.5 to 112.5 s, and others from 60 to 115 s."""
    folder = tmp_path / "archive/sub-01/eeg"
    folder.mkdir(parents=True)
    starts = [float(i) + (100.0 if i >= 10 else 0.0) for i in range(24)]
    write_edf_with_gaps(folder / "sub-01_task-x_eeg.edf", starts)
    rows = [["onset", "duration", "trial_type"], ["8.5", "104", "BAD_muscle"], ["60", "55", "BAD_move"]]
    rows += [["9", "104", "block"], ["60", "55", "lost"], ["113.25", "boundary", "boundary"]]
    (folder / "sub-01_task-x_events.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    made = ingested(tmp_path / "archive", tmp_path / "store")
    row, recording = made.rows["sub-01"], made.recording("sub-01")
    found = {event.trial_type: (event.onset_s, event.duration_s) for event in read_events(made.store, row.recording)}
    assert found["BAD_muscle"] == (8.5, 4.0)
    assert found["BAD_move"] == (10.0, 5.0)
    assert found["block"] == (9.0, 4.0)
    assert "lost" not in found
    marked = (recording.bad & int(BadReason.MARKED)).all(axis=0)
    assert np.flatnonzero(marked).tolist() == list(range(8, 15))
    assert [one.start for one in recording.stretches] == [0, 2560, round(13.25 * 256)]


def test_a_recording_of_short_pieces_is_refused_with_their_length(tmp_path):
    folder = tmp_path / "archive"
    folder.mkdir()
    write_edf_with_gaps(folder / "x.edf", [2.0 * i for i in range(24)])
    (record,) = ingested(folder, tmp_path / "store").refused.values()
    check_message(record, "23 times", "1 s", action="recording")


def raw_with(annotations=(), *, sfreq=250.0, seconds=20):
    raw = mne.io.RawArray(np.zeros((1, round(seconds * sfreq))), mne.create_info(1, sfreq, "eeg"), verbose="ERROR")
    if annotations:
        raw.set_annotations(mne.Annotations(*zip(*annotations, strict=True)))
    return raw


def found_in(raw, format_, tmp_path, **sidecars):
    source = Source(str(tmp_path), "d", "x", format_, "s")
    return find_breaks(raw, source, tmp_path, Sidecars(**sidecars))


@pytest.mark.parametrize(
    ("format_", "annotation", "expected"),
    [
        ("fif", (10.0, 0.0, "BAD boundary"), (2500, 2500)),
        ("fif", (10.0, 0.0, "EDGE boundary"), (2500, 2500)),
        ("fif", (10.0, 2.0, "BAD_ACQ_SKIP"), (2500, 3000)),
        ("egi-mff", (9.998, 2.0, "BAD_ACQ_SKIP"), (2500, 3000)),
        ("mne", (9.998, 0.0, "BAD boundary"), (2500, 2500)),  # Nihon Kohden: half a sample before
        ("eeglab", (9.998, 4.0, "boundary"), (2500, 2500)),
        ("eeglab", (10.0, 0.0, "-99"), (2500, 2500)),
        ("gdf", (10.0, 0.0, "32766"), (2500, 2500)),
        ("brainvision", (10.0, 0.0, "Comment/BAD boundary"), (2500, 2500)),
        ("edf", (10.0, 0.0, "boundary"), (2500, 2500)),
    ],
)
def test_every_format_s_own_word_for_a_break(tmp_path, monkeypatch, format_, annotation, expected):
    monkeypatch.setattr(breaks, "_STATED", {})
    raw = raw_with([annotation, (3.0, 0.0, "stimulus")])
    found = found_in(raw, format_, tmp_path)
    before, after = stretches_of(found, raw.n_times, 250.0)
    assert (before.stop, after.start) == expected


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        ((10.0, 2.0, "BAD_disconnection"), (2500, 3000)),
        ((10.0, 0.0, "Amplifier reconnected"), (2500, 2500)),
    ],
)
def test_ant_neuro_s_disconnected_amplifier_is_a_break(tmp_path, monkeypatch, annotation, expected):
    monkeypatch.setattr(breaks, "_STATED", {})
    before, after = stretches_of(found_in(raw_with([annotation]), "cnt", tmp_path), 5000, 250.0)
    assert (before.stop, after.start) == expected


def test_words_of_one_format_mean_nothing_in_another(tmp_path, monkeypatch):
    monkeypatch.setattr(breaks, "_STATED", {})
    assert found_in(raw_with([(10.0, 0.0, "-99"), (12.0, 0.0, "32766")]), "edf", tmp_path) == ()


def test_a_boundary_of_the_events_table_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(breaks, "_STATED", {})
    rows = [{"onset": "1", "trial_type": "go"}, {"onset": "10.0", "trial_type": "boundary"}, {"onset": "n/a"}]
    assert found_in(raw_with(), "edf", tmp_path, events=rows) == (Break(10.0, 10.0, None),)


def test_a_boundary_at_an_end_of_the_file_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(breaks, "_STATED", {})
    assert found_in(raw_with([(0.0, 0.0, "boundary"), (19.999, 0.0, "boundary")]), "eeglab", tmp_path) == ()


def test_boundaries_of_long_fif_files_leave_out_the_samples_that_single_precision_cannot_tell(tmp_path, monkeypatch):
    monkeypatch.setattr(breaks, "_STATED", {})
    at = 30_000 * 1000 + 777
    raw = SimpleNamespace(
        annotations=mne.Annotations([float(np.float32(at / 1000.0))], [0.0], ["BAD boundary"]),
        info={"sfreq": 1000.0},
        first_time=0.0,
        n_times=40_000 * 1000,
    )
    before, after = stretches_of(found_in(raw, "fif", tmp_path), raw.n_times, 1000.0)
    assert before.stop <= at <= after.start
    assert after.start - before.stop <= 4


@pytest.mark.parametrize(
    ("dates", "pause"),
    [
        (("20200101110000000000", "20200101120010000000"), 3600.0),
        (("20200101110000000000", "20200101110010000000"), "none"),  # it went on: no pause
        (("0", "0"), None),
        (("20200101110000000000", "20200101100000000000"), None),  # the clock was set
    ],
)
def test_brainvision_dates_say_how_long_a_pause_was(shared, tmp_path, dates, pause):
    folder = tmp_path / "archive/sub-01/eeg"
    shutil.copytree(shared / CASE / "sub-01/eeg", folder)
    marker = next(folder.glob("*.vmrk"))
    text = marker.read_text().rsplit("Mk3", 1)[0]
    first, second = dates
    marker.write_text(f"{text}Mk3=New Segment,,1,1,0,{first}\nMk4=New Segment,,2501,1,0,{second}\n")
    recording = ingested(tmp_path / "archive", tmp_path / "store").recording("sub-01")
    if pause == "none":
        assert len(recording.stretches) == 1
    else:
        assert recording.stretches[1][2] == (None if pause is None else 10.0 + pause)


def test_persyst_times_that_pass_midnight_are_no_pause_and_times_that_go_back_are_refused():
    assert breaks._by_times([(0, 86_395.0), (2500, 5.0), (5000, 15.0)], 250.0, "x") == []
    assert breaks._by_times([(0, 86_395.0), (2500, 65.0)], 250.0, "x") == [Break(10.0, 10.0, 60.0)]
    with refusal(RecordingError, "sample 2500", "5 s", action="two recordings"):
        breaks._by_times([(0, 100.0), (2500, 105.0)], 250.0, "x")


def test_trials_of_a_ctf_data_set_are_stretches_where_the_clock_jumps(tmp_path):
    """Clock of 1,000 Hz; the second of three borders has a jump of 500 ms."""
    clock = np.arange(4000.0)
    clock[2000:] += 500
    raw = SimpleNamespace(
        _raw_extras=[{"block_size": 1000}],
        n_times=4000,
        ch_names=["MLC11", "SCLK01-177"],
        info={"sfreq": 1000.0},
        get_data=lambda picks, start, stop: clock[None, start:stop] if picks == [1] else None,
    )
    assert trial_pauses(tmp_path, raw) == [(2000, pytest.approx(0.5))]


def test_trials_without_a_clock_are_stretches_where_they_begin_before_a_trigger(tmp_path):
    raw = SimpleNamespace(_raw_extras=[{"block_size": 1000}], n_times=3000, ch_names=["MLC11"], info={"sfreq": 1000.0})
    header = bytearray(2000)
    (tmp_path / "x.res4").write_bytes(header)
    assert trial_pauses(tmp_path, raw) == []
    header[1316:1320] = (200).to_bytes(4, "big")
    (tmp_path / "x.res4").write_bytes(header)
    assert trial_pauses(tmp_path, raw) == [(1000, None), (2000, None)]


def test_epochs_of_a_4d_file_are_stretches(tmp_path):
    raw = raw_with()
    raw._raw_extras[0]["epochs"] = [{"pts_in_epoch": 2000}, {"pts_in_epoch": 3000}]
    assert breaks._of_bti(tmp_path, raw) == [Break(8.0, 8.0, None)]


def test_a_splice_of_a_neuroscan_file_is_found_among_its_events(tmp_path):
    n_channels, n_samples = 2, 5000
    head = bytearray(900 + 75 * n_channels)
    head[370:372] = n_channels.to_bytes(2, "little")
    head[376:378] = (250).to_bytes(2, "little")
    head[864:868] = n_samples.to_bytes(4, "little")
    at = len(head) + 2 * n_channels * n_samples
    head[886:890] = at.to_bytes(4, "little")
    events = b""
    for sample, accepted in ((100, 0), (2500, 14 << 4), (3000, 13 << 4)):
        events += b"\1\0\0" + bytes([accepted]) + (len(head) + 4 * sample).to_bytes(4, "little")
    table = b"\1" + len(events).to_bytes(4, "little") + bytes(4) + events
    (tmp_path / "x.cnt").write_bytes(bytes(head) + bytes(2 * n_channels * n_samples) + table)
    assert splices(tmp_path / "x.cnt", raw_with()) == [2500]


def test_clock_times_map_to_file_times_and_pauses_to_nothing():
    pauses = (Break(10.0, 10.0, 100.0), Break(18.0, 18.0, 7.25))
    moments = {0.0: 0.0, 9.5: 9.5, 50.0: None, 110.0: 10.0, 117.5: 17.5, 120.0: None, 125.25: 18.0, 130.0: 22.75}
    found = {clock: to_file_time(clock, pauses) for clock in moments}
    assert {clock: None if one.in_pause else one.time_s for clock, one in found.items()} == moments
    assert (found[50.0].time_s, found[120.0].time_s) == (10.0, 18.0)


def test_stretches_around_a_skip_that_the_file_fills(tmp_path):
    assert stretches_of((Break(5.0, 7.0), Break(12.0, 12.0, None)), 5000, 250.0) == (
        Stretch(0, 1250, 0.0),
        Stretch(1750, 3000, 7.0),
        Stretch(3000, 5000, None),
    )


def test_the_samples_of_a_skip_are_zero_and_marked_flat(tmp_path):
    raw = mne.io.RawArray(truth() + 5e-4, mne.create_info(list(NAMES), 200.0, "eeg"), verbose="ERROR")
    raw._data[:, 800:1200] = 0.0
    raw.set_annotations(mne.Annotations([4.0], [2.0], ["BAD_ACQ_SKIP"]))
    (tmp_path / "archive").mkdir()
    raw.save(tmp_path / "archive/x_raw.fif", verbose="ERROR")
    made = ingested(tmp_path / "archive", tmp_path / "store")
    recording = made.recording(next(iter(made.rows)))
    assert [(one.start, one.stop) for one in recording.stretches] == [(0, 1024), (1536, 3072)]
    assert not recording.read(1024, 1536).any()
    assert np.abs(recording.read(0, 3072)).max() < 1e-4
    assert (recording.bad[:, 4:6] & 1).all()
