"""Measures of every channel in every segment, and the bad stretches of a recording as annotations.

Shape letters: C channels.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.errors import UserError
from emeg.store.catalog.records import BadReason


@dataclass(frozen=True)
class Measures:
    """A table float32 (measure, channel, segment) beside a recording; NaN where something cannot be measured."""

    names: tuple[str, ...]
    """Names of the measures, in order."""
    segment_s: float
    """Length of a segment, s; the last may be shorter."""
    values: NDArray[np.float32]
    """Shape (measures, C, segments)."""

    def of(self, name: str) -> NDArray[np.float32]:
        """Return one measure, shape (channels, segments), a view.

        Raises
        ------
        UserError
            There is no such measure.
        """
        if name not in self.names:
            raise UserError(f"{name!r} was not measured; choose from {', '.join(self.names)}")
        measure: NDArray[np.float32] = self.values[self.names.index(name)]
        return measure


class BadStretch(NamedTuple):
    """A stretch of some channels that is marked, for one reason."""

    onset_s: float
    duration_s: float
    reason: str
    """Name of the `BadReason`, in lower case."""
    channels: tuple[str, ...]


def bad_stretches(bad: NDArray[np.uint8], names: tuple[str, ...], duration_s: float) -> list[BadStretch]:
    """Read the array ``bad`` as annotations; channels that are bad in the same seconds share one.

    No samples are removed there. For MNE-Python:
    ``mne.Annotations([b.onset_s for b in found], [b.duration_s for b in found], [b.reason for b in found],
    ch_names=[b.channels for b in found])``.

    Parameters
    ----------
    bad : uint8, shape (channels, seconds)
        `BadReason` bits.
    names : tuple of str
        The C channels.
    duration_s : float
        Length of the recording: the last second may be shorter.

    Returns
    -------
    list of BadStretch
        By onset, then length, then reason.
    """
    together: dict[tuple[int, int, str], list[str]] = defaultdict(list)
    for reason in BadReason:
        marked = (bad & int(reason)) != 0
        for channel in np.flatnonzero(marked.any(axis=1)).tolist():
            edges = np.flatnonzero(np.diff(np.concatenate(([False], marked[channel], [False])).astype(np.int8)))
            for start, stop in edges.reshape(-1, 2).tolist():
                together[start, stop, (reason.name or "").lower()].append(names[channel])
    return [
        BadStretch(float(start), min(float(stop), duration_s) - start, reason, tuple(channels))
        for (start, stop, reason), channels in sorted(together.items())
    ]
