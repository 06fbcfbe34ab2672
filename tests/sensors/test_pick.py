"""From mne.Info to sensors: rules that the test recordings do not cover."""

import mne
import numpy as np
import pytest
from tests.messages import refusal

from emeg.errors import RecordingError
from emeg.sensors import SensorType, check_geometry, sensors_from_info
from emeg.sensors.coils import REFERENCE_COILS, SENSOR_COILS

DEVICE, HEAD = 1, 4
AXES = np.array([[0.0, 0.6, 0.8], [1.0, 0.0, 0.0], [0.0, 0.8, -0.6]])


def meg_info(coil_types, unit=112, kind=1, frame=DEVICE):
    info = mne.create_info([f"M{i}" for i in range(len(coil_types))], 1000.0, "mag")
    for i, (channel, coil) in enumerate(zip(info["chs"], coil_types, strict=True)):
        position = [0.01 * i, 0.02, 0.1]
        channel.update(coil_type=coil, unit=unit, kind=kind, coord_frame=frame, loc=np.r_[position, AXES.ravel()])
    return info


def test_every_coil_that_mne_can_compute_has_the_type_of_its_definition():
    """MNE's coil definitions carry a class: 1 magnetometer, 2 axial, 3 planar gradiometer."""
    from mne.forward._make_forward import _read_coil_defs

    classes = {1: (SensorType.MAGNETOMETER, 2), 2: (SensorType.GRADIOMETER, 2), 3: (SensorType.GRADIOMETER, 0)}
    defined = {int(coil["coil_type"]): int(coil["coil_class"]) for coil in _read_coil_defs()}
    defined = {coil: kind for coil, kind in defined.items() if kind in classes}
    assert set(defined) - REFERENCE_COILS <= set(SENSOR_COILS)
    assert set(defined) >= REFERENCE_COILS
    for coil in set(defined) - REFERENCE_COILS:
        assert tuple(SENSOR_COILS[coil]) == classes[defined[coil]], coil
    assert not REFERENCE_COILS & set(SENSOR_COILS)


@pytest.mark.parametrize(
    ("coil", "unit", "kind", "axis"),
    [
        (2, 201, SensorType.GRADIOMETER, 0),
        (3012, 201, SensorType.GRADIOMETER, 0),
        (3014, 201, SensorType.GRADIOMETER, 0),
        (3022, 112, SensorType.MAGNETOMETER, 2),
        (4001, 112, SensorType.MAGNETOMETER, 2),
        (4002, 112, SensorType.GRADIOMETER, 2),
        (4002, 201, SensorType.GRADIOMETER, 2),
        (5001, 112, SensorType.GRADIOMETER, 2),
        (5001 | 3 << 16, 112, SensorType.GRADIOMETER, 2),
        (6001, 112, SensorType.GRADIOMETER, 2),
        (7002, 112, SensorType.MAGNETOMETER, 2),
        (8001, 112, SensorType.MAGNETOMETER, 2),
        (8101, 112, SensorType.MAGNETOMETER, 2),
        (9101, 112, SensorType.GRADIOMETER, 2),
    ],
)
def test_type_unit_and_axis_by_coil(coil, unit, kind, axis):
    sensors = sensors_from_info(meg_info([coil], unit)).sensors
    assert sensors.types.tolist() == [kind]
    assert sensors.units == ({112: "T", 201: "T/m"}[unit],)
    assert sensors.coils.tolist() == [coil & 0xFFFF]
    np.testing.assert_allclose(sensors.orientations[0], AXES[axis])


@pytest.mark.parametrize(
    ("coil", "unit", "kind", "word"),
    [
        (5003, 112, 1, "reference"),
        (6002, 112, 1, "reference"),
        (4004, 201, 301, "reference"),
        (1234, 112, 1, "no table"),
        (3024, 201, 1, "another quantity"),
        (3012, 112, 1, "another quantity"),
        (4001, 107, 1, "another quantity"),
    ],
)
def test_coils_that_are_no_sensors(coil, unit, kind, word):
    sensors, picks, dropped = sensors_from_info(meg_info([coil], unit, kind))
    assert len(sensors) == len(picks) == 0
    assert word in dropped["M0"]


def test_coils_without_a_place_are_dropped():
    info = meg_info([3024, 3024, 3024])
    info["chs"][1]["loc"][:] = np.nan
    info["chs"][2]["loc"][:3] = 0
    picked = sensors_from_info(info)
    assert picked.sensors.names == ("M0",)
    assert picked.dropped == {"M1": "no position in the file", "M2": "no position in the file"}


def quarter_turn():
    return mne.transforms.Transform("meg", "head", [[0, -1, 0, 0.01], [1, 0, 0, 0.02], [0, 0, 1, 0.03], [0, 0, 0, 1]])


def test_head_frame_turns_places_and_axes():
    info = meg_info([3024])
    info["dev_head_t"] = quarter_turn()
    device = sensors_from_info(info).sensors
    np.testing.assert_allclose(device.positions[0], [0, 0.02, 0.1])
    head = sensors_from_info(info, meg_frame="head").sensors
    assert (device.meg_frame, head.meg_frame) == ("device", "head")
    np.testing.assert_allclose(head.positions[0], [-0.02 + 0.01, 0.02, 0.13])
    np.testing.assert_allclose(head.orientations[0], [-0.8, 0.0, -0.6])


def test_coils_stored_in_head_coordinates_come_back_to_the_device():
    info = meg_info([3024], frame=HEAD)
    info["dev_head_t"] = quarter_turn()
    sensors = sensors_from_info(info).sensors
    np.testing.assert_allclose(sensors.positions[0], [0.02 - 0.02, -(0.0 - 0.01), 0.07], atol=1e-12)
    assert sensors.meg_frame == "device"


def test_without_a_transform_the_frame_found_is_reported():
    info = meg_info([3024])
    assert info["dev_head_t"] is None
    assert sensors_from_info(info, meg_frame="head").sensors.meg_frame == "device"
    assert sensors_from_info(meg_info([3024], frame=HEAD)).sensors.meg_frame == "head"


def test_two_frames_that_nothing_connects_are_refused():
    info = meg_info([3024, 3024])
    info["chs"][1]["coord_frame"] = HEAD
    with refusal(RecordingError, "MEG", "[1, 4]", action="device-to-head"):
        sensors_from_info(info)


def digitised(names, places):
    info = mne.create_info(names, 256.0, "eeg")
    for channel in info["chs"]:
        if channel["ch_name"] in places:
            channel["loc"][:3] = places[channel["ch_name"]]
    return info


NAMES = ["Fp1", "Cz", "O1", "O2"]


def test_own_positions_come_before_names_and_are_not_mixed_with_them():
    own = {"Fp1": [-0.03, 0.1, 0.04], "Cz": [0.0, 0.01, 0.13], "X7": [0.05, 0.05, 0.08]}
    picked = sensors_from_info(digitised([*NAMES, "X7"], own))
    assert picked.sensors.names == ("Fp1", "Cz", "X7")
    np.testing.assert_allclose(picked.sensors.positions, list(own.values()))
    assert set(picked.dropped) == {"O1", "O2"}


def test_a_single_digitised_electrode_among_many_gives_way_to_names():
    template = sensors_from_info(mne.create_info(NAMES, 256.0, "eeg")).sensors
    picked = sensors_from_info(digitised(NAMES, {"Cz": [0.0, 0.01, 0.13]}))
    np.testing.assert_array_equal(picked.sensors.positions, template.positions)


@pytest.mark.parametrize("filler", [[0.0, 0.0, 0.0], [np.nan] * 3, [0.0, 0.0, 1.0]])
def test_filled_in_positions_are_no_positions(filler):
    template = sensors_from_info(mne.create_info(NAMES, 256.0, "eeg")).sensors
    picked = sensors_from_info(digitised(NAMES, dict.fromkeys(NAMES, filler)))
    np.testing.assert_array_equal(picked.sensors.positions, template.positions)


def test_a_montage_set_by_mne_and_names_alone_give_the_same_layout():
    info = mne.create_info(NAMES, 256.0, "eeg")
    by_name = sensors_from_info(info).sensors
    info.set_montage("colin27_1005")
    assert sensors_from_info(info).sensors.layout_id == by_name.layout_id


def test_channels_of_other_kinds_are_left_out_by_type_and_by_name():
    names = ["Cz", "HEOG", "Pulse", "STI", "Misc", "Fp1-F7"]
    info = mne.create_info(names, 256.0, ["eeg", "eeg", "eeg", "stim", "misc", "eeg"])
    sensors, picks, dropped = sensors_from_info(info)
    assert sensors.names == ("Cz",)
    assert picks.tolist() == [0]
    assert list(dropped) == names[1:]


def test_eeg_and_meg_in_any_order_keep_the_recordings_order():
    info = mne.create_info(["O1", "M0", "O2", "M1"], 256.0, ["eeg", "mag", "eeg", "mag"])
    for i in (1, 3):
        info["chs"][i]["loc"][:] = np.r_[[0.01 * i, 0.0, 0.12], np.eye(3).ravel()]
    sensors = sensors_from_info(info).sensors
    assert sensors.names == ("O1", "M0", "O2", "M1")
    assert sensors.modality == "eeg+meg"
    check_geometry(sensors)
