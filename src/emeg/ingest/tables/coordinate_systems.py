"""Unit, axes and landmarks of electrode positions from `coordsystem.json`, and the table that a system belongs to."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.ingest.listing.bids import parse_name
from emeg.ingest.refusals import quoted
from emeg.ingest.text_files import ABSENT, number
from emeg.ingest.units import metres

_HEAD_SYSTEMS = frozenset({"captrak", "elektaneuromag", "neuromagelektamegin"})
_ALS_SYSTEMS = frozenset({"ctf", "eeglab", "eeglabhj", "4dbti", "kityokogawa"})
_TEMPLATE_SYSTEMS = re.compile(
    r"mni\w*|fsaverage\w*|icbm\w*|talairach|colin27|"
    r"fslr\w*|nihpd\w*|unc\w*|oasis\w*|scanner|other"
)
"""Systems of templates and scanners that BIDS names: they say nothing of the person's own head."""

_OTHER_SYSTEMS = frozenset(
    {"acpc", "fsnative", "individual", "ixi549space", "na", "pixels", "ras", "scanras", "t1w", "tkreg"}
)
"""Further names of systems in use. None is the name of a person, so messages may repeat them."""

_LANDMARKS = {"nasion": ("nas", "nasion"), "lpa": ("lpa",), "rpa": ("rpa",)}
_FLAT = 0.1
"""Sine of the smallest angle of the landmarks' triangle from which they span a plane."""


class CoordinateSystem(NamedTuple):
    """Unit in metres, name of the system in small letters, landmarks in metres, and notes on what is unclear."""

    unit: float | None
    name: str
    landmarks: dict[str, NDArray[np.float64]]
    notes: tuple[str, ...]

    @property
    def axes(self) -> str:
        """Return how positions reach the head: ``landmarks``, ``head``, ``als`` (turned by 90°), or empty."""
        if len(self.landmarks) == 3:
            return "landmarks"
        return "head" if self.name in _HEAD_SYSTEMS else "als" if self.name in _ALS_SYSTEMS else ""

    @property
    def is_template(self) -> bool:
        """Check whether the system is that of a template brain or of a scanner."""
        return _TEMPLATE_SYSTEMS.fullmatch(self.name) is not None


def rank_system(stated: Mapping[str, Any]) -> tuple[bool, bool]:
    """Return how well a system suits, to choose among several: positions reach the head, then no template."""
    system = read_system(stated)
    return bool(system.axes) and system.unit is not None, not system.is_template


def choose_pair(
    electrodes: Mapping[str, Sequence[Mapping[str, str]]],
    coordsystems: Sequence[str],
    contents: Mapping[str, dict[str, Any]],
    rank: Callable[[Mapping[str, Any]], tuple[bool, bool]] = rank_system,
) -> tuple[str, str]:
    """Choose an electrodes table and the coordinate system that belongs to it, by the BIDS entity ``space``.

    A table with less than half as many positions as another one of a usable system is not chosen: tables of a
    template are often there with ``n/a`` for every electrode that was not normalised.

    Parameters
    ----------
    electrodes : mapping of str to sequence of mapping
        Rows of the recording's tables by path, the most general first.
    coordsystems : sequence of str
        Paths of the recording's coordinate systems, the most general first.
    contents : mapping of str to dict
        Content of each coordinate system, by path.
    rank : callable
        Rank of a system's content: whether its positions can be used, then whether it is preferred.

    Returns
    -------
    tuple of str
        Paths of both; the second is empty if no system belongs to the table. Of pairs of equal rank, the one with the
        most special table.
    """
    if not electrodes:
        return "", coordsystems[-1] if coordsystems else ""
    tables = tuple(electrodes)
    pairs = [(table, _system_of(table, tables, coordsystems)) for table in tables]
    ranks = [rank(contents.get(system, {})) for _, system in pairs]
    counts = [sum(has_position(row) for row in electrodes[table]) for table in tables]
    most = max((count for count, (usable, _) in zip(counts, ranks, strict=True) if usable), default=0)

    def key(index: int) -> tuple[bool, bool, bool, int]:
        usable, preferred = ranks[index]
        return usable, 2 * counts[index] >= most, preferred, index

    return pairs[max(range(len(pairs)), key=key)]


def has_position(row: Mapping[str, str]) -> bool:
    """Return whether a row of an electrodes table has all three coordinates."""
    return all(row.get(axis, "") not in ABSENT for axis in "xyz")


def _system_of(table: str, electrodes: Sequence[str], coordsystems: Sequence[str]) -> str:
    """Return the nearest coordinate system of a table's space; of one table and one system only one must name it."""
    space = _space(table)
    same = [path for path in coordsystems if _space(path) == space]
    if same:
        return same[-1]
    alone = len(electrodes) == len(coordsystems) == 1
    return coordsystems[0] if alone and not (space and _space(coordsystems[0])) else ""


def _space(path: str) -> str:
    return parse_name(path).entities.get("space", "").lower()


def read_system(stated: Mapping[str, Any]) -> CoordinateSystem:
    """Read the content of `coordsystem.json`; a system without a unit is in metres, as BIDS recommends."""
    notes: list[str] = []
    unit = stated_unit(stated.get("EEGCoordinateUnits"))
    key = "AnatomicalLandmarkCoordinateUnits"
    of_landmarks = stated_unit(stated[key]) if str(stated.get(key) or "").strip() not in ABSENT else unit
    landmarks = read_landmarks(stated.get("AnatomicalLandmarkCoordinates"), of_landmarks, notes)
    return CoordinateSystem(unit, folded_system(stated.get("EEGCoordinateSystem")), landmarks, tuple(notes))


def shown_system(system: object) -> str:
    """Return the name of a coordinate system for a message: known names as they are, others as `quoted` has them."""
    known = _HEAD_SYSTEMS | _ALS_SYSTEMS | _OTHER_SYSTEMS
    folded = folded_system(system)
    return repr(system) if folded in known or _TEMPLATE_SYSTEMS.fullmatch(folded) else quoted(str(system))


def stated_unit(stated: object) -> float | None:
    """Return a unit of length in metres; one that is not stated at all is the metre, as BIDS recommends."""
    return 1.0 if stated is None or stated == "" else metres(str(stated))


def folded_system(system: object) -> str:
    """Return the name of a coordinate system in small letters, without blanks and marks."""
    return re.sub(r"[^a-z0-9]", "", str(system or "").lower())


def read_landmarks(
    stated: object, unit: float | None, notes: list[str], *, names: Mapping[str, tuple[str, ...]] = _LANDMARKS
) -> dict[str, NDArray[np.float64]]:
    """Return nasion and preauricular points in metres, or three others; none if they do not span a plane.

    Parameters
    ----------
    stated : object
        ``AnatomicalLandmarkCoordinates``.
    unit : float or None
        Unit of length, m.
    notes : list of str
        Receives remarks on landmarks that cannot be used.
    names : mapping
        Spellings in small letters of each landmark.
    """
    if not isinstance(stated, dict) or not stated or unit is None:
        return {}
    by_name = {str(name).strip().lower(): point for name, point in stated.items()}
    found = {}
    for name, spellings in names.items():
        point = next((by_name[s] for s in spellings if s in by_name), None)
        if not isinstance(point, list) or len(point) != 3 or all(str(value) in ABSENT for value in point):
            continue
        values = [value for entry in point if (value := number(entry)) is not None]
        if len(values) < 3:
            notes.append(f"coordsystem.json: a coordinate of landmark {name} is no number; landmarks not used")
            return {}
        found[name] = unit * np.array(values)
    if len(found) == 3 and not _span_a_plane(*found.values()):
        notes.append("coordsystem.json: the landmarks lie on a line or in one point; not used")
        return {}
    return found


def _span_a_plane(one: NDArray[np.float64], two: NDArray[np.float64], three: NDArray[np.float64]) -> bool:
    across, ahead = three - two, one - two
    area = float(np.linalg.norm(np.cross(across, ahead)))
    return area > _FLAT * float(np.linalg.norm(across) * np.linalg.norm(ahead))
