"""Place the sources: current dipoles at cortical depth, and the eyes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emeg.synthetic.people import HEAD_CENTRE_M, Person
from emeg.synthetic.randomness import generator

FloatArray = NDArray[np.float64]

N_BACKGROUND = 64
"""Dipoles of the 1/f background, spread evenly over the upper head."""

_GOLDEN_ANGLE = np.pi * (3.0 - np.sqrt(5.0))

# name: azimuth (0 right, 90 front) and elevation in degrees, depth under the scalp in metres, share of the radial
# direction, direction of the tangential part (degrees from east towards north on the sphere).
# Central sulcus, calcarine and parieto-occipital cortex, Heschl's gyrus, medial frontal cortex; the eyes last.
_NAMED: dict[str, tuple[float, float, float, float, float]] = {
    "alpha-left": (-113.0, 22.0, 0.026, 0.55, 60.0),
    "alpha-right": (-67.0, 22.0, 0.026, 0.55, 120.0),
    "alpha-midline": (-90.0, 40.0, 0.022, 0.40, 90.0),
    "alpha-parietal": (-90.0, 62.0, 0.020, 0.65, 75.0),
    "mu-left": (178.0, 46.0, 0.019, 0.70, 80.0),
    "mu-right": (2.0, 46.0, 0.019, 0.70, 100.0),
    "theta-midline": (90.0, 58.0, 0.028, 0.60, 90.0),
    "auditory-left": (172.0, 8.0, 0.024, 0.10, 75.0),
    "auditory-right": (8.0, 8.0, 0.024, 0.10, 105.0),
    "eye-left": (112.0, -22.0, 0.018, 0.75, 90.0),
    "eye-right": (68.0, -22.0, 0.018, 0.75, 90.0),
}

NAMED_SOURCES = tuple(_NAMED)
"""Sources with a specific role; they follow the background in every array."""


@dataclass(frozen=True, eq=False)
class Sources:
    """Dipoles of one subject, background first.

    Attributes
    ----------
    names : tuple of str
    positions : float64 (S, 3)
        Metres, head coordinates.
    orientations : float64 (S, 3)
        Unit vectors.
    """

    names: tuple[str, ...]
    positions: FloatArray
    orientations: FloatArray

    def index(self, name: str) -> int:
        """Return the row of a named source."""
        return self.names.index(name)


def place_sources(person: Person, *, seed: int) -> Sources:
    """Place the dipoles of one subject: a common plan, shifted by some millimetres and rotated by some degrees."""
    rng = generator(seed, person.label, "sources")
    plan = generator(seed, "anatomy")  # equal for all subjects
    directions, depths, radial, bearing = _background_plan(plan)
    named = np.array(list(_NAMED.values()))
    directions = np.concatenate([directions, _from_angles(named[:, 0], named[:, 1])])
    depths = np.concatenate([depths, named[:, 2]])
    radial = np.concatenate([radial, named[:, 3]])
    bearing = np.concatenate([bearing, np.deg2rad(named[:, 4])])
    n_sources = len(directions)
    directions = _unit(directions + rng.normal(0.0, 0.04, (n_sources, 3)))
    depths = (depths + rng.normal(0.0, 0.0015, n_sources)).clip(0.014, 0.036)
    radial = (radial + rng.normal(0.0, 0.06, n_sources)).clip(-0.98, 0.98)
    bearing = bearing + rng.normal(0.0, np.deg2rad(9.0), n_sources)
    positions = np.array(HEAD_CENTRE_M) + directions * (person.head_radius - depths)[:, None]
    names = (*(f"background-{index:02d}" for index in range(N_BACKGROUND)), *NAMED_SOURCES)
    return Sources(names, positions, _orient(directions, radial, bearing))


def _background_plan(rng: np.random.Generator) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    rows = np.arange(N_BACKGROUND)
    z = 1.0 - (rows + 0.5) / N_BACKGROUND * 1.25  # down to 14 degrees under the horizon
    azimuth = rows * _GOLDEN_ANGLE
    directions = np.stack([np.cos(azimuth) * np.sqrt(1 - z**2), np.sin(azimuth) * np.sqrt(1 - z**2), z], axis=1)
    # crowns are radial, walls of sulci tangential; folding varies the direction
    return (
        directions,
        rng.uniform(0.018, 0.034, N_BACKGROUND),
        rng.uniform(-0.7, 0.9, N_BACKGROUND),
        rng.uniform(0, 2 * np.pi, N_BACKGROUND),
    )


def _from_angles(azimuth_deg: FloatArray, elevation_deg: FloatArray) -> FloatArray:
    azimuth, elevation = np.deg2rad(azimuth_deg), np.deg2rad(elevation_deg)
    return np.stack(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], axis=1
    )


def _orient(directions: FloatArray, radial: FloatArray, bearing: FloatArray) -> FloatArray:
    east = _unit(np.cross([0.0, 0.0, 1.0], directions))
    north = np.cross(directions, east)
    tangent = np.cos(bearing)[:, None] * east + np.sin(bearing)[:, None] * north
    return _unit(radial[:, None] * directions + np.sqrt(1.0 - radial**2)[:, None] * tangent)


def _unit(vectors: FloatArray) -> FloatArray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))
