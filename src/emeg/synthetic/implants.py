"""Simulated intracranial electrodes: other ones in every subject, with positions in MNI coordinates."""

from dataclasses import dataclass
from typing import Literal

import mne
import numpy as np
from mne.io.constants import FIFF
from numpy.typing import NDArray

from emeg.sensors.brain_space import MNI_OF_HEAD
from emeg.sensors.layout import MNI_CENTRE_M, MNI_RADIUS_M
from emeg.synthetic.people import HEAD_CENTRE_M, Person

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Implant:
    """Electrodes of one kind in the brain or on the cortex."""

    kind: Literal["SEEG", "ECOG"]


# Deepest contact, MNI, mm, of the left hemisphere, and the direction in which the electrode leaves the brain.
_TARGETS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "A": ((-22.0, -4.0, -20.0), (-1.0, 0.0, 0.0)),  # amygdala to middle temporal gyrus
    "B": ((-26.0, -24.0, -12.0), (-1.0, -0.1, 0.1)),  # hippocampus
    "C": ((-6.0, 20.0, 32.0), (-0.8, 0.2, 0.5)),  # anterior cingulate to frontal convexity
    "I": ((-36.0, 4.0, 2.0), (-0.6, 0.4, 0.7)),  # insula
    "O": ((-10.0, -82.0, 4.0), (-0.8, -0.4, 0.2)),  # calcarine cortex to occipital convexity
    "P": ((-10.0, -60.0, 40.0), (-0.7, -0.2, 0.6)),  # precuneus to parietal convexity
}
_MOTOR = ((-28.0, -17.0, 34.0), (-0.8, 0.0, 0.6))
"""Electrode through the source of the mu rhythm, which every subject has on both sides."""
_N_CONTACTS, _SPACING_M = 8, 0.005
_GRID, _STRIP, _GRID_SPACING_M = (4, 5), 6, 0.010
_CORTEX, _BRAIN = 0.80, 0.88
"""Radius of the grids' cortex, and of the brain's outermost cortex, as a share of the head's."""
_JITTER_M = 0.003


def implant_info(implant: Implant, sfreq: float, person: Person, rng: np.random.Generator) -> mne.Info:
    """Draw the electrodes of one subject.

    Returns
    -------
    mne.Info
        Contacts in head coordinates, of the type of the implant.
    """
    drawn = _depth_electrodes(rng) if implant.kind == "SEEG" else _grid_and_strip(rng)
    info = mne.create_info(list(drawn), sfreq, implant.kind.lower())
    positions = _to_head(np.array(list(drawn.values())), person)
    for channel, position in zip(info["chs"], positions, strict=True):
        channel["loc"][:3] = position
        channel["loc"][3:] = 0.0
        channel["coord_frame"] = FIFF.FIFFV_COORD_HEAD
    return info


def mni_positions(info: mne.Info, person: Person) -> FloatArray:
    """Return the positions of a subject's contacts in MNI coordinates, float64 of shape (contacts, 3), m."""
    head = np.array([channel["loc"][:3] for channel in info["chs"]])
    return np.asarray(
        MNI_CENTRE_M + (head - HEAD_CENTRE_M) * (MNI_RADIUS_M / person.head_radius) @ MNI_OF_HEAD[:3, :3].T
    )


def _to_head(mni: FloatArray, person: Person) -> FloatArray:
    """Transform MNI coordinates to the spherical head of a subject: centre and radius match those of the MNI head."""
    turned = (mni - MNI_CENTRE_M) @ np.linalg.inv(MNI_OF_HEAD[:3, :3]).T
    return np.asarray(HEAD_CENTRE_M + turned * (person.head_radius / MNI_RADIUS_M))


def _depth_electrodes(rng: np.random.Generator) -> dict[str, FloatArray]:
    """Draw electrodes: those through the motor cortex, and three to five others; contacts are in the brain."""
    others = [(side, target) for side in "LR" for target in _TARGETS]
    chosen = sorted(rng.choice(len(others), int(rng.integers(3, 6)), replace=False).tolist())
    electrodes = [("L", "M", _MOTOR), ("R", "M", _MOTOR)]
    electrodes += [(side, target, _TARGETS[target]) for side, target in (others[i] for i in chosen)]
    contacts: dict[str, FloatArray] = {}
    for side, target, (deepest, direction) in electrodes:
        mirror = np.array([1.0 if side == "L" else -1.0, 1.0, 1.0])
        start = np.array(deepest) * 1e-3 * mirror + rng.normal(0.0, _JITTER_M, 3)
        along = np.array(direction) * mirror + rng.normal(0.0, 0.05, 3)
        along /= np.linalg.norm(along)
        positions = [start + i * _SPACING_M * along for i in range(_N_CONTACTS)]
        inside = [p for p in positions if np.linalg.norm(p - MNI_CENTRE_M) < _BRAIN * MNI_RADIUS_M]
        contacts |= {f"{side}{target}{i + 1}": position for i, position in enumerate(inside)}
    return contacts


def _grid_and_strip(rng: np.random.Generator) -> dict[str, FloatArray]:
    """Draw a grid over the central sulcus of one side and a strip over another lobe of that side."""
    side = rng.choice([-1.0, 1.0])
    over = np.array([0.72 * side, 0.0, 0.69]) + rng.normal(0.0, 0.06, 3)
    contacts = {f"G{i + 1:02d}": p for i, p in enumerate(_patch(over, _GRID))}
    lobe = [(0.9 * side, 0.3, -0.25), (0.5 * side, -0.85, 0.2), (0.5 * side, 0.8, 0.3)][int(rng.integers(3))]
    return contacts | {f"S{i + 1}": p for i, p in enumerate(_patch(np.array(lobe), (1, _STRIP)))}


def _patch(direction: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Return contacts on a sphere around a direction from the middle of the brain, in rows, MNI, m."""
    outward = direction / np.linalg.norm(direction)
    across = np.cross([0.0, 0.0, 1.0], outward)
    across /= np.linalg.norm(across)
    up = np.cross(outward, across)
    radius = _CORTEX * MNI_RADIUS_M
    rows, columns = (np.arange(n) - (n - 1) / 2 for n in shape)
    angles = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2) * (_GRID_SPACING_M / radius)
    directions = outward + np.tan(angles[:, :1]) * up + np.tan(angles[:, 1:]) * across
    return np.asarray(MNI_CENTRE_M + radius * directions / np.linalg.norm(directions, axis=1, keepdims=True))
