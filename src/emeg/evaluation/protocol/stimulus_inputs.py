"""Inputs of the models that predict responses from what is known of the stimuli, for encoding tasks.

Shape letters: B batch, D features.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from emeg.data.tasks.windows import TaskWindows

N_COSINES = 8
"""Cosines of the time in a recording: the fastest has a period of a quarter of the recording."""


def previous_stimulus(windows: TaskWindows, table_BD: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the features of the stimulus of the window before each window of a recording; 0 for its first window.

    Parameters
    ----------
    windows : TaskWindows
        Windows whose labels are stimulus indices.
    table_BD : float64, shape (stimuli, features)
        Features of every stimulus, scaled to mean 0 and deviation 1.

    Returns
    -------
    float64, shape (windows, features)
    """
    found = np.zeros((len(windows), table_BD.shape[1]))
    for recording in np.unique(windows.recordings):
        own = _in_order(windows, recording)
        found[own[1:]] = table_BD[windows.labels[own[:-1]]]
    return found


def time_in_recording(windows: TaskWindows) -> NDArray[np.float64]:
    """Return cosines of the time of each window in its recording, float64 of shape (windows, `N_COSINES`).

    Time runs from 0 at the first window of a recording to 1 at its last one.

    Parameters
    ----------
    windows : TaskWindows
    """
    found = np.zeros((len(windows), N_COSINES))
    for recording in np.unique(windows.recordings):
        own = _in_order(windows, recording)
        start = windows.starts[own].astype(np.float64)
        time = (start - start[0]) / max(start[-1] - start[0], 1.0)
        found[own] = np.cos(np.pi * np.outer(time, np.arange(1, N_COSINES + 1)))
    return found


def _in_order(windows: TaskWindows, recording: Any) -> NDArray[np.int64]:  # noqa: ANN401 - a text of numpy
    own = np.flatnonzero(windows.recordings == recording)
    return own[np.argsort(windows.starts[own], kind="stable")]
