"""Brain region of every sensor, by its position: a pure function over a table of region centres.

Shape letters: C channels.
"""

import numpy as np
from numpy.typing import NDArray

from emeg.sensors.layout import MNI_CENTRE_M, Sensors
from emeg.sensors.projection import helmet_centre
from emeg.sensors.region_centres import CENTRES_MM, LOBES, MIDLINE, OUTER

UNKNOWN = 0
"""Index of a sensor whose region is not known."""

REGIONS = ("unknown", *(f"{side} {lobe}" for lobe in LOBES for side in ("left", "right")), *MIDLINE)
"""Names of regions by index."""

MAX_DISTANCE_M = 0.03
"""Largest distance from a region's nearest centre, m. Parcels are about 4 cm wide; contacts farther from every centre
lie outside the brain, such as in bone."""

MAX_ANGLE = 40.0
"""Largest angle, degrees at the centre of the head, from a sensor outside the head to a region's nearest centre.
Sensors over the face or the neck have no region."""

_HEAD_CENTRE = (0.0, 0.13, 0.35)
"""Centre of the sphere through the electrodes of the Colin27 head in head coordinates, as a share of their median
distance from the origin (0.11 m): the axis between the ears is behind and below it."""

_HEAD_PITCH = np.deg2rad(3.25)
"""Rotation about the x axis from head to MNI coordinates on the Colin27 head."""

_OUTER_RADIUS_M = 0.04
"""Least distance of a centre from the centre of the head, m, to be nearest to sensors outside the head: medial surfaces
lie below the cortex of the other side of the same lobe."""


def sensor_regions(sensors: Sensors) -> NDArray[np.int8]:
    """Return the region of every sensor.

    Intracranial electrodes belong to the region with the nearest centre, if it is at most `MAX_DISTANCE_M` away. EEG
    and MEG sensors belong to the lobe with the centre nearest to the line from the middle of the head to the sensor, if
    the angle is at most `MAX_ANGLE`. For MEG in device coordinates the head is taken to be in the middle of the helmet.

    Returns
    -------
    int8, shape (channels,)
        Indices into `REGIONS`; `UNKNOWN` where no region is near enough.
    """
    regions_C = np.zeros(len(sensors), np.int8)
    inside_C, eeg_C, meg_C = sensors.is_intracranial, sensors.is_eeg, sensors.is_meg
    regions_C[inside_C] = nearest_region(sensors.positions[inside_C])
    if eeg_C.any():
        regions_C[eeg_C] = _below(sensors.positions[eeg_C] - _middle(sensors.positions[eeg_C]))
    if meg_C.any():
        positions = sensors.positions[meg_C]
        centre = _middle(positions) if sensors.meg_frame == "head" else helmet_centre(positions)
        regions_C[meg_C] = _below(positions - centre)
    return regions_C


def nearest_region(points: NDArray[np.float64]) -> NDArray[np.int8]:
    """Return the region of points in the brain.

    Parameters
    ----------
    points : float64, shape (points, 3)
        MNI152 coordinates, m.

    Returns
    -------
    int8, shape (points,)
        Indices into `REGIONS`; `UNKNOWN` beyond `MAX_DISTANCE_M` from every centre, and for NaN.
    """
    centres, regions = _centres(tuple(CENTRES_MM))
    distance = np.linalg.norm(points[:, None] - centres[None], axis=2)
    near = distance.min(axis=1) <= MAX_DISTANCE_M
    return np.where(near, regions[distance.argmin(axis=1)], UNKNOWN).astype(np.int8)


def positions_with_regions(sensors: Sensors) -> NDArray[np.float32]:
    """Return `Sensors.model_positions` and, as a seventh column, the index of the region.

    Returns
    -------
    float32, shape (channels, 7)
        Position and orientation without a unit, and an index into `REGIONS`.
    """
    return np.column_stack([sensors.model_positions(), sensor_regions(sensors).astype(np.float32)])


def _centres(names: tuple[str, ...]) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """Return all centres of some regions, m, float64 of shape (centres, 3), and the index of the region of each."""
    points = [(name, point) for name in names for point in CENTRES_MM[name]]
    labels = [name if name in MIDLINE else f"{'left' if point[0] < 0 else 'right'} {name}" for name, point in points]
    return np.array([point for _, point in points]) * 1e-3, np.array(
        [REGIONS.index(label) for label in labels], np.int8
    )


def _middle(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.array(_HEAD_CENTRE) * np.median(np.linalg.norm(positions, axis=1)))


def _below(directions: NDArray[np.float64]) -> NDArray[np.int8]:
    """Return the lobes below sensors outside the head; directions are in axes of the head, from its middle."""
    centres, regions = _centres(OUTER)
    centres = centres - MNI_CENTRE_M
    length = np.linalg.norm(centres, axis=1)
    outer = length >= _OUTER_RADIUS_M
    cosine, sine = np.cos(_HEAD_PITCH), np.sin(_HEAD_PITCH)
    in_mni = directions @ np.array([[1.0, 0.0, 0.0], [0.0, cosine, -sine], [0.0, sine, cosine]]).T
    in_mni = in_mni / np.maximum(np.linalg.norm(in_mni, axis=1, keepdims=True), 1e-12)
    cosines = in_mni @ (centres[outer] / length[outer, None]).T
    near = cosines.max(axis=1) >= np.cos(np.deg2rad(MAX_ANGLE))
    return np.where(near, regions[outer][cosines.argmax(axis=1)], UNKNOWN).astype(np.int8)
