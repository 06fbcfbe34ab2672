"""Find stretches of equal samples in a channel: where it is constant, and where it stays at its extreme value.

Shape letters: N samples.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SHORTEST = 3
"""Number of equal successive samples from which they count as a constant stretch."""
SHORTEST_CLIPPED = 4
"""Number of successive samples at a channel's extreme value from which they count as clipped."""
SHORTEST_FLAT_S = 0.1
"""Duration from which a constant stretch is no signal, s. Coarse converters repeat some samples by chance."""


class Stretches(NamedTuple):
    """Constant stretches of one channel, in order, without overlap."""

    starts: NDArray[np.intp]
    """First sample of each."""
    stops: NDArray[np.intp]
    """Sample after the last of each."""

    @property
    def lengths(self) -> NDArray[np.intp]:
        """Number of samples of each."""
        return self.stops - self.starts

    def take(self, chosen: NDArray[np.bool_]) -> "Stretches":
        """Return some of the stretches.

        Parameters
        ----------
        chosen : bool, shape (stretches,)
            True for those to return.
        """
        return Stretches(self.starts[chosen], self.stops[chosen])

    def split(self, cuts: NDArray[np.intp]) -> "Stretches":
        """Divide the stretches that cross a cut; pieces shorter than `SHORTEST` are left out.

        Parameters
        ----------
        cuts : intp, shape (cuts,)
            Sample indices, ascending: a stretch ends before each and begins anew.
        """
        before = np.searchsorted(self.starts, cuts, side="left") - 1
        inside = cuts[(before >= 0) & (cuts < self.stops[before])] if len(self.starts) else cuts[:0]
        if not len(inside):
            return self
        divided = Stretches(np.sort(np.append(self.starts, inside)), np.sort(np.append(self.stops, inside)))
        return divided.take(divided.lengths >= SHORTEST)

    def covered(self, bounds: NDArray[np.intp]) -> NDArray[np.float64]:
        """Count the samples in stretches between successive bounds, shape (bounds - 1,).

        Parameters
        ----------
        bounds : intp, shape (bounds,)
            Sample indices, ascending.
        """
        if not len(self.starts):
            return np.zeros(len(bounds) - 1)
        after = np.cumsum(self.lengths)
        points = np.stack([self.starts, self.stops], axis=1).ravel()
        before = np.stack([after - self.lengths, after], axis=1).ravel()
        return np.diff(np.interp(bounds, points, before))


def find_constant(row_N: NDArray[np.float32]) -> Stretches:
    """Find stretches of at least `SHORTEST` equal samples, with temporary memory of one byte per sample.

    Parameters
    ----------
    row_N : float32, shape (samples,)
        One channel, V, T or T/m.
    """
    same = row_N[1:] == row_N[:-1]
    thrice = np.zeros(max(len(row_N) - SHORTEST + 1, 0) + 2, np.bool_)
    np.logical_and(same[1:], same[:-1], out=thrice[1:-1])
    edges = np.flatnonzero(thrice[1:] != thrice[:-1]).reshape(-1, 2)
    return Stretches(edges[:, 0], edges[:, 1] + SHORTEST - 1)


def flat_stretches(constant: Stretches, sfreq: float) -> Stretches:
    """Return the constant stretches that last at least `SHORTEST_FLAT_S`."""
    return constant.take(constant.lengths >= max(SHORTEST, SHORTEST_FLAT_S * sfreq))


def clipped_stretches(
    constant: Stretches, row_N: NDArray[np.float32], edges: NDArray[np.intp] | None = None
) -> Stretches:
    """Return the stretches of at least `SHORTEST_CLIPPED` samples at the highest or lowest value of their part.

    A part of the channel that is constant throughout has none.

    Parameters
    ----------
    constant : Stretches
        Constant stretches of the channel; none crosses an edge.
    row_N : float32, shape (samples,)
        The channel, V, T or T/m.
    edges : intp, shape (parts + 1,), optional
        Sample indices that divide the channel into parts recorded without a pause; by default it is one part.
    """
    starts = np.zeros(1, np.intp) if edges is None else edges[:-1]
    part = np.searchsorted(starts, constant.starts, side="right") - 1
    low, high = (extreme.reduceat(row_N, starts)[part] for extreme in (np.minimum, np.maximum))
    value = row_N[constant.starts]
    return constant.take((constant.lengths >= SHORTEST_CLIPPED) & (low < high) & ((value == low) | (value == high)))


def constant_seconds(constant: Stretches, bounds: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Mark the seconds that lie in one constant stretch, bool, shape (bounds - 1,).

    Parameters
    ----------
    constant : Stretches
    bounds : intp, shape (bounds,)
        Index of the first sample of each second, and the end of the last second.
    """
    first = np.searchsorted(bounds, constant.starts)
    last = np.searchsorted(bounds, constant.stops, side="right") - 1
    return _marked(first, last, len(bounds) - 1)


def clipped_seconds(clipped: Stretches, bounds: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Mark the seconds that hold a clipped sample, bool, shape (bounds - 1,).

    The first `SHORTEST_CLIPPED` - 1 samples of a clipped stretch do not count.

    Parameters
    ----------
    clipped : Stretches
    bounds : intp, shape (bounds,)
        Index of the first sample of each second, and the end of the last second.
    """
    first = np.searchsorted(bounds, clipped.starts + SHORTEST_CLIPPED - 1, side="right") - 1
    last = np.searchsorted(bounds, clipped.stops - 1, side="right")
    return _marked(first, last, len(bounds) - 1)


def _marked(first: NDArray[np.intp], last: NDArray[np.intp], n: int) -> NDArray[np.bool_]:
    """Return `n` flags that are True from each of `first` up to, not including, the corresponding `last`."""
    marked = np.zeros(n, np.bool_)
    for start, stop in zip(first.tolist(), last.tolist(), strict=True):
        marked[start:stop] = True
    return marked
