"""Flat maps of sensors."""

import mne
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emeg.sensors import Sensors, sensors_from_info, topographic_xy
from emeg.sensors.axes import HEAD_CENTRE


def eeg(positions):
    n = len(positions)
    return Sensors(tuple(map(str, range(n))), np.zeros(n), ("V",) * n, positions, np.zeros((n, 3)), np.ones(n))


def test_directions_on_the_map():
    names = ["Cz", "Fpz", "Oz", "T7", "T8", "Fp1"]
    xy = dict(zip(names, topographic_xy(sensors_from_info(mne.create_info(names, 256.0, "eeg")).sensors), strict=True))
    assert np.linalg.norm(xy["Cz"]) < 0.25
    assert xy["Fpz"][1] > 0.8
    assert abs(xy["Fpz"][0]) < 0.05
    assert xy["Oz"][1] < -0.6
    assert xy["T8"][0] > 0.8
    assert xy["T7"][0] < -0.8
    assert xy["Fp1"][0] < 0


@given(st.lists(st.tuples(st.floats(0.01, 2.2), st.floats(-3.1, 3.1)), min_size=1, max_size=12))
def test_distance_is_the_angle_from_the_crown_and_direction_is_kept(angles):
    polar, azimuth = np.array(angles).T
    across = np.sin(polar)
    unit = np.column_stack([across * np.cos(azimuth), across * np.sin(azimuth), np.cos(polar)])
    # Points on a sphere around the middle of a head; their middle follows from the median distance: solve for it.
    radius, centre = 0.09, np.zeros(3)
    for _ in range(60):
        centre = np.array([0, 0, HEAD_CENTRE * np.median(np.linalg.norm(centre + radius * unit, axis=1))])
    xy = topographic_xy(eeg(centre + radius * unit))
    np.testing.assert_allclose(np.hypot(*xy.T), polar / (np.pi / 2), atol=1e-6)
    np.testing.assert_allclose(
        xy / np.hypot(*xy.T)[:, None], np.column_stack([np.cos(azimuth), np.sin(azimuth)]), atol=1e-6
    )


def test_a_few_electrodes_lie_where_the_whole_cap_has_them():
    names = mne.channels.make_standard_montage("biosemi64").ch_names
    whole = topographic_xy(sensors_from_info(mne.create_info(names, 256.0, "eeg")).sensors)
    some = topographic_xy(sensors_from_info(mne.create_info(names[20:32], 256.0, "eeg")).sensors)
    np.testing.assert_allclose(some, whole[20:32], atol=0.08)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_helmet_and_a_cap_in_one_recording(shared):
    path = shared / "data" / "devices" / "neuromag306" / "sample_audvis_trunc_raw_sss.fif"
    sensors = sensors_from_info(mne.io.read_info(path, verbose="error")).sensors
    xy = topographic_xy(sensors)
    assert xy.shape == (366, 2)
    assert np.isfinite(xy).all()
    meg = xy[~sensors.is_eeg]
    assert len(np.unique(meg.round(6), axis=0)) == 102
    assert 1.0 < np.hypot(*meg.T).max() < 1.6
    # Left helmet sensors (MEG 01xx) are on the left, occipital ones (MEG 21xx) behind.
    assert all(xy[i, 0] < 0 for i, name in enumerate(sensors.names) if name.startswith("MEG 01"))
    assert all(xy[i, 1] < 0 for i, name in enumerate(sensors.names) if name.startswith("MEG 21"))


def test_degenerate_sets_have_a_place_too():
    assert topographic_xy(eeg(np.zeros((0, 3)))).shape == (0, 2)
    assert np.isfinite(topographic_xy(eeg([[0.0, 0.0, 0.1]]))).all()
    assert np.isfinite(topographic_xy(eeg(np.zeros((3, 3))))).all()
