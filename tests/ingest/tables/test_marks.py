"""Seconds that annotations call bad."""

import numpy as np

from emeg.ingest.tables.events import BadStretch
from emeg.ingest.tables.marks import marked_seconds
from emeg.store import BadReason


def test_every_second_that_a_stretch_touches_is_marked_in_its_channels():
    stretches = [
        BadStretch(1.5, 1.0),
        BadStretch(4.0, 1.0, ("Cz",)),
        BadStretch(-1.0, 1.5),
        BadStretch(6.9, 10.0, ("Oz",)),
    ]
    marks = marked_seconds(stretches, ["Fz", "Cz"], 8)
    expected = np.zeros((2, 8), np.uint8)
    expected[:, [0, 1, 2]] = BadReason.MARKED
    expected[1, 4] = BadReason.MARKED
    assert marks.dtype == np.uint8
    assert np.array_equal(marks, expected)
