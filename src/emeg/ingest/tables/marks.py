"""Seconds of channels that annotations call bad, as bits of the store's array ``bad``."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from emeg.ingest.tables.events import BadStretch
from emeg.registry import Treatment
from emeg.store import BadReason


def marked_seconds(
    stretches: Iterable[BadStretch], names: Sequence[str], n_seconds: int, treatment: Treatment | None = None
) -> NDArray[np.uint8]:
    """Return the bit `BadReason.MARKED` for each second that a stretch touches, 0 elsewhere.

    Parameters
    ----------
    stretches : iterable of BadStretch
        Stretches that name channels mark those only.
    names : sequence of str
        Channels of the recording, in the order of the rows.
    n_seconds : int
        Length of the recording in whole seconds, rounded up.
    treatment : Treatment, optional
        Renames of the dataset's entry; stretches name channels as the file does.

    Returns
    -------
    uint8, shape (channels, seconds)
        Bits, without a unit.
    """
    marks = np.zeros((len(names), n_seconds), np.uint8)
    for stretch in stretches:
        first, stop = int(max(0.0, stretch.onset_s)), int(np.ceil(stretch.onset_s + stretch.duration_s))
        channels = [treatment.new_name(name) if treatment else name for name in stretch.channels]
        rows = [i for i, name in enumerate(names) if not channels or name in channels]
        marks[rows, first:stop] |= np.uint8(BadReason.MARKED)
    return marks
