"""Differences between two signals: spectra, maps of bands, bursts, covariance.

Shape letters: C channels, N samples.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.metrics import pearson

SPECTRUM_HZ = (1.0, 45.0)
"""Frequencies whose power is compared, Hz."""
SPECTRUM_S = 2.0
"""Length of a Welch segment, s."""
BANDS = {
    "delta": (1.0, 4.0),
    "theta": (4.0, 8.0),
    "alpha": (8.0, 12.0),
    "beta": (12.0, 30.0),
    "gamma": (30.0, 45.0),
}
"""Bands whose maps are compared, Hz."""
BURST_BAND = "alpha"
"""Band whose bursts are counted."""
BURST_FACTOR = 1.5
"""A burst begins where the envelope exceeds this multiple of its median."""
CLOSE_DB = 1.0
"""Difference of power up to which a frequency counts as right, dB."""


class Bursts(NamedTuple):
    """Excursions of the envelope of a band, averaged over channels."""

    rate_hz: float
    """Bursts a second."""
    duration_s: float
    """Mean length of a burst, s; 0 without bursts."""


def power_db(signal_CN: NDArray[np.float64], sfreq: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the frequencies of `SPECTRUM_HZ` and the power density of every channel at them, dB.

    Parameters
    ----------
    signal_CN : float64, shape (channels, samples)
        In any unit.
    sfreq : float
        Sampling rate, Hz.

    Returns
    -------
    tuple of (float64, shape (frequencies,)) and (float64, shape (channels, frequencies))
        Hz; dB of the unit's square per Hz.
    """
    from scipy.signal import welch

    length = min(signal_CN.shape[1], round(SPECTRUM_S * sfreq))
    freqs, power = welch(signal_CN, sfreq, nperseg=length, axis=1)
    low, high = SPECTRUM_HZ
    chosen = (freqs >= low) & (freqs <= high)
    floor = np.finfo(float).tiny
    return freqs[chosen], 10 * np.log10(np.maximum(power[:, chosen], floor))


def band_maps(freqs: NDArray[np.float64], power_db_CN: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average the power of each band: float64, shape (bands, channels), dB.

    Parameters
    ----------
    freqs : float64, shape (frequencies,)
        Hz.
    power_db_CN : float64, shape (channels, frequencies)
        Power density, dB.
    """
    linear = 10 ** (power_db_CN / 10)
    means = [linear[:, (freqs >= low) & (freqs < high)].mean(axis=1) for low, high in BANDS.values()]
    return np.asarray(10 * np.log10(np.stack(means)))


def find_bursts(signal_CN: NDArray[np.float64], sfreq: float) -> Bursts:
    """Count the excursions of the envelope of `BURST_BAND` above `BURST_FACTOR` times its median.

    Parameters
    ----------
    signal_CN : float64, shape (channels, samples)
        In any unit.
    sfreq : float
        Sampling rate, Hz.
    """
    n_samples = signal_CN.shape[1]
    freqs = np.fft.fftfreq(n_samples, 1 / sfreq)
    low, high = BANDS[BURST_BAND]
    spectrum = np.fft.fft(signal_CN, axis=1)
    envelope = np.abs(np.fft.ifft(2 * spectrum * ((freqs >= low) & (freqs < high)), axis=1))
    above = envelope > BURST_FACTOR * np.median(envelope, axis=1, keepdims=True)
    starts = np.diff(above.astype(np.int8), axis=1, prepend=0) == 1
    n_bursts = starts.sum(axis=1)
    durations = above.sum(axis=1)[n_bursts > 0] / n_bursts[n_bursts > 0] / sfreq
    return Bursts(
        rate_hz=float(n_bursts.mean() * sfreq / n_samples),
        duration_s=float(durations.mean()) if len(durations) else 0.0,
    )


def compare_signals(
    made_CN: NDArray[np.float64], real_CN: NDArray[np.float64], types: NDArray[np.int64], sfreq: float
) -> dict[str, float]:
    """Return how much a signal differs from a recorded one.

    Parameters
    ----------
    made_CN, real_CN : float64, shape (channels, samples)
        V, T or T/m, or any other unit, the same for both; their lengths may differ.
    types : int64, shape (channels,)
        Codes of sensor types, which have different units.
    sfreq : float
        Sampling rate, Hz.

    Returns
    -------
    dict
        ``spectrum_db``: mean over frequencies of the absolute difference of power, averaged over channels;
        ``level_db``: difference of power, averaged over channels and frequencies; ``within_1_db``: share of
        frequencies with a difference up to 1 dB; ``map_correlation``: of the maps of bands, averaged over bands and
        sensor types, if a type has three channels; ``burst_rate_error`` and ``burst_duration_error``: as shares of the
        recorded signal's; ``covariance_distance``: Frobenius distance of the covariances of standardised channels over
        the norm of the recorded one.
    """
    freqs, made_db = power_db(made_CN, sfreq)
    own_freqs, real_db = power_db(real_CN, sfreq)
    if len(own_freqs) != len(freqs):
        real_db = np.stack([np.interp(freqs, own_freqs, row) for row in real_db])
    difference = (made_db - real_db).mean(axis=0)
    found = {
        "spectrum_db": float(np.abs(difference).mean()),
        "level_db": float(difference.mean()),
        "within_1_db": float((np.abs(difference) <= CLOSE_DB).mean()),
        "covariance_distance": covariance_distance(made_CN, real_CN),
    }
    correlations = _map_correlations(band_maps(freqs, made_db), band_maps(freqs, real_db), types)
    if len(correlations):
        found["map_correlation"] = float(np.mean(correlations))
    made_bursts, real_bursts = find_bursts(made_CN, sfreq), find_bursts(real_CN, sfreq)
    for name, made, real in zip(("rate", "duration"), made_bursts, real_bursts, strict=True):
        if real > 0:
            found[f"burst_{name}_error"] = abs(made - real) / real
    return found


def covariance_distance(made_CN: NDArray[np.float64], real_CN: NDArray[np.float64]) -> float:
    """Return the distance of two covariances, of channels in units of the recorded signal's standard deviation.

    Parameters
    ----------
    made_CN, real_CN : float64, shape (channels, samples)
        V, T or T/m, or any other unit, the same for both.
    """
    scale = real_CN.std(axis=1, keepdims=True)
    scale = np.where(scale > 0, scale, 1.0)
    made, real = np.cov(made_CN / scale), np.cov(real_CN / scale)
    return float(np.linalg.norm(made - real) / np.linalg.norm(real))


def _map_correlations(
    made: NDArray[np.float64], real: NDArray[np.float64], types: NDArray[np.int64]
) -> NDArray[np.float64]:
    values = [
        pearson(made[:, types == kind], real[:, types == kind])
        for kind in np.unique(types)
        if np.count_nonzero(types == kind) >= 3
    ]
    joined = np.concatenate(values) if values else np.zeros(0)
    return np.asarray(joined[np.isfinite(joined)])
