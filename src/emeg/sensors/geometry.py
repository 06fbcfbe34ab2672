"""Refuse sensor positions that no head, brain or helmet can have, with the cause that they suggest."""

from collections.abc import Sequence
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from emeg.errors import RecordingError
from emeg.sensors.axes import axis_turn, fit_sphere, whole_head_turn
from emeg.sensors.coils import FREE_COILS, PLANAR_COILS
from emeg.sensors.electrode_positions import place_electrodes
from emeg.sensors.layout import MNI_CENTRE_M, Sensors, SensorType
from emeg.sensors.names import other_kind

_EEG_MEDIAN_M = (0.05, 0.18)
"""Median distance of electrodes from the middle between the ears: 0.095 to 0.116 in MNE's templates, 0.126 digitised on
an adult; two thirds of that for a newborn."""

_EEG_SINGLE_M = (0.03, 0.22)
_MEG_SQUID_M = (0.04, 0.30)
"""Distance of a coil from the origin of device or head coordinates: 0.083 to 0.175 in Neuromag, CTF, KIT and 4D."""

_MEG_SPREAD_M = (0.04, 0.20)
"""Root mean square distance of coils from their centre: 0.115 to 0.122 in the same helmets."""

_CONTACT_MEDIAN_M = (0.003, 0.1)
_CONTACT_FARTHEST_M = 0.125
"""Distance of intracranial contacts from the middle of the MNI brain: its cortex is at 0.05 to 0.09, scalp at 0.1."""

_MIN_HELMET = 64
_SAME_POSITION_M = 5e-4
_SAME_AXIS = 1e-3
_SCALES = {
    "millimetres taken for metres": 1e3,
    "centimetres taken for metres": 1e2,
    "decimetres taken for metres": 1e1,
    "metres taken for millimetres": 1e-3,
    "metres taken for centimetres": 1e-2,
}
_FIX_POSITIONS = "correct the positions in the file or its electrodes.tsv, or remove them so that names decide"
_FIX_CONTACTS = "correct the positions in electrodes.tsv or the unit and system in its coordsystem.json"
_TWO_AXES = "positions and orientations are in different axes"
_FIX_HELMET = "read the file again with its maker's software, or report the reader"

Points = NDArray[np.float64]


def check_geometry(sensors: Sensors) -> None:
    """Refuse sensor positions that cannot be those of a head or helmet. A few electrodes in one region pass.

    Refused are: NaN; all sensors at one position; two at the same position (MEG: with the same orientation and type);
    distances that fit another unit; axes turned or flipped, by the standard positions of the electrodes' names and by
    the shape of whole caps and helmets; coil orientations that do not fit the positions; intracranial contacts outside
    the MNI brain's head. An empty set passes.

    Raises
    ------
    RecordingError
        With stage ``sensors``; the message names the suspected cause.
    """
    for name, values in (("position", sensors.positions), ("orientation", sensors.orientations)):
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            _refuse(f"{name} of {_preview(sensors, bad)} is not a number", _FIX_POSITIONS)
    eeg = sensors.take(sensors.is_eeg)
    meg = sensors.take(sensors.is_meg)
    inside = sensors.take(sensors.is_intracranial)
    if len(eeg):
        _check_eeg(eeg)
    if len(meg):
        _check_meg(meg)
    if len(inside):
        _check_intracranial(inside)


def _check_eeg(sensors: Sensors) -> None:
    _check_distinct(sensors, _FIX_POSITIONS)
    radius = np.linalg.norm(sensors.positions, axis=1)
    median = float(np.median(radius))
    if not _EEG_MEDIAN_M[0] <= median <= _EEG_MEDIAN_M[1]:
        unit_sphere = abs(median - 1) < 0.02 and float(np.std(radius)) < 0.05
        cause = "a unit sphere instead of metres" if unit_sphere else _suspected_scale(median, _EEG_MEDIAN_M)
        _refuse(f"electrodes are {median:.4g} m from the middle of the head (median): {cause}", _FIX_POSITIONS)
    odd = np.flatnonzero((radius < _EEG_SINGLE_M[0]) | (radius > _EEG_SINGLE_M[1]))
    if len(odd):
        _refuse(f"{_preview(sensors, odd)}: {radius[odd[0]]:.3g} m from the middle of the head", _FIX_POSITIONS)
    fault = _named_turn(sensors) or whole_head_turn(sensors.positions)
    if fault:
        _refuse(f"EEG positions are not in head coordinates: {fault}", _FIX_POSITIONS)


def _named_turn(sensors: Sensors) -> str | None:
    standard = place_electrodes([name for name in sensors.names if other_kind(name) is None]).positions
    named = [i for i, name in enumerate(sensors.names) if name in standard]
    if not named:
        return None
    return axis_turn(sensors.positions[named], np.array([standard[sensors.names[i]] for i in named]))


def _check_intracranial(sensors: Sensors) -> None:
    """Check that contacts lie inside a head in MNI coordinates; contacts of one lead may share a position."""
    if len(sensors) > 3 and np.ptp(sensors.positions, axis=0).max() <= _SAME_POSITION_M * 1e-2:
        where = np.round(sensors.positions[0], 4).tolist()
        _refuse(f"all {len(sensors)} contacts have the same position {where}", _FIX_CONTACTS)
    distance = np.linalg.norm(sensors.positions - MNI_CENTRE_M, axis=1)
    median = float(np.median(distance))
    if not _CONTACT_MEDIAN_M[0] <= median <= _CONTACT_MEDIAN_M[1]:
        cause = _suspected_scale(median, _CONTACT_MEDIAN_M)
        _refuse(f"contacts are {median:.4g} m from the middle of the MNI brain (median): {cause}", _FIX_CONTACTS)
    odd = np.flatnonzero(distance > _CONTACT_FARTHEST_M)
    if len(odd):
        _refuse(
            f"{_preview(sensors, odd)}: {distance[odd[0]]:.3g} m from the middle of the MNI brain, which is outside the"
            " head",
            _FIX_CONTACTS,
        )


def _check_meg(sensors: Sensors) -> None:
    length = np.linalg.norm(sensors.orientations, axis=1)
    odd = np.flatnonzero(np.abs(length - 1) > 1e-2)
    if len(odd):
        _refuse(f"orientation of {_preview(sensors, odd)} has length {length[odd[0]]:.3g} instead of 1", _FIX_HELMET)
    _check_distinct(sensors, _FIX_HELMET)
    centred = sensors.positions - sensors.positions.mean(axis=0)
    spread = float(np.sqrt(np.mean(np.sum(centred**2, axis=1))))
    smallest = _MEG_SPREAD_M[0] if len(sensors) >= _MIN_HELMET else 0.0
    if not smallest <= spread <= _MEG_SPREAD_M[1]:
        cause = _suspected_scale(spread, _MEG_SPREAD_M)
        _refuse(f"MEG sensors lie {spread:.4g} m around their centre (root mean square): {cause}", _FIX_HELMET)
    squid = sensors.take(~np.isin(sensors.coils, list(FREE_COILS)))
    # OPM holders may have any origin of their own; in head coordinates it lies between the ears.
    located = sensors if sensors.meg_frame == "head" else squid
    radius = np.linalg.norm(located.positions, axis=1)
    odd = np.flatnonzero((radius < _MEG_SQUID_M[0]) | (radius > _MEG_SQUID_M[1]))
    if len(odd):
        _refuse(
            f"{_preview(located, odd)}: {radius[odd[0]]:.3g} m from the origin of {located.meg_frame} coordinates,"
            " which lies inside the helmet: positions are shifted",
            _FIX_HELMET,
        )
    _check_coil_axes(squid)
    fault = whole_head_turn(sensors.positions)
    if fault:
        _refuse(f"MEG positions are not in {sensors.meg_frame} coordinates: {fault}", _FIX_HELMET)


def _check_coil_axes(sensors: Sensors) -> None:
    """Compare orientations with the helmet's surface: normals point out of it, planar gradiometers lie in it."""
    if len(sensors) < _MIN_HELMET:
        return
    centre = fit_sphere(sensors.positions)[0]
    outward = sensors.positions - centre
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    cosine = np.abs(np.sum(outward * sensors.orientations, axis=1))
    planar = np.isin(sensors.coils, list(PLANAR_COILS))
    # Measured: 0.98 and above for normals, 0.08 for planar gradiometers (median over a helmet).
    if (~planar).any() and np.median(cosine[~planar]) < 0.7:
        _refuse(f"coil normals do not point out of the helmet: {_TWO_AXES}", _FIX_HELMET)
    if planar.any() and np.median(cosine[planar]) > 0.5:
        _refuse(f"planar gradiometers point out of the helmet: {_TWO_AXES}", _FIX_HELMET)


def _check_distinct(sensors: Sensors, next_action: str) -> None:
    positions = sensors.positions
    if len(sensors) > 3 and np.ptp(positions, axis=0).max() <= _SAME_POSITION_M * 1e-2:
        _refuse(f"all {len(sensors)} sensors have the same position {np.round(positions[0], 4).tolist()}", next_action)
    # Relative to the size of the set, so that a wrong unit is named as such and not as sensors at one position.
    size = float(np.median(np.linalg.norm(positions - positions.mean(axis=0), axis=1)))
    near = np.linalg.norm(positions[:, None] - positions[None], axis=2) <= _SAME_POSITION_M * min(size / 0.1, 1.0)
    alike = np.linalg.norm(sensors.orientations[:, None] - sensors.orientations[None], axis=2) <= _SAME_AXIS
    same = near & alike & (sensors.types[:, None] == sensors.types[None])
    first, second = np.nonzero(np.triu(same, k=1))
    if len(first):
        pairs = ", ".join(
            f"{sensors.names[i]} and {sensors.names[j]}" for i, j in zip(first[:3], second[:3], strict=True)
        )
        is_eeg = sensors.types[first[0]] == SensorType.EEG
        what = "position" if is_eeg else "position, orientation and type"
        _refuse(f"{len(first)} pairs of sensors share {what}: {pairs}", next_action)


def _suspected_scale(size: float, plausible: tuple[float, float]) -> str:
    for cause, factor in _SCALES.items():
        if plausible[0] <= size / factor <= plausible[1]:
            return cause
    return "the size of no head in any unit"


def _preview(sensors: Sensors, indices: Sequence[int] | NDArray[np.intp]) -> str:
    names = ", ".join(sensors.names[i] for i in indices[:5])
    return names if len(indices) <= 5 else f"{names} and {len(indices) - 5} more"


def _refuse(message: str, next_action: str) -> NoReturn:
    raise RecordingError(message, stage="sensors", next_action=next_action)
