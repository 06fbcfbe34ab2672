"""Positions of electrodes from `electrodes.tsv` and `coordsystem.json`, set on an open recording."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from emeg.ingest.refusals import quoted
from emeg.ingest.tables.coordinate_systems import read_system, shown_system
from emeg.ingest.tables.sidecars import Rows, Sidecars
from emeg.ingest.text_files import ABSENT, number
from emeg.sensors import match_names

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
