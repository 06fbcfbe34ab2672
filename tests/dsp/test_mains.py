import mne
import numpy as np
import pytest
from scipy.signal import lfilter

from emeg.dsp.mains import detect_mains


def noise(seed, n, channels=8):
    white = np.random.default_rng(seed).standard_normal((channels, n))
    return (1e-13 * lfilter([1.0], [1.0, -0.95], white, axis=1)).astype(np.float32)


@pytest.mark.parametrize("mains", [50.0, 60.0])
@pytest.mark.parametrize(("sfreq", "seconds"), [(1000.0, 8), (250.0, 60), (300.3074951171875, 30)])
def test_a_line_is_found_at_its_frequency(mains, sfreq, seconds):
    signal = noise(0, round(seconds * sfreq))
    t = np.arange(signal.shape[1]) / sfreq
    signal[:5] += (0.3 * signal.std() * np.sin(2 * np.pi * mains * t)).astype(np.float32)
    assert detect_mains(signal, sfreq) == mains


@pytest.mark.parametrize("seconds", [1, 4, 8, 60])
def test_noise_has_no_line(seconds):
    assert [detect_mains(noise(seed, seconds * 250), 250.0) for seed in range(20)] == [0.0] * 20


def test_the_end_of_an_anti_alias_filter_is_no_line():
    rng = np.random.default_rng(0)
    spectrum = np.fft.rfft(rng.standard_normal((8, 30_000)), axis=1)
    spectrum[:, np.fft.rfftfreq(30_000, 1 / 500.0) > 50.5] *= 1e-4
    assert detect_mains(np.fft.irfft(spectrum, axis=1).astype(np.float32), 500.0) == 0.0


def test_a_recording_made_in_europe_shows_50_hz(shared):
    raw = mne.io.read_raw(shared / "data/ssvep/sub-01/eeg/sub-01_task-ssvep_eeg.vhdr", verbose="ERROR")
    assert detect_mains(raw.get_data().astype(np.float32), 256.0) == 50.0
