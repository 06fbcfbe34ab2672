"""Choose the sensors that can be used from what a reader found (``mne.Info``), with the reason for the others."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.errors import RecordingError
from emeg.sensors.coils import REFERENCE_COILS, SENSOR_COILS, UNIT_NAMES, Coil, coil_id
from emeg.sensors.electrode_positions import place_electrodes, unplaced_contacts
from emeg.sensors.layout import EEG_COIL, Frame, Sensors, SensorType
from emeg.sensors.names import electrode_parts, is_bipolar, other_kind

if TYPE_CHECKING:
    import mne

_KIND_MEG, _KIND_EEG, _KIND_REFERENCE_MEG = 1, 2, 301
_INTRACRANIAL_KINDS = {802: SensorType.SEEG, 902: SensorType.ECOG, 803: SensorType.DBS}
_FRAME_UNKNOWN, _FRAME_DEVICE, _FRAME_HEAD = 0, 1, 4
FRAME_MNI = 2003
"""FIFF code of MNI coordinates (FIFFV_MNE_COORD_MNI_TAL)."""
_MEG_FRAMES: dict[int, Frame] = {_FRAME_UNKNOWN: "device", _FRAME_DEVICE: "device", _FRAME_HEAD: "head"}

_BIOSEMI = re.compile(r"EXG[1-8]|Status")
"""Channels that BioSemi's ActiView adds to every recording."""

_NUMBERED_CONTACT = re.compile(r"[A-Za-z]+['_ ]?\d+")
_SHORT_DERIVATION = re.compile(r"[A-Za-z]+['_ ]?\d+\s*-\s*\d+")

Channel = dict[str, Any]


class PickedSensors(NamedTuple):
    """Sensors of a recording, their indices in it, and the channels left out.

    Parameters
    ----------
    sensors : Sensors
    picks : intp, shape (channels,)
        Indices into ``info.ch_names``, ascending.
    dropped : dict
        Name -> reason, for every other channel.
    """

    sensors: Sensors
    picks: NDArray[np.intp]
    dropped: dict[str, str]


class _Sensor(NamedTuple):
    type: SensorType
    unit: str
    position: NDArray[np.float64]
    orientation: NDArray[np.float64]
    coil: int


def sensors_from_info(
    info: "mne.Info", *, montage: str | None = None, meg_frame: Frame = "device", intracranial: bool = False
) -> PickedSensors:
    """Find type, unit, position and orientation of every EEG and MEG channel, or of every intracranial one.

    MEG is typed by a table of coil ids. Its orientation is the coil's normal, for planar gradiometers the direction
    along which they differentiate. Reference and compensation coils are no sensors. EEG positions are the file's own
    if at least half of the electrodes have one, and then the others are dropped; else all come from their names, see
    `place_electrodes`: positions of two origins are never mixed. A channel without a known position is dropped, with
    the reason.

    Parameters
    ----------
    info : mne.Info
    montage : str, optional
        One of MNE's built-in montages, for names that the standard set does not know.
    meg_frame : {"device", "head"}
        Frame of MEG positions and orientations. Where the file has no device-to-head transform they stay as found,
        and `Sensors.meg_frame` says so.
    intracranial : bool
        Choose channels of the types SEEG, ECOG and DBS whose positions are in MNI coordinates, and no others.

    Raises
    ------
    UserError
        There is no such montage.
    RecordingError
        MEG channels are in two frames that nothing connects.

    References
    ----------
    arXiv 2505.18185, section on the sensor encoder, for the axes taken as orientation.
    """
    if intracranial:
        return _intracranial_sensors(info)
    channels: list[Channel] = info["chs"]
    found: dict[str, _Sensor] = {}
    dropped: dict[str, str] = {}
    electrodes = []
    for channel in channels:
        name, kind = channel["ch_name"], int(channel["kind"])
        if kind == _KIND_EEG:
            electrodes.append(channel)
        elif kind == _KIND_MEG:
            _put(name, _meg_sensor(channel), found, dropped)
        else:
            dropped[name] = "MEG reference sensor" if kind == _KIND_REFERENCE_MEG else "neither EEG nor MEG by its type"
    biosemi = any(_BIOSEMI.fullmatch(channel["ch_name"].strip()) for channel in channels)
    for name, outcome in _eeg_sensors(electrodes, montage, biosemi=biosemi).items():
        _put(name, outcome, found, dropped)
    frame = _turn_meg(found, channels, info["dev_head_t"], meg_frame)
    picks = [i for i, channel in enumerate(channels) if channel["ch_name"] in found]
    names = tuple(channels[i]["ch_name"] for i in picks)
    return PickedSensors(
        _sensors(names, [found[name] for name in names], frame),
        np.array(picks, np.intp),
        {channel["ch_name"]: dropped[channel["ch_name"]] for channel in channels if channel["ch_name"] in dropped},
    )


def _intracranial_sensors(info: "mne.Info") -> PickedSensors:
    channels: list[Channel] = info["chs"]
    found: dict[str, _Sensor] = {}
    dropped: dict[str, str] = {}
    # MNE-Python keeps the frame of such a montage in its points alone and calls that of the channels head
    points = {int(point["coord_frame"]) for point in info["dig"] or ()}
    frames = {FRAME_MNI, _FRAME_HEAD} if points == {FRAME_MNI} else {FRAME_MNI}
    for channel in channels:
        _put(channel["ch_name"], _contact(channel, frames), found, dropped)
    picks = [i for i, channel in enumerate(channels) if channel["ch_name"] in found]
    names = tuple(channels[i]["ch_name"] for i in picks)
    sensors = _sensors(names, [found[name] for name in names], "device")
    return PickedSensors(sensors, np.array(picks, np.intp), dropped)


def _contact(channel: Channel, frames: set[int]) -> _Sensor | str:
    kind = _INTRACRANIAL_KINDS.get(int(channel["kind"]))
    if kind is None:
        is_eeg = int(channel["kind"]) == _KIND_EEG
        untyped = "EEG, or no type stated, in an intracranial recording"
        return untyped if is_eeg else "neither SEEG, ECOG nor DBS by its type"
    if UNIT_NAMES.get(int(channel["unit"])) != "V":
        return f"unit code {int(channel['unit'])} is not volt"
    position = np.array(channel["loc"][:3], np.float64)
    if int(channel["coord_frame"]) not in frames or not np.isfinite(position).all():
        if _is_derivation(channel["ch_name"]):
            return "derivation between two contacts without a position of its own in MNI coordinates"
        return "intracranial contact without a position in MNI coordinates"
    return _Sensor(kind, "V", position, np.zeros(3), EEG_COIL)


def _is_derivation(name: str) -> bool:
    """Check whether a name joins two contacts, such as ``LAMY1-LAMY2`` or ``LAMY1-2``."""
    parts = electrode_parts(name)
    both = len(parts) == 2 and all(_NUMBERED_CONTACT.fullmatch(part) for part in parts)
    return both or _SHORT_DERIVATION.fullmatch(name) is not None


def _put(name: str, outcome: _Sensor | str, found: dict[str, _Sensor], dropped: dict[str, str]) -> None:
    if isinstance(outcome, str):
        dropped[name] = outcome
    else:
        found[name] = outcome


def _sensors(names: tuple[str, ...], rows: Sequence[_Sensor], frame: Frame) -> Sensors:
    return Sensors(
        names=names,
        types=np.array([row.type for row in rows], np.int8),
        units=tuple(row.unit for row in rows),
        positions=np.array([row.position for row in rows], np.float64).reshape(-1, 3),
        orientations=np.array([row.orientation for row in rows], np.float64).reshape(-1, 3),
        coils=np.array([row.coil for row in rows], np.int32),
        meg_frame=frame,
    )


def _meg_sensor(channel: Channel) -> _Sensor | str:
    identity = coil_id(int(channel["coil_type"]))
    if identity in REFERENCE_COILS:
        return f"MEG reference coil {identity}"
    coil = SENSOR_COILS.get(identity)
    if coil is None:
        return f"coil {identity} is in no table: what it measures is unknown"
    unit = UNIT_NAMES.get(int(channel["unit"]), "")
    if unit not in _allowed_units(coil):
        return (
            f"coil {identity} is a {coil.type.name.lower()}, its unit code {int(channel['unit'])} is another quantity's"
        )
    loc = np.array(channel["loc"], np.float64)
    if not np.isfinite(loc).all() or not loc[:3].any():
        return "no position in the file"
    # As the file has it, not brought to unit length: a length that is off by more than rounding is the gate's to see.
    orientation = loc[3 + 3 * coil.axis : 6 + 3 * coil.axis]
    return _Sensor(coil.type, unit, loc[:3], orientation, identity)


def _allowed_units(coil: Coil) -> tuple[str, ...]:
    # Axial gradiometers are calibrated as the field at the lower coil (T; CTF, KIT, 4D) or as a gradient (T/m).
    if coil.type == SensorType.MAGNETOMETER:
        return ("T",)
    return ("T/m",) if coil.axis == 0 else ("T", "T/m")


def _eeg_sensors(channels: Sequence[Channel], montage: str | None, *, biosemi: bool) -> dict[str, _Sensor | str]:
    outcomes: dict[str, _Sensor | str] = {}
    candidates: dict[str, Channel] = {}
    for channel in channels:
        reason = _not_an_electrode(channel)
        if reason is None:
            candidates[channel["ch_name"]] = channel
        else:
            outcomes[channel["ch_name"]] = reason
    positions = _own_positions(list(candidates.values()))
    n_electrodes = len(candidates) - len(unplaced_contacts(list(candidates)) - positions.keys())
    if positions and 2 * len(positions) >= n_electrodes:
        reasons = dict.fromkeys(candidates, "no position in the file, which has the other electrodes'")
    else:
        positions, reasons, _ = place_electrodes(list(candidates), montage, biosemi=biosemi)
    for name in candidates:
        if name in positions:
            outcomes[name] = _Sensor(SensorType.EEG, "V", positions[name], np.zeros(3), EEG_COIL)
        else:
            outcomes[name] = reasons[name]
    return outcomes


def _not_an_electrode(channel: Channel) -> str | None:
    name = channel["ch_name"]
    kind = other_kind(name)
    if kind is not None:
        return f"{kind} channel by its name, though typed EEG"
    if int(channel["coil_type"]) != EEG_COIL or is_bipolar(name):
        return "derivation of several electrodes, no single position"
    if UNIT_NAMES.get(int(channel["unit"])) != "V":
        return f"unit code {int(channel['unit'])} is not volt"
    return None


def _own_positions(channels: Sequence[Channel]) -> dict[str, NDArray[np.float64]]:
    """Return the positions that the file has in head coordinates; none if all electrodes have the same one."""
    positions = {
        channel["ch_name"]: np.array(channel["loc"][:3], np.float64)
        for channel in channels
        if int(channel["coord_frame"]) in (_FRAME_HEAD, _FRAME_UNKNOWN)
        and np.isfinite(channel["loc"][:3]).all()
        and np.any(channel["loc"][:3])
    }
    if len(positions) > 1 and len({position.tobytes() for position in positions.values()}) == 1:
        return {}
    return positions


def _turn_meg(
    found: dict[str, _Sensor], channels: Sequence[Channel], dev_head_t: "mne.Transform | None", wanted: Frame
) -> Frame:
    """Transform the MEG sensors of `found` to the wanted frame if the file has the transform; return their frame."""
    codes = {
        c["ch_name"]: int(c["coord_frame"]) for c in channels if int(c["kind"]) == _KIND_MEG and c["ch_name"] in found
    }
    if not codes:
        return wanted
    unknown = sorted(set(codes.values()) - set(_MEG_FRAMES))
    frames = {name: _MEG_FRAMES[code] for name, code in codes.items() if code in _MEG_FRAMES}
    if unknown or (dev_head_t is None and len(set(frames.values())) > 1):
        raise RecordingError(
            f"MEG sensors are in frames {sorted(set(codes.values()))} (FIFF codes), which nothing in the file connects",
            stage="sensors",
            next_action="add the device-to-head transform, or store all coils in device coordinates",
        )
    if dev_head_t is None:
        return next(iter(frames.values()))
    to_head = np.array(dev_head_t["trans"], np.float64)
    matrix = to_head if wanted == "head" else np.linalg.inv(to_head)
    turn, shift = matrix[:3, :3], matrix[:3, 3]
    for name, frame in frames.items():
        if frame != wanted:
            sensor = found[name]
            found[name] = sensor._replace(
                position=turn @ sensor.position + shift, orientation=turn @ sensor.orientation
            )
    return wanted
