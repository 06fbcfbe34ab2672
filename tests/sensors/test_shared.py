"""Which sensors of several recordings are one."""

import numpy as np
import pytest

from emeg.sensors import Sensors, SensorType, sensor_keys, shared_sensors


def sensors(kind, **positions_mm):
    n = len(positions_mm)
    return Sensors(
        tuple(positions_mm),
        np.full(n, kind),
        ("V",) * n,
        np.array(list(positions_mm.values())) * 1e-3,
        np.zeros((n, 3)),
        np.ones(n),
    )


def test_electrodes_on_the_scalp_are_one_by_name():
    first = sensors(SensorType.EEG, T3=(-80, 0, 0), Cz=(0, 0, 100), E9=(0, 80, 0))
    second = sensors(SensorType.EEG, E9=(0, 99, 0), T7=(-70, 0, 0), Pz=(0, -50, 90))
    assert shared_sensors([first, second]) == [("T7", SensorType.EEG), ("E9", SensorType.EEG)]


@pytest.mark.parametrize("kind", [SensorType.SEEG, SensorType.ECOG, SensorType.DBS])
def test_contacts_are_one_by_name_and_position(kind):
    first = sensors(kind, A1=(-20, 0, 0), A2=(-25, 0, 0), B1=(30, 0, 0))
    second = sensors(kind, A2=(-25, 9, 0), A1=(40, 0, 0), C1=(30, 0, 0))
    third = sensors(kind, A1=(-20, 0, 0), A2=(-25, -9, 0))
    assert shared_sensors([first, second]) == [("A2", kind)]
    assert shared_sensors([first, third]) == [("A1", kind), ("A2", kind)]
    assert shared_sensors([first, second, third]) == []  # A2 of the second and the third are 18 mm apart
    other = sensors(SensorType((kind - 2) % 3 + 3), A2=(-25, 0, 0))
    assert shared_sensors([first, other]) == []


def test_contacts_are_not_named_as_on_the_scalp():
    """T3 and T7 of the scalp are one electrode; in a recording of contacts both are there."""
    both = sensors(SensorType.SEEG, T3=(-40, 0, 0), T7=(-60, 0, 0))
    assert [name for name, _ in sensor_keys(both)] == ["T3", "T7"]
    assert len(shared_sensors([both, both])) == 2
