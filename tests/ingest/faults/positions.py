"""Faults of positions: wrong units, wrong axes, missing, or all equal."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tests.ingest.faults.corpus import Ready, Refused, fault
from tests.ingest.faults.intact import FOLDER, NAMES, STEM, places, raw_eeg, raw_meg, set_fields, write, write_set
from tests.ingest.faults.sidecars import PREFIX, beside, table

Change = Callable[[NDArray[np.float64]], NDArray[np.float64]]
CAPTRAK = {"EEGCoordinateSystem": "CapTrak", "EEGCoordinateUnits": "m"}


def electrodes(change: Change = lambda p: p) -> list[dict[str, str]]:
    """List the electrodes at their positions, or at those that `change` returns."""
    return [
        {"name": name, **{axis: f"{value:.6f}" for axis, value in zip("xyz", change(places()[name]), strict=True)}}
        for name in NAMES
    ]


def _put(archive: Path, rows: list[dict[str, str]], system: object = CAPTRAK) -> None:
    beside(archive, "electrodes", table(rows))
    if system is not None:
        (archive / FOLDER / f"{PREFIX}_coordsystem.json").write_text(json.dumps(system))


@fault(Refused("millimetres taken for metres"))
def electrodes_in_millimetres_said_to_be_metres(archive: Path) -> None:
    _put(archive, electrodes(lambda p: 1000 * p))


@fault(Refused("centimetres taken for metres"))
def electrodes_in_centimetres_said_to_be_metres(archive: Path) -> None:
    _put(archive, electrodes(lambda p: 100 * p))


@fault(Refused("metres taken for millimetres"))
def electrodes_in_metres_said_to_be_millimetres(archive: Path) -> None:
    _put(archive, electrodes(), CAPTRAK | {"EEGCoordinateUnits": "mm"})


@fault(Ready())
def electrodes_in_millimetres_as_stated(archive: Path) -> None:
    _put(archive, electrodes(lambda p: 1000 * p), CAPTRAK | {"EEGCoordinateUnits": "mm"})


@fault(Refused("unit sphere"))
def electrodes_on_a_unit_sphere(archive: Path) -> None:
    _put(archive, electrodes(lambda p: p / np.linalg.norm(p)))


@fault(Refused("turned by 90°"))
def electrodes_turned_by_90_degrees(archive: Path) -> None:
    _put(archive, electrodes(lambda p: np.array([p[1], -p[0], p[2]])))


@fault(Refused("left and right are swapped"))
def electrodes_mirrored(archive: Path) -> None:
    _put(archive, electrodes(lambda p: p * [-1.0, 1.0, 1.0]))


@fault(Refused("share position", more=("C3", "C4")))
def electrodes_two_in_one_place(archive: Path) -> None:
    rows = electrodes()
    rows[NAMES.index("C4")] = rows[NAMES.index("C3")] | {"name": "C4"}
    _put(archive, rows)


@fault(Ready())
def electrodes_all_at_the_origin(archive: Path) -> None:
    """Zeros are not positions; the names give them."""
    _put(archive, electrodes(lambda p: 0 * p))


@fault(Ready())
def electrodes_all_in_one_place(archive: Path) -> None:
    _put(archive, electrodes(lambda _: np.array([0.0, 0.08, 0.05])))


@fault(Ready(notes=("no position",)))
def electrodes_without_any_position(archive: Path) -> None:
    _put(archive, [{"name": name, "x": "n/a", "y": "n/a", "z": "n/a"} for name in NAMES])


@fault(Ready(channels=17, dropped=("O1", "O2")))
def electrodes_two_without_position(archive: Path) -> None:
    rows = electrodes()
    rows[-2:] = [{"name": name, "x": "n/a", "y": "n/a", "z": "n/a"} for name in ("O1", "O2")]
    _put(archive, rows)


@fault(Ready(channels=17, dropped=("O1", "O2")))
def electrodes_at_no_number(archive: Path) -> None:
    rows = electrodes()
    rows[-2:] = [{"name": name, "x": "inf", "y": "?", "z": "NaN"} for name in ("O1", "O2")]
    _put(archive, rows)


@fault(Ready(notes=("no position",)))
def electrodes_without_columns_of_positions(archive: Path) -> None:
    _put(archive, [{"name": name, "type": "cup"} for name in NAMES])


@fault(Ready(notes=("coordinate system",)))
def electrodes_in_a_system_that_nobody_names(archive: Path) -> None:
    """Rotated axes in an unknown system carry no information about the head; the names give the positions."""
    _put(archive, electrodes(lambda p: np.array([p[1], -p[0], p[2]])), None)


@fault(Ready(notes=("is no length",)))
def electrodes_in_inches(archive: Path) -> None:
    _put(archive, electrodes(lambda p: p / 0.0254), CAPTRAK | {"EEGCoordinateUnits": "inch"})


@fault(Ready())
def coordinate_system_with_wrong_types(archive: Path) -> None:
    system = {
        "EEGCoordinateSystem": ["CapTrak"],
        "EEGCoordinateUnits": {"unit": "m"},
        "AnatomicalLandmarkCoordinates": {"NAS": [0, "x"], "LPA": None, "RPA": [[1]]},
    }
    _put(archive, electrodes(), system)


@fault(Ready())
def landmarks_all_in_one_place(archive: Path) -> None:
    """No axes can be laid through one point; the names give the positions."""
    marks = {name: [0.0, 0.0, 0.0] for name in ("NAS", "LPA", "RPA")}
    _put(archive, electrodes(), CAPTRAK | {"EEGCoordinateSystem": "Other", "AnatomicalLandmarkCoordinates": marks})


@fault(Ready(notes=("sub-01_task-rest_coordsystem.json: not readable as JSON",)))
def coordinate_system_not_json(archive: Path) -> None:
    beside(archive, "electrodes", table(electrodes()))
    (archive / FOLDER / f"{PREFIX}_coordsystem.json").write_text("CapTrak, metres")


def _placed(archive: Path, change: Change) -> None:
    raw = raw_eeg()
    for name, channel in zip(NAMES, raw.info["chs"], strict=True):
        channel["loc"][:3] = change(places()[name])
    write(raw, archive / FOLDER / f"{STEM}.fif")


@fault(Ready(), extension="fif")
def fif_with_positions(archive: Path) -> None:
    """No fault: the reference for the others."""
    _placed(archive, lambda p: p)


@fault(Refused("millimetres"), extension="fif")
def fif_positions_in_millimetres(archive: Path) -> None:
    _placed(archive, lambda p: 1000 * p)


@fault(Refused("turned by 90°"), extension="fif")
def fif_positions_turned(archive: Path) -> None:
    _placed(archive, lambda p: np.array([p[1], -p[0], p[2]]))


@fault(Refused("turned", more=("EEG positions",)), extension="fif")
def fif_positions_upside_down(archive: Path) -> None:
    _placed(archive, lambda p: p * [1.0, -1.0, -1.0])


@fault(Ready(), extension="fif")
def fif_positions_not_numbers(archive: Path) -> None:
    _placed(archive, lambda p: np.nan * p)


def _meg(archive: Path, change: Callable[[dict[str, NDArray[np.float64]]], None]) -> None:
    raw = raw_meg()
    for channel in raw.info["chs"]:
        change(channel)
    write(raw, archive / FOLDER / f"{STEM}.fif")


@fault(Refused("millimetres taken for metres"), extension="fif")
def meg_positions_in_millimetres(archive: Path) -> None:
    def change(channel: dict[str, NDArray[np.float64]]) -> None:
        channel["loc"][:3] *= 1000

    _meg(archive, change)


@fault(Refused("no position"), extension="fif")
def meg_without_positions(archive: Path) -> None:
    def change(channel: dict[str, NDArray[np.float64]]) -> None:
        channel["loc"][:] = 0

    _meg(archive, change)


@fault(Refused("length 2"), extension="fif")
def meg_orientations_of_length_two(archive: Path) -> None:
    def change(channel: dict[str, NDArray[np.float64]]) -> None:
        channel["loc"][3:] *= 2

    _meg(archive, change)


@fault(Refused("positions are shifted"), extension="fif")
def meg_positions_shifted_by_half_a_metre(archive: Path) -> None:
    def change(channel: dict[str, NDArray[np.float64]]) -> None:
        channel["loc"][0] += 0.5

    _meg(archive, change)


@fault(Refused("axes"), extension="fif")
def meg_positions_turned_without_their_orientations(archive: Path) -> None:
    def change(channel: dict[str, NDArray[np.float64]]) -> None:
        x, y, z = channel["loc"][:3]
        channel["loc"][:3] = [z, y, -x]

    _meg(archive, change)


def _set(archive: Path, columns: dict[str, list[object]]) -> None:
    fields = set_fields(raw_eeg())
    rows = list(zip(NAMES, *columns.values(), strict=True))
    fields["chanlocs"] = np.array(rows, dtype=[(name, object) for name in ("labels", *columns)])
    write_set(archive / FOLDER / f"{STEM}.set", fields)


def _eeglab(change: Change) -> dict[str, list[object]]:
    """EEGLAB's axes: x to the nose, y to the left ear, millimetres."""
    at = [change(1000 * np.array([places()[n][1], -places()[n][0], places()[n][2]])) for n in NAMES]
    return {axis: [float(p[i]) for p in at] for i, axis in enumerate("XYZ")}


@fault(Ready(), extension="set")
def set_with_positions(archive: Path) -> None:
    """No fault: the reference for the others."""
    _set(archive, _eeglab(lambda p: p))


@fault(Ready(), extension="set")
def set_with_positions_in_metres(archive: Path) -> None:
    """EEGLAB files state no unit. No head has a radius of 0.1 mm, so the names give the positions."""
    _set(archive, _eeglab(lambda p: p / 1000))


@fault(Ready(placed=False), extension="set")
def set_with_positions_on_a_unit_sphere(archive: Path) -> None:
    """EEGLAB's own templates are spheres, whatever their unit: a head's shape, which the model centres and scales."""
    _set(archive, _eeglab(lambda p: p / np.linalg.norm(p)))


@fault(Ready(), extension="set")
def set_with_positions_empty(archive: Path) -> None:
    _set(archive, {axis: [np.empty((0, 0)) for _ in NAMES] for axis in "XYZ"})


@fault(Refused("turned by 90°"), extension="set")
def set_with_positions_in_other_axes(archive: Path) -> None:
    _set(archive, _eeglab(lambda p: np.array([-p[1], p[0], p[2]])))
