"""Replace bad channels by an estimate from their neighbours.

Shape letters: C channels, N samples.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.sensors import Sensors, SensorType

if TYPE_CHECKING:
    import mne

MIN_GOOD_EEG = 8
"""Electrodes from which a spherical spline is worth more than the bad channel itself."""


class Interpolation(NamedTuple):
    """Channels that are estimated from others."""

    channels: NDArray[np.intp]
    """Indices of those replaced, ascending."""
    weights: NDArray[np.float32]
    """(replaced, C): what of every channel goes into them; nothing of a bad one."""

    def apply(self, signal_CN: NDArray[np.float32]) -> None:
        """Replace the channels in place.

        Parameters
        ----------
        signal_CN : float32, shape (channels, samples)
            V, T or T/m.
        """
        signal_CN[self.channels] = self.weights @ signal_CN


def interpolation(sensors: Sensors, bad: NDArray[np.intp], info: "mne.Info", picks: NDArray[np.intp]) -> Interpolation:
    """Return the weights that estimate bad channels from the others.

    EEG by spherical splines on the sensors' own positions, MEG by field mapping: the weights are what MNE-Python's
    `interpolate_bads` makes of a unit signal in one channel after another. EEG stays as it is where fewer than
    `MIN_GOOD_EEG` good electrodes are left. Intracranial contacts are never replaced: their neighbours record other
    tissue.

    Parameters
    ----------
    sensors : Sensors
    bad : intp, shape (bad channels,)
        Indices into the sensors.
    info : mne.Info
        Of the source.
    picks : intp, shape (channels,)
        Indices of the sensors' channels in `info`.
    """
    eeg = np.flatnonzero(sensors.types == SensorType.EEG)
    meg = np.flatnonzero(sensors.is_meg)
    channels, rows = [np.empty(0, np.intp)], [np.empty((0, len(sensors)), np.float32)]
    for members, build in ((eeg, _eeg_raw), (meg, _meg_raw)):
        bad_here = np.intersect1d(members, bad)
        if not len(bad_here) or len(members) - len(bad_here) < MIN_GOOD_EEG:
            continue
        raw = build(np.eye(len(members), dtype=np.float32), sensors, members, info, picks)
        raw.info["bads"] = [raw.ch_names[int(np.flatnonzero(members == i)[0])] for i in bad_here]
        raw.interpolate_bads(
            reset_bads=False,
            mode="fast",
            origin=(0.0, 0.0, 0.04),
            method={"eeg": "spline", "meg": "MNE"},
            verbose="ERROR",
        )
        weights = np.zeros((len(bad_here), len(sensors)), np.float32)
        weights[:, members] = raw.get_data()[np.searchsorted(members, bad_here)]
        weights[:, bad_here] = 0.0
        channels.append(bad_here)
        rows.append(weights)
    order = np.argsort(np.concatenate(channels), kind="stable")
    return Interpolation(np.concatenate(channels)[order], np.concatenate(rows)[order])


def _eeg_raw(
    unit_CC: NDArray[np.float32], sensors: Sensors, members: NDArray[np.intp], _: "mne.Info", __: NDArray[np.intp]
) -> "mne.io.RawArray":
    import mne

    names = [str(i) for i in members]
    info = mne.create_info(names, 256.0, "eeg")
    positions = {name: sensors.positions[i] for name, i in zip(names, members, strict=True)}
    info.set_montage(mne.channels.make_dig_montage(positions, coord_frame="head"))
    return mne.io.RawArray(unit_CC.astype(np.float64), info, verbose="ERROR")


def _meg_raw(
    unit_CC: NDArray[np.float32],
    _: Sensors,
    members: NDArray[np.intp],
    info: "mne.Info",
    picks: NDArray[np.intp],
) -> "mne.io.RawArray":
    import mne

    own = mne.pick_info(info, picks[members], copy=True)
    with own._unlock():
        own["comps"] = []
        own["projs"] = []
        for channel in own["chs"]:
            channel["coil_type"] &= 0xFFFF
    return mne.io.RawArray(unit_CC.astype(np.float64), own, verbose="ERROR")
