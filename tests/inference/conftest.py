import mne
import numpy as np
import pytest
from tests.small_models import model  # noqa: F401 - a fixture for the folder

NAMES = ["Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2"]


@pytest.fixture
def info():
    return eeg_info(256.0)


def eeg_info(sfreq):
    info = mne.create_info(NAMES, sfreq, "eeg")
    info.set_montage("colin27_1005")
    return info


def brain_like(n_channels, n_samples, sfreq, seed=0):
    """1/f noise with an alpha rhythm, 20 µV."""
    generator = np.random.default_rng(seed)
    spectrum = np.fft.rfft(generator.normal(size=(n_channels, n_samples)))
    rates = np.fft.rfftfreq(n_samples, 1 / sfreq)
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(rates, 1.0)), n=n_samples)
    alpha = np.sin(2 * np.pi * 10.0 * np.arange(n_samples) / sfreq + generator.uniform(0, 6, (n_channels, 1)))
    return 20e-6 * (noise / noise.std() + 0.5 * alpha)
