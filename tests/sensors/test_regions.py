"""Regions by position, against published centres of another atlas and against the names of the 10-20 system."""

import mne
import numpy as np
import pytest

from emeg.sensors import (
    REGIONS,
    Sensors,
    SensorType,
    nearest_region,
    positions_with_regions,
    sensor_regions,
    sensors_from_info,
)
from emeg.sensors.electrode_positions import template_positions

# Centres of mass of regions of the automated anatomical labelling atlas (Tzourio-Mazoyer et al. 2002), MNI, mm, and the
# lobes that their names state. Both were made without the table of the package.
AAL = {
    (-25.0, -20.7, -10.1): "left medial temporal",  # hippocampus
    (27.3, 0.6, -17.5): "right medial temporal",  # amygdala
    (-10.9, -17.6, 8.0): "left thalamus",
    (-23.9, 3.9, 2.4): "left basal ganglia",  # putamen
    (14.8, 12.1, 9.4): "right basal ganglia",  # caudate
    (-38.7, -5.7, 50.9): "left frontal",  # precentral gyrus
    (-35.1, 6.7, 3.4): "left insula",
    (-7.1, -78.7, 6.4): "left occipital",  # calcarine fissure
    (-53.2, -20.7, 7.1): "left temporal",  # superior temporal gyrus
    (45.9, -17.2, 10.4): "right temporal",  # Heschl's gyrus
    (-44.1, -60.8, 35.6): "left parietal",  # angular gyrus
    (8.5, 37.0, 15.8): "right cingulate",  # anterior
    (-31.2, -40.3, -20.2): "left temporal",  # fusiform gyrus
    (10.0, -56.1, 43.8): "right parietal",  # precuneus
    (53.7, -31.1, -22.3): "right temporal",  # inferior temporal gyrus
}


def contacts(points_mm, kind=SensorType.SEEG):
    n = len(points_mm)
    return Sensors(
        tuple(f"A{i}" for i in range(n)),
        np.full(n, kind),
        ("V",) * n,
        np.array(points_mm) * 1e-3,
        np.zeros((n, 3)),
        np.ones(n),
    )


def test_contacts_are_in_the_region_that_another_atlas_names():
    found = [REGIONS[region] for region in sensor_regions(contacts(list(AAL)))]
    assert found == list(AAL.values())


def test_a_contact_has_its_region_whatever_other_contacts_there_are():
    points = list(AAL)
    together = sensor_regions(contacts(points))
    alone = [int(sensor_regions(contacts([point]))[0]) for point in points]
    assert together.tolist() == alone


def test_outside_the_brain_there_is_no_region():
    assert nearest_region(np.array([[0.0, -0.016, 0.14], [0.0, 0.11, -0.06], [np.nan, 0.0, 0.0]])).tolist() == [0, 0, 0]


@pytest.mark.parametrize("scale", [0.85, 1.0, 1.1])
def test_scalp_electrodes_are_over_the_lobes_of_their_names(scale):
    names = ["Fp1", "Fp2", "F7", "F3", "F4", "F8", "T7", "T8", "P7", "P8", "P3", "P4", "O1", "O2", "TP9", "TP10"]
    lobe = {"F": "frontal", "T": "temporal", "P": "parietal", "O": "occipital", "C": "parietal"}
    expected = [f"{'left' if int(n[-1]) % 2 else 'right'} {lobe[n[0]]}" for n in names]
    for name in ("P7", "P8"):  # these are the posterior temporal electrodes T5 and T6
        expected[names.index(name)] = f"{'left' if name == 'P7' else 'right'} temporal"
    n = len(names)
    positions = scale * np.array([template_positions("colin27_1005")[name] for name in names])
    sensors = Sensors(tuple(names), np.zeros(n), ("V",) * n, positions, np.zeros((n, 3)), np.ones(n))
    assert [REGIONS[region] for region in sensor_regions(sensors)] == expected


def test_a_helmet_covers_the_four_lobes_of_both_sides(shared):
    info = mne.io.read_info(
        shared / "data" / "devices" / "neuromag306" / "sample_audvis_trunc_raw_sss.fif", verbose="error"
    )
    for frame in ("device", "head"):
        sensors = sensors_from_info(info, meg_frame=frame).sensors
        sensors = sensors.take(sensors.is_meg)
        regions = np.array(REGIONS)[sensor_regions(sensors)]
        assert {f"{side} {lobe}" for side in ("left", "right") for lobe in ("frontal", "temporal", "occipital")} <= set(
            regions
        )
        # sites of the system are named by lobe: MEG 0111 to 0144 are left temporal, 2111 to 2144 occipital
        of = dict(zip(sensors.names, regions, strict=True))
        assert of["MEG 0131"] == "left temporal"
        assert of["MEG 1431"] == "right temporal"
        assert of["MEG 2121"].endswith("occipital")
        assert of["MEG 0521"].endswith("frontal")


def test_the_seventh_column_is_the_region():
    sensors = contacts(list(AAL))
    positions = positions_with_regions(sensors)
    np.testing.assert_array_equal(positions[:, :6], sensors.model_positions())
    np.testing.assert_array_equal(positions[:, 6], sensor_regions(sensors))


def test_model_positions_of_contacts_do_not_depend_on_other_contacts():
    points = list(AAL)
    whole = contacts(points).model_positions()
    np.testing.assert_array_equal(contacts(points[2:5], SensorType.DBS).model_positions(), whole[2:5])
    assert np.abs(whole[:, :3]).max() < 1
