"""Find the mains frequency in the spectrum where no header or sidecar states it.

Shape letters: C channels, N samples.
"""

import numpy as np
from numpy.typing import NDArray

CANDIDATES_HZ = (50.0, 60.0)

MIN_SEGMENTS_S = 1.0
"""Shortest stretch a spectrum is taken of: at 1 Hz a line still stands apart from its neighbours."""

MIN_DURATION_S = 4.0
"""Shortest signal, s; in a shorter one, fewer than seven stretches are averaged and noise has peaks."""

PEAK_RATIO = 4.0
"""Power at the line over the median of its flanks (6 dB). Averages of seven stretches of noise stay below 3."""

CHANNEL_SHARE = 0.25
"""Share of channels that must show the line."""


def detect_mains(signal_CN: NDArray[np.float32], sfreq: float) -> float:
    """Return the mains frequency found in the spectrum, 50 or 60 Hz; 0 if there is no clear peak.

    Parameters
    ----------
    signal_CN : float32, shape (channels, samples)
        In V, T or T/m, as recorded; two minutes from the middle are used.
    sfreq : float
        Hz.

    Returns
    -------
    float
        The candidate at which most channels have a peak, by at least `PEAK_RATIO` over both flanks, in at least
        `CHANNEL_SHARE` of the channels; 0 for none, or if the recording is too short.
    """
    from scipy.signal import (
        welch,
    )  # half a second to import, which the process that distributes recordings does not need

    n = signal_CN.shape[1]
    if n < MIN_DURATION_S * sfreq or not len(signal_CN):
        return 0.0
    window = slice(max(0, n // 2 - round(60 * sfreq)), n // 2 + round(60 * sfreq))
    length = round(min(4.0, max(MIN_SEGMENTS_S, n / sfreq / 4.0)) * sfreq)
    spectra = []
    for row in signal_CN[:, window]:  # one by one: many channels' windows side by side would take gigabytes
        # Double precision: squares of teslas underflow float32.
        frequencies, spectrum = welch(row.astype(np.float64), sfreq, nperseg=length)
        spectra.append(spectrum)
    power = np.stack(spectra)
    shares = {f0: _share_with_line(frequencies, power, f0) for f0 in CANDIDATES_HZ}
    best = max(CANDIDATES_HZ, key=lambda f0: shares[f0])
    return best if shares[best] >= CHANNEL_SHARE else 0.0


def _share_with_line(frequencies: NDArray[np.float64], power: NDArray[np.float64], f0: float) -> float:
    line = np.abs(frequencies - f0) <= 0.5
    below = (frequencies >= f0 - 6.0) & (frequencies <= f0 - 1.9)
    above = (frequencies >= f0 + 1.9) & (frequencies <= f0 + 6.0)
    if frequencies[-1] < f0 + 2.5 or not (line.any() and below.any() and above.any()):
        return 0.0
    # Compare with both flanks, so that the steep end of an anti-alias filter is no line.
    flank = np.maximum(np.median(power[:, below], axis=1), np.median(power[:, above], axis=1))
    peak = power[:, line].max(axis=1)
    return float(np.mean((flank > 0.0) & (peak >= PEAK_RATIO * flank)))
