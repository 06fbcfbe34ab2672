"""Coordinate systems of intracranial electrodes, and how their positions reach MNI152 coordinates."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.ingest.listing.bids import parse_name
from emeg.ingest.tables.coordinate_systems import folded_system, read_landmarks, shown_system, stated_unit
from emeg.ingest.text_files import ABSENT
from emeg.sensors.brain_space import MNI_OF_HEAD, MNI_OF_TALAIRACH, Affine

_MNI = re.compile(r"mni(?!infant|pediatric)\w*|icbm\w*|colin27|ixi549space|fsaverage\w*")
"""Adult templates in MNI space. MNI305 (fsaverage) and MNI152 differ by 2 to 4 mm, which no region needs."""

_AVERAGE_BRAIN = frozenset({"acpc", "talairach"})
"""Systems with the anterior commissure as the origin and the line to the posterior one as the y axis."""

_SCANNER = frozenset({"scanras", "scanner"})
"""Systems with the directions of the body (right, anterior, superior), whose origin is anywhere."""


class ContactSystem(NamedTuple):
    """Unit in metres, name in small letters, transform to MNI152 coordinates (m), and notes."""

    unit: float | None
    name: str
    to_mni: Affine | None
    notes: tuple[str, ...]

    @property
    def is_exact(self) -> bool:
        """Check whether positions were normalised to the template by their dataset."""
        return _MNI.fullmatch(self.name) is not None


def name_by_space(stated: Mapping[str, Any], path: str, notes: list[str]) -> dict[str, Any]:
    """Return the content of a `coordsystem.json` with the system that its file name states, if the content has none.

    Some software writes ``Other`` into the file and the template into its name (``space-MNI152NLin2009bAsym``).

    Parameters
    ----------
    stated : mapping
        Content of the file.
    path : str
        Its path in the archive.
    notes : list of str
        Receives that the name was used.
    """
    space = parse_name(path).entities.get("space", "")
    known = _MNI.fullmatch(folded_system(space)) or folded_system(space) in _AVERAGE_BRAIN | _SCANNER
    if not known or folded_system(stated.get("iEEGCoordinateSystem")) not in {"", "na", "other"}:
        return dict(stated)
    found = shown_system(stated.get("iEEGCoordinateSystem") or "absent")
    notes.append(
        f"{path}: iEEGCoordinateSystem is {found}; the space of the file's name, {space}, was used for positions"
    )
    return {**stated, "iEEGCoordinateSystem": space}


def read_contact_system(stated: Mapping[str, Any]) -> ContactSystem:
    """Read the content of the `coordsystem.json` of an ``ieeg`` folder; without a unit it is in metres.

    Positions reach MNI152 coordinates in one of these ways, in this order:

    1. the system is a template in MNI space;
    2. landmarks AC, PC and IH (a point between the hemispheres, above), in a system with the directions of the body;
    3. the system is ACPC or Talairach;
    4. landmarks nasion, LPA and RPA, on an average head.

    The last three are accurate to about 1 cm, because brains differ. In other systems there is no transform.
    """
    notes: list[str] = []
    unit = stated_unit(stated.get("iEEGCoordinateUnits"))
    name = folded_system(stated.get("iEEGCoordinateSystem"))
    if _MNI.fullmatch(name):
        return ContactSystem(unit, name, np.eye(4), ())
    key = "AnatomicalLandmarkCoordinateUnits"
    of_landmarks = stated_unit(stated[key]) if str(stated.get(key) or "").strip() not in ABSENT else unit
    theirs = stated.get("AnatomicalLandmarkCoordinateSystem")
    points = stated.get("AnatomicalLandmarkCoordinates") if folded_system(theirs) in {"", "na", name} else None
    to_mni: Affine | None = None
    how = ""
    if name in _SCANNER and len(found := read_landmarks(points, of_landmarks, notes, names=_COMMISSURES)) == 3:
        to_mni = MNI_OF_TALAIRACH @ _from_commissures(**found)
        how = "its landmarks AC, PC and IH"
    elif name in _AVERAGE_BRAIN:
        to_mni, how = MNI_OF_TALAIRACH, f"{stated['iEEGCoordinateSystem']} coordinates"
    elif name in _SCANNER and len(found := read_landmarks(points, of_landmarks, notes)) == 3:
        to_mni, how = MNI_OF_HEAD @ _to_head(**found), "its landmarks nasion, LPA and RPA"
    if how:
        notes.append(f"coordsystem.json: positions brought to MNI152 by {how}, for an average brain, to about 1 cm")
    return ContactSystem(unit, name, to_mni, tuple(notes))


_COMMISSURES = {"ac": ("ac",), "pc": ("pc",), "ih": ("ih",)}


def missing_transform(stated: Mapping[str, Any]) -> str:
    """Return why positions in a coordinate system without a transform to MNI152 cannot be used, for a message."""
    if not stated:
        return "there is no coordsystem.json that states their coordinate system"
    system = stated.get("iEEGCoordinateSystem")
    if not system:
        return "coordsystem.json has no iEEGCoordinateSystem"
    if folded_system(system) in _SCANNER:
        return (
            f"iEEGCoordinateSystem {shown_system(system)} of coordsystem.json can only be brought to MNI152 by"
            " landmarks (AC, PC and IH, or nasion, LPA and RPA), which are not in AnatomicalLandmarkCoordinates"
        )
    return f"iEEGCoordinateSystem {shown_system(system)} of coordsystem.json has no known relation to MNI152"


def rank_contact_system(stated: Mapping[str, Any]) -> tuple[bool, bool]:
    """Return how well a system suits, to choose among several of a recording: positions usable, then normalised."""
    system = read_contact_system(stated)
    return system.to_mni is not None and system.unit is not None, system.is_exact


def _from_commissures(ac: NDArray[np.float64], pc: NDArray[np.float64], ih: NDArray[np.float64]) -> Affine:
    """Return the transform to AC-PC axes: origin AC, y from PC to AC, z towards IH, x to the right."""
    y = (ac - pc) / np.linalg.norm(ac - pc)
    z = (ih - ac) - ((ih - ac) @ y) * y
    z /= np.linalg.norm(z)
    return _rigid(np.stack([np.cross(y, z), y, z]), ac)


def _to_head(nasion: NDArray[np.float64], lpa: NDArray[np.float64], rpa: NDArray[np.float64]) -> Affine:
    """Return the transform to head coordinates: x through both ears, y through the nasion, z up."""
    x = (rpa - lpa) / np.linalg.norm(rpa - lpa)
    origin = lpa + ((nasion - lpa) @ x) * x
    y = (nasion - origin) / np.linalg.norm(nasion - origin)
    return _rigid(np.stack([x, y, np.cross(x, y)]), origin)


def _rigid(axes: NDArray[np.float64], origin: NDArray[np.float64]) -> Affine:
    transform = np.eye(4)
    transform[:3, :3] = axes
    transform[:3, 3] = -axes @ origin
    return transform
