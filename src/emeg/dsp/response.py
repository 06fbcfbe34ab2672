"""Frequency responses of the filters: exactly those of zero-phase FIR designs at the source's rate."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft

from emeg.errors import RecordingError

NYQUIST_SHARE = 0.9
"""The pass band ends at this share of the source's Nyquist frequency: the anti-alias filter's room."""

NOTCH_WIDTH_SHARE = 1 / 200
"""Width of a notch relative to its frequency, the convention of MNE-Python's notch filter."""

NOTCH_TRANSITION_HZ = 1.0
"""Both flanks of a notch together."""


@dataclass(frozen=True)
class Band:
    """Pass band and notches, Hz."""

    low: float
    high: float
    notches: tuple[float, ...] = ()


def plan_band(*, sfreq: float, l_freq: float, h_freq: float, lowpass: float, mains: float) -> Band:
    """Choose pass band and notches for one source.

    Parameters
    ----------
    sfreq : float
        The source's rate, Hz.
    l_freq, h_freq : float
        The configured pass band, Hz.
    lowpass : float
        The source's own low-pass, Hz; 0 where none is known.
    mains : float
        Mains frequency, Hz; 0 for no notch.

    Returns
    -------
    Band
        It ends at the least of `h_freq`, 0.9 of the source's Nyquist frequency, and the source's low-pass. Mains
        harmonics are removed up to the stop band, since the flank above the pass band still passes them.

    Raises
    ------
    RecordingError
        Nothing is left between the two ends.
    """
    nyquist = sfreq / 2.0
    high = min(h_freq, NYQUIST_SHARE * nyquist)
    if 0.0 < lowpass < high:
        high = lowpass
    if high <= 2.0 * l_freq:
        raise RecordingError(
            f"nothing lies between {l_freq:g} Hz and {high:g} Hz, where a rate of {sfreq:g} Hz and a low-pass of"
            f" {lowpass:g} Hz end the pass band",
            stage="signal",
            next_action="check the sampling rate and the low-pass in the header",
        )
    stop = high + high_transition(high, sfreq)
    notches: list[float] = []
    while mains > 0.0:
        harmonic = mains * (len(notches) + 1)
        half = harmonic * NOTCH_WIDTH_SHARE / 2.0 + NOTCH_TRANSITION_HZ
        if harmonic >= stop or harmonic + half >= nyquist:
            break
        notches.append(harmonic)
    return Band(l_freq, high, tuple(notches))


def high_transition(high: float, sfreq: float) -> float:
    """Return the width of the upper flank, Hz: a quarter of the edge, 2 Hz at least, up to Nyquist (MNE's rule)."""
    return min(max(0.25 * high, 2.0), sfreq / 2.0 - high)


@lru_cache(maxsize=8)
def design(band: Band, sfreq: float) -> tuple[NDArray[np.float64], ...]:
    """Design the FIR filters of a band: taps (odd, symmetric, Hamming window) of the band-pass and of the notches.

    Recordings of one archive share them: the last few are kept, since a design takes as long as filtering ten channels.
    """
    from mne.filter import create_filter

    taps = [create_filter(None, sfreq, band.low, band.high, fir_design="firwin", phase="zero", verbose="ERROR")]
    if band.notches:
        notches = np.asarray(band.notches)
        half = notches * NOTCH_WIDTH_SHARE / 2.0 + NOTCH_TRANSITION_HZ / 2.0
        taps.append(
            create_filter(
                None,
                sfreq,
                notches + half,
                notches - half,
                l_trans_bandwidth=NOTCH_TRANSITION_HZ / 2.0,
                h_trans_bandwidth=NOTCH_TRANSITION_HZ / 2.0,
                fir_design="firwin",
                phase="zero",
                verbose="ERROR",
            )
        )
    return tuple(np.asarray(h, np.float64) for h in taps)


def half_length(taps: Sequence[NDArray[np.float64]]) -> int:
    """Return how many samples on either side of a point its filtered value depends on.

    Parameters
    ----------
    taps : sequence of float64, shape (taps,)
        Filters of `design`, dimensionless.
    """
    return sum((len(h) - 1) // 2 for h in taps)


def response(taps: Sequence[NDArray[np.float64]], n: int) -> NDArray[np.float64]:
    """Return the real gain of all filters together at the frequencies of a real transform.

    Parameters
    ----------
    taps : sequence of float64, shape (taps,)
        Filters of `design`, dimensionless.
    n : int
        Length of the transform, at least that of the longest filter.

    Returns
    -------
    float64, shape (n // 2 + 1,)
        Dimensionless.
    """
    gain = np.ones(n // 2 + 1)
    for h in taps:
        centred = np.zeros(n)
        centred[: len(h)] = h
        # The taps are symmetric about their middle: rolled to sample 0, their transform is real.
        gain *= rfft(np.roll(centred, -((len(h) - 1) // 2))).real
    return gain
