"""Replace bad channels by what their neighbours say."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from emeg.sensors import Sensors, SensorType

if TYPE_CHECKING:
    import mne

MIN_GOOD_EEG = 8
"""Electrodes from which a spherical spline is worth more than the bad channel itself."""


def interpolate(
    signal_CN: NDArray[np.float32], sensors: Sensors, bad: NDArray[np.intp], info: "mne.Info", picks: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Replace bad channels in place; returns the indices of those that were replaced.

    EEG by spherical splines on the sensors' own positions, MEG by field mapping (MNE-Python's `interpolate_bads`). EEG
    stays as it is where fewer than `MIN_GOOD_EEG` good electrodes are left.

    Parameters
    ----------
    signal_CN : float32, shape (C, N)
        Changed in place.
    sensors : Sensors
    bad : int, shape (n,)
    info : mne.Info
        Of the source.
    picks : int, shape (C,)
        The sensors' channels in `info`.
    """
    eeg = np.flatnonzero(sensors.types == SensorType.EEG)
    meg = np.flatnonzero(sensors.types != SensorType.EEG)
    done = []
    for members, build in ((eeg, _eeg_raw), (meg, _meg_raw)):
        bad_here = np.intersect1d(members, bad)
        good = len(members) - len(bad_here)
        if not len(bad_here) or good < MIN_GOOD_EEG:
            continue
        raw = build(signal_CN, sensors, members, info, picks)
        raw.info["bads"] = [raw.ch_names[int(np.flatnonzero(members == i)[0])] for i in bad_here]
        raw.interpolate_bads(
            reset_bads=False,
            mode="fast",
            origin=(0.0, 0.0, 0.04),
            method={"eeg": "spline", "meg": "MNE"},
            verbose="ERROR",
        )
        signal_CN[bad_here] = raw.get_data()[np.searchsorted(members, bad_here)]
        done.append(bad_here)
    return np.concatenate(done) if done else np.empty(0, np.intp)


def _eeg_raw(
    signal_CN: NDArray[np.float32], sensors: Sensors, members: NDArray[np.intp], _: "mne.Info", __: NDArray[np.intp]
) -> "mne.io.RawArray":
    import mne

    names = [str(i) for i in members]
    info = mne.create_info(names, 256.0, "eeg")
    places = {name: sensors.positions[i] for name, i in zip(names, members, strict=True)}
    info.set_montage(mne.channels.make_dig_montage(places, coord_frame="head"))
    return mne.io.RawArray(signal_CN[members].astype(np.float64), info, verbose="ERROR")


def _meg_raw(
    signal_CN: NDArray[np.float32],
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
    return mne.io.RawArray(signal_CN[members].astype(np.float64), own, verbose="ERROR")
