"""Runs of equal samples in a source: where it is constant, and where it stays at its extreme.

Shape letters: N samples.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SHORTEST = 3
"""Samples in a row from which equal values are called a run."""
CLIPPED_RUN = 4
"""Samples in a row at a channel's extreme value."""
FLAT_RUN_S = 0.1
"""Equal values for so long, s, are no signal; coarse converters repeat themselves for some samples by chance."""


class Runs(NamedTuple):
    """Neighbouring runs do not overlap; ascending."""

    starts: NDArray[np.intp]
    """First sample of each."""
    stops: NDArray[np.intp]
    """Sample after its last."""

    @property
    def lengths(self) -> NDArray[np.intp]:
        """Samples in each."""
        return self.stops - self.starts

    def take(self, chosen: NDArray[np.bool_]) -> "Runs":
        """Return some of the runs.

        Parameters
        ----------
        chosen : bool, shape (runs,)
            Which ones.
        """
        return Runs(self.starts[chosen], self.stops[chosen])

    def covered(self, bounds: NDArray[np.intp]) -> NDArray[np.float64]:
        """Count samples in runs from each bound up to the next, shape (bounds - 1,).

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


def runs_of_equal(row_N: NDArray[np.float32]) -> Runs:
    """Find runs of `SHORTEST` equal samples and more; only bytes as long as the row are held beside it.

    Parameters
    ----------
    row_N : float32, shape (samples,)
        One channel, V, T or T/m.
    """
    same = row_N[1:] == row_N[:-1]
    thrice = np.zeros(max(len(row_N) - SHORTEST + 1, 0) + 2, np.bool_)
    np.logical_and(same[1:], same[:-1], out=thrice[1:-1])
    edges = np.flatnonzero(thrice[1:] != thrice[:-1]).reshape(-1, 2)
    return Runs(edges[:, 0], edges[:, 1] + SHORTEST - 1)


def flat_runs(runs: Runs, sfreq: float) -> Runs:
    """Return the runs that last at least `FLAT_RUN_S`."""
    return runs.take(runs.lengths >= max(SHORTEST, FLAT_RUN_S * sfreq))


def clipped_runs(runs: Runs, row_N: NDArray[np.float32]) -> Runs:
    """Return the runs of `CLIPPED_RUN` and more at the row's highest or lowest value; none in a constant row.

    Parameters
    ----------
    runs : Runs
    row_N : float32, shape (samples,)
        One channel, V, T or T/m.
    """
    low, high = row_N.min(), row_N.max()
    if low == high:
        return runs.take(np.zeros(len(runs.starts), np.bool_))
    value = row_N[runs.starts]
    return runs.take((runs.lengths >= CLIPPED_RUN) & ((value == low) | (value == high)))


def still_seconds(runs: Runs, bounds: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Mark the seconds that lie in one run, bool, shape (bounds - 1,).

    Parameters
    ----------
    runs : Runs
    bounds : intp, shape (bounds,)
        Indices of the first samples of stretches, and the end of the last.
    """
    still = np.zeros(len(bounds) - 1, np.bool_)
    first = np.searchsorted(bounds, runs.starts)
    last = np.searchsorted(bounds, runs.stops, side="right") - 1
    for start, stop in zip(first.tolist(), last.tolist(), strict=True):
        still[start:stop] = True
    return still


def clipped_seconds(clipped: Runs, bounds: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Mark the seconds in which a run is `CLIPPED_RUN` samples old or older, bool, shape (bounds - 1,).

    Parameters
    ----------
    clipped : Runs
    bounds : intp, shape (bounds,)
        Indices of the first samples of stretches, and the end of the last.
    """
    marked = np.zeros(len(bounds) - 1, np.bool_)
    first = np.searchsorted(bounds, clipped.starts + CLIPPED_RUN - 1, side="right") - 1
    last = np.searchsorted(bounds, clipped.stops - 1, side="right")
    for start, stop in zip(first.tolist(), last.tolist(), strict=True):
        marked[start:stop] = True
    return marked
