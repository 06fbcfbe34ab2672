"""Signals as int16 with one step for each channel and chunk.

The step follows the noise of the channel, not its peak: a step that follows the peak spends all sixteen bits on noise,
which no codec can compress, while a step well under the noise loses nothing that can be heard.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 32767
"""Largest code; -32768 is kept for samples that were never written."""

UNWRITTEN = -32768
"""Fill value of the signal array: a lost shard reads as this, not as a silent zero."""

NOISE_FRACTION = 1 / 24
"""Upper bound of step / noise scale; rounding down to a power of two makes it 1/48 to 1/24."""

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


def quantisation_step(signal: NDArray[np.float32]) -> NDArray[np.float32]:
    """Choose the step of each channel of a chunk.

    Parameters
    ----------
    signal : float32, shape (C, n)
        Finite values.

    Returns
    -------
    float32, shape (C,)
        A power of two: at most `NOISE_FRACTION` of the noise scale, or as much more as the peak needs so that nothing
        clips. Powers of two make code · step exact in float32, so what is read back quantises to itself.
    """
    peak = np.abs(signal).max(axis=1).astype(np.float64)
    wanted = _power_of_two(NOISE_FRACTION * noise_scale(signal), np.floor)
    needed = _power_of_two(peak / LARGEST, np.ceil)
    step = np.maximum(np.maximum(wanted, needed), SMALLEST_STEP)
    return np.where(peak > 0, step, ZERO_STEP).astype(np.float32)


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
