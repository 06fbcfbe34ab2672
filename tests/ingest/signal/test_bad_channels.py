"""Planted faults are found, and healthy channels are not marked."""

import mne
import numpy as np
import pytest
from tests.messages import refusal

from emeg.errors import RecordingError
from emeg.ingest.signal.bad_channels import (
    bad_seconds,
    find_bad_channels,
    flat_channels,
    refuse_amplitude,
    refuse_nan,
)
from emeg.ingest.signal.measures import SourceLook
from emeg.sensors import sensors_from_info
from emeg.store import BadReason

SFREQ = 256.0


@pytest.fixture(scope="module")
def head():
    """64 electrodes of a real recording, 60 s: channels in which `find_bad_channels` finds nothing."""
    names = mne.channels.make_standard_montage("biosemi64").ch_names
    info = mne.create_info(names, SFREQ, "eeg")
    sensors = sensors_from_info(info).sensors
    rng = np.random.default_rng(0)
    distance = np.linalg.norm(sensors.positions[:, None] - sensors.positions[None], axis=2)
    spread = np.linalg.cholesky(np.exp(-((distance / 0.05) ** 2)) + 0.02 * np.eye(64))
    spectrum = np.fft.rfft(rng.standard_normal((64, 60 * 256)), axis=1)
    spectrum /= np.maximum(np.arange(spectrum.shape[1]), 30.0)
    signal = spread @ np.fft.irfft(spectrum, axis=1)
    return (1e-5 * signal / signal.std()).astype(np.float32), sensors


def judge(signal, sensors, marked=frozenset()):
    flat = flat_channels(signal, signal, sensors)
    return find_bad_channels(signal, sensors, sfreq=SFREQ, flat_C=flat, marked=marked)


def test_a_healthy_head_has_no_bad_channels(head):
    assert len(judge(*head).indices) == 0


def test_every_planted_fault_is_found_and_no_other(head):
    signal, sensors = head[0].copy(), head[1]
    rng = np.random.default_rng(1)
    signal[3] = 2e-5
    signal[10] *= 30.0
    signal[20] += (3e-5 * np.diff(rng.standard_normal(signal.shape[1] + 1))).astype(np.float32)
    signal[30] = np.roll(signal[30], 5000)[::-1]
    found = judge(signal, sensors, frozenset({sensors.names[40]}))
    assert {int(i): BadReason(int(found.reasons[i])) for i in found.indices} == {
        3: BadReason.FLAT,
        10: BadReason.NOISY,
        20: BadReason.NOISY,
        30: BadReason.NOISY,
        40: BadReason.MARKED,
    }
    assert {note.partition(":")[0] for note in found.notes} == {sensors.names[i] for i in (10, 20, 30)}


def test_few_channels_are_not_judged_by_each_other(head):
    signal, sensors = head[0][:4].copy(), head[1].take([0, 1, 2, 3])
    signal[2] *= 30.0
    assert len(judge(signal, sensors).indices) == 0


@pytest.mark.parametrize(("factor", "measured"), [(1e-3, "9.96 nV"), (1e3, "9.96 mV")])
def test_units_that_are_wrong_by_a_thousand_are_refused(head, factor, measured):
    signal, sensors = head
    with refusal(RecordingError, "64 EEG channels", measured, action="unit") as caught:
        refuse_amplitude(signal * np.float32(factor), sensors, np.zeros(64, bool))
    assert caught.value.stage == "signal"
    refuse_amplitude(signal, sensors, np.zeros(64, bool))


def test_a_recording_without_any_signal_is_refused(head):
    with refusal(RecordingError, "64 channels", action="amplifier"):
        refuse_amplitude(head[0], head[1], np.ones(64, bool))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_sample_that_is_no_number_refuses_the_recording(head, value):
    signal, sensors = head[0].copy(), head[1]
    signal[7, 100] = value
    with refusal(RecordingError, "1 samples", "'FT7'", action="channels.tsv"):
        refuse_nan(signal, sensors)


def test_seconds_that_clip_stand_still_or_burst_are_marked(head):
    signal, sensors = head[0][:8].copy(), head[1].take(range(8))
    top = float(signal[0].max()) * 1.5
    signal[0, 10 * 256 + 50 : 10 * 256 + 60] = top
    signal[1, 20 * 256 : 22 * 256 + 10] = 0.0
    signal[2, 30 * 256 : 31 * 256] *= 50.0
    channels = judge(signal, sensors)
    seen = SourceLook(*signal.shape, 60, sfreq=SFREQ, mains=0.0)
    seen.measure(0, signal)
    bad = bad_seconds(signal, channels, seen.bad, sfreq=SFREQ)
    assert bad.shape == (8, 60)
    marked = {(int(c), int(s)): BadReason(int(bad[c, s])) for c, s in zip(*np.nonzero(bad), strict=True)}
    assert marked == {
        (0, 10): BadReason.CLIPPED,
        (1, 20): BadReason.FLAT,
        (1, 21): BadReason.FLAT,
        (2, 30): BadReason.NOISY,
    }
