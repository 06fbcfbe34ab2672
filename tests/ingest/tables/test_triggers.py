"""Triggers of all trigger channels, as many as MNE-Python finds."""

import edfio
import mne
import numpy as np
import pytest

from emeg.ingest.readers.rates import correct_header_rate
from emeg.ingest.tables.triggers import near, trigger_events

SFREQ = 200.0


def recording(**channels):
    """Return a recording with one trigger channel for each keyword: sample -> (code, length in samples)."""
    names = list(channels)
    info = mne.create_info(["Fz", *names], SFREQ, ["eeg", *["stim"] * len(names)])
    data = np.zeros((1 + len(names), 2000))
    for row, pulses in enumerate(channels.values(), start=1):
        for sample, (code, length) in pulses.items():
            data[row, sample : sample + length] = code
    return mne.io.RawArray(data, info, verbose="ERROR")


def shown(raw):
    return sorted((round(event.onset_s * SFREQ), event.trial_type, event.value) for event in trigger_events(raw))


def test_codes_of_one_channel_are_those_that_mne_finds():
    raw = recording(TRIG={100: (1, 5), 300: (255, 5), 305: (300, 9), 1990: (7, 10)})
    found = mne.find_events(raw, "TRIG", verbose="ERROR")
    assert shown(raw) == [(sample, str(code), str(code)) for sample, _, code in found.tolist()]


def test_lines_that_a_combined_channel_shows_make_no_second_events():
    lines = {"STI 001": {100: (5, 5)}, "STI 002": {301: (5, 5), 700: (5, 5)}, "STI 014": {100: (1, 5), 300: (2, 5)}}
    assert shown(recording(**lines)) == [(100, "1", "1"), (300, "2", "2"), (700, "STI 002", "5")]


def test_lines_with_names_keep_their_names():
    raw = recording(stm={100: (1, 1)}, resp={100: (1, 1), 400: (1, 1)}, empty={})
    assert shown(raw) == [(100, "resp", "1"), (100, "stm", "1"), (400, "resp", "1")]


def test_a_second_channel_with_codes_is_named_beside_its_codes():
    raw = recording(UPPT001={100: (1, 5)}, UPPT002={500: (1, 5), 700: (2, 5)})
    assert shown(raw) == [(100, "1", "1"), (500, "UPPT002/1", "1"), (700, "UPPT002/2", "2")]


@pytest.mark.parametrize(("rest", "code"), [(256, 768), (254, 255)])
def test_the_level_at_rest_is_no_event(rest, code):
    raw = recording(TRIG={0: (rest, 2000)} | dict.fromkeys((200, 600, 1000), (code, 10)))
    assert shown(raw) == [(sample, str(code), str(code)) for sample in (200, 600, 1000)]
    assert len(mne.find_events(raw, "TRIG", verbose="ERROR")) == 3


def test_codes_that_hold_until_the_next_one_all_count():
    raw = recording(TRIG={100: (5, 200), 300: (2, 200), 500: (5, 100)})
    assert shown(raw) == [(100, "5", "5"), (300, "2", "2"), (500, "5", "5")]


def test_pulses_of_an_analogue_line_count_once_and_its_noise_does_not():
    raw = recording(pulse=dict.fromkeys((200, 600, 1000), (4.9, 20)), noise={})
    raw._data[1:] += 0.03 * np.random.default_rng(0).standard_normal((2, 2000))
    assert shown(raw) == [(sample, "pulse", "1") for sample in (200, 600, 1000)]


def test_codes_that_a_reader_took_for_microvolts_are_whole_numbers_again():
    raw = recording(TRIG={200: (3e-6, 20), 600: (7e-6, 20)})
    raw._orig_units = {"TRIG": "\u00b5V"}
    assert shown(raw) == [(200, "3", "3"), (600, "7", "7")]


def test_near_agrees_with_all_distances():
    rng = np.random.default_rng(0)
    times, taken = rng.uniform(0, 10, 50), np.sort(rng.uniform(0, 10, 20))
    expected = np.abs(times[:, None] - taken[None]).min(axis=1) <= 0.1
    assert np.array_equal(near(times, taken, 0.1), expected)
    assert not near(times, np.empty(0), 0.1).any()


def test_a_channel_that_is_a_trigger_channel_by_its_name_alone_counts_if_it_holds_codes():
    raw = recording(TRIG={100: (3, 20), 500: (7, 20)}, TRIG2={})
    raw.set_channel_types({"TRIG": "eeg", "TRIG2": "eeg"}, on_unit_change="ignore")
    raw._data[2] = np.random.default_rng(0).integers(-50, 50, 2000)
    raw._data[0] = np.random.default_rng(1).integers(0, 3, 2000)
    assert shown(raw) == [(100, "TRIG/3", "3"), (500, "TRIG/7", "7")]


@pytest.mark.parametrize(("rate", "label"), [(50, "TRIG"), (1000, "Status"), (512, "STI 014")])
def test_triggers_at_another_rate_than_the_eeg_keep_their_times_and_codes(tmp_path, rate, label):
    rng = np.random.default_rng(0)
    pulses = np.zeros(rate * 60)
    samples = np.arange(2, 58) * rate + rng.integers(0, rate // 2, 56)
    for k, sample in enumerate(samples):
        pulses[sample : sample + max(2, rate // 20)] = 1 + k % 7
    eeg = edfio.EdfSignal(20.0 * rng.standard_normal(200 * 60), 200, label="Fz", physical_dimension="uV")
    line = edfio.EdfSignal(pulses, rate, label=label, physical_range=(-32768, 32767))
    edfio.Edf([eeg, line]).write(tmp_path / "rec.edf")
    raw = mne.io.read_raw_edf(tmp_path / "rec.edf", verbose="ERROR")
    correct_header_rate(raw)
    found = trigger_events(raw)
    assert [event.value for event in found] == [str(1 + k % 7) for k in range(56)]
    np.testing.assert_allclose([event.onset_s for event in found], samples / rate, atol=1e-9)


def test_codes_that_a_file_holds_as_negative_numbers_are_what_mne_makes_of_them():
    raw = recording(STI101={100: (-32768, 5), 300: (-32000, 5), 500: (12, 5)})
    found = mne.find_events(raw, "STI101", uint_cast=True, verbose="ERROR")
    assert shown(raw) == [(sample, str(code), str(code)) for sample, _, code in found.tolist()]
