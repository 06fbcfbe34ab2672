"""Events keep their times, compared with the samples at which they were placed."""

import mne
import numpy as np
import pytest
from tests.ingest.conftest import ingested

from emeg.ingest.tables.events import find_events
from emeg.ingest.tables.sidecars import Sidecars
from emeg.store import BadReason, read_events

CASE = "cases/ingest/triggers-lost-beside-annotations/archive"


@pytest.fixture(scope="module")
def case(shared, tmp_path_factory):
    return ingested(shared / CASE, tmp_path_factory.mktemp("triggers"))


def raw_array(first_sample=0, sfreq=300.0, seconds=60, stim=True):
    info = mne.create_info(["Fz", "STI 014"][: 1 + stim], sfreq, ["eeg", "stim"][: 1 + stim])
    data = np.zeros((1 + stim, round(seconds * sfreq)))
    data[0] = 1e-5 * np.random.default_rng(0).standard_normal(data.shape[1])
    return mne.io.RawArray(data, info, first_samp=first_sample, verbose="ERROR")


@pytest.mark.parametrize("meas_date", [None, 86400])
def test_annotations_of_a_fif_file_that_starts_late_count_from_its_first_sample(tmp_path, meas_date):
    raw = raw_array(first_sample=3000)
    raw.set_meas_date(meas_date)
    raw.set_annotations(mne.Annotations([5.0], [1.0], ["flash"]))
    raw.save(tmp_path / "late_raw.fif", verbose="ERROR")
    raw = mne.io.read_raw_fif(tmp_path / "late_raw.fif", verbose="ERROR")
    assert raw.first_time == 10.0
    [event] = find_events(raw, Sidecars()).events
    assert (event.onset_s, event.duration_s, event.trial_type) == (pytest.approx(5.0), 1.0, "flash")


def test_rises_of_the_stim_channel_count_from_the_first_sample():
    raw = raw_array(first_sample=3000)
    stim = raw._data[1]
    stim[:30] = 7  # was on before the recording began: no event
    stim[600:620] = 1
    stim[900:910], stim[910:930] = 2, 5
    found = find_events(raw, Sidecars()).events
    assert [(event.onset_s, event.value, event.trial_type) for event in found] == [
        (2.0, "1", "1"),
        (3.0, "2", "2"),
        (910 / 300, "5", "5"),
    ]


def test_the_table_is_read_as_it_is_and_what_lies_outside_is_counted():
    table = [
        {"onset": "2.5", "duration": "n/a", "trial_type": "go", "value": "3"},
        {"onset": "n/a", "duration": "1", "trial_type": "go", "value": "3"},
        {"onset": "-1", "duration": "1", "trial_type": "go", "value": "3"},
        {"onset": "60.0", "duration": "1", "trial_type": "go", "value": "3"},
        {"onset": "0", "duration": "0.5", "trial_type": "n/a", "value": "n/a"},
    ]
    found = find_events(raw_array(), Sidecars(events=table))
    assert [tuple(event) for event in found.events] == [(0.0, 0.5, "", ""), (2.5, 0.0, "go", "3")]
    assert found.notes == ("events.tsv: 1 of 5 rows have no onset", "2 of 4 events lie outside the 60.000 s of data")


def triggered(codes, annotations=(), name="STI 014", n=1):
    """Return a recording with `codes` (sample -> code) and annotations (onset, duration, text)."""
    raw = raw_array()
    for sample, code in codes.items():
        raw._data[1, sample : sample + 6] = code
    raw.rename_channels({"STI 014": name}, verbose="ERROR")
    if annotations:
        raw.set_annotations(mne.Annotations(*zip(*annotations, strict=True)))
    return raw


@pytest.mark.parametrize("subject", ["sub-01", "sub-02", "sub-03", "sub-04"])
def test_triggers_beside_annotations_are_those_that_mne_finds(shared, case, subject):
    [path] = (shared / CASE / subject / "eeg").glob("*_eeg.*")
    raw = mne.io.read_raw(path, verbose="ERROR")
    name = next(name for name in raw.ch_names if name in {"STI 014", "TRIG"})
    raw.load_data(verbose="ERROR").set_channel_types({name: "stim"}, on_unit_change="ignore", verbose="ERROR")
    found = mne.find_events(raw, name, verbose="ERROR")
    events = read_events(case.store, case.rows[subject].recording)
    triggers = [(round(event.onset_s * raw.info["sfreq"]), int(event.value)) for event in events if event.value]
    assert triggers == [(sample - raw.first_samp, code) for sample, _, code in found.tolist()]
    boundaries = {"BAD_ACQ_SKIP", "BAD boundary", "EDGE boundary"}
    assert {event.trial_type for event in events if not event.value} == set(raw.annotations.description) - boundaries
    interrupted = bool(boundaries & set(raw.annotations.description))
    assert (len(case.recording(subject).stretches) > 1) == interrupted


def test_seconds_that_annotations_call_bad_are_marked(case):
    marked = case.recording("sub-01").bad & int(BadReason.MARKED)
    assert np.flatnonzero(marked.all(axis=0)).tolist() == [5]
    assert np.flatnonzero(marked.any(axis=0)).tolist() == [5]


def rows(*events):
    return [dict(zip(("onset", "duration", "trial_type", "value"), map(str, event), strict=True)) for event in events]


def shown(found):
    return [(round(event.onset_s, 6), event.trial_type, event.value) for event in found.events]


def test_triggers_count_beside_annotations_which_keep_their_names():
    raw = triggered(
        {600: 1, 1200: 2}, [(0.0, 0.0, "Recording start"), (3.0, 0.5, "BAD blink"), (5.0, 2.0, "BAD_ACQ_SKIP")]
    )
    found = find_events(raw, Sidecars())
    assert shown(found) == [
        (0.0, "Recording start", ""),
        (2.0, "1", "1"),
        (3.0, "BAD blink", ""),
        (4.0, "2", "2"),
    ]
    assert found.bad == ((3.0, 0.5, ()), (5.0, 2.0, ()))


def test_an_annotation_at_the_time_of_a_trigger_is_one_event_with_its_code():
    raw = triggered({600: 1, 1200: 2}, [(2.0, 0.5, "left"), (2.0, 0.5, "left")])
    assert shown(find_events(raw, Sidecars())) == [(2.0, "left", "1"), (4.0, "2", "2")]


def test_bad_stretches_of_single_channels_and_of_the_table_are_marks():
    raw = raw_array()
    raw.set_annotations(
        mne.Annotations([3.0, 5.0], [0.5, 0.0], ["bad anna coughs", "EDGE boundary"], ch_names=[["Fz"], []])
    )
    found = find_events(raw, Sidecars(events=rows((7.0, 2.0, "BAD_muscle", "n/a"), (9.0, 1.0, "bad_feedback", "n/a"))))
    assert found.bad == ((3.0, 0.5, ("Fz",)), (7.0, 2.0, ()))
    assert shown(found) == [
        (3.0, "BAD remark", ""),
        (7.0, "BAD_muscle", ""),
        (9.0, "bad_feedback", ""),
    ]


def test_events_at_onsets_of_the_table_are_one_and_other_kinds_are_added():
    raw = triggered({600: 1, 1200: 1, 1800: 7, 2400: 7}, [(2.0, 0.0, "beep"), (5.0, 0.0, "button")])
    found = find_events(raw, Sidecars(events=rows((2.0, 0.5, "go", "n/a"), (4.0, 0.5, "go", "n/a"))))
    assert shown(found) == [
        (2.0, "go", ""),
        (4.0, "go", ""),
        (5.0, "button", ""),
        (6.0, "7", "7"),
        (8.0, "7", "7"),
    ]
    assert [note for note in found.notes if "1 × 'button'" in note and "2 × '7'" in note]


def test_a_kind_that_the_table_lists_in_part_is_left_to_the_table():
    raw = triggered({600: 1, 1200: 1, 1800: 1})
    found = find_events(raw, Sidecars(events=rows((2.0, 0.5, "go", "1"), (4.0, 0.5, "go", "1"))))
    assert shown(found) == [(2.0, "go", "1"), (4.0, "go", "1")]
    assert [note for note in found.notes if "left out" in note and "1 × '1'" in note]


def test_a_table_shifted_by_a_constant_delay_lists_the_same_events():
    raw = triggered({600: 1, 1200: 2, 1830: 1, 2500: 2})
    table = rows(
        *(
            (sample / 300 + 0.0345, 0.0, kind, "n/a")
            for sample, kind in ((600, "a"), (1200, "b"), (1830, "a"), (2500, "b"))
        )
    )
    assert [kind for _, kind, _ in shown(find_events(raw, Sidecars(events=table)))] == ["a", "b", "a", "b"]


def test_codes_that_follow_listed_events_at_a_constant_delay_are_events_of_their_own():
    raw = triggered({600: 1, 700: 9, 1200: 1, 1300: 9})
    table = rows((2.0, 0.0, "on", "n/a"), (4.0, 0.0, "on", "n/a"))
    assert [kind for _, kind, _ in shown(find_events(raw, Sidecars(events=table)))] == ["on", "9", "on", "9"]


def test_a_table_of_times_alone_takes_the_classes_of_the_file():
    raw = triggered({600: 1, 1200: 2})
    table = rows((2.0, 0.5, "n/a", "n/a"), (4.0, 0.5, "n/a", "n/a"))
    assert [tuple(event) for event in find_events(raw, Sidecars(events=table)).events] == [
        (2.0, 0.5, "1", "1"),
        (4.0, 0.5, "2", "2"),
    ]


@pytest.mark.parametrize("column", ["event_type", "Stim Type", "condition", "anything"])
def test_the_class_is_taken_from_another_column_where_trial_type_is_absent(column):
    table = [{"onset": str(t), "duration": "1", column: "face" if t % 2 else "house"} for t in range(1, 9)]
    found = find_events(raw_array(), Sidecars(events=table))
    assert [event.trial_type for event in found.events] == ["face", "house"] * 4
    assert [note for note in found.notes if repr(column) in note]


def test_further_columns_with_classes_are_named_and_measured_ones_are_not():
    table = [
        {
            "onset": str(t),
            "duration": "1",
            "trial_type": "go",
            "response": "lr"[t % 2],
            "rt": f"0.{t}23",
            "f": f"{t}.png",
        }
        for t in range(1, 9)
    ]
    found = find_events(raw_array(), Sidecars(events=table))
    [note] = found.notes
    assert "'response'" in note
    assert "'rt'" not in note
    assert "'f'" not in note


def test_durations_that_are_no_numbers_are_counted():
    found = find_events(
        raw_array(), Sidecars(events=rows((1.0, "long", "go", "1"), (2.0, "1,5", "go", "1"), (3.0, "n/a", "go", "1")))
    )
    assert [event.duration_s for event in found.events] == [0.0, 1.5, 0.0]
    assert [note for note in found.notes if "1 durations" in note]


def test_pulses_in_the_signal_stay_within_half_a_sample_of_their_events(tmp_path):
    """The same pulse in signal and trigger, at an odd rate and after a late start: latencies agree after ingest."""
    sfreq = 600.614990234375
    info = mne.create_info(["Fz", "Cz", "STI 014"], sfreq, ["eeg", "eeg", "stim"])
    data = 1e-6 * np.random.default_rng(0).standard_normal((3, round(90 * sfreq)))
    onsets = np.arange(20, 70) * 600 + np.arange(50) * 7
    data[2] = 0.0
    for onset in onsets:
        data[0, onset] += 1e-3
        data[2, onset : onset + 20] = 4
    raw = mne.io.RawArray(data, info, first_samp=12345, verbose="ERROR")
    (tmp_path / "archive/anna").mkdir(parents=True)
    raw.save(tmp_path / "archive/anna/pulses_raw.fif", verbose="ERROR")
    made = ingested(tmp_path / "archive", tmp_path / "store")
    events = read_events(made.store, next(iter(made.rows.values())).recording)
    signal = made.recording(next(iter(made.rows))).read(0, made.recording(next(iter(made.rows))).n_samples)[0]
    assert [event.onset_s for event in events] == pytest.approx(onsets / sfreq)
    for event in events:
        near = round(event.onset_s * 256.0)
        peak = near - 5 + int(np.argmax(signal[near - 5 : near + 6]))
        before, top, after = signal[peak - 1 : peak + 2].astype(float)
        # where the pulse lies between samples: the vertex of the parabola through three of them
        place = peak + 0.5 * (before - after) / (before - 2.0 * top + after)
        assert abs(place - event.onset_s * 256.0) < 0.2


def read_by(reader, *texts):
    """Return a recording as a reader of MNE-Python gives it, with one annotation for each text."""
    raw = raw_array(stim=False)
    raw.__class__ = type(reader, (mne.io.RawArray,), {})
    raw.set_annotations(mne.Annotations(np.arange(1.0, len(texts) + 1), 0.0, list(texts)))
    return raw


@pytest.mark.parametrize("reader", ["RawCTF", "RawEGI", "RawMff"])
def test_markers_that_the_acquisition_defines_keep_their_names(reader):
    raw = read_by(reader, "faceOnset", "recall 2020-01-31")
    assert [event.trial_type for event in find_events(raw, Sidecars()).events] == ["faceOnset", "recall (date)"]


def test_brainvision_markers_keep_type_and_code_and_comments_are_remarks():
    raw = read_by("RawBrainVision", "Optic/O  1", "New Segment/", "Comment/anna coughs", "Stimulus/anna coughs")
    assert [event.trial_type for event in find_events(raw, Sidecars()).events] == [
        "Optic/O  1",
        "remark",
        "remark",
    ]


@pytest.mark.parametrize(
    ("format_", "text"),
    [
        ("fif", "BAD boundary"),
        ("fif", "EDGE boundary"),
        ("eeglab", "boundary"),
        ("eeglab", "-99"),
        ("gdf", "32766"),
        ("cnt", "Amplifier reconnected"),
        ("brainvision", "New Segment/"),
    ],
)
def test_boundaries_are_no_events_in_any_format(format_, text):
    raw = raw_array(stim=False)
    raw.set_annotations(mne.Annotations([3.0, 5.0], [0.0, 0.0], [text, "go"]))
    assert shown(find_events(raw, Sidecars(), format_)) == [(5.0, "go", "")]


def test_boundaries_of_a_table_are_no_events_whatever_column_holds_them():
    table = [
        {"onset": "1", "duration": "0", "trial_type": "go", "type": "stim"},
        {"onset": "3", "duration": "0", "trial_type": "n/a", "type": "boundary"},
        {"onset": "4", "duration": "2", "trial_type": "BAD_ACQ_SKIP", "type": "n/a"},
    ]
    found = find_events(raw_array(stim=False), Sidecars(events=table))
    assert shown(found) == [(1.0, "go", "")]
    only = find_events(raw_array(stim=False), Sidecars(events=table[1:]))
    assert (shown(only), only.notes) == ([], ())
