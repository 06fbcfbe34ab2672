"""Quantisation of signals to int16 codes with one scale for each channel and chunk; value = code · scale.

The scale follows the weakest part of a channel's spectrum, not its peak. A scale that follows the peak spends all
sixteen bits on noise, which no codec can compress. Rounding noise well below the spectrum loses nothing that could be
distinguished from the channel's own noise.

Shape letters: C channels, N samples.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LARGEST = 32767
"""Largest code; -32768 is kept for samples that were never written."""

UNWRITTEN = -32768
"""Fill value of the signal array: a lost shard reads as this, not as a silent zero."""

NOISE_FRACTION = 1 / 24
"""Upper bound of scale / noise amplitude where a chunk is too short for a spectrum."""

MARGIN_DB = 21.0
"""Distance between rounding noise and spectrum in every 1-Hz bin that counts, dB. The store promises 20 dB; a spectrum
estimated from ten seconds of signal is slightly inaccurate."""

NOTCH_HALF_WIDTH_HZ = 2.0
"""Bins within this distance of a notch do not count, because the notch removed their signal, Hz."""

ZERO_SCALE = 2.0**-40
"""Scale of a chunk that is zero throughout, about 1e-12; its codes are all 0."""

SMALLEST_SCALE = 2.0**-100
"""About 8e-31, far below any sensor's noise, yet a normal float32 with room for products and squares."""

_MAD_TO_SD = 1.4826
"""Standard deviation of a normal variable over its median absolute deviation."""


def noise_scale(signal_CN: NDArray[np.float32]) -> NDArray[np.float64]:
    """Estimate the amplitude of a channel's fastest fluctuations, independent of its drifts and artefacts.

    Parameters
    ----------
    signal_CN : float32, shape (channels, samples)
        Finite values, in V, T or T/m.

    Returns
    -------
    float64, shape (channels,)
        1.4826 · median |x[i-1] - 2 x[i] + x[i+1]|, in the unit of the signal. The second difference weighs a frequency
        with 16 sin⁴(π f / sfreq), so it measures the top of the band even where the spectrum falls with f⁻³. The
        median ignores artefacts that fill less than half of the chunk.
    """
    if signal_CN.shape[1] < 3:
        return np.zeros(signal_CN.shape[0])
    second = np.abs(np.diff(signal_CN, n=2, axis=1))
    return _MAD_TO_SD * np.median(second, axis=1).astype(np.float64)


class KeptBand(NamedTuple):
    """Part of a spectrum that rounding noise is compared with."""

    sfreq: float
    """Sampling rate, Hz."""
    low: float
    """Lower end of the pass band, Hz."""
    high: float
    """Upper end of the pass band, Hz."""
    notches: tuple[float, ...] = ()
    """Frequencies taken out, Hz."""

    def counts(self, frequencies: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which 1-Hz bins count: those from 1 Hz to the end of the pass band, without the notches.

        Parameters
        ----------
        frequencies : float64, shape (bins,)
            Centres of the bins, Hz.
        """
        inside = (frequencies >= max(1.0, self.low)) & (frequencies <= self.high - 1.0)
        for notch in self.notches:
            inside &= np.abs(frequencies - notch) > NOTCH_HALF_WIDTH_HZ
        return inside


def weakest_density(signal_CN: NDArray[np.float32], band: KeptBand) -> NDArray[np.float64] | None:
    """Find the spectral density of the weakest 1-Hz bin that counts.

    Parameters
    ----------
    signal_CN : float32, shape (channels, samples)
        Finite values, in V, T or T/m.
    band : KeptBand

    Returns
    -------
    float64, shape (channels,), or None
        In unit²/Hz; `None` where the signal is shorter than 4 s or no bin counts. Computed by Welch's method with Hann
        windows of 1 s that overlap by half, and the median over windows (over ln 2, its ratio to the mean for a normal
        process), which ignores what fills less than half of the chunk.
    """
    length = round(band.sfreq)
    counts = band.counts(np.arange(length // 2 + 1) * band.sfreq / length)
    if signal_CN.shape[1] < 4 * length or not counts.any():
        return None
    window = np.hanning(length + 1)[:-1].astype(np.float32)
    scale = np.abs(signal_CN).max(axis=1, keepdims=True)
    scale = np.where(scale > 0, scale, 1).astype(np.float32)  # squares of 1e-15 T would leave float32
    frames = np.lib.stride_tricks.sliding_window_view(signal_CN / scale, length, axis=1)[:, :: length // 2]
    spectra = np.fft.rfft((frames - frames.mean(axis=2, keepdims=True)) * window, axis=2)[:, :, counts]
    power = np.median(spectra.real**2 + spectra.imag**2, axis=1) / np.log(2.0)
    density = 2.0 * power.min(axis=1).astype(np.float64) / (band.sfreq * float((window**2).sum()))
    return np.asarray(density * scale[:, 0].astype(np.float64) ** 2, np.float64)


class Scales(NamedTuple):
    """Scales of the channels in one chunk."""

    scale: NDArray[np.float32]
    """Powers of two, float32, shape (channels,), in the unit of each channel."""
    raised: NDArray[np.bool_]
    """Whether the peak needs a larger scale than the spectrum allows, so that `MARGIN_DB` may not hold; bool, shape
    (channels,)."""


def quantisation_scales(signal_CN: NDArray[np.float32], band: KeptBand | None = None) -> Scales:
    """Choose the scale of each channel of a chunk.

    Rounding to multiples of a scale Δ adds noise of density Δ² / 6 sfreq (variance Δ² / 12 over half the sampling
    rate), so Δ = √(6 · sfreq · weakest density / 10^(margin / 10)) keeps it below every bin that counts.

    Parameters
    ----------
    signal_CN : float32, shape (channels, samples)
        Finite values, in V, T or T/m.
    band : KeptBand, optional
        Part of the spectrum that counts. Without it, and in chunks under 4 s, the scale is `NOISE_FRACTION` of
        `noise_scale`.

    Returns
    -------
    Scales
        The largest powers of two that keep the margin, or larger ones where the peak would clip otherwise. A power of
        two makes code · scale exact in float32, so a signal that is read back quantises to itself.
    """
    peak = np.abs(signal_CN).max(axis=1).astype(np.float64)
    density = weakest_density(signal_CN, band) if band is not None else None
    if density is None or band is None:
        bound = NOISE_FRACTION * noise_scale(signal_CN)
    else:
        bound = np.sqrt(6.0 * band.sfreq * density / 10.0 ** (MARGIN_DB / 10.0))
    wanted = _power_of_two(bound, np.floor)
    needed = _power_of_two(peak / LARGEST, np.ceil)
    scale = np.maximum(np.maximum(wanted, needed), SMALLEST_SCALE)
    return Scales(np.where(peak > 0, scale, ZERO_SCALE).astype(np.float32), (bound > 0) & (needed > wanted))


def _power_of_two(value: NDArray[np.float64], rounded: Any) -> NDArray[np.float64]:  # noqa: ANN401 - numpy ufunc
    """Round to a power of two; 0 stays 0."""
    exponent = rounded(np.log2(value, out=np.full_like(value, -np.inf), where=value > 0))
    return np.asarray(np.exp2(exponent), np.float64)


def quantise(signal_CN: NDArray[np.float32], scale: NDArray[np.float32]) -> NDArray[np.int16]:
    """Round a chunk to codes, so that |signal - code · scale| ≤ scale / 2.

    Division by a power of two is exact, so float32 arithmetic keeps the bound.

    Parameters
    ----------
    signal_CN : float32, shape (channels, samples)
        In V, T or T/m.
    scale : float32, shape (channels,)
        From `quantisation_scales`, in V, T or T/m.

    Returns
    -------
    int16, shape (channels, samples)
        Codes.
    """
    codes = np.rint(signal_CN / scale[:, None])
    return np.asarray(codes, np.int16)


def dequantise(
    codes_CN: NDArray[np.int16],
    scale: NDArray[np.float32],
    edges: Sequence[int],
    start: int = 0,
    stop: int | None = None,
) -> NDArray[np.float32]:
    """Compute a signal from its codes: each code times the scale of its channel in its chunk.

    Parameters
    ----------
    codes_CN : int16, shape (channels, samples)
        Codes as they are stored.
    scale : float32, shape (channels, chunks)
        Value of code 1 in each chunk, in V, T or T/m.
    edges : sequence of int, length chunks + 1
        Chunk k holds the samples ``edges[k]`` to ``edges[k + 1]`` of `codes_CN`.
    start, stop : int
        First sample wanted and the one after the last; all by default.

    Returns
    -------
    float32, shape (channels, stop - start)
        Signal in V, T or T/m.
    """
    stop = edges[-1] if stop is None else stop
    signal_CN = np.empty((codes_CN.shape[0], stop - start), np.float32)
    for k in range(len(edges) - 1):
        low, high = max(edges[k], start), min(edges[k + 1], stop)
        if low < high:
            part = signal_CN[:, low - start : high - start]
            np.multiply(codes_CN[:, low:high], scale[:, k : k + 1], out=part)
    return signal_CN
