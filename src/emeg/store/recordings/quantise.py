"""Signals as int16 with one step for each channel and chunk.

The step follows the weakest part of the channel's spectrum, not its peak: a step that follows the peak spends all
sixteen bits on noise, which no codec can compress, while rounding noise well under the spectrum loses nothing that can
be told from the channel's own noise.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LARGEST = 32767
"""Largest code; -32768 is kept for samples that were never written."""

UNWRITTEN = -32768
"""Fill value of the signal array: a lost shard reads as this, not as a silent zero."""

NOISE_FRACTION = 1 / 24
"""Upper bound of step / noise scale where a chunk is too short for a spectrum."""

MARGIN_DB = 21.0
"""Rounding noise lies at least so far under the spectrum of a chunk in every 1-Hz bin that counts; 20 dB are promised,
and a spectrum estimated from ten seconds is a little off."""

NOTCH_HALF_WIDTH_HZ = 2.0
"""Bins so near to a notch do not count: there is nothing left in them to compare with."""

ZERO_STEP = 2.0**-40
"""Step of a chunk that is zero throughout, about 1e-12; its codes are all 0."""

SMALLEST_STEP = 2.0**-100
"""About 8e-31, far below any sensor's noise, yet a normal float32 with room for products and squares."""

_MAD_TO_SD = 1.4826
"""Standard deviation of a normal variable over its median absolute deviation."""


def noise_scale(signal: NDArray[np.float32]) -> NDArray[np.float64]:
    """Estimate the size of a channel's fastest fluctuations, whatever its drifts and artefacts.

    Parameters
    ----------
    signal : float32, shape (C, n)
        Finite values.

    Returns
    -------
    float64, shape (C,)
        1.4826 · median |x[i-1] - 2 x[i] + x[i+1]|. The second difference weighs a frequency with
        16 sin⁴(π f / sfreq), so it looks at the top of the band even where the spectrum falls with f⁻³; the median
        does not see artefacts that fill less than half of the chunk.
    """
    if signal.shape[1] < 3:
        return np.zeros(signal.shape[0])
    second = np.abs(np.diff(signal, n=2, axis=1))
    return _MAD_TO_SD * np.median(second, axis=1).astype(np.float64)


class KeptBand(NamedTuple):
    """What of a spectrum counts when rounding noise is compared with it."""

    sfreq: float
    """Sampling rate, Hz."""
    low: float
    """Lower end of the pass band, Hz."""
    high: float
    """Upper end of the pass band, Hz."""
    notches: tuple[float, ...] = ()
    """Frequencies taken out, Hz."""

    def counts(self, frequencies: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether each 1-Hz bin counts: from 1 Hz to the pass band's end, without the notches."""
        inside = (frequencies >= max(1.0, self.low)) & (frequencies <= self.high - 1.0)
        for notch in self.notches:
            inside &= np.abs(frequencies - notch) > NOTCH_HALF_WIDTH_HZ
        return inside


def weakest_density(signal: NDArray[np.float32], band: KeptBand) -> NDArray[np.float64] | None:
    """Find the spectral density of the weakest 1-Hz bin that counts.

    Parameters
    ----------
    signal : float32, shape (C, n)
        Finite values.
    band : KeptBand

    Returns
    -------
    float64, shape (C,), or None
        In unit²/Hz; `None` where the signal is shorter than 4 s or no bin counts. Welch's method with Hann windows of
        1 s that overlap by half, and the median over windows (over ln 2, its share of the mean for a normal process),
        which does not see what fills less than half of the chunk.
    """
    length = round(band.sfreq)
    counts = band.counts(np.arange(length // 2 + 1) * band.sfreq / length)
    if signal.shape[1] < 4 * length or not counts.any():
        return None
    window = np.hanning(length + 1)[:-1].astype(np.float32)
    scale = np.abs(signal).max(axis=1, keepdims=True)
    scale = np.where(scale > 0, scale, 1).astype(np.float32)  # squares of 1e-15 T would leave float32
    frames = np.lib.stride_tricks.sliding_window_view(signal / scale, length, axis=1)[:, :: length // 2]
    spectra = np.fft.rfft((frames - frames.mean(axis=2, keepdims=True)) * window, axis=2)[:, :, counts]
    power = np.median(spectra.real**2 + spectra.imag**2, axis=1) / np.log(2.0)
    density = 2.0 * power.min(axis=1).astype(np.float64) / (band.sfreq * float((window**2).sum()))
    return np.asarray(density * scale[:, 0].astype(np.float64) ** 2, np.float64)


class Steps(NamedTuple):
    """Steps of a chunk."""

    step: NDArray[np.float32]
    """(C,), powers of two."""
    raised: NDArray[np.bool_]
    """(C,): whether the peak asked for more than the spectrum allows, so that the margin may not hold."""


def quantisation_steps(signal: NDArray[np.float32], band: KeptBand | None = None) -> Steps:
    """Choose the step of each channel of a chunk.

    Rounding to a step Δ makes noise of density Δ² / 6 sfreq (variance Δ² / 12 over half the sampling rate), so
    Δ = √(6 · sfreq · weakest density / 10^(margin / 10)) keeps it under every bin that counts.

    Parameters
    ----------
    signal : float32, shape (C, n)
        Finite values.
    band : KeptBand, optional
        What of the spectrum counts. Without it, and in chunks under 4 s, the step is `NOISE_FRACTION` of `noise_scale`.

    Returns
    -------
    Steps
        Powers of two: the largest that keep the margin, or as much more as the peak needs so that nothing clips.
        Powers of two make code · step exact in float32, so what is read back quantises to itself.
    """
    peak = np.abs(signal).max(axis=1).astype(np.float64)
    density = weakest_density(signal, band) if band is not None else None
    if density is None or band is None:
        bound = NOISE_FRACTION * noise_scale(signal)
    else:
        bound = np.sqrt(6.0 * band.sfreq * density / 10.0 ** (MARGIN_DB / 10.0))
    wanted = _power_of_two(bound, np.floor)
    needed = _power_of_two(peak / LARGEST, np.ceil)
    step = np.maximum(np.maximum(wanted, needed), SMALLEST_STEP)
    return Steps(np.where(peak > 0, step, ZERO_STEP).astype(np.float32), (bound > 0) & (needed > wanted))


def _power_of_two(value: NDArray[np.float64], rounded: Any) -> NDArray[np.float64]:  # noqa: ANN401 - numpy ufunc
    """Round to a power of two; 0 stays 0."""
    exponent = rounded(np.log2(value, out=np.full_like(value, -np.inf), where=value > 0))
    return np.asarray(np.exp2(exponent), np.float64)


def quantise(signal: NDArray[np.float32], step: NDArray[np.float32]) -> NDArray[np.int16]:
    """Codes of a chunk, int16, shape (C, n): |signal - code · step| ≤ step / 2.

    Division by a power of two is exact, so float32 arithmetic keeps the bound.
    """
    codes = np.rint(signal / step[:, None])
    return np.asarray(codes, np.int16)


def restore(codes: NDArray[np.int16], step: NDArray[np.float32], chunk: int, offset: int = 0) -> NDArray[np.float32]:
    """Signal from codes.

    Parameters
    ----------
    codes : int16, shape (C, n)
    step : float32, shape (C, chunks)
        Steps of the chunks that `codes` touches.
    chunk : int
        Samples in a chunk.
    offset : int
        Place of the first sample in its chunk.

    Returns
    -------
    float32, shape (C, n)
        In the unit of each channel.
    """
    signal = np.empty(codes.shape, np.float32)
    for index in range(step.shape[1]):
        part = slice(max(index * chunk - offset, 0), (index + 1) * chunk - offset)
        np.multiply(codes[:, part], step[:, index, None], out=signal[:, part], dtype=np.float32)
    return signal
