"""Types, units, positions and bad marks from the tables beside a recording, applied to the open file."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from emeg.errors import RecordingError
from emeg.ingest.refusals import quoted
from emeg.ingest.tables.sidecars import Rows, Sidecars, number
from emeg.ingest.text_files import ABSENT
from emeg.ingest.units import volts
from emeg.sensors import standard_name

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


def channel_types(raw: "mne.io.BaseRaw") -> list[str]:
    """Types of all channels as MNE names them, ``unknown`` for codes of kind or unit that no type has."""
    import mne

    found = []
    for i in range(len(raw.ch_names)):
        try:
            found.append(str(mne.channel_type(raw.info, i)))
        except (KeyError, ValueError):
            found.append("unknown")
    return found


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
    rows = _match(raw, sidecars.channels, notes, sidecars.path("channels"))
    types = dict(zip(raw.ch_names, channel_types(raw), strict=True))
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


def _match(raw: "mne.io.BaseRaw", table: Rows, notes: list[str], path: str) -> dict[str, dict[str, str]]:
    """Rows by channel: by name, or by order where as many rows as channels have other names."""
    by_name = _by_name(table, path)
    found = {name: by_name[name] for name in raw.ch_names if name in by_name}
    if not found and len(table) == len(raw.ch_names) == len(by_name):
        return _by_order(raw, table, notes)
    if not found:
        raise RecordingError(
            f"{path} names none of the recording's {len(raw.ch_names)} channels (it begins {table[0]['name']!r}, the"
            f" recording {raw.ch_names[0]!r})",
            next_action="correct the names in channels.tsv",
        )
    absent = [name for name in raw.ch_names if name not in found]
    if absent:
        notes.append(f"channels.tsv: {len(absent)} channels of the file are not in it, such as {absent[0]!r}")
    extra = [name for name in by_name if name not in found]
    if extra:
        notes.append(f"channels.tsv: {len(extra)} of its channels are not in the file, such as {extra[0]!r}")
    return found


def _by_name(table: Rows, path: str) -> dict[str, dict[str, str]]:
    """Rows by their names; one name twice must say the same twice."""
    found: dict[str, dict[str, str]] = {}
    for row in table:
        if found.setdefault(row["name"], row) != row:
            raise RecordingError(
                f"{path} names {row['name']!r} twice, with different entries",
                next_action="remove the wrong row from channels.tsv",
            )
    return found


def _by_order(raw: "mne.io.BaseRaw", table: Rows, notes: list[str]) -> dict[str, dict[str, str]]:
    """Match rows with channels one by one; where only the table's names are electrodes, the channels take them."""
    electrodes = [row["name"] for row in table if standard_name(row["name"])]
    if electrodes and not any(map(standard_name, raw.ch_names)):
        notes.append(f"channels.tsv: matched by order, and names such as {electrodes[0]!r} taken from it")
        raw.rename_channels(dict(zip(raw.ch_names, (row["name"] for row in table), strict=True)), verbose="ERROR")
    else:
        notes.append("channels.tsv: names differ from the file's; matched by order")
    return dict(zip(raw.ch_names, table, strict=True))


def _scales(
    raw: "mne.io.BaseRaw", rows: dict[str, dict[str, str]], wanted: dict[str, str], notes: list[str]
) -> dict[str, float]:
    """Factors to volts, only for channels whose file states no unit: what states one is volts already."""
    stated = raw._orig_units
    scales = {}
    for name, kind in wanted.items():
        unit = volts(rows[name].get("units", ""))
        own = str(stated.get(name, "")).lower()
        if kind != "eeg" or unit is None or not stated:
            continue
        if own in {"", "n/a", "none", "na"} and unit != 1.0:
            scales[name] = unit
        elif volts(own) not in {None, unit}:
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
        return (
            f"electrodes.tsv: unit {quoted(str(system.get('EEGCoordinateUnits')))} is no length; positions not used",
        )
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
        return (f"electrodes.tsv: no landmarks and coordinate system {quoted(frame or 'absent')}; positions not used",)
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
