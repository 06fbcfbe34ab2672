"""Positions of electrodes from `electrodes.tsv` and `coordsystem.json`, set on an open recording.

Shape letters: C channels.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from emeg.ingest.refusals import quoted
from emeg.ingest.tables.contact_systems import read_contact_system, shown_contact_system
from emeg.ingest.tables.coordinate_systems import read_system, shown_system
from emeg.ingest.tables.sidecars import Rows, Sidecars
from emeg.ingest.tables.type_setting import INTRACRANIAL, channel_types
from emeg.ingest.text_files import ABSENT, number
from emeg.sensors import match_names
from emeg.sensors.brain_space import transformed
from emeg.sensors.pick import FRAME_MNI

if TYPE_CHECKING:
    import mne


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
        return (*notes, f"electrodes.tsv: unit {stated} is no length; positions not used")
    by_row = _positions(sidecars.electrodes, system.unit, notes)
    rows = match_names(raw.ch_names, [row.get("name", "") for row in sidecars.electrodes])
    positions = {name: by_row[index] for name, index in rows.items() if index in by_row}
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
        name = shown_system(sidecars.coordsystem)
        return (*notes, f"electrodes.tsv: no landmarks and coordinate system {name}; positions not used")
    raw.set_montage(montage, on_missing="ignore", verbose="ERROR")
    return tuple(notes)


def apply_contacts(raw: "mne.io.BaseRaw", sidecars: Sidecars) -> tuple[str, ...]:
    """Set the positions of intracranial channels from `electrodes.tsv`; return notes on what could not be used.

    Rows and channels meet by `match_names`, so case and zeros in front of numbers do not matter. Positions become
    MNI152 coordinates where the system of `coordsystem.json` has a transform (`read_contact_system`); else the table is
    not used.
    """
    names = [name for name, kind in zip(raw.ch_names, channel_types(raw), strict=True) if kind in INTRACRANIAL]
    if sidecars.electrodes is None:
        return ("there is no electrodes.tsv with positions",)
    system = read_contact_system(sidecars.coordsystem)
    notes = list(system.notes)
    if system.unit is None:
        unit = str(sidecars.coordsystem.get("iEEGCoordinateUnits")).strip()
        stated = repr(unit) if unit.lower() in {"pixels", "n/a"} else quoted(unit)
        return (*notes, f"electrodes.tsv: unit {stated} is no length; positions not used")
    if system.to_mni is None:
        name = shown_contact_system(sidecars.coordsystem)
        return (*notes, f"electrodes.tsv: coordinate system {name} is unrelated to MNI152; positions not used")
    by_row = _positions(sidecars.electrodes, system.unit, notes)
    listed = [row.get("name", "") for row in sidecars.electrodes]
    rows = match_names(names, listed)
    respelt = [name for name, index in rows.items() if listed[index] != name]
    if respelt:
        found = listed[rows[respelt[0]]]
        notes.append(
            f"electrodes.tsv: {len(respelt)} names are spelt otherwise than in the file, such as {quoted(found)} for"
            f" {quoted(respelt[0])}"
        )
    positions = {name: by_row[index] for name, index in rows.items() if index in by_row}
    if not positions:
        return (*notes, f"electrodes.tsv: no positions for any of {len(names)} SEEG, ECOG and DBS channels")
    for channel in raw.info["chs"]:
        if channel["ch_name"] in positions:
            channel["loc"][:3] = transformed(positions[channel["ch_name"]], system.to_mni)
            channel["loc"][3:] = 0.0
            channel["coord_frame"] = FRAME_MNI
    return tuple(notes)


def _positions(table: Rows, unit: float, notes: list[str]) -> dict[int, NDArray[np.float64]]:
    """Return positions in metres by row; a row with a coordinate that is no number has none."""
    positions, unreadable = {}, []
    for index, row in enumerate(table):
        texts = [row.get(axis, "") for axis in "xyz"]
        if any(text in ABSENT for text in texts):
            continue
        values = [value for text in texts if (value := number(text)) is not None]
        if len(values) == 3:
            positions[index] = unit * np.array(values)
        else:
            unreadable.append(row.get("name", ""))
    if unreadable:
        notes.append(
            f"electrodes.tsv: coordinates of {len(unreadable)} electrodes, such as {quoted(unreadable[0])}, are no"
            " numbers; their positions not used"
        )
    return positions
