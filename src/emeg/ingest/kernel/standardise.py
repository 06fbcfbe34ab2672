"""Band-pass, notches and resampling in one pass: transform, multiply, keep the bins, transform back.

Resampling by a ratio p/q is exact in the frequency domain when the transform's length is a multiple of q: bin k of the
source is bin k of the result. Front and end are padded by multiples of q, so sample 0 stays sample 0 and no time is
shifted.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft

from emeg.ingest.kernel.response import Band, design, half_length, response

MAX_DRIFT_SAMPLES = 0.002
"""A rate that is no simple fraction is replaced by one whose drift at the end stays below 0.002 samples (8 µs)."""

LONGEST = 2**23
"""Source samples that one transform takes; longer channels go through block by block, which is the same but for
rounding: the filters are finite. 2.3 hours at 1 kHz."""

BLOCK_BYTES = 8 * 2**20
"""Padded float32 input of one block of channels: five times faster than 64 MiB, which leave the cache."""


@dataclass(frozen=True)
class Plan:
    """Numbers of one recording's pass.

    Parameters
    ----------
    n_in, n_out : int
        Samples before and after.
    front : int
        Padding before the first sample, source samples.
    length_in, length_out : int
        Lengths of the transforms.
    front_out : int
        Where the first sample lies in the result.
    """

    n_in: int
    n_out: int
    front: int
    length_in: int
    length_out: int
    front_out: int


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


def plan_pass(n_in: int, sfreq_in: float, sfreq_out: float, half: int) -> Plan:
    """Choose paddings and lengths so that `half` samples of context surround the data and bins map one to one."""
    ratio = rate_fraction(sfreq_in, sfreq_out, n_in)
    p, q = ratio.numerator, ratio.denominator
    front = -(-half // q)
    periods = next_fast_len(front + -(-(n_in + half) // q), real=True)
    return Plan(
        n_in=n_in,
        n_out=n_samples_at(n_in, sfreq_in, sfreq_out),
        front=front * q,
        length_in=periods * q,
        length_out=periods * p,
        front_out=front * p,
    )


def standardise(
    signal_CN: NDArray[np.float32], band: Band, *, sfreq_in: float, sfreq_out: float, longest: int = LONGEST
) -> NDArray[np.float32]:
    """Filter and resample a recording without shifting time.

    Parameters
    ----------
    signal_CN : float32, shape (channels, samples)
        At least one sample; any unit; finite.
    band : Band
        Pass band and notches.
    sfreq_in, sfreq_out : float
        Rates, Hz.
    longest : int
        Samples that are transformed at once.

    Returns
    -------
    float32, shape (channels, round(samples · sfreq_out / sfreq_in))
        Sample k lies at k / sfreq_out seconds after the first source sample. The ends are filtered as if the signal
        went on as its mirror image.
    """
    taps = design(band, sfreq_in)
    half = half_length(taps)
    plan = plan_pass(signal_CN.shape[1], sfreq_in, sfreq_out, half)
    if signal_CN.shape[1] > longest:
        return _in_blocks(signal_CN, taps, half, plan, rate_fraction(sfreq_in, sfreq_out, plan.n_in), longest)
    gain = response(taps, plan.length_in)[: plan.length_out // 2 + 1].astype(np.float32)
    result = np.empty((len(signal_CN), plan.n_out), np.float32)
    rows = max(1, BLOCK_BYTES // (4 * plan.length_in))
    for start in range(0, len(signal_CN), rows):
        block = slice(start, start + rows)
        result[block] = _one_pass(signal_CN[block], gain, plan)
    return result


def _in_blocks(
    signal_CN: NDArray[np.float32],
    taps: list[NDArray[np.float64]],
    half: int,
    whole: Plan,
    ratio: Fraction,
    longest: int,
) -> NDArray[np.float32]:
    """Overlap-save: blocks of whole periods of p/q, each with the filter's half length of context on either side."""
    p, q = ratio.numerator, ratio.denominator
    context = -(-half // q)
    periods = max(1, longest // q)
    length = next_fast_len(periods + 2 * context, real=True)
    periods = length - 2 * context
    plan = Plan(length * q, length * p, context * q, length * q, length * p, context * p)
    gain = response(taps, plan.length_in)[: plan.length_out // 2 + 1].astype(np.float32)
    result = np.empty((len(signal_CN), whole.n_out), np.float32)
    for channel, row in enumerate(signal_CN):
        centred = row - np.float32(row.mean(dtype=np.float64))
        for start in range(0, -(-whole.n_in // q), periods):
            spectrum = rfft(_mirrored(centred, start * q - plan.front, plan.length_in))[: len(gain)]
            spectrum *= gain
            out = irfft(spectrum, n=plan.length_out) * np.float32(plan.length_out / plan.length_in)
            kept = result[channel, start * p : (start + periods) * p]
            kept[:] = out[plan.front_out : plan.front_out + len(kept)]
    return result


def _mirrored(row_N: NDArray[np.float32], start: int, length: int) -> NDArray[np.float32]:
    """Take a stretch of a row that goes on as its mirror image beyond both ends."""
    before, after = max(0, -start), max(0, start + length - len(row_N))
    inside = row_N[max(0, start) : min(start + length, len(row_N))]
    if not before and not after:
        return inside
    index = np.arange(start, start + length) % (2 * len(row_N))
    return row_N[np.where(index < len(row_N), index, 2 * len(row_N) - 1 - index)]


def _one_pass(signal_CN: NDArray[np.float32], gain: NDArray[np.float32], plan: Plan) -> NDArray[np.float32]:
    # A pass band above 0 Hz has no use for the mean, and float32 keeps more of the signal without it.
    centred = signal_CN - signal_CN.mean(axis=1, dtype=np.float64, keepdims=True).astype(np.float32)
    # The mirror image repeats without end: 33 s of filter have context even for a recording of one second.
    padded = np.pad(centred, ((0, 0), (plan.front, plan.length_in - plan.front - plan.n_in)), mode="symmetric")
    spectrum = rfft(padded, axis=1)[:, : len(gain)]
    spectrum *= gain[: spectrum.shape[1]]
    # Transforms are not normalised by length going in: the shorter or longer way back changes the scale.
    out: NDArray[np.float32] = irfft(spectrum, n=plan.length_out, axis=1)
    out *= np.float32(plan.length_out / plan.length_in)
    return out[:, plan.front_out : plan.front_out + plan.n_out]
