"""Flat maps of sensors, for plots."""

import numpy as np
from numpy.typing import NDArray

from emeg.sensors.axes import HEAD_CENTRE, fit_sphere
from emeg.sensors.layout import MNI_CENTRE_M, MNI_RADIUS_M, Sensors

_MIN_FIT = 32


def topographic_xy(sensors: Sensors) -> NDArray[np.float64]:
    """Project sensor positions to a plane for plots: nose up, right ear to the right.

    The projection is azimuthal equidistant about the crown, and separate for EEG and MEG. The centre of EEG lies at a
    fixed height above the ears, so that a few electrodes are drawn where a whole cap has them; the centre of MEG is
    that of the sphere fitted to the helmet. Intracranial electrodes are drawn as seen from above.

    Returns
    -------
    float64, shape (channels, 2)
        Without a unit: distance 1 from the origin is 90° from the crown. Coils at one site coincide.
    """
    xy = np.zeros((len(sensors), 2))
    for group in (sensors.is_eeg, sensors.is_meg):
        if group.any():
            positions = sensors.positions[group]
            centre = _head_centre(positions) if sensors.is_eeg[group].all() else helmet_centre(positions)
            xy[group] = _azimuthal_equidistant(positions - centre)
    inside = sensors.is_intracranial
    xy[inside] = (sensors.positions[inside] - MNI_CENTRE_M)[:, :2] / MNI_RADIUS_M
    return xy


def _head_centre(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([0.0, 0.0, HEAD_CENTRE * np.median(np.linalg.norm(positions, axis=1))])


def helmet_centre(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the centre of the sphere that fits a helmet, or the origin if the sensors cover a small part of it.

    Parameters
    ----------
    positions : float64, shape (sensors, 3)
        m.
    """
    if len(positions) < _MIN_FIT:
        return np.zeros(3)
    centre, radius, _ = fit_sphere(positions)
    # A flat or tiny patch fits a sphere of any size; then the frame's origin is the better guess.
    return centre if 0.05 < radius < 0.25 else np.zeros(3)


def _azimuthal_equidistant(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    across = np.hypot(vectors[:, 0], vectors[:, 1])
    from_crown = np.arctan2(across, vectors[:, 2]) / (np.pi / 2)
    scale = np.divide(from_crown, across, out=np.zeros_like(across), where=across > 0)
    return vectors[:, :2] * scale[:, None]
