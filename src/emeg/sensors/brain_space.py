"""Fixed transforms between coordinate systems of an average brain; 4 × 4 matrices for points in metres."""

import numpy as np
from numpy.typing import NDArray

Affine = NDArray[np.float64]

TALAIRACH_OF_MNI: Affine = np.array(
    [
        [0.9357, 0.0029, -0.0072, -1.0423e-3],
        [-0.0065, 0.9396, -0.0726, -1.3940e-3],
        [0.0103, 0.0752, 0.8967, 3.6475e-3],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
"""MNI152 to Talairach coordinates: Lancaster et al. 2007 (Human Brain Mapping 28:1194), pooled transform. MNI brains
are larger than average ones; Talairach coordinates, and AC-PC coordinates of one person, have about the size of average
ones."""

MNI_OF_TALAIRACH: Affine = np.asarray(np.linalg.inv(TALAIRACH_OF_MNI), np.float64)

MNI_OF_HEAD: Affine = np.array(
    [
        [0.99999, -0.00356, 0.0, 0.00187],
        [0.00355, 0.99839, -0.05663, -0.02880],
        [0.00020, 0.05663, 0.99840, -0.04129],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
"""Head coordinates (landmarks nasion and ears) to MNI coordinates on the Colin27 head, from its electrode template."""


def transformed(points: NDArray[np.float64], transform: Affine) -> NDArray[np.float64]:
    """Return points in another coordinate system.

    Parameters
    ----------
    points : float64, shape (points, 3) or (3,)
        m.
    transform : float64, shape (4, 4)
        m.
    """
    return np.asarray(points @ transform[:3, :3].T + transform[:3, 3])
