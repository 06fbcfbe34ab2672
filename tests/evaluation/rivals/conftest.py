"""Windows of five simulated subjects whose classes differ in one known way."""

from typing import NamedTuple

import numpy as np
import pytest

from emeg.evaluation.protocol.interfaces import Channel
from emeg.sensors import SensorType

SFREQ = 128.0
N_SAMPLES = 256
N_CHANNELS = 6


class Made(NamedTuple):
    signal: np.ndarray
    labels: np.ndarray
    subjects: np.ndarray
    channels: tuple[Channel, ...]


def pink(generator, shape, exponent=1.0):
    freqs = np.fft.rfftfreq(shape[-1], 1 / SFREQ)
    size = np.where(freqs > 0, np.maximum(freqs, 0.5) ** (-exponent / 2), 0.0)
    spectrum = size * (
        generator.normal(size=(*shape[:-1], len(freqs))) + 1j * generator.normal(size=(*shape[:-1], len(freqs)))
    )
    made = np.fft.irfft(spectrum, shape[-1])
    return made / made.std()


def make(kind: str, seed: int = 0) -> Made:
    generator = np.random.default_rng(seed)
    subjects, labels = np.repeat(np.arange(5), 24), np.tile([0, 1], 60)
    time = np.arange(N_SAMPLES) / SFREQ
    signal = pink(generator, (120, N_CHANNELS, N_SAMPLES))
    for i, (subject, label) in enumerate(zip(subjects, labels, strict=True)):
        if kind == "rhythm":  # alpha on the left or on the right
            signal[i, label] += 2.0 * np.sin(2 * np.pi * (10 * time + generator.uniform()))
        elif kind == "evoked":  # a deflection at a fixed time, for class 1
            signal[i, 2:4] += 2.5 * label * np.exp(-(((time - 0.3) / 0.06) ** 2))
        elif kind == "flicker":  # 9 Hz or 13.5 Hz, at any phase
            signal[i, 3:] += 0.7 * np.sin(2 * np.pi * ((9.0, 13.5)[label] * time + generator.uniform()))
        elif kind == "slope":
            signal[i] = pink(generator, (N_CHANNELS, N_SAMPLES), exponent=(1.0, 1.6)[label])
        signal[i] *= 1e-5 * (1 + 0.2 * subject)
    channels = tuple(Channel(f"E{k}", SensorType.EEG, (0.01 * k, 0.0, 0.09)) for k in range(N_CHANNELS))
    return Made(signal.astype(np.float32), labels.astype(np.int64), subjects, channels)


@pytest.fixture(scope="session")
def made():
    """Return a function that makes windows of a kind, once for each."""
    found = {}
    return lambda kind: found.setdefault(kind, make(kind))


@pytest.fixture
def accuracy():
    """Return a function that fits a rival to subjects 0 to 2 and returns its balanced accuracy on 3 and 4."""
    from emeg.evaluation.rivals import RIVALS
    from emeg.metrics import balanced_accuracy

    def measure(name, data, setting=None, **options):
        rival = RIVALS[name]
        setting = setting or rival.settings(1)[0]
        given = {"kind": "classification", "n_classes": 2, "channels": data.channels, "sfreq": SFREQ, "seed": 0}
        train, test = data.subjects < 3, data.subjects >= 3
        estimator = rival.estimator(setting, **given | options)
        estimator.fit(data.signal[train], data.labels[train])
        probabilities = estimator.predict_proba(data.signal[test])
        assert probabilities.shape == (test.sum(), 2)
        assert probabilities.sum(axis=1) == pytest.approx(1)
        assert np.array_equal(estimator.predict(data.signal[test]), probabilities.argmax(axis=1))
        return balanced_accuracy(data.labels[test], probabilities.argmax(axis=1))

    return measure
