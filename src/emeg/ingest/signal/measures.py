"""Measures of quality of every channel in every segment of ten seconds, from the source and from what became of it.

source row ──constant stretches──▶ flat, clipped; ──spectrum before the notch──▶ mains
standardised stretches ──▶ deviation, in_gate; ──spectra──▶ high_frequency, correlation, neighbours

The source is measured one channel after another, the standardised signal in stretches of a minute, so that memory does
not grow with length. Segments are weighted by a Hann window, so that drifts outside the band do not leak into it.

References
----------
Bigdely-Shamlo et al. 2015 (PREP, Frontiers in Neuroinformatics 9:16): correlation as the 98th percentile over the other
channels, and high frequencies over low ones, both with 50 Hz as the border.

Shape letters: C channels, N samples.
"""

from collections.abc import Iterator
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
    """

    def __init__(self, n_channels: int, n_samples: int, n_seconds: int, *, sfreq: float, mains: float) -> None:
        self._sfreq = sfreq
        self._seconds = _bounds(n_seconds, 1.0, sfreq, n_samples)
        n_segments = -(-n_seconds // round(SEGMENT_S))
        self._segments = _bounds(n_segments, SEGMENT_S, sfreq, n_samples)
        self._length = min(int(SEGMENT_S * sfreq), n_samples)
        self._mains = _MainsRatio(self._length, sfreq, mains)
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
            constant = find_constant(row)
            clipped = clipped_stretches(constant, row)
            self.bad[channel, constant_seconds(constant, self._seconds)] |= int(BadReason.FLAT)
            self.bad[channel, clipped_seconds(clipped, self._seconds)] |= int(BadReason.CLIPPED)
            with np.errstate(invalid="ignore"):  # a last segment may hold no sample of the source: NaN
                self.values[0, channel] = flat_stretches(constant, self._sfreq).covered(self._segments) / samples
                self.values[1, channel] = clipped.covered(self._segments) / samples
            self.values[2, channel] = self._mains.of(row, self._segments[:-1])


def _bounds(count: int, length_s: float, sfreq: float, n_samples: int) -> NDArray[np.intp]:
    """Return the first samples of stretches of the source, and the end of the last, which takes what is left."""
    bounds: NDArray[np.intp] = np.minimum(np.ceil(np.arange(count + 1) * length_s * sfreq - 1e-6), n_samples).astype(
        np.intp
    )
    bounds[-1] = n_samples
    return bounds


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
    values: ChannelRows, sensors: Sensors, flat_C: NDArray[np.bool_], seen: SourceLook, band: Band, *, sfreq: float
) -> Measures:
    """Measure every channel in every segment.

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

    Returns
    -------
    Measures
        `SOURCE_MEASURES`, then `SIGNAL_MEASURES`.
    """
    groups = [
        _Group(np.flatnonzero(members_C), np.flatnonzero(~flat_C[members_C]), gate.low, gate.high, gate.typical)
        for gate, members_C in gates(sensors)
    ]
    near = [nearest(sensors.positions[group.members[group.live]]) for group in groups]
    measured = np.full((len(SIGNAL_MEASURES), *seen.values.shape[1:]), np.nan, np.float32)
    for segment, signal_CN in _segments(values, round(SEGMENT_S * sfreq)):
        for group, neighbours in zip(groups, near, strict=True):
            if len(group.members):
                scaled_CN = signal_CN[group.members] * np.float32(1.0 / group.typical)
                np.clip(scaled_CN, -OVERRUN, OVERRUN, out=scaled_CN)
                whole = signal_CN.shape[1] >= MIN_SECONDS * sfreq
                found = _measure_group(scaled_CN, group, neighbours, band, sfreq if whole else 0.0)
                measured[:, group.members, segment] = found
    return Measures(
        (*SOURCE_MEASURES, *SIGNAL_MEASURES), SEGMENT_S, _three_digits(np.concatenate([seen.values, measured]))
    )


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


def _segments(values: ChannelRows, length: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    for first in range(0, values.shape[1], SEGMENTS_AT_ONCE * length):
        block = values.columns(first, first + SEGMENTS_AT_ONCE * length)
        for start in range(0, block.shape[1], length):
            yield (first + start) // length, block[:, start : start + length]


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
    """Return what is wrong with segments, uint8 of `BadReason` bits, shape (channels, segments).

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
    for _, members_C in gates(sensors):
        live = np.flatnonzero(members_C & ~flat_C)
        if len(live) < MIN_CHANNELS:
            continue
        for segment in range(in_gate.shape[-1]):
            of_noise, of_likeness = noise[live, segment], alike[live, segment]
            if np.isfinite(of_noise).all():
                noisy = robust_z(np.log(of_noise.astype(np.float64) + 1e-6)) > OUTLIER_Z
                bad[live[noisy], segment] |= int(BadReason.NOISY)
            if np.isfinite(of_likeness).all():
                alone = (of_likeness < CORRELATION_MIN) & (robust_z(of_likeness, 0.05) < -OUTLIER_Z / 2.0)
                bad[live[alone], segment] |= int(BadReason.UNCORRELATED)
    return bad
