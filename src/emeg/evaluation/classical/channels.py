"""Find the channels that all recordings of a task share, and read their windows as spectra."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.data import TaskWindows
from emeg.evaluation.classical.spectra import Spectra
from emeg.sensors import standard_name
from emeg.store import Store, open_recording

AT_ONCE = 64
"""Windows read at a time."""


class CommonChannels(NamedTuple):
    """Channels with one name and one type in every recording."""

    names: tuple[str, ...]
    sensor_type: NDArray[np.int8]
    picks: dict[str, NDArray[np.intp]]
    """Row indices of the channels in each recording."""
    pass_band: tuple[float, float]
    """Pass band that all recordings share, Hz."""


def common_channels(store: Store, recordings: Sequence[str]) -> CommonChannels:
    """Return the channels that all recordings have, by standard name if there is one, in the order of the first.

    `names` is empty if there are none.
    """
    rows: dict[str, dict[tuple[str, int], int]] = {}
    bands = []
    for recording in recordings:
        opened = open_recording(store, recording)
        names = [standard_name(name) or name for name in opened.sensors.names]
        rows[recording] = {key: i for i, key in enumerate(zip(names, opened.sensors.types.tolist(), strict=True))}
        bands.append(opened.attributes.pass_band)
    shared = [key for key in rows[recordings[0]] if all(key in own for own in rows.values())]
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
