"""Sensors: records, selection, layout ids, model positions."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.messages import refusal

from emeg.errors import UserError
from emeg.sensors import Sensors, SensorType

UNITS = {SensorType.EEG: ("V",), SensorType.MAGNETOMETER: ("T",), SensorType.GRADIOMETER: ("T", "T/m")}
COILS = {SensorType.EEG: (1,), SensorType.MAGNETOMETER: (3024, 8002), SensorType.GRADIOMETER: (3012, 5001)}
ELECTRODES = (SensorType.EEG, SensorType.SEEG, SensorType.ECOG, SensorType.DBS)
UNITS |= dict.fromkeys(ELECTRODES, ("V",))
COILS |= dict.fromkeys(ELECTRODES, (1,))


OUTSIDE_THE_HEAD = tuple(kind for kind in SensorType if kind not in ELECTRODES or kind == SensorType.EEG)
"""Kinds of sensors whose positions are normalised; those of intracranial electrodes are absolute."""


@st.composite
def sensor_sets(draw, min_size=0, max_size=12, kinds=tuple(SensorType)):
    n = draw(st.integers(min_size, max_size))
    types = draw(st.lists(st.sampled_from(kinds), min_size=n, max_size=n))
    metres = st.floats(-0.2, 0.2, allow_subnormal=False)
    positions = draw(hnp.arrays(np.float64, (n, 3), elements=metres))
    raw = draw(hnp.arrays(np.float64, (n, 3), elements=st.floats(0.1, 1.0)))
    orientations = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    orientations[[i for i, kind in enumerate(types) if kind in ELECTRODES]] = 0
    return Sensors(
        names=tuple(draw(st.lists(st.text(min_size=1, max_size=5), min_size=n, max_size=n, unique=True))),
        types=np.array(types, np.int8),
        units=tuple(draw(st.sampled_from(UNITS[kind])) for kind in types),
        positions=positions,
        orientations=orientations,
        coils=np.array([draw(st.sampled_from(COILS[kind])) for kind in types], np.int32),
        meg_frame=draw(st.sampled_from(["device", "head"])) if set(types) - set(ELECTRODES) else "device",
    )


def changed(sensors, **fields):
    return Sensors(**{name: getattr(sensors, name) for name in sensors.__dataclass_fields__} | fields)


def assert_equal(a, b):
    assert (a.names, a.units, a.meg_frame) == (b.names, b.units, b.meg_frame)
    for field in ("types", "positions", "orientations", "coils"):
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
        assert getattr(a, field).dtype == getattr(b, field).dtype


@given(sensor_sets())
def test_records_survive_json_exactly(sensors):
    assert_equal(Sensors.from_records(json.loads(json.dumps(sensors.to_records()))), sensors)


@given(sensor_sets())
def test_sensors_survive_pickling_between_processes(sensors):
    assert_equal(pickle.loads(pickle.dumps(sensors)), sensors)


@given(sensor_sets(min_size=1), st.data())
def test_taking_follows_the_records(sensors, data):
    order = data.draw(st.lists(st.integers(0, len(sensors) - 1), max_size=15))
    records = sensors.to_records()
    assert sensors.take(order).to_records() == [records[i] for i in order]
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(sensors), max_size=len(sensors))))
    assert sensors.take(mask).to_records() == [r for r, kept in zip(records, mask, strict=True) if kept]


@given(sensor_sets(min_size=1), st.data())
def test_layout_id_knows_geometry_and_nothing_else(sensors, data):
    renamed = changed(sensors, names=tuple(f"x{i}" for i in range(len(sensors))))
    assert renamed.layout_id == sensors.layout_id
    on_grid = changed(sensors, positions=np.rint(sensors.positions * 1e4) / 1e4)
    jitter = data.draw(hnp.arrays(np.float64, on_grid.positions.shape, elements=st.floats(-4e-5, 4e-5)))
    assert changed(on_grid, positions=on_grid.positions + jitter).layout_id == on_grid.layout_id
    moved = on_grid.positions.copy()
    moved[data.draw(st.integers(0, len(sensors) - 1)), data.draw(st.integers(0, 2))] += 2e-4
    assert changed(on_grid, positions=moved).layout_id != on_grid.layout_id
    types = sensors.types.copy()
    types[0] = (types[0] + 1) % 3
    assert changed(sensors, types=types).layout_id != sensors.layout_id


def test_layout_id_is_a_name_that_does_not_change():
    # Stores on disk hold this name: a change makes their layouts unknown.
    sensors = Sensors(("Cz",), np.array([0]), ("V",), np.array([[0.0, -0.00004, 0.1]]), np.zeros((1, 3)), np.array([1]))
    assert sensors.layout_id == "621cf0699825433a"


@given(sensor_sets(min_size=2, kinds=OUTSIDE_THE_HEAD), st.floats(0.2, 5), st.floats(-1, 1))
def test_model_positions_know_neither_origin_nor_size(sensors, scale, shift):
    for group in (sensors.is_eeg, sensors.is_meg):
        assume(not group.any() or np.ptp(sensors.positions[group], axis=0).max() > 1e-3)
    other = changed(sensors, positions=sensors.positions * scale + shift)
    np.testing.assert_allclose(other.model_positions(), sensors.model_positions(), atol=1e-4)


@given(sensor_sets(min_size=1))
def test_model_positions_are_centred_and_scaled_by_modality(sensors):
    pos = sensors.model_positions()
    assert pos.shape == (len(sensors), 6)
    assert pos.dtype == np.float32
    assert np.isfinite(pos).all()
    np.testing.assert_array_equal(pos[:, 3:], sensors.orientations.astype(np.float32))
    for group in (sensors.is_eeg, sensors.is_meg):
        if group.any() and np.ptp(sensors.positions[group], axis=0).max() > 1e-6:
            p = pos[group, :3].astype(np.float64)
            np.testing.assert_allclose(p.mean(axis=0), 0, atol=1e-5)
            np.testing.assert_allclose(3 * np.mean(np.sum(p**2, axis=1)), 1, atol=1e-4)


def test_model_positions_by_hand():
    # Two electrodes 0.2 m apart: mean |p|² = 0.01, sqrt(3 * 0.01) = 0.1732, so x = 0.1 / 0.1732 = 0.57735.
    sensors = Sensors(
        ("a", "b", "m"),
        np.array([0, 0, 1]),
        ("V", "V", "T"),
        np.array([[0.1, 0, 0.1], [-0.1, 0, 0.1], [1.0, 2.0, 3.0]]),
        np.array([[0, 0, 0], [0, 0, 0], [0, 0, 1.0]]),
        np.array([1, 1, 3024]),
    )
    expected = [[0.57735, 0, 0, 0, 0, 0], [-0.57735, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1]]
    np.testing.assert_allclose(sensors.model_positions(), expected, atol=1e-5)
    assert sensors.modality == "eeg+meg"
    assert sensors.take([0]).modality == "eeg"
    assert sensors.take([2]).modality == "meg"
    assert sensors.take([]).modality == ""


def test_fields_of_different_lengths_are_refused():
    with refusal(UserError, "positions", "(2, 3)", action="(1, 3)"):
        Sensors(("a",), np.array([0]), ("V",), np.zeros((2, 3)), np.zeros((1, 3)), np.array([1]))


def test_arrays_cannot_be_changed_behind_a_layout_id():
    positions = np.zeros((1, 3))
    sensors = Sensors(("a",), np.array([0]), ("V",), positions, np.zeros((1, 3)), np.array([1]))
    positions[0, 0] = 1.0
    assert sensors.positions[0, 0] == 0.0
    with pytest.raises(ValueError, match="read-only"):
        sensors.positions[0, 0] = 1.0


@pytest.mark.parametrize("fault", [{"type": "magnetic"}, {"frame": "scanner", "type": "magnetometer"}])
def test_records_with_unknown_words_are_refused(fault):
    record = {"name": "a", "type": "eeg", "unit": "V", "position": [0, 0, 0], "orientation": [0, 0, 0]}
    with pytest.raises(UserError):
        Sensors.from_records([record | {"coil": 1, "frame": "head"} | fault])
    with refusal(UserError, "'coil'", action="to_records()"):
        Sensors.from_records([record | {"frame": "head"}])
