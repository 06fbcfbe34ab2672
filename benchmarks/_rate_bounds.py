"""What a code of a given rate, or a given number of spatial components, could retain at best.

Shape letters: C channels, N samples, W windows, L samples in a window.
"""

import numpy as np
from numpy.typing import NDArray

from emeg.evaluation.reconstruction import BANDS

FloatArray = NDArray[np.floating]
BISECTIONS = 60


def gaussian_bound(windows_WCL: FloatArray, sfreq: float, bits_per_second: float) -> dict[str, float]:
    """Return the best correlation in each band that a code of a rate allows for a Gaussian signal of the same spectra.

    The rate is spent by reverse water-filling over frequencies and spatial components (Cover and Thomas, Elements of
    Information Theory, section 10.3), on the mean squared error of the given signal. The eigenvalues are those of the
    windows themselves, which favours the bound.

    Parameters
    ----------
    windows_WCL : float, shape (windows, channels, samples)
        Windows of one recording, or of several with the same channels, in the domain in which the error counts.
    sfreq : float
        Sampling rate, Hz.
    bits_per_second : float

    Returns
    -------
    dict of float
        Correlation by band, all channels together.
    """
    n_samples = windows_WCL.shape[-1]
    taper = np.hanning(n_samples + 1)[:-1]
    centred = windows_WCL.astype(np.float64) - windows_WCL.mean(axis=-1, keepdims=True)
    spectra = np.fft.rfft(centred * taper, axis=-1).transpose(2, 1, 0)
    cross = spectra @ spectra.conj().transpose(0, 2, 1) / windows_WCL.shape[0]
    power = np.linalg.eigvalsh(cross).clip(min=0.0)
    width_hz = sfreq / n_samples
    low, high = 0.0, float(power.max())
    for _ in range(BISECTIONS):
        level = (low + high) / 2
        rate = width_hz * np.log2(np.maximum(power / max(level, 1e-300), 1.0)).sum()
        low, high = (level, high) if rate > bits_per_second else (low, level)
    freqs = np.fft.rfftfreq(n_samples, 1.0 / sfreq)
    kept = np.maximum(power - high, 0.0)
    found = {}
    for name, (first, last) in BANDS.items():
        bins = (freqs >= first) & (freqs < last)
        found[name] = float(np.sqrt(kept[bins].sum() / max(power[bins].sum(), 1e-300)))
    return found


def spatial_components(training_CN: FloatArray, n: int) -> FloatArray:
    """Return the projection on the first `n` principal components of training signals: (channels, channels).

    Parameters
    ----------
    training_CN : float, shape (channels, samples)
        Signals of training subjects in any unit.
    n : int
        Number of components.
    """
    _, vectors = np.linalg.eigh(np.cov(training_CN))
    chosen = vectors[:, -n:]
    return np.asarray(chosen @ chosen.T)
