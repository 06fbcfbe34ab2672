"""Device noise, and the share of a recording that a few spatial patterns explain."""

import numpy as np
import pytest
from scipy.signal import butter, sosfiltfilt, welch

from emeg.synthetic.activity import Activity, draw_activity
from emeg.synthetic.config import DEVICE_NAMES
from emeg.synthetic.design import short_run
from emeg.synthetic.devices import (
    CTF_AXIAL,
    DEVICES,
    EEG,
    OPM,
    VECTORVIEW_MAGNETOMETER,
    VECTORVIEW_PLANAR,
    describe_sensors,
    reference_rows,
)
from emeg.synthetic.leadfield import leadfield
from emeg.synthetic.people import draw_person
from emeg.synthetic.randomness import generator
from emeg.synthetic.recording import BadChannels, draw_bad_channels, record
from emeg.synthetic.sources import place_sources

PERSON = draw_person(1, n_subjects=2, seed=0)


def silence(info, duration_s):
    n_sources = 3
    n_channels = len(info["ch_names"]) - len(reference_rows(info))
    return np.zeros((n_channels, n_sources)), Activity(np.zeros((n_sources, 100 * duration_s), complex), duration_s, ())


@pytest.mark.parametrize("name", DEVICE_NAMES)
def test_without_a_brain_there_is_sensor_noise_drift_and_mains(name):
    device = DEVICES[name]
    info = describe_sensors(device, PERSON, seed=0)
    raw = record(device, info, *silence(info, 40), BadChannels(), generator(0, name))
    frequency, power = welch(raw.get_data(), device.sfreq, nperseg=int(4 * device.sfreq))
    floor = np.sqrt(np.median(power[:, (frequency > 20) & (frequency < 40)], axis=1))
    stated = np.array([device.noise_density[int(channel["coil_type"])] for channel in raw.info["chs"]])
    np.testing.assert_allclose(floor, stated, rtol=0.25)
    mains = np.abs(frequency - device.mains_hz).argmin()
    assert np.median(power[:, mains] / power[:, mains - 12]) > 30
    other = np.abs(frequency - (110 - device.mains_hz)).argmin()
    assert np.median(power[:, other] / power[:, other - 12]) < 3
    slow = raw.get_data().reshape(len(stated), -1, int(2 * device.sfreq)).mean(axis=2).std(axis=1)
    coils = np.array([int(channel["coil_type"]) for channel in raw.info["chs"]])
    drift = {int(coil): np.sqrt(np.mean(slow[coils == coil] ** 2)) for coil in np.unique(coils)}
    # V, T, T/m; a gradiometer feels little of what is far away: over its baseline of 5 cm, or 1.7 cm
    limits = {
        EEG: (5e-6, 50e-6),
        VECTORVIEW_MAGNETOMETER: (0.4e-12, 3e-12),
        OPM: (0.8e-12, 6e-12),
        CTF_AXIAL: (0.05e-12, 0.5e-12),
        VECTORVIEW_PLANAR: (1e-12, 15e-12),
    }
    assert all(limits[coil][0] < rms < limits[coil][1] for coil, rms in drift.items()), drift


@pytest.mark.parametrize("name", DEVICE_NAMES)
def test_sixteen_patterns_explain_nine_tenths(name):
    device = DEVICES[name]
    sources = place_sources(PERSON, seed=0)
    activity = draw_activity(PERSON, sources, short_run("tones", duration_s=30, rng=generator(1)), seed=0, run="x")
    info = describe_sensors(device, PERSON, seed=0)
    raw = record(device, info, leadfield(info, PERSON, sources), activity, BadChannels(), generator(0, name))
    signal = sosfiltfilt(butter(2, (0.2, 45), "bandpass", fs=device.sfreq, output="sos"), raw.get_data())
    signal = signal[:, int(2 * device.sfreq) : -int(2 * device.sfreq)]
    coils = np.array([int(channel["coil_type"]) for channel in raw.info["chs"]])
    for coil in np.unique(coils):
        rows = coils == coil
        signal[rows] -= signal[rows].mean(axis=0)
        signal[rows] /= signal[rows].std()
    strength = np.linalg.eigvalsh(np.cov(signal))[::-1]
    assert strength[:16].sum() > 0.9 * strength.sum()


def test_bad_channels_are_broken_and_others_are_not():
    device = DEVICES["biosemi64"]
    sources = place_sources(PERSON, seed=0)
    activity = draw_activity(PERSON, sources, short_run("rest", duration_s=20, rng=generator(1)), seed=0, run="x")
    info = describe_sensors(device, PERSON, seed=0)
    bad = BadChannels(flat=("Cz",), noisy=("Oz",))
    gain = leadfield(info, PERSON, sources)
    broken = record(device, info, gain, activity, bad, generator(7))
    whole = record(device, info, gain, activity, BadChannels(), generator(7))
    assert broken.get_data("Cz").std() == 0.0
    assert broken.get_data("Oz").std() > 4 * np.median(whole.get_data().std(axis=1))
    others = [name for name in whole.ch_names if name not in ("Cz", "Oz")]
    np.testing.assert_array_equal(broken.get_data(others), whole.get_data(others))


def test_bad_channels_are_drawn_apart_and_as_often_as_asked():
    names = tuple(f"c{index}" for index in range(275))
    draws = [draw_bad_channels(names, 0.5, generator(seed)) for seed in range(200)]
    assert all(not set(bad.flat) & set(bad.noisy) for bad in draws)
    assert {len(bad.flat) for bad in draws} == {0, 3}
    assert 0.35 < np.mean([bool(bad.noisy) for bad in draws]) < 0.65
    assert draw_bad_channels(names, 0.0, generator(0)) == BadChannels()


@pytest.mark.parametrize("name", DEVICE_NAMES)
def test_most_of_a_recording_is_brain_and_eyes(name):
    device = DEVICES[name]
    sources = place_sources(PERSON, seed=0)
    activity = draw_activity(PERSON, sources, short_run("rest", duration_s=30, rng=generator(1)), seed=0, run="x")
    info = describe_sensors(device, PERSON, seed=0)
    gain = leadfield(info, PERSON, sources)
    full = record(device, info, gain, activity, BadChannels(), generator(0, name)).get_data()
    rest = record(device, info, 0.0 * gain, activity, BadChannels(), generator(0, name)).get_data()
    band = butter(2, (0.3, 45), "bandpass", fs=device.sfreq, output="sos")
    full, rest = (
        sosfiltfilt(band, signal)[:, int(3 * device.sfreq) : -int(3 * device.sfreq)] for signal in (full, rest)
    )
    assert np.median(rest.var(axis=1) / full.var(axis=1)) < 0.2
