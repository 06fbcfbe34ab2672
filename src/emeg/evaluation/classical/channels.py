"""Find the channels that all recordings of a task share, and read their windows as spectra."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.data import TaskWindows
from emeg.evaluation.classical.spectra import Spectra
from emeg.sensors import sensor_keys, shared_sensors
from emeg.store import Store, open_recording

NO_CHANNEL = (
    "the recordings share no channel (contacts in the brain are shared if their names agree and their positions are at"
    " most 1 cm apart); choose recordings of one subject or one device in the task"
)
"""Why models of channels cannot run on a task, and what to do."""

AT_ONCE = 64
"""Windows read at a time."""


class CommonChannels(NamedTuple):
    """Channels that every recording has (`emeg.sensors.shared_sensors`)."""

    names: tuple[str, ...]
    sensor_type: NDArray[np.int8]
    picks: dict[str, NDArray[np.intp]]
    """Row indices of the channels in each recording."""
    pass_band: tuple[float, float]
    """Pass band that all recordings share, Hz."""


def common_channels(store: Store, recordings: Sequence[str]) -> CommonChannels:
    """Return the channels that all recordings have, by standard name if there is one, in the order of the first.

    Contacts in the brain are one channel only if their positions agree too. `names` is empty if there are none.
    """
    opened = {recording: open_recording(store, recording) for recording in recordings}
    bands = [one.attributes.pass_band for one in opened.values()]
    rows = {name: {key: i for i, key in enumerate(sensor_keys(one.sensors))} for name, one in opened.items()}
    shared = shared_sensors([one.sensors for one in opened.values()])
    return CommonChannels(
        names=tuple(name for name, _ in shared),
        sensor_type=np.array([kind for _, kind in shared], np.int8),
        picks={name: np.array([own[key] for key in shared], np.intp) for name, own in rows.items()},
        pass_band=(max(low for low, _ in bands), min(high for _, high in bands)),
    )


def read_spectra(windows: TaskWindows, channels: CommonChannels) -> Spectra:
    """Read all windows of a task, shared channels only, as spectra."""
    parts = []
    for start in range(0, len(windows), AT_ONCE):
        indices = np.arange(start, min(start + AT_ONCE, len(windows)))
        batch = windows.read(indices)
        signal = np.stack(
            [x[channels.picks[str(windows.recordings[i])]] for i, x in zip(indices, batch.signal, strict=True)]
        )
        parts.append(
            Spectra.of(signal, sfreq=windows.sfreq, sensor_type=channels.sensor_type, pass_band=channels.pass_band)
        )
    return Spectra.joined(parts)
