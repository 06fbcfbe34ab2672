"""Types, units, positions and bad marks from the tables beside a recording, applied to the open file."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from emeg.errors import RecordingError
from emeg.ingest.sidecars import ABSENT, Rows, Sidecars, number

if TYPE_CHECKING:
    import mne

_MNE_TYPES = {
    "eeg": "eeg",
    "eog": "eog",
    "veog": "eog",
    "heog": "eog",
    "ecg": "ecg",
    "ekg": "ecg",
    "emg": "emg",
    "seeg": "seeg",
    "dbs": "dbs",
    "ecog": "ecog",
    "trig": "stim",
    "resp": "resp",
    "gsr": "gsr",
    "temp": "temperature",
}
"""BIDS channel types with a counterpart in MNE-Python; what is neither here nor MEG is ``misc``."""

_UNITS = {"v": 1.0, "mv": 1e-3, "uv": 1e-6, "µv": 1e-6, "μv": 1e-6, "microv": 1e-6, "microvolt": 1e-6, "nv": 1e-9}
_HEAD_FRAMES = frozenset({"captrak", "elektaneuromag", "neuromagelektamegin"})
_ALS_FRAMES = frozenset({"ctf", "eeglab", "eeglab-hj", "4dbti", "kityokogawa"})
_METRES = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "": 1.0}
_LANDMARKS = {"nasion": ("nas", "nasion"), "lpa": ("lpa",), "rpa": ("rpa",)}


@dataclass(frozen=True)
class ChannelTable:
    """What `channels.tsv` changes besides types: factors for channels whose file has no unit, and bad marks."""

    scales: dict[str, float]
    bad: frozenset[str]
    notes: tuple[str, ...]


def apply_channels(raw: "mne.io.BaseRaw", sidecars: Sidecars) -> ChannelTable:
    """Set the types that `channels.tsv` gives; MEG channels keep those of their coils.

    Raises
    ------
    RecordingError
        The table has no names, or knows none of the recording's channels.
    """
    notes: list[str] = []
    bad = set(raw.info["bads"])
    if not sidecars.channels:
        return ChannelTable({}, frozenset(bad), ())
    rows = _match(raw.ch_names, sidecars.channels, notes)
    types = dict(zip(raw.ch_names, raw.get_channel_types(), strict=True))
    wanted = {}
    for name, row in rows.items():
        kind = row.get("type", "").lower()
        if kind not in ABSENT and not kind.startswith("meg") and types[name] not in {"mag", "grad", "ref_meg"}:
            wanted[name] = _MNE_TYPES.get(kind, "misc")
        if row.get("status", "").lower() == "bad":
            bad.add(name)
    changed = {name: kind for name, kind in wanted.items() if types[name] != kind}
    raw.set_channel_types(changed, on_unit_change="ignore", verbose="ERROR")
    return ChannelTable(_scales(raw, rows, wanted, notes), frozenset(bad), tuple(notes))


def _match(names: list[str], table: Rows, notes: list[str]) -> dict[str, dict[str, str]]:
    """Rows by channel: by name, or by order where as many rows as channels have other names."""
    if "name" not in table[0]:
        raise RecordingError("channels.tsv has no column 'name'", next_action="repair the table")
    by_name = {row["name"]: row for row in table}
    found = {name: by_name[name] for name in names if name in by_name}
    if not found and len(table) == len(names):
        notes.append("channels.tsv: names differ from the file's; matched by order")
        return dict(zip(names, table, strict=True))
    if not found:
        raise RecordingError(
            f"channels.tsv names none of the recording's {len(names)} channels (it begins {table[0]['name']!r}, the"
            f" recording {names[0]!r})",
            next_action="correct the names in channels.tsv",
        )
    absent = [name for name in names if name not in found]
    if absent:
        notes.append(f"channels.tsv: {len(absent)} channels of the file are not in it, such as {absent[0]!r}")
    return found


def _scales(
    raw: "mne.io.BaseRaw", rows: dict[str, dict[str, str]], wanted: dict[str, str], notes: list[str]
) -> dict[str, float]:
    """Factors to volts, only for channels whose file states no unit: what states one is volts already."""
    stated = raw._orig_units
    scales = {}
    for name, kind in wanted.items():
        unit = _UNITS.get(rows[name].get("units", "").lower().replace(" ", ""))
        own = str(stated.get(name, "")).lower()
        if kind != "eeg" or unit is None or not stated:
            continue
        if own in {"", "n/a", "none", "na"} and unit != 1.0:
            scales[name] = unit
        elif own in _UNITS and _UNITS[own] != unit:
            notes.append(f"channels.tsv: {name!r} in {rows[name]['units']}, the file says {own}; the file's was used")
    if scales:
        notes.append(f"unit of {len(scales)} channels taken from channels.tsv, since the file states none")
    return scales


def apply_electrodes(raw: "mne.io.BaseRaw", sidecars: Sidecars) -> tuple[str, ...]:
    """Place EEG channels where `electrodes.tsv` has them; returns notes.

    Coordinates are in the system and unit of `coordsystem.json`. With anatomical landmarks they are brought to head
    coordinates by these; without, systems are known whose axes are those of the head (CapTrak, Neuromag) or turned by
    90° (CTF, EEGLAB, 4D, KIT: x to the front, y to the left). In any other system the table says nothing about the
    head, and is left.
    """
    from mne.channels import make_dig_montage

    if not sidecars.electrodes:
        return ()
    system = sidecars.coordsystem
    unit = _METRES.get(str(system.get("EEGCoordinateUnits", "m")).lower())
    if unit is None:
        return (f"electrodes.tsv: unit {system.get('EEGCoordinateUnits')!r} is no length; positions not used",)
    places = _places(sidecars.electrodes, unit)
    places = {name: place for name, place in places.items() if name in raw.ch_names}
    if not places:
        return ("electrodes.tsv: no position for any channel of the recording",)
    landmarks = _landmarks(system)
    frame = str(system.get("EEGCoordinateSystem", "")).lower()
    if len(landmarks) == 3:
        montage = make_dig_montage(places, **landmarks, coord_frame="unknown")
    elif frame in _HEAD_FRAMES:
        montage = make_dig_montage(places, coord_frame="head")
    elif frame in _ALS_FRAMES:
        montage = make_dig_montage({k: np.array([-p[1], p[0], p[2]]) for k, p in places.items()}, coord_frame="head")
    else:
        return (f"electrodes.tsv: no landmarks and coordinate system {frame or 'absent'!r}; positions not used",)
    raw.set_montage(montage, on_missing="ignore", verbose="ERROR")
    return ()


def _places(table: Rows, unit: float) -> dict[str, NDArray[np.float64]]:
    places = {}
    for row in table:
        values = [row.get(axis, "") for axis in "xyz"]
        if row.get("name") and not any(value in ABSENT for value in values):
            places[row["name"]] = unit * np.array([number(value) for value in values])
    return places


def _landmarks(system: dict[str, object]) -> dict[str, NDArray[np.float64]]:
    stated = system.get("AnatomicalLandmarkCoordinates")
    unit = _METRES.get(
        str(system.get("AnatomicalLandmarkCoordinateUnits", system.get("EEGCoordinateUnits", "m"))).lower()
    )
    if not isinstance(stated, dict) or unit is None:
        return {}
    by_name = {str(name).lower(): place for name, place in stated.items()}
    found = {}
    for name, spellings in _LANDMARKS.items():
        place = next((by_name[s] for s in spellings if s in by_name), None)
        if isinstance(place, list) and len(place) == 3:
            found[name] = unit * np.array([number(value) for value in place])
    return found
