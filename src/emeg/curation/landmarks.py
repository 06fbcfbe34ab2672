"""An index of fingerprints, which finds shared data without comparing every recording with every other.

fingerprint ─▶ extremes, at most one a second ─▶ the 10 s around each, as a unit vector ─▶ short hashes, many of each ─▶
vectors with the same hash are compared

A copy has its extremes at the same moments, however it was cut, scaled or resampled. Its vectors can therefore be
compared without a search over delays. Hashes are signs of random projections: two vectors at an angle a have equal
signs with probability 1 - a / pi (Charikar 2002, Similarity estimation techniques from rounding algorithms, STOC). Work
and memory grow with the length of all recordings together.

Shape letters: T values of a fingerprint, L samples in a window.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RATE = 16
"""Values of a fingerprint a second."""
WINDOW_S = 10
"""Length of the window around an extreme that is compared."""
APART_S = 1
"""Time before and after an extreme within which it is the largest or smallest value."""
HIGHEST_HZ = 3.0
"""Frequency above which a fingerprint has almost no power."""
TABLES = 32
"""Hashes of each vector: of 20 bits, all miss one window of fifty at a correlation of 0.95, one of three at 0.88."""
SPARE_BITS = 4
"""Bits of a hash beyond the logarithm of the number of vectors: chance collisions are then fewer than vectors."""
MOST_ALIKE = 32
"""Number of vectors with the same hash that each vector is compared with; others are found in other tables."""


class Landmarks(NamedTuple):
    """Extremes of one fingerprint and the windows around them."""

    times_s: NDArray[np.float64]
    """Times of the extremes, interpolated between values, s from the start of the fingerprint, shape (L,)."""
    vectors: NDArray[np.float32]
    """Unit vectors of the windows around them, shape (L, D)."""


class Meeting(NamedTuple):
    """Two fingerprints share a window."""

    first: int
    second: int
    correlation: float
    offset_s: float
    """Time t of the second is time t + offset of the first."""


def landmarks(track_T: NDArray[np.float32]) -> Landmarks:
    """Find the extremes of a fingerprint that have a whole window around them.

    The window is moved by the fraction of a value at which a parabola has its extreme, by turning the phases of its
    spectrum: the grids of two copies need not coincide.

    Parameters
    ----------
    track_T : float32, shape (values,)
        Fingerprint, dimensionless, 16 values a second.
    """
    from scipy.ndimage import maximum_filter1d

    half, reach = WINDOW_S * RATE // 2, 2 * APART_S * RATE + 1
    value_T = track_T.astype(np.float64)
    extreme_T = value_T == maximum_filter1d(value_T, reach, mode="nearest")
    extreme_T |= -value_T == maximum_filter1d(-value_T, reach, mode="nearest")
    extreme_T[:half] = extreme_T[max(len(value_T) - half, 0) :] = False
    peaks = np.flatnonzero(extreme_T)
    n_kept = round(HIGHEST_HZ * WINDOW_S)
    if not len(peaks):
        return Landmarks(np.empty(0), np.empty((0, 2 * n_kept), np.float32))
    before, here, after = value_T[peaks - 1], value_T[peaks], value_T[peaks + 1]
    bend = before - 2 * here + after
    beyond = np.clip(np.divide(0.5 * (before - after), bend, out=np.zeros_like(bend), where=bend != 0), -0.5, 0.5)
    windows_LT = np.stack([value_T[peak - half : peak + half] for peak in peaks])
    spectra = np.fft.rfft(windows_LT, axis=1)[:, 1 : n_kept + 1]
    spectra *= np.exp(2j * np.pi * np.arange(1, n_kept + 1) * beyond[:, None] / (WINDOW_S * RATE))
    vectors = np.concatenate([spectra.real, spectra.imag], axis=1)
    length = np.linalg.norm(vectors, axis=1)
    alive = length > 1e-6  # all silent windows are alike
    vectors = (vectors[alive] / length[alive, None]).astype(np.float32)
    return Landmarks((peaks + beyond)[alive] / RATE, vectors)


def meetings(found: Sequence[Landmarks], threshold: float) -> list[Meeting]:
    """Find the pairs of fingerprints with windows that correlate, each pair once with its best window; sorted.

    Parameters
    ----------
    found : sequence of Landmarks
    threshold : float
        Least correlation of a pair that is returned.
    """
    owners = np.concatenate([np.full(len(one.times_s), i) for i, one in enumerate(found)] or [np.empty(0, int)])
    if not len(owners):
        return []
    vectors = np.concatenate([one.vectors for one in found])
    times_s = np.concatenate([one.times_s for one in found])
    best: dict[tuple[int, int], Meeting] = {}
    for one, other in _same_hash(vectors):
        swapped = owners[one] > owners[other]
        first, second = np.where(swapped, other, one), np.where(swapped, one, other)
        correlation = np.einsum("ld,ld->l", vectors[first], vectors[second])
        wanted = (owners[first] != owners[second]) & (correlation >= threshold)
        for a, b, value in zip(first[wanted], second[wanted], correlation[wanted].tolist(), strict=True):
            pair = int(owners[a]), int(owners[b])
            if pair not in best or value > best[pair].correlation:
                best[pair] = Meeting(*pair, value, float(times_s[a] - times_s[b]))
    return sorted(best.values())


def _same_hash(vectors: NDArray[np.float32]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield indices of vectors that have one hash in common, in several rounds; a pair may occur more than once."""
    generator = np.random.default_rng(0)
    bits = int(np.ceil(np.log2(len(vectors)))) + SPARE_BITS
    powers = 1 << np.arange(bits, dtype=np.int64)
    for _ in range(TABLES):
        planes = generator.standard_normal((vectors.shape[1], bits)).astype(np.float32)
        hashes = (vectors @ planes > 0) @ powers
        mixed = generator.permutation(len(vectors))
        order = mixed[np.argsort(hashes[mixed], kind="stable")]
        ordered = hashes[order]
        for shift in range(1, min(MOST_ALIKE, len(order) - 1) + 1):
            same = np.flatnonzero(ordered[shift:] == ordered[:-shift])
            if not len(same):
                break
            yield order[same], order[same + shift]
