"""Find copies: compute a fingerprint of each recording, and compare fingerprints.

The standardised signal does not depend on format, unit and rate of the source. Copies can still differ in the scale,
name and order of their channels, and in where a cut begins.

signal ─▶ 2-12 Hz ─▶ power of every channel below 3 Hz, 16 values a second ─▶ logarithm (a scale becomes a constant)
─▶ mean over channels (no order) ─▶ minus its mean over 4 s (constants gone) ─▶ fingerprint

Two recordings are copies when some 10 s of them, around an extreme of the fingerprint, correlate.

Shape letters: C channels, N samples, T values of a fingerprint.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.curation.landmarks import RATE, WINDOW_S, landmarks, meetings

BAND_HZ, ENVELOPE_HZ = (2.0, 12.0), 3.0
"""Band that every source keeps; bandwidth of the power, Hz."""
TREND_S, EDGE_S = 4, 4
"""Time over which slow changes are removed, s; as much is left out at both ends, where the filters settle."""
SHORTEST_S = 2 * EDGE_S + WINDOW_S
"""Shortest recording with a fingerprint; from 22 s on copies are found as surely as of long ones."""
THRESHOLD = 0.88
"""Correlation from which a window counts as a copy, halfway between the least of 200 copies (0.97) and the largest of
200 distinct recordings (0.77)."""
OUTLIER = 4.0
"""Robust deviations from the median from which a value is no brain signal."""
_FLOOR = 1e-60


class Match(NamedTuple):
    """Two recordings share data: sample t of `second` is sample t + offset of `first`, seconds."""

    first: str
    second: str
    correlation: float
    offset_s: float


def fingerprint(blocks: Iterable[NDArray[np.float32]], *, sfreq: float) -> NDArray[np.float32]:
    """Compute a recording's fingerprint, 16 values a second.

    Parameters
    ----------
    blocks : iterable of float32, shape (C, any length)
        The standardised signal, stretch after stretch; flat channels may be left out. One stretch is held at a time.
    sfreq : float
        Hz, a multiple of 16.

    Returns
    -------
    float32, shape (values,)
        Empty for a recording of less than `SHORTEST_S`.
    """
    from scipy.signal import butter, sosfilt

    band = butter(2, BAND_HZ, "bandpass", fs=sfreq, output="sos")
    smooth = butter(2, ENVELOPE_HZ, fs=sfreq, output="sos")
    state: list[NDArray[np.float64]] = []
    step, taken, values = round(sfreq) // RATE, 0, []
    for block in blocks:
        if not state:
            state = [np.zeros((len(sos), len(block), 2)) for sos in (band, smooth)]
        scaled_CN = block.astype(np.float64) * 1e6
        filtered_CN, state[0] = sosfilt(band, scaled_CN, axis=1, zi=state[0])
        power_CN, state[1] = sosfilt(smooth, filtered_CN**2, axis=1, zi=state[1])
        grid_CT = power_CN[:, -taken % step :: step]
        values.append(np.log(np.maximum(grid_CT, _FLOOR)).mean(axis=0))
        taken += block.shape[1]
    track_T = np.concatenate(values)[EDGE_S * RATE :] if values else np.empty(0)
    if len(track_T) < (WINDOW_S + TREND_S) * RATE:
        return np.empty(0, np.float32)
    # Silence (records filled with zeros) and crashes look alike in recordings that share nothing.
    median = np.median(track_T)
    spread = 1.4826 * np.median(np.abs(track_T - median)) + 1e-12
    track_T = np.where(np.abs(track_T - median) > OUTLIER * spread, median, track_T)
    width = TREND_S * RATE
    trend_T = np.convolve(track_T, np.full(width, 1.0 / width), mode="valid")
    middle = track_T[width // 2 : width // 2 + len(trend_T)]
    return np.asarray(middle - trend_T, np.float32)


def find_copies(fingerprints: Mapping[str, NDArray[np.float32]]) -> list[Match]:
    """Find the recordings that share at least `WINDOW_S`; sorted by names.

    The work grows with the length of all recordings together (`emeg.curation.landmarks`); empty fingerprints match
    nothing.

    Parameters
    ----------
    fingerprints : mapping of str to float32, shape (values,)
        Fingerprints by the name of the recording, dimensionless, 16 values a second.
    """
    names = sorted(fingerprints)
    found = meetings([landmarks(fingerprints[name]) for name in names], THRESHOLD)
    return [
        Match(names[one.first], names[one.second], round(one.correlation, 4), round(one.offset_s, 3)) for one in found
    ]


def live_blocks(blocks: Iterable[NDArray[np.float32]], live_C: NDArray[np.bool_]) -> Iterator[NDArray[np.float32]]:
    """Yield every stretch without some channels.

    Parameters
    ----------
    blocks : iterable of float32, shape (channels, any length)
        Signal in V, T or T/m.
    live_C : bool, shape (channels,)
        Channels to keep.
    """
    return (block[live_C] for block in blocks)
