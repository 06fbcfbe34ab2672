"""Divide the seconds and segments of a recording where it was interrupted, so that nothing is measured across a pause.

Shape letters: N samples.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Span(NamedTuple):
    """Samples that were recorded without a pause."""

    start: int
    """First sample."""
    stop: int
    """Sample after the last."""


class Pieces(NamedTuple):
    """Cells (seconds or segments) of a recording, each divided at the pauses inside it; a piece is one part of a cell.

    Pieces are in the order of their samples and cover the recording. Without a pause every cell is one piece.
    """

    bounds: NDArray[np.intp]
    """First sample of each piece, and the sample after the last, shape (pieces + 1,)."""
    cells: NDArray[np.intp]
    """Index of the cell that each piece belongs to, shape (pieces,)."""
    recorded: NDArray[np.bool_]
    """False for samples that fill a pause, shape (pieces,)."""
    n_cells: int
    """Number of cells."""

    @property
    def lengths(self) -> NDArray[np.intp]:
        """Samples in each piece, shape (pieces,)."""
        return np.diff(self.bounds)

    @property
    def is_divided(self) -> bool:
        """Return whether a pause divides a cell or fills one."""
        return len(self.cells) != self.n_cells or not self.recorded.all()

    def longest(self) -> NDArray[np.intp]:
        """Return the index of the longest recorded piece of each cell, else of its longest piece, shape (cells,)."""
        order = np.lexsort((-np.arange(len(self.cells)), self.lengths, self.recorded, self.cells))
        found = np.zeros(self.n_cells, np.intp)
        found[self.cells[order]] = order  # the last of a cell counts
        return found


def divide(bounds: NDArray[np.intp], spans: Sequence[Span]) -> Pieces:
    """Divide cells at the ends of the spans that were recorded without a pause.

    Parameters
    ----------
    bounds : intp, shape (cells + 1,)
        First sample of each cell, and the sample after the last; ascending indices.
    spans : sequence of Span
        In order; samples between two of them fill a pause.
    """
    inner = edges(spans, int(bounds[-1]))[1:-1]
    whole = np.sort(np.concatenate([bounds, np.setdiff1d(inner, bounds)])).astype(np.intp)
    n_cells = len(bounds) - 1
    cells = np.minimum(np.searchsorted(bounds, whole[:-1], side="right") - 1, n_cells - 1)
    starts = np.array([span.start for span in spans], np.intp)
    stops = np.array([span.stop for span in spans], np.intp)
    nearest = np.maximum(np.searchsorted(starts, whole[:-1], side="right") - 1, 0)
    recorded = (whole[:-1] >= starts[nearest]) & ((whole[:-1] < stops[nearest]) | (np.diff(whole) == 0))
    return Pieces(whole, cells, recorded, n_cells)


def edges(spans: Sequence[Span], n_samples: int) -> NDArray[np.intp]:
    """Return the first sample of every span and of every gap between two, and the number of samples; ascending."""
    found = {0, n_samples, *(span.start for span in spans), *(span.stop for span in spans)}
    return np.array(sorted(at for at in found if 0 <= at <= n_samples), np.intp)


def piece_deviations(row_N: NDArray[np.float32], pieces: Pieces) -> NDArray[np.float64]:
    """Return the standard deviation of one channel in every piece, 0 in a piece without samples, shape (pieces,).

    Parameters
    ----------
    row_N : float32, shape (samples,)
        V, T or T/m.
    pieces : Pieces
        Of the same samples.
    """
    return np.array(
        [
            row_N[start:stop].astype(np.float64).std() if stop > start else 0.0
            for start, stop in zip(pieces.bounds[:-1].tolist(), pieces.bounds[1:].tolist(), strict=True)
        ]
    )
