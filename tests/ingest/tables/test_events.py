"""Events keep their times: against the samples at which they were put."""

import mne
import numpy as np
import pytest
from tests.ingest.conftest import ingested

from emeg.ingest.tables.events import find_events
from emeg.ingest.tables.sidecars import Sidecars


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


def test_the_events_table_comes_first_and_what_lies_outside_is_counted():
    raw = raw_array()
    raw.set_annotations(mne.Annotations([1.0], [0.0], ["not this one"]))
    table = [
        {"onset": "2.5", "duration": "n/a", "trial_type": "go", "value": "3"},
        {"onset": "n/a", "duration": "1", "trial_type": "go", "value": "3"},
        {"onset": "-1", "duration": "1", "trial_type": "go", "value": "3"},
        {"onset": "60.0", "duration": "1", "trial_type": "go", "value": "3"},
        {"onset": "0", "duration": "0.5", "trial_type": "n/a", "value": "n/a"},
    ]
    found = find_events(raw, Sidecars(events=table))
    assert [tuple(event) for event in found.events] == [(0.0, 0.5, "", ""), (2.5, 0.0, "go", "3")]
    assert found.notes == ("events.tsv: 1 of 5 rows have no onset", "2 of 4 events lie outside the 60.000 s of data")


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
    from emeg.store import read_events

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
