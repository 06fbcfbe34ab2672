"""Sensors at the positions of real devices."""

import numpy as np
import pytest

from emeg.sensors import SensorType, check_geometry, sensors_from_info
from emeg.synthetic.config import DEVICE_NAMES, INTRACRANIAL_NAMES
from emeg.synthetic.devices import DEVICES, Helmet, describe_sensors, helmet_sites
from emeg.synthetic.people import HEAD_CENTRE_M, draw_person

COUNTS = {"standard19": 19, "biosemi64": 64, "hydrocel128": 128, "vectorview306": 306, "ctf275": 275, "opm64": 64}
PEOPLE = [draw_person(index, n_subjects=12, seed=0) for index in range(12)]
HELMETS = [name for name, device in DEVICES.items() if isinstance(device.sensors, Helmet)]


def test_every_named_device_is_described():
    assert tuple(DEVICES) == (*DEVICE_NAMES, *INTRACRANIAL_NAMES)
    assert tuple(COUNTS) == DEVICE_NAMES


@pytest.mark.parametrize("name", DEVICE_NAMES)
def test_sensors_are_read_as_what_they_are(name):
    info = describe_sensors(DEVICES[name], PEOPLE[0], seed=0)
    reference = [channel for channel in info["ch_names"] if channel.startswith("ref-")]
    sensors = sensors_from_info(info).sensors
    sensors = sensors.take([row for row, label in enumerate(sensors.names) if label not in reference])
    check_geometry(sensors)
    assert len(sensors) == COUNTS[name]
    kinds = {kind: int((sensors.types == kind).sum()) for kind in SensorType}
    eeg, mag, grad = (kinds[kind] for kind in (SensorType.EEG, SensorType.MAGNETOMETER, SensorType.GRADIOMETER))
    expected = {"vectorview306": (0, 102, 204), "ctf275": (0, 0, 275), "opm64": (0, 64, 0)}
    assert (eeg, mag, grad) == expected.get(name, (COUNTS[name], 0, 0))


@pytest.mark.parametrize("name", HELMETS)
def test_no_coil_lies_in_a_head_and_all_point_outwards(name):
    for person in PEOPLE:
        info = describe_sensors(DEVICES[name], person, seed=0)
        to_head = info["dev_head_t"]["trans"]
        loc = np.array([channel["loc"] for channel in info["chs"]])
        place = loc[:, :3] @ to_head[:3, :3].T + to_head[:3, 3] - HEAD_CENTRE_M
        distance = np.linalg.norm(place, axis=1)
        assert distance.min() - person.head_radius > 0.004
        normal = loc[:, 9:12] @ to_head[:3, :3].T
        assert ((normal * place).sum(axis=1) / distance).min() > 0.7


@pytest.mark.parametrize("name", HELMETS)
def test_sites_are_evenly_spread(name):
    positions, normals, _ = helmet_sites(DEVICES[name].sensors)
    apart = np.linalg.norm(positions[:, None] - positions[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    nearest = apart.min(axis=1)
    low, high = np.percentile(nearest, (5, 95))
    assert high < 1.7 * low
    assert nearest.min() > 0.5 * np.median(nearest)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0)


def test_three_coils_share_a_vectorview_site_and_gradiometers_cross():
    info = describe_sensors(DEVICES["vectorview306"], PEOPLE[0], seed=0)
    loc = np.array([channel["loc"] for channel in info["chs"]]).reshape(102, 3, 12)
    assert np.ptp(loc[:, :, :3], axis=1).max() == 0.0
    np.testing.assert_allclose((loc[:, 0, 3:6] * loc[:, 1, 3:6]).sum(axis=1), 0.0, atol=1e-12)
    axes = loc[:, :, 3:].reshape(102, 3, 3, 3)
    np.testing.assert_allclose(np.linalg.det(axes), 1.0, atol=1e-9)


def test_a_helmet_is_one_layout_and_a_measured_cap_one_for_each_person():
    def layouts(name):
        infos = [describe_sensors(DEVICES[name], person, seed=0) for person in PEOPLE[:3]]
        return {sensors_from_info(info).sensors.layout_id for info in infos}

    assert [len(layouts(name)) for name in (*HELMETS, "hydrocel128")] == [1, 1, 1, 3]


@pytest.mark.parametrize("name", INTRACRANIAL_NAMES)
def test_every_person_has_other_contacts_inside_the_head(name):
    layouts = []
    for person in PEOPLE[:4]:
        info = describe_sensors(DEVICES[name], person, seed=0)
        positions = np.array([channel["loc"][:3] for channel in info["chs"]])
        assert np.linalg.norm(positions - HEAD_CENTRE_M, axis=1).max() < 0.9 * person.head_radius
        spacing = np.linalg.norm(positions[1] - positions[0])
        assert spacing == pytest.approx((0.005 if name == "seeg" else 0.010) * person.head_radius / 0.0986, rel=0.03)
        assert len(set(info["ch_names"])) == len(info["ch_names"])
        layouts.append((tuple(info["ch_names"]), positions.round(4).tobytes()))
    assert len(set(layouts)) == 4
    again = describe_sensors(DEVICES[name], PEOPLE[0], seed=0)
    assert np.array([c["loc"][:3] for c in again["chs"]]).round(4).tobytes() == layouts[0][1]
