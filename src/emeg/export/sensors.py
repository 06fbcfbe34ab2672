"""Convert sensors to an ``mne.Info``: types, units, coils, positions."""

from collections.abc import Mapping

import mne
import numpy as np
from mne.io.constants import FIFF
from numpy.typing import NDArray

from emeg.sensors import Sensors, SensorType
from emeg.store import RecordingAttributes

_UNITS = {"V": FIFF.FIFF_UNIT_V, "T": FIFF.FIFF_UNIT_T, "T/m": FIFF.FIFF_UNIT_T_M}


def measurement_info(sensors: Sensors, attributes: RecordingAttributes, bad: tuple[str, ...]) -> mne.Info:
    """Describe a recording as MNE does, without a date, a person or a project.

    A coil's position and its measuring axis come from the store; `coil_axes` completes the other axes, which the store
    does not keep. EEG positions are in head coordinates. MEG positions are in device coordinates, and the position of
    the head is unknown; if the store has them in head coordinates, both frames are the same.
    """
    kinds = ["eeg" if kind == SensorType.EEG else "mag" for kind in sensors.types]
    info = mne.create_info(list(sensors.names), attributes.sfreq, kinds, verbose="error")
    axes = coil_axes(sensors)
    for i, channel in enumerate(info["chs"]):
        channel["unit"] = _UNITS[sensors.units[i]]
        channel["loc"][:3] = sensors.positions[i]
        if sensors.types[i] == SensorType.EEG:
            channel["loc"][3:6] = 0.0  # position of the reference: unknown
            channel["coord_frame"] = FIFF.FIFFV_COORD_HEAD
            continue
        channel["coil_type"] = int(sensors.coils[i])
        channel["loc"][3:] = axes[i].ravel()
        channel["coord_frame"] = FIFF.FIFFV_COORD_DEVICE
    with info._unlock():  # MNE offers no other way to state what was done before
        info["highpass"], info["lowpass"] = attributes.pass_band
        if sensors.is_eeg.any():
            info["dig"] = _electrodes(sensors)
        if sensors.meg_frame == "head" and sensors.is_meg.any():
            info["dev_head_t"] = mne.transforms.Transform("meg", "head")
    info["bads"] = list(bad)
    return info


def _electrodes(sensors: Sensors) -> list[object]:
    positions: Mapping[str, NDArray[np.float64]] = {
        sensors.names[i]: sensors.positions[i] for i in np.flatnonzero(sensors.is_eeg)
    }
    found: list[object] = mne.channels.make_dig_montage(positions, coord_frame="head").dig
    return found


def coil_axes(sensors: Sensors) -> NDArray[np.float64]:
    """Complete the local axes of MEG coils, float64, shape (C, 3, 3): rows are x, y, z; zeros for EEG.

    The store keeps one axis: the normal (z) of magnetometers and axial gradiometers, the direction of the difference
    (x) of planar gradiometers. A planar gradiometer's normal is that of a magnetometer at the same position, else of
    the other gradiometer there (their x axes are perpendicular), else the direction away from the middle of the helmet.
    Turning a magnetometer about its normal changes nothing but the corners of a square coil, so that its x is free.
    """
    from emeg.sensors.coils import PLANAR_COILS

    axes = np.zeros((len(sensors), 3, 3))
    meg = sensors.is_meg
    planar = meg & np.isin(sensors.coils, sorted(PLANAR_COILS))
    middle = sensors.positions[meg].mean(axis=0) if meg.any() else np.zeros(3)
    for i in np.flatnonzero(meg):
        kept = _unit(sensors.orientations[i])
        if not planar[i]:
            x = _perpendicular(kept)
            axes[i] = x, np.cross(kept, x), kept
            continue
        here = np.linalg.norm(sensors.positions - sensors.positions[i], axis=1) < 1e-3
        outward = sensors.positions[i] - middle
        z = _planar_normal(kept, sensors.orientations, here & meg & ~planar, here & planar, outward)
        axes[i] = kept, np.cross(z, kept), z
    return axes


def _planar_normal(
    x: NDArray[np.float64],
    orientations: NDArray[np.float64],
    magnetometers: NDArray[np.bool_],
    gradiometers: NDArray[np.bool_],
    outward: NDArray[np.float64],
) -> NDArray[np.float64]:
    candidates = [*orientations[magnetometers], *(np.cross(x, other) for other in orientations[gradiometers]), outward]
    for candidate in candidates:
        across = candidate - (candidate @ x) * x
        if np.linalg.norm(across) > 0.5 * np.linalg.norm(candidate) > 0.0:
            normal = _unit(across)
            return normal if magnetometers.any() or normal @ outward >= 0 else -normal
    return _perpendicular(x)


def _perpendicular(axis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Find a unit vector across another, as far along the x axis of the frame as it goes."""
    helper = np.eye(3)[1 if abs(axis[0]) > 0.9 else 0]
    return _unit(helper - (helper @ axis) * axis)


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    scaled: NDArray[np.float64] = vector / np.linalg.norm(vector)
    return scaled
