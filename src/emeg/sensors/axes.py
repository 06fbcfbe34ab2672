"""Check that the axes of sensor positions are those of a head: x to the right ear, y to the nose, z up."""

from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

HEAD_CENTRE = 0.35
"""Height of the middle of an electrode cap above the ears' axis, as a share of the median distance from the origin."""

_MIN_NAMED = 3
_MIN_ANGLE, _MAX_ANGLE = 30.0, 60.0
"""Degrees between recorded and standard directions, averaged. Measured: a HydroCel net as recorded 2, MNE's templates
against each other up to 17, a quarter turn of 3 to 19 electrodes 40 to 114, eight occipital ones with left and right
swapped 42."""

_MIN_WHOLE = 32
_WHOLE_EXTENT_M = 0.10
_MAX_RESIDUAL = 0.15
_MAX_ONE_SIDED = 0.55
"""Length of the mean direction from the middle: 0.17 to 0.41 for whole caps and helmets, 0.5 for an even half sphere,
0.7 and more for coverage of one side."""


def directions(points: Points) -> Points:
    """Return the directions of electrodes from the middle of the head.

    Parameters
    ----------
    points : float64, shape (electrodes, 3)
        Positions in head coordinates, m.

    Returns
    -------
    float64, shape (electrodes, 3)
        Unit vectors.
    """
    centre = np.array([0.0, 0.0, HEAD_CENTRE * np.median(np.linalg.norm(points, axis=1))])
    return _unit(points - centre)


def axis_turn(points: Points, standard: Points) -> str | None:
    """Compare the positions of electrodes with the standard positions of their names.

    Parameters
    ----------
    points : float64, shape (electrodes, 3)
        Positions as recorded, in head coordinates, m.
    standard : float64, shape (electrodes, 3)
        Positions of a template, in head coordinates, m.

    Returns
    -------
    str or None
        Description of the wrong axes; None if they are right, or if there are fewer than three electrodes.
    """
    if len(points) < _MIN_NAMED:
        return None
    target = directions(standard)
    angles = {turn.tobytes(): _mean_angle(directions(points @ turn.T), target) for turn in _turns()}
    as_found = angles[np.eye(3).tobytes()]
    best = min(_turns(), key=lambda turn: angles[turn.tobytes()])
    turned = angles[best.tobytes()]
    if as_found > _MIN_ANGLE and turned < 0.5 * as_found:
        return f"{_describe(best)} (electrodes are {as_found:.0f}° from their standard positions, then {turned:.0f}°)"
    if as_found > _MAX_ANGLE:
        return f"electrodes are {as_found:.0f}° from the standard positions of their names, for any exchange of axes"
    return None


def whole_head_turn(points: Points) -> str | None:
    """Check the axes of a whole cap or helmet by its shape alone.

    A cap or helmet is closed above, open below, longer from front to back than from side to side, and its left half
    mirrors its right half.

    Parameters
    ----------
    points : float64, shape (sensors, 3)
        Positions in head or device coordinates, m.

    Returns
    -------
    str or None
        Description of the wrong axes; None if they are right, or if the sensors cover a part of the head only.
    """
    points = np.unique(points, axis=0)
    if len(points) < _MIN_WHOLE or np.ptp(points, axis=0).min() < _WHOLE_EXTENT_M:
        return None
    centre, radius, residual = fit_sphere(points)
    if residual > _MAX_RESIDUAL * radius:
        return None
    up = _unit(points - centre).mean(axis=0)
    if np.linalg.norm(up) > _MAX_ONE_SIDED:
        return None
    if up[2] < 0.5 * np.abs(up[:2]).max() or up[2] < 0:
        axis = int(np.argmax(np.abs(up)))
        sign = "-" if up[axis] < 0 else "+"
        return f"cap or helmet is closed towards {sign}{'xyz'[axis]} instead of +z: axes turned by 90° or more"
    extent = np.ptp(points, axis=0)
    mirror_x, mirror_y = (_mirror_distance(points - centre, axis) for axis in (0, 1))
    if extent[0] > 1.02 * extent[1] and mirror_y < 0.7 * mirror_x:
        return "cap or helmet is longer, and mirrored, along x instead of y: axes turned by 90° about z"
    return None


def fit_sphere(points: Points) -> tuple[Points, float, float]:
    """Fit a sphere to points by least squares.

    Parameters
    ----------
    points : float64, shape (points, 3)
        Positions, m.

    Returns
    -------
    tuple
        Centre, float64 of shape (3,), radius, and standard deviation of the distances from the surface, all in m.
    """
    system = np.column_stack([2 * points, np.ones(len(points))])
    solution = np.linalg.lstsq(system, np.sum(points**2, axis=1), rcond=None)[0]
    centre = solution[:3]
    radius = float(np.sqrt(max(solution[3] + centre @ centre, 0.0)))
    return centre, radius, float(np.std(np.linalg.norm(points - centre, axis=1)))


def _turns() -> list[Points]:
    """List the 48 ways to exchange and flip axes; rows say what becomes x, y and z."""
    return [
        np.array(signs)[:, None] * np.eye(3)[list(order)]
        for order in permutations(range(3))
        for signs in product((1.0, -1.0), repeat=3)
    ]


def _describe(turn: Points) -> str:
    axes = [f"{'-' if row.sum() < 0 else ''}{'xyz'[int(np.argmax(np.abs(row)))]}" for row in turn]
    found = f"x, y, z of a head are {', '.join(axes)} of the file"
    if np.linalg.det(turn) < 0:
        return f"{found}: an axis has the wrong sign or two are exchanged, so that left and right are swapped"
    quarter = "turned by 90°" if np.trace(turn) == 1 else "turned"
    hint = ", as EEGLAB has them (x to the nose)" if axes == ["-y", "x", "z"] else ""
    return f"{found}: axes {quarter}{hint}"


def _mean_angle(a: Points, b: Points) -> float:
    return float(np.mean(np.degrees(np.arccos(np.clip(np.sum(a * b, axis=1), -1, 1)))))


def _mirror_distance(centred: Points, axis: int) -> float:
    mirrored = centred.copy()
    mirrored[:, axis] *= -1
    return float(np.linalg.norm(mirrored[:, None] - centred[None], axis=2).min(axis=1).mean())


def _unit(vectors: Points) -> Points:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: Points = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
    return units
