"""Measures of quality of every channel in every segment of ten seconds, from the source and from what became of it.

source row ──constant stretches──▶ flat, clipped; ──spectrum before the notch──▶ mains
standardised stretches ──▶ deviation, in_gate; ──spectra──▶ high_frequency, correlation, neighbours

Nothing is measured across a pause: a segment that contains one is measured in its longest piece, and every piece is
judged separately.

The source is measured one channel after another, the standardised signal in stretches of a minute, so that memory does
not grow with length. Segments are weighted by a Hann window, so that drifts outside the band do not leak into it.

References
----------
Bigdely-Shamlo et al. 2015 (PREP, Frontiers in Neuroinformatics 9:16): correlation as the 98th percentile over the other
channels, and high frequencies over low ones, both with 50 Hz as the border.

Shape letters: C channels, N samples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from emeg.dsp.response import Band
from emeg.ingest.channel_rows import ChannelRows
from emeg.ingest.signal.bad_channels import (
    CORRELATION_MIN,
    MIN_CHANNELS,
    MIN_SECONDS,
    OUTLIER_Z,
    gates,
    nearest,
    robust_z,
)
from emeg.ingest.signal.constant_stretches import (
    clipped_seconds,
    clipped_stretches,
    constant_seconds,
    find_constant,
    flat_stretches,
)
from emeg.ingest.signal.pieces import Pieces, Span, divide, edges
from emeg.sensors import Sensors
from emeg.store import BadReason
from emeg.store.recordings.measures import Measures

SEGMENT_S = 10.0
"""Length of a segment, s; the last one may be shorter."""
SEGMENTS_AT_ONCE = 6

MAINS_HALF_WIDTH_HZ = 1.0
"""Distance from a line, Hz, within which power counts as the line's."""
FLANK_HZ = (2.0, 6.0)
"""Range of distances from a line, Hz, whose power counts as its neighbourhood, on both sides."""
N_HARMONICS = 5
WINDOWS_AT_ONCE = 64
"""Windows of the source that are transformed together."""

LOW_HZ, HIGH_HZ = 1.0, 50.0
"""PREP's bands: 1-50 Hz is signal, what lies above is noise of electrodes and muscles."""
HIGH_BAND_MIN_HZ = 60.0
"""Least upper edge of the pass band, Hz, for a measure above 50 Hz."""
PREP_QUANTILE = 0.98

SOURCE_MEASURES = ("flat", "clipped", "mains")
SIGNAL_MEASURES = ("deviation", "in_gate", "high_frequency", "correlation", "neighbours")
"""
flat
    Share of the source's samples in constant stretches of 0.1 s and more.
clipped
    Share of the source's samples in constant stretches of four and more samples at the channel's highest or lowest
    value.
mains
    Mean power density within 1 Hz of the mains frequency and of its harmonics (five at most, all below the Nyquist
    frequency) over that at 2 to 6 Hz beside them, in the source: 1 is no hum. NaN where the mains is unknown.
deviation
    Standard deviation of the standardised signal, in V, T or T/m.
in_gate
    1 where the deviation is one that sensors of the type have, else 0.
high_frequency
    Amplitude above 50 Hz over that at 1-50 Hz.
correlation
    98th percentile of the correlations with all other channels of the type, without signs, 1-50 Hz.
neighbours
    Largest of the correlations with the six nearest sensors of the type, without signs, 1-50 Hz.

Spectral ones are NaN in a segment shorter than four seconds, correlations also of channels that are flat throughout.
"""


class SourceLook:
    """Measures of the source; `measure` takes its channels in any order.

    Parameters
    ----------
    n_channels, n_samples, n_seconds : int
        Channels and samples of the source; seconds of the standardised signal, rounded up.
    sfreq : float
        The source's, Hz.
    mains : float
        Hz; 0 where unknown.
    spans : sequence of Span, optional
        Samples of the source that were recorded without a pause; all of them by default.
    """

    def __init__(
        self,
        n_channels: int,
        n_samples: int,
        n_seconds: int,
        *,
        sfreq: float,
        mains: float,
        spans: Sequence[Span] = (),
    ) -> None:
        self._sfreq = sfreq
        spans = spans or (Span(0, n_samples),)
        self._edges = edges(spans, n_samples)
        self._seconds = divide(_bounds(n_seconds, 1.0, sfreq, n_samples), spans)
        n_segments = -(-n_seconds // round(SEGMENT_S))
        self._segments = _bounds(n_segments, SEGMENT_S, sfreq, n_samples)
        self._mains = _mains_windows(divide(self._segments, spans), sfreq, mains, n_samples)
        self.values = np.full((len(SOURCE_MEASURES), n_channels, n_segments), np.nan, np.float32)
        self.bad = np.zeros((n_channels, n_seconds), np.uint8)
        """`BadReason` bits: seconds in which the source never changes, or stays at its extreme."""

    def measure(self, first: int, rows_CN: NDArray[np.float32]) -> None:
        """Measure neighbouring channels of the source.

        Parameters
        ----------
        first : int
            Index of the first channel.
        rows_CN : float32, shape (channels, samples)
            V, T or T/m.
        """
        samples = np.diff(self._segments)
        for channel, row in enumerate(rows_CN, first):
            constant = find_constant(row).split(self._edges[1:-1])
            clipped = clipped_stretches(constant, row, self._edges)
            seconds = self._seconds
            # a piece of a second may have three samples, which are equal by chance
            still = flat_stretches(constant, self._sfreq) if seconds.is_divided else constant
            self.bad[channel, seconds.cells[constant_seconds(still, seconds.bounds)]] |= int(BadReason.FLAT)
            self.bad[channel, seconds.cells[clipped_seconds(clipped, seconds.bounds)]] |= int(BadReason.CLIPPED)
            with np.errstate(invalid="ignore"):  # a last segment may hold no sample of the source: NaN
                self.values[0, channel] = flat_stretches(constant, self._sfreq).covered(self._segments) / samples
                self.values[1, channel] = clipped.covered(self._segments) / samples
            for windows in self._mains:
                self.values[2, channel, windows.segments] = windows.ratio.of(row, windows.starts)


def _bounds(count: int, length_s: float, sfreq: float, n_samples: int) -> NDArray[np.intp]:
    """Return the first samples of stretches of the source, and the end of the last, which takes what is left."""
    bounds: NDArray[np.intp] = np.minimum(np.ceil(np.arange(count + 1) * length_s * sfreq - 1e-6), n_samples).astype(
        np.intp
    )
    bounds[-1] = n_samples
    return bounds


class _MainsWindows(NamedTuple):
    """Segments whose mains ratio is measured in windows of one length."""

    ratio: "_MainsRatio"
    segments: NDArray[np.intp]
    starts: NDArray[np.intp]
    """First sample of each window."""


def _mains_windows(pieces: Pieces, sfreq: float, mains: float, n_samples: int) -> list[_MainsWindows]:
    """Return the windows in which the mains ratio of each segment is measured.

    A segment is measured in its first ten seconds. One that contains a pause is measured in its longest piece, in whole
    seconds, if that has `MIN_SECONDS`.
    """
    chosen = pieces.longest()
    starts = pieces.bounds[chosen]
    length = min(int(SEGMENT_S * sfreq), n_samples)
    divided = np.isin(np.arange(pieces.n_cells), np.flatnonzero(np.bincount(pieces.cells) > 1))
    divided &= pieces.recorded[chosen] & (pieces.lengths[chosen] < length)
    whole = np.flatnonzero(~divided & pieces.recorded[chosen])
    found = [_MainsWindows(_MainsRatio(length, sfreq, mains), whole, starts[whole])]
    seconds = np.floor(pieces.lengths[chosen] / sfreq + 1e-6).astype(int)
    for n in sorted(set(seconds[divided & (seconds >= MIN_SECONDS)].tolist())):
        some = np.flatnonzero(divided & (seconds == n))
        found.append(_MainsWindows(_MainsRatio(int(n * sfreq), sfreq, mains), some, starts[some]))
    return found


class _MainsRatio:
    """Power of lines over that of their neighbourhood, in windows of one length."""

    def __init__(self, length: int, sfreq: float, mains: float) -> None:
        self._length = length
        self._padded = int(scipy.fft.next_fast_len(max(length, 1), real=True))
        self._window = np.hanning(length).astype(np.float32)
        self._bands: list[tuple[slice, NDArray[np.float64]]] = []
        frequencies = np.fft.rfftfreq(self._padded, 1.0 / sfreq)
        for harmonic in range(1, N_HARMONICS + 1) if mains > 0.0 and length >= MIN_SECONDS * sfreq else ():
            if harmonic * mains + FLANK_HZ[1] > sfreq / 2.0:
                break
            distance = np.abs(frequencies - harmonic * mains)
            first, *_, last = np.flatnonzero(distance <= FLANK_HZ[1]).tolist()
            distance = distance[first : last + 1]
            means = np.stack([distance <= MAINS_HALF_WIDTH_HZ, distance >= FLANK_HZ[0]], axis=1).astype(np.float64)
            self._bands.append((slice(first, last + 1), means / means.sum(axis=0)))

    def of(self, row_N: NDArray[np.float32], starts: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the ratio by segment.

        It is NaN where a segment is shorter than the window, or has no power beside the mains frequency.
        """
        ratios = np.full(len(starts), np.nan, np.float32)
        if not self._bands:
            return ratios
        whole = np.flatnonzero(starts + self._length <= len(row_N))
        for some in np.array_split(whole, -(-len(whole) // WINDOWS_AT_ONCE) or 1):
            windows = np.stack([row_N[start : start + self._length] for start in starts[some]])
            windows -= windows[:, :1].copy()  # an offset, large as it may be, would cost single precision its digits
            windows *= self._window
            spectra = scipy.fft.rfft(windows, self._padded, axis=1, overwrite_x=True)
            line, flank = np.sum([_power(spectra[:, band]) @ means for band, means in self._bands], axis=0).T
            ratios[some] = np.divide(line, flank, out=np.full(len(some), np.nan), where=flank > 0.0)
        return ratios


OVERRUN = np.float32(1e12)
"""Limit of a channel's amplitude, relative to the typical one; larger values of a damaged channel would overflow."""


def _power(spectra: NDArray[np.complex64]) -> NDArray[np.float64]:
    # Double precision: squares of teslas underflow float32.
    return np.asarray(np.square(spectra.real, dtype=np.float64) + np.square(spectra.imag, dtype=np.float64))


def measure(
    values: ChannelRows,
    sensors: Sensors,
    flat_C: NDArray[np.bool_],
    seen: SourceLook,
    band: Band,
    *,
    sfreq: float,
    pieces: Pieces | None = None,
) -> Measures:
    """Measure every channel in every piece of a segment.

    Parameters
    ----------
    values : ChannelRows
        The standardised signal, bad channels not yet replaced.
    sensors : Sensors
    flat_C : bool, shape (C,)
        Channels without a signal: nothing is correlated with them.
    seen : SourceLook
        All channels of the source.
    band : Band
        What the standardised signal holds.
    sfreq : float
        The standardised signal's, Hz.
    pieces : Pieces, optional
        Segments, divided at pauses; by default there is none.

    Returns
    -------
    Measures
        `SOURCE_MEASURES`, which are those of the whole segment, then `SIGNAL_MEASURES`; one column for each piece.
    """
    if pieces is None:
        pieces = segment_pieces(values.shape[1], (), sfreq=sfreq)
    groups = [
        _Group(np.flatnonzero(members_C), np.flatnonzero(~flat_C[members_C]), gate.low, gate.high, gate.typical)
        for gate, members_C in gates(sensors)
    ]
    near = [nearest(sensors.positions[group.members[group.live]]) for group in groups]
    measured = np.full((len(SIGNAL_MEASURES), len(sensors), len(pieces.cells)), np.nan, np.float32)
    for piece, signal_CN in _recorded_pieces(values, pieces, round(SEGMENT_S * sfreq)):
        for group, neighbours in zip(groups, near, strict=True):
            if len(group.members):
                scaled_CN = signal_CN[group.members] * np.float32(1.0 / group.typical)
                np.clip(scaled_CN, -OVERRUN, OVERRUN, out=scaled_CN)
                whole = signal_CN.shape[1] >= MIN_SECONDS * sfreq
                found = _measure_group(scaled_CN, group, neighbours, band, sfreq if whole else 0.0)
                measured[:, group.members, piece] = found
    every = np.concatenate([seen.values[:, :, pieces.cells], measured])
    return Measures((*SOURCE_MEASURES, *SIGNAL_MEASURES), SEGMENT_S, _three_digits(every))


def segment_pieces(n_samples: int, spans: Sequence[Span], *, sfreq: float) -> Pieces:
    """Return the segments of a standardised signal, divided at its pauses.

    Parameters
    ----------
    n_samples : int
    spans : sequence of Span
        Samples that were recorded without a pause; empty where nothing interrupted the recording.
    sfreq : float
        Hz.
    """
    length = round(SEGMENT_S * sfreq)
    bounds = np.minimum(np.arange(-(-n_samples // length) + 1) * length, n_samples)
    return divide(bounds, spans or (Span(0, n_samples),))


def by_segment(measures: Measures, pieces: Pieces) -> Measures:
    """Return the measures of each segment: those of its longest piece."""
    return measures if not pieces.is_divided else replace(measures, values=measures.values[:, :, pieces.longest()])


def _three_digits(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round to eleven bits, one part in four thousand, which halves the stored size."""
    bits = values.view(np.uint32) + np.uint32(1 << 11)
    return (bits & np.uint32(0xFFFFF000)).view(np.float32)


class _Group(NamedTuple):
    """Sensors of one kind: all, those with a signal, and the gate of their amplitude."""

    members: NDArray[np.intp]
    live: NDArray[np.intp]
    """Indices among the members."""
    low: float
    high: float
    typical: float


def _measure_group(
    scaled_CN: NDArray[np.float32], group: _Group, neighbours: NDArray[np.intp], band: Band, sfreq: float
) -> NDArray[np.float64]:
    """Return `SIGNAL_MEASURES` of a segment of one group, scaled to its typical amplitude; no spectra at rate 0."""
    found = np.full((len(SIGNAL_MEASURES), len(scaled_CN)), np.nan)
    found[0] = scaled_CN.std(axis=1) * group.typical
    found[1] = (found[0] >= group.low) & (found[0] <= group.high)
    if not sfreq:
        return found
    seconds = scaled_CN.shape[1] / sfreq
    low, high = round(LOW_HZ * seconds), round(HIGH_HZ * seconds)
    scaled_CN *= np.hanning(scaled_CN.shape[1]).astype(np.float32)
    spectra = scipy.fft.rfft(scaled_CN, axis=1)
    if band.high >= HIGH_BAND_MIN_HZ:
        found[2] = _amplitude_ratio(spectra, low, high)
    if len(group.live) > 1:
        correlation_CC = _correlation(spectra[group.live, low : high + 1])
        found[3, group.live] = np.quantile(correlation_CC, PREP_QUANTILE, axis=0, method="hazen")
        found[4, group.live] = np.take_along_axis(correlation_CC, neighbours, axis=1).max(axis=1)
    return found


def _recorded_pieces(values: ChannelRows, pieces: Pieces, length: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield the index and the signal of every piece that was recorded; some segments are read at once."""
    block, first, stop = np.empty((len(values), 0), np.float32), 0, 0
    for piece in np.flatnonzero(pieces.recorded).tolist():
        start, end = pieces.bounds[piece : piece + 2].tolist()
        if end > stop:
            first = start // length * length
            stop = min(first + SEGMENTS_AT_ONCE * length, values.shape[1])
            block = values.columns(first, stop)
        yield piece, block[:, start - first : end - first]


def _amplitude_ratio(spectra: NDArray[np.complex64], low: int, high: int) -> NDArray[np.float32]:
    power = spectra.real**2 + spectra.imag**2
    below, above = power[:, low : high + 1].sum(axis=1), power[:, high + 1 :].sum(axis=1)
    ratio = np.full(len(power), np.nan, np.float32)
    np.divide(above, below, out=ratio, where=below > 0.0)
    return np.asarray(np.sqrt(ratio), np.float32)


def _correlation(spectra: NDArray[np.complex64]) -> NDArray[np.float32]:
    """Return absolute correlations of signals with these bins alone (Parseval); 0 of a signal with itself."""
    parts = np.ascontiguousarray(spectra).view(np.float32)
    parts = parts / np.maximum(np.linalg.norm(parts, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    correlation_CC: NDArray[np.float32] = np.abs(parts @ parts.T)
    np.fill_diagonal(correlation_CC, 0.0)
    return correlation_CC


def bad_segments(measures: Measures, sensors: Sensors, flat_C: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return what is wrong with segments or their pieces, uint8 of `BadReason` bits, shape (channels, pieces).

    Beyond the gate: an amplitude outside the range of the type. Noisy: amplitude above 50 Hz far above that of the
    type's other channels (robust z of the logarithm). Uncorrelated: no correlation with any neighbour although others
    have one. The last two need `MIN_CHANNELS` of a type. The limits are those for whole channels.

    Parameters
    ----------
    measures : Measures
    sensors : Sensors
    flat_C : bool, shape (channels,)
        Channels without a signal.
    """
    in_gate, noise, alike = (measures.of(name) for name in ("in_gate", "high_frequency", "neighbours"))
    bad = np.zeros_like(in_gate, np.uint8)
    bad[(in_gate == 0.0) & ~flat_C[:, None]] |= int(BadReason.BEYOND_GATE)
    for gate, members_C in gates(sensors):
        live = np.flatnonzero(members_C & ~flat_C)
        if len(live) < MIN_CHANNELS:
            continue
        for segment in range(in_gate.shape[-1]):
            of_noise, of_likeness = noise[live, segment], alike[live, segment]
            if np.isfinite(of_noise).all():
                noisy = robust_z(np.log(of_noise.astype(np.float64) + 1e-6)) > OUTLIER_Z
                bad[live[noisy], segment] |= int(BadReason.NOISY)
            if gate.alike and np.isfinite(of_likeness).all():
                alone = (of_likeness < CORRELATION_MIN) & (robust_z(of_likeness, 0.05) < -OUTLIER_Z / 2.0)
                bad[live[alone], segment] |= int(BadReason.UNCORRELATED)
    return bad
