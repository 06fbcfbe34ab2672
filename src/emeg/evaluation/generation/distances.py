"""Differences between two signals: spectra, maps of bands, bursts, covariance.

Shape letters: B batch (repeated continuations), C channels, N samples.
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
MIN_AVERAGES = 8
"""Fewest Welch segments from which the coherence of channels is estimated."""
NEIGHBOURS = 1 / 36
"""Squared correlation of periodograms of Hann windows that overlap by half."""


class Bursts(NamedTuple):
    """Excursions of the envelope of a band, averaged over channels."""

    rate_hz: float
    """Bursts a second."""
    duration_s: float
    """Mean length of a burst, s; 0 without bursts."""


def power_db(signal_BCN: NDArray[np.float64], sfreq: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the frequencies of `SPECTRUM_HZ` and the power density of every channel at them, dB.

    Parameters
    ----------
    signal_BCN : float64, shape (channels, samples) or (batch, channels, samples)
        In any unit. Power is averaged over a batch.
    sfreq : float
        Sampling rate, Hz.

    Returns
    -------
    tuple of (float64, shape (frequencies,)) and (float64, shape (channels, frequencies))
        Hz; dB of the unit's square per Hz.
    """
    from scipy.signal import welch

    freqs, power = welch(signal_BCN, sfreq, nperseg=_segment_length(signal_BCN, sfreq))
    power = power.reshape(-1, *power.shape[-2:]).mean(axis=0)
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


def find_bursts(signal_BCN: NDArray[np.float64], sfreq: float) -> Bursts:
    """Count the excursions of the envelope of `BURST_BAND` above `BURST_FACTOR` times its median.

    Parameters
    ----------
    signal_BCN : float64, shape (channels, samples) or (batch, channels, samples)
        In any unit.
    sfreq : float
        Sampling rate, Hz.
    """
    signal_CN = signal_BCN.reshape(-1, signal_BCN.shape[-1])
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
    made_BCN: NDArray[np.float64], real_CN: NDArray[np.float64], types: NDArray[np.int64], sfreq: float
) -> dict[str, float]:
    """Return how much a signal differs from a recorded one.

    Parameters
    ----------
    made_BCN : float64, shape (channels, samples) or (batch, channels, samples)
        V, T or T/m, or any other unit. Power, bursts and covariance are averaged over a batch.
    real_CN : float64, shape (channels, samples)
        Same unit (V, T or T/m, or any other); its length may differ.
    types : int64, shape (channels,)
        Codes of sensor types, which have different units.
    sfreq : float
        Sampling rate, Hz.

    Returns
    -------
    dict
        ``spectrum_db``: mean over frequencies of the absolute difference of power, averaged over channels;
        ``expected_db``: the ``spectrum_db`` that two signals of one stationary process have on average, see
        `expected_difference`; ``level_db``: difference of power, averaged over channels and frequencies;
        ``within_1_db``: share of frequencies with a difference up to 1 dB; ``map_correlation``: of the maps of bands,
        averaged over bands and sensor types, if a type has three channels; ``burst_rate_error`` and
        ``burst_duration_error``: as shares of the recorded signal's; ``covariance_distance``: Frobenius distance of the
        covariances of standardised channels over the norm of the recorded one.
    """
    freqs, made_db = power_db(made_BCN, sfreq)
    own_freqs, real_db = power_db(real_CN, sfreq)
    if len(own_freqs) != len(freqs):
        real_db = np.stack([np.interp(freqs, own_freqs, row) for row in real_db])
    difference = (made_db - real_db).mean(axis=0)
    found = {
        "spectrum_db": float(np.abs(difference).mean()),
        "level_db": float(difference.mean()),
        "within_1_db": float((np.abs(difference) <= CLOSE_DB).mean()),
        "covariance_distance": covariance_distance(made_BCN, real_CN),
    }
    expected = expected_difference(made_BCN, real_CN, sfreq)
    if expected is not None:
        found["expected_db"] = expected
    correlations = _map_correlations(band_maps(freqs, made_db), band_maps(freqs, real_db), types)
    if len(correlations):
        found["map_correlation"] = float(np.mean(correlations))
    made_bursts, real_bursts = find_bursts(made_BCN, sfreq), find_bursts(real_CN, sfreq)
    for name, made, real in zip(("rate", "duration"), made_bursts, real_bursts, strict=True):
        if real > 0:
            found[f"burst_{name}_error"] = abs(made - real) / real
    return found


def expected_difference(made_BCN: NDArray[np.float64], real_CN: NDArray[np.float64], sfreq: float) -> float | None:
    """Return the ``spectrum_db`` that two signals of one stationary process have on average, dB.

    The logarithm of an average of K periodograms has the variance ψ₁(K), where K is reduced by the overlap of Welch
    segments. Estimates of two channels are correlated as their squared coherence, which is taken from the recorded
    signal. The differences over frequencies are normal, so that their mean absolute value is √(2/π) of their standard
    deviation.

    Parameters
    ----------
    made_BCN : float64, shape (channels, samples) or (batch, channels, samples)
        In any unit; only its shape is used.
    real_CN : float64, shape (channels, samples)
        In any unit.
    sfreq : float
        Sampling rate, Hz.

    Returns
    -------
    float, or None
        None for fewer than `MIN_AVERAGES` Welch segments of the recorded signal.

    References
    ----------
    Percival and Walden, Spectral Analysis for Physical Applications, 1993, section 6.17.
    """
    from scipy.special import polygamma

    length = _segment_length(real_CN, sfreq)
    starts = range(0, real_CN.shape[1] - length + 1, length - length // 2)
    if len(starts) < MIN_AVERAGES:
        return None
    n_repeats = made_BCN.shape[0] if made_BCN.ndim == 3 else 1
    n_real = _independent_averages(real_CN.shape[1], length)
    n_made = n_repeats * _independent_averages(made_BCN.shape[-1], _segment_length(made_BCN, sfreq))
    freqs = np.fft.rfftfreq(length, 1 / sfreq)
    low, high = SPECTRUM_HZ
    chosen = (freqs >= low) & (freqs <= high)
    pieces = np.stack([real_CN[:, start : start + length] for start in starts])
    pieces = (pieces - pieces.mean(axis=-1, keepdims=True)) * np.hanning(length + 1)[:-1]
    spectra = np.fft.rfft(pieces)[..., chosen]
    cross = np.einsum("bcf,bdf->cdf", spectra, spectra.conj())
    power = np.einsum("ccf->cf", cross).real
    shared = np.abs(cross) ** 2 / np.maximum(power[:, None] * power[None], np.finfo(float).tiny)
    unbiased = np.clip((shared - 1 / n_real) / (1 - 1 / n_real), 0, 1)
    variance = unbiased.mean(axis=(0, 1)) * (polygamma(1, n_real) + polygamma(1, n_made))
    return float(10 / np.log(10) * np.sqrt(2 / np.pi * variance).mean())


def _segment_length(signal: NDArray[np.float64], sfreq: float) -> int:
    """Return the samples of a Welch segment of a signal."""
    return min(int(signal.shape[-1]), round(SPECTRUM_S * sfreq))


def _independent_averages(n_samples: int, length: int) -> float:
    """Return how many independent periodograms a Welch estimate with overlap of half is worth."""
    n = (n_samples - length) // (length - length // 2) + 1
    return n / (1 + 2 * NEIGHBOURS * (n - 1) / n)


def covariance_distance(made_BCN: NDArray[np.float64], real_CN: NDArray[np.float64]) -> float:
    """Return the distance of two covariances, of channels in units of the recorded signal's standard deviation.

    Parameters
    ----------
    made_BCN : float64, shape (channels, samples) or (batch, channels, samples)
        V, T or T/m, or any other unit. Covariances are averaged over a batch.
    real_CN : float64, shape (channels, samples)
        Same unit (V, T or T/m, or any other).
    """
    scale = real_CN.std(axis=1, keepdims=True)
    scale = np.where(scale > 0, scale, 1.0)
    scaled = made_BCN.reshape(-1, *made_BCN.shape[-2:]) / scale
    made, real = np.mean([np.cov(one) for one in scaled], axis=0), np.cov(real_CN / scale)
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
