"""Band-pass, notches and resampling in one pass: transform, multiply, keep the bins, transform back.

Resampling by a ratio p/q is exact in the frequency domain when the transform's length is a multiple of q: bin k of the
source is bin k of the result. Front and end are padded by multiples of q, so sample 0 stays sample 0 and no time is
shifted.

Shape letters: C channels, N samples.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft

from emeg.dsp.response import Band, design, half_length, response

MAX_DRIFT_SAMPLES = 0.002
"""A rate that is no simple fraction is replaced by one whose drift at the end stays below 0.002 samples (8 µs)."""

ROWS_AT_ONCE = 4
"""Channels transformed together: the transforms then run in vector registers, three times as fast as one by one."""

HALVES_AT_ONCE = 8
"""Block length of longer recordings, in half lengths of the filters: a fifth of the work is context, and a block fits
into the cache."""

SHORTEST_BLOCK = 2**17
"""Shorter ones are not worth it, samples."""


@dataclass(frozen=True)
class Plan:
    """Sizes of the blocks of one recording.

    Parameters
    ----------
    step_in, step_out : int
        Samples from block to block, source and result.
    front, front_out : int
        Context before a block.
    length_in, length_out : int
        Lengths of the transforms.
    """

    step_in: int
    step_out: int
    front: int
    front_out: int
    length_in: int
    length_out: int


def rate_fraction(sfreq_in: float, sfreq_out: float, n_in: int) -> Fraction:
    """Find the simplest p/q near ``sfreq_out / sfreq_in`` whose drift over `n_in` samples stays negligible."""
    exact = Fraction(sfreq_out) / Fraction(sfreq_in)
    tolerance = MAX_DRIFT_SAMPLES / max(n_in, 1)
    limit = 1
    while True:
        near = exact.limit_denominator(limit)
        if near > 0 and abs(near - exact) <= tolerance:
            return near
        limit *= 2


def n_samples_at(n_in: int, sfreq_in: float, sfreq_out: float) -> int:
    """Count the samples of a recording at another rate."""
    return max(round(n_in * sfreq_out / sfreq_in), 1)


def plan_block(n_in: int, ratio: Fraction, half: int, block: int) -> Plan:
    """Choose blocks of equal length, about `block` samples, with `half` samples of context on both sides.

    All numbers are whole periods of the ratio p/q, so that bins map one to one and sample 0 stays sample 0.
    """
    p, q = ratio.numerator, ratio.denominator
    context = -(-half // q)
    periods = -(-n_in // q)
    n_blocks = max(1, round(periods * q / max(block, 1)))
    length = next_fast_len(-(-periods // n_blocks) + 2 * context, real=True)
    step = length - 2 * context
    return Plan(step * q, step * p, context * q, context * p, length * q, length * p)


def standardise(
    signal_CN: NDArray[np.float32],
    band: Band,
    *,
    sfreq_in: float,
    sfreq_out: float,
    block: int | None = None,
    n_out: int | None = None,
    lead_s: float = 0.0,
) -> NDArray[np.float32]:
    """Filter and resample a recording without shifting time.

    Overlap-save: blocks of whole periods of p/q, each with the filters' half length of context on either side. The
    filters are finite, so blocks and one transform give equal results, except for rounding and the residue of the stop
    band at half the new rate.

    Parameters
    ----------
    signal_CN : float32, shape (channels, samples)
        At least one sample; any unit; finite.
    band : Band
        Pass band and notches.
    sfreq_in, sfreq_out : float
        Rates, Hz.
    block : int, optional
        Samples of a block; chosen by the filters' length if left out.
    n_out : int, optional
        Samples of the result; ``round(samples · sfreq_out / sfreq_in)`` if left out.
    lead_s : float, optional
        Time of the result's first sample, s after the first source sample; less than a sample either way.

    Returns
    -------
    float32, shape (channels, n_out)
        In the unit of the signal. Sample k lies at lead_s + k / sfreq_out seconds after the first source sample. The
        ends are filtered as if the signal continued as its mirror image.
    """
    taps = design(band, sfreq_in)
    half = half_length(taps)
    n_in = signal_CN.shape[1]
    ratio = rate_fraction(sfreq_in, sfreq_out, n_in)
    plan = plan_block(n_in, ratio, half, block or max(SHORTEST_BLOCK, HALVES_AT_ONCE * half))
    gain: NDArray[Any] = response(taps, plan.length_in)[: plan.length_out // 2 + 1].astype(np.float32)
    if lead_s:
        frequencies = np.arange(len(gain)) * (sfreq_in / plan.length_in)
        gain = (gain * np.exp(2j * np.pi * frequencies * lead_s)).astype(np.complex64)
    length = n_samples_at(n_in, sfreq_in, sfreq_out) if n_out is None else n_out
    result = np.empty((len(signal_CN), length), np.float32)
    for first in range(0, len(signal_CN), ROWS_AT_ONCE):
        rows = signal_CN[first : first + ROWS_AT_ONCE]
        # A pass band above 0 Hz does not contain the mean, and float32 keeps more of the signal without it.
        centred = rows - rows.mean(axis=1, dtype=np.float64, keepdims=True).astype(np.float32)
        for number in range(-(-length // plan.step_out)):
            kept = result[first : first + ROWS_AT_ONCE, number * plan.step_out : (number + 1) * plan.step_out]
            context = _mirrored(centred, number * plan.step_in - plan.front, plan.length_in)
            kept[:] = _one_block(context, gain, plan)[:, plan.front_out : plan.front_out + kept.shape[1]]
    return result


def _one_block(padded: NDArray[np.float32], gain: NDArray[Any], plan: Plan) -> NDArray[np.float32]:
    spectrum = rfft(padded, axis=1)[:, : len(gain)]
    spectrum *= gain[: spectrum.shape[1]]
    out: NDArray[np.float32] = irfft(spectrum, n=plan.length_out, axis=1)
    # Transforms are not normalised by length going in: the shorter or longer way back changes the scale.
    out *= np.float32(plan.length_out / plan.length_in)
    return out


def _mirrored(rows_CN: NDArray[np.float32], start: int, length: int) -> NDArray[np.float32]:
    """Return a stretch of rows that continue as their mirror image, repeated, beyond both ends.

    A filter of 33 s then has context even for a recording of one second.
    """
    n = rows_CN.shape[1]
    inside = rows_CN[:, max(0, start) : min(start + length, n)]
    before, after = max(0, -start), max(0, start + length - n)
    if not before and not after:
        return inside
    parts = [_beyond(rows_CN, -before, before), inside, _beyond(rows_CN, n, after)]
    return np.concatenate(parts, axis=1)


def _beyond(rows_CN: NDArray[np.float32], start: int, length: int) -> NDArray[np.float32]:
    n = rows_CN.shape[1]
    index = np.arange(start, start + length) % (2 * n)
    return np.asarray(np.take(rows_CN, np.where(index < n, index, 2 * n - 1 - index), axis=1))
