"""Create random generators keyed by purpose, so that an additional draw for one purpose changes no other."""

import numpy as np
from numpy.typing import NDArray

from emeg.hashing import hash_json


def generator(seed: int, *purpose: str) -> np.random.Generator:
    """Create the generator for one purpose, such as ``generator(0, "sub-01", "blinks")``."""
    return np.random.Generator(np.random.PCG64(int(hash_json([str(seed), *purpose]), 16)))


def power_law(
    n_signals: int,
    n_samples: int,
    exponent: float,
    rng: np.random.Generator,
    *,
    rate: float,
    highest_hz: float,
    knee_hz: float = 1.0,
) -> NDArray[np.float64]:
    """Draw noise (signals, samples) of unit variance whose power falls as 1/f^exponent between knee and highest."""
    frequency = np.fft.rfftfreq(n_samples, 1.0 / rate)
    used = (frequency > 0) & (frequency < highest_hz)
    amplitude = np.zeros(len(frequency))
    amplitude[used] = (knee_hz**exponent + frequency[used] ** exponent) ** -0.5
    spectrum = rng.standard_normal((n_signals, len(frequency), 2)) @ np.array([1.0, 1.0j])
    noise = np.fft.irfft(spectrum * amplitude, n_samples, axis=1)
    return np.asarray(noise / noise.std(axis=1, keepdims=True))
