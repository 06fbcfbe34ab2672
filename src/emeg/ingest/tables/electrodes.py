"""Positions of electrodes from `electrodes.tsv` and `coordsystem.json`, set on an open recording.

Shape letters: C channels.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from emeg.ingest.refusals import quoted
from emeg.ingest.tables.contact_systems import missing_transform, read_contact_system
from emeg.ingest.tables.coordinate_systems import has_position, read_system, shown_system
from emeg.ingest.tables.sidecars import Rows, Sidecars
from emeg.ingest.tables.type_setting import INTRACRANIAL, channel_types
from emeg.ingest.text_files import number
from emeg.sensors import match_names
from emeg.sensors.brain_space import transformed
from emeg.sensors.pick import FRAME_MNI

if TYPE_CHECKING:
    import mne

_SIDES = {"l": -1.0, "left": -1.0, "r": 1.0, "right": 1.0}
"""Sign of x by the entry of the column ``hemisphere``."""

_OFF_MIDLINE_M = 0.01
"""Least distance from the midline, m, of a contact whose hemisphere is certain: transforms are accurate to 1 cm."""


def apply_electrodes(raw: "mne.io.BaseRaw", sidecars: Sidecars) -> tuple[str, ...]:
    """Set the positions of EEG channels from `electrodes.tsv`; return notes on what could not be used.

    Rows and channels meet by the electrode that they mean (`match_names`). Coordinates are in the system and unit of
    `coordsystem.json`. With anatomical landmarks they are brought to head coordinates by these. Without landmarks,
    systems are known whose axes are those of the head (CapTrak, Neuromag) or turned by 90° (CTF, EEGLAB, 4D, KIT: x to
    the front, y to the left). In any other system the table says nothing about the head and is not used.
    """
    from mne.channels import make_dig_montage

    if not sidecars.electrodes:
        return ()
    system = read_system(sidecars.coordsystem)
    notes = list(system.notes)
    if system.unit is None:
        stated = quoted(str(sidecars.coordsystem.get("EEGCoordinateUnits")))
        return (*notes, f"electrodes.tsv: unit {stated} is no length; positions are not used")
    listed = _positions(sidecars.electrodes, system.unit, notes)
    rows = match_names(raw.ch_names, list(listed))
    positions = _matched(rows, listed)
    if not positions:
        return (*notes, "electrodes.tsv: no position for any channel of the recording")
    if system.axes == "landmarks":
        montage = make_dig_montage(positions, **system.landmarks, coord_frame="unknown")
    elif system.axes == "head":
        montage = make_dig_montage(positions, coord_frame="head")
    elif system.axes == "als":
        turned = {name: np.array([-y, x, z]) for name, (x, y, z) in positions.items()}
        montage = make_dig_montage(turned, coord_frame="head")
    else:
        name = shown_system(sidecars.coordsystem.get("EEGCoordinateSystem") or "absent")
        return (*notes, f"electrodes.tsv: no landmarks and coordinate system {name}; positions are not used")
    raw.set_montage(montage, on_missing="ignore", verbose="ERROR")
    return tuple(notes)


def apply_contacts(raw: "mne.io.BaseRaw", sidecars: Sidecars) -> tuple[str, ...]:
    """Set the positions of intracranial channels from `electrodes.tsv`; return notes on what could not be used.

    Rows and channels meet by `match_names`, so case and zeros in front of numbers do not matter. Positions become
    MNI152 coordinates where the system of `coordsystem.json` has a transform (`read_contact_system`); else the table is
    not used. It is not used either if its column ``hemisphere`` contradicts most of the positions.
    """
    names = [name for name, kind in zip(raw.ch_names, channel_types(raw), strict=True) if kind in INTRACRANIAL]
    if not names:
        return ()
    if sidecars.electrodes is None:
        return ("there is no electrodes.tsv with positions",)
    system = read_contact_system(sidecars.coordsystem)
    notes = list(system.notes)
    if system.unit is None:
        unit = str(sidecars.coordsystem.get("iEEGCoordinateUnits")).strip()
        stated = repr(unit) if unit.lower() in {"pixels", "n/a"} else quoted(unit)
        return (*notes, f"coordsystem.json: iEEGCoordinateUnits {stated} is no unit of length; positions are not used")
    if system.to_mni is None:
        return (*notes, f"electrodes.tsv: positions are not used, because {missing_transform(sidecars.coordsystem)}")
    listed = _positions(sidecars.electrodes, system.unit, notes)
    rows = match_names(names, list(listed), scalp=False)
    _note_spelling(rows, list(listed), notes)
    positions = {name: transformed(point, system.to_mni) for name, point in _matched(rows, listed).items()}
    if not positions:
        return (*notes, f"electrodes.tsv: no positions for any of {len(names)} SEEG, ECOG and DBS channels")
    if _is_mirrored({name: list(listed)[index] for name, index in rows.items()}, positions, sidecars.electrodes, notes):
        return tuple(notes)
    for channel in raw.info["chs"]:
        if channel["ch_name"] in positions:
            channel["loc"][:3] = positions[channel["ch_name"]]
            channel["loc"][3:] = 0.0
            channel["coord_frame"] = FRAME_MNI
    return tuple(notes)


def _matched(rows: dict[str, int], listed: dict[str, NDArray[np.float64] | None]) -> dict[str, NDArray[np.float64]]:
    """Return positions by channel, m, for channels whose electrode has one."""
    points = list(listed.values())
    return {name: point for name, index in rows.items() if (point := points[index]) is not None}


def _note_spelling(rows: dict[str, int], listed: list[str], notes: list[str]) -> None:
    respelt = [name for name, index in rows.items() if listed[index] != name]
    if respelt:
        found = listed[rows[respelt[0]]]
        notes.append(
            f"electrodes.tsv: {len(respelt)} names are spelt otherwise than in the file, such as {quoted(found)} for"
            f" {respelt[0]!r}"
        )


def _is_mirrored(
    electrodes: dict[str, str], positions: dict[str, NDArray[np.float64]], table: Rows, notes: list[str]
) -> bool:
    """Return whether most positions lie in the other hemisphere than the table's column ``hemisphere`` states.

    Parameters
    ----------
    electrodes : dict of str to str
        Names in the table, by channel.
    positions : dict of str to float64, shape (3,)
        MNI152 coordinates by channel, m.
    table : list of dict
        Rows of `electrodes.tsv`.
    notes : list of str
        Receives how many positions contradict the column.
    """
    sides = {row.get("name", ""): row.get("hemisphere", "").lower() for row in table}
    expected = {name: _SIDES.get(sides[electrodes[name]]) for name in positions}
    checked = [name for name, side in expected.items() if side and abs(positions[name][0]) >= _OFF_MIDLINE_M]
    wrong = [name for name in checked if np.sign(positions[name][0]) != expected[name]]
    if not wrong:
        return False
    is_mirrored = 2 * len(wrong) > len(checked)
    where = "left" if positions[wrong[0]][0] < 0 else "right"
    notes.append(
        f"electrodes.tsv: {len(wrong)} of {len(checked)} positions are not in the hemisphere that the column hemisphere"
        f" states, such as {wrong[0]!r}, which is on the {where}; "
        + (
            "the x axis is probably mirrored, so the positions are not used"
            if is_mirrored
            else "the positions were used"
        )
    )
    return is_mirrored


def _positions(table: Rows, unit: float, notes: list[str]) -> dict[str, NDArray[np.float64] | None]:
    """Return the positions of all electrodes of a table by name, m; None for those without a position.

    An electrode without a position has ``n/a``, a coordinate that is no number, 0 for all coordinates, or two rows with
    different positions. Notes receive all of these but the first.
    """
    missing = [axis for axis in "xyz" if not any(axis in row for row in table)]
    if missing:
        notes.append(
            f"electrodes.tsv has no column {' and no column '.join(map(repr, missing))}; positions are not used"
        )
    positions: dict[str, NDArray[np.float64] | None] = {row.get("name", ""): None for row in table}
    unreadable: dict[str, None] = {}
    at_zero: dict[str, None] = {}
    ambiguous: dict[str, None] = {}
    for row in filter(has_position, table):
        name = row.get("name", "")
        values = [value for axis in "xyz" if (value := number(row[axis])) is not None]
        if len(values) < 3:
            unreadable[name] = None
        elif not any(values):
            at_zero[name] = None
        elif (known := positions[name]) is not None and not np.array_equal(known, unit * np.array(values)):
            ambiguous[name] = None
        else:
            positions[name] = unit * np.array(values)
    for names, problem in (
        (unreadable, "coordinates that are no numbers"),
        (at_zero, "0 for x, y and z, which states no position"),
        (ambiguous, "two rows with different positions"),
    ):
        if names:
            such = f"{len(names)} electrodes, such as {quoted(next(iter(names)))}, have {problem}"
            notes.append(f"electrodes.tsv: {such}; their positions are not used")
    return positions | dict.fromkeys(ambiguous)
