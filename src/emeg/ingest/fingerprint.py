"""The same data twice: a fingerprint of a recording, and what two of them share.

The standardised signal has left format, unit and rate of the source behind. What remains to differ between copies is
every channel's scale, name and place, and where a cut begins.

signal ─▶ 2-12 Hz ─▶ power of every channel below 3 Hz, 16 values a second ─▶ logarithm (a scale becomes a constant)
─▶ mean over channels (no order) ─▶ minus its mean over 4 s (constants gone) ─▶ fingerprint

Two recordings are copies when any 20 s of the shorter one correlate with a stretch of the other.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BAND_HZ, ENVELOPE_HZ, RATE = (2.0, 12.0), 3.0, 16
"""Band that every source keeps; bandwidth and rate of the power, Hz."""
TREND_S, EDGE_S = 4, 4
"""Slow changes are taken out over this time; at both ends as much is left out for the filters to settle."""
PIECE_S = 20
"""Length that is compared: some 120 independent values, so that chance reaches 0.6 once in a billion comparisons."""
MOST_PIECES = 6
THRESHOLD = 0.8
"""Correlation from which it is a copy; half a value's misplacement of the grid costs 0.05."""
OUTLIER = 4.0
"""Robust deviations from the median at which a value says nothing about the brain."""
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
        Empty for a recording of less than `PIECE_S` and the edges.
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
    if len(track_T) < (PIECE_S + TREND_S) * RATE:
        return np.empty(0, np.float32)
    # Silence (records filled up with zeros) and crashes are alike in recordings that share nothing.
    median = np.median(track_T)
    spread = 1.4826 * np.median(np.abs(track_T - median)) + 1e-12
    track_T = np.where(np.abs(track_T - median) > OUTLIER * spread, median, track_T)
    width = TREND_S * RATE
    trend_T = np.convolve(track_T, np.full(width, 1.0 / width), mode="valid")
    middle = track_T[width // 2 : width // 2 + len(trend_T)]
    return np.asarray(middle - trend_T, np.float32)


def find_copies(fingerprints: Mapping[str, NDArray[np.float32]]) -> list[Match]:
    """Compare all recordings with each other, the shorter one's pieces with all of the longer; sorted by names.

    The work grows with the square of the number of recordings; empty fingerprints match nothing.
    """
    tracks = sorted((item for item in fingerprints.items() if len(item[1])), key=lambda item: (len(item[1]), item[0]))
    pieces = [_pieces(track) for _, track in tracks]
    found = []
    for j, (longer, track_T) in enumerate(tracks):
        compare = _Comparison(track_T)
        for i in range(j):
            correlation, offset = compare.best(*pieces[i])
            if correlation >= THRESHOLD:
                match = Match(longer, tracks[i][0], round(correlation, 4), offset / RATE)
                found.append(match if longer < tracks[i][0] else _turned(match))
    return sorted(found)


def _turned(match: Match) -> Match:
    return Match(match.second, match.first, match.correlation, -match.offset_s)


def _pieces(track_T: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Take up to `MOST_PIECES` pieces, spread evenly, each with mean 0 and norm 1, and where they begin."""
    length = PIECE_S * RATE
    n = min(MOST_PIECES, max(1, len(track_T) // length))
    starts = np.linspace(0, len(track_T) - length, n).astype(np.intp)
    pieces_PT = np.stack([track_T[start : start + length] for start in starts]).astype(np.float64)
    pieces_PT -= pieces_PT.mean(axis=1, keepdims=True)
    return pieces_PT / np.maximum(np.linalg.norm(pieces_PT, axis=1, keepdims=True), 1e-12), starts


class _Comparison:
    """Correlates pieces with every stretch of one track, by way of the spectrum."""

    def __init__(self, track_T: NDArray[np.float32]) -> None:
        length = PIECE_S * RATE
        self._n = len(track_T) - length + 1
        self._size = 1 << (len(track_T) + length - 1).bit_length()
        self._spectrum = np.fft.rfft(track_T, self._size)
        sums = [np.cumsum(np.r_[0.0, track_T.astype(np.float64) ** power]) for power in (1, 2)]
        first, second = (total[length:] - total[:-length] for total in sums)
        self._norm = np.sqrt(np.maximum(second - first**2 / length, 1e-12))

    def best(self, pieces_PT: NDArray[np.float64], starts: NDArray[np.intp]) -> tuple[float, int]:
        """Largest correlation, and how much later the piece lies in this track than in its own."""
        spectra = np.conj(np.fft.rfft(pieces_PT, self._size, axis=1))
        products = np.fft.irfft(self._spectrum * spectra, self._size, axis=1)[:, : self._n] / self._norm
        piece, place = np.unravel_index(int(np.argmax(products)), products.shape)
        return float(products[piece, place]), int(place - starts[piece])


def live_blocks(blocks: Iterable[NDArray[np.float32]], live_C: NDArray[np.bool_]) -> Iterator[NDArray[np.float32]]:
    """Leave channels out of every stretch."""
    return (block[live_C] for block in blocks)
