"""Positions from electrodes tables: against the table's own numbers, read by Python's csv."""

import csv

import mne
import numpy as np
import pytest
from tests.ingest.conftest import ingested

from emeg.ingest.tables.electrodes import apply_electrodes
from emeg.ingest.tables.sidecars import Sidecars
from emeg.sensors import standard_name

CASES = "cases/ingest"


@pytest.fixture(scope="module")
def spelling(shared, tmp_path_factory):
    return ingested(shared / CASES / "sidecar-names-in-other-spelling/archive", tmp_path_factory.mktemp("spelling"))


@pytest.fixture(scope="module")
def spaces(shared, tmp_path_factory):
    return ingested(shared / CASES / "electrodes-in-two-spaces/archive", tmp_path_factory.mktemp("spaces"))


def measured(path):
    """Return positions by standard name, metres."""
    with path.open(newline="") as file:
        return {
            standard_name(row["name"]): [float(row[axis]) for axis in "xyz"]
            for row in csv.DictReader(file, delimiter="\t")
        }


def largest_error_m(recording, positions):
    """Return the largest distance between stored and measured positions, m; both are in head coordinates."""
    stored = {
        standard_name(name): place
        for name, place in zip(recording.sensors.names, recording.sensors.positions, strict=True)
    }
    assert stored.keys() == positions.keys()
    return max(float(np.linalg.norm(stored[name] - positions[name])) for name in positions)


@pytest.mark.parametrize("subject", ["sub-01", "sub-02"])
def test_electrodes_in_other_spelling_get_their_measured_positions(spelling, shared, subject):
    folder = shared / CASES / "sidecar-names-in-other-spelling/archive" / subject / "eeg"
    assert spelling.rows[subject].n_channels == 19
    assert largest_error_m(spelling.recording(subject), measured(folder / f"{subject}_electrodes.tsv")) < 1e-6


@pytest.mark.parametrize("subject", ["sub-01", "sub-02"])
def test_of_two_spaces_table_and_system_of_the_head_are_read_together(spaces, shared, subject):
    folder = shared / CASES / "electrodes-in-two-spaces/archive" / subject / "eeg"
    positions = measured(folder / f"{subject}_space-CapTrak_electrodes.tsv")
    assert largest_error_m(spaces.recording(subject), positions) < 1e-6


def raw_of(*names):
    info = mne.create_info(list(names), 256.0, "eeg")
    return mne.io.RawArray(np.zeros((len(names), 10)), info, verbose="ERROR")


def rows(**positions):
    return [{"name": name, **dict(zip("xyz", xyz, strict=True))} for name, xyz in positions.items()]


SYSTEM = {"EEGCoordinateSystem": "CapTrak", "EEGCoordinateUnits": "mm"}


@pytest.mark.parametrize("unit", ["mm", "millimeters", "Millimetre", "MM", "mm "])
def test_units_in_words_are_units(unit):
    raw = raw_of("Fz")
    system = {"EEGCoordinateSystem": "Cap Trak", "EEGCoordinateUnits": unit}
    assert apply_electrodes(raw, Sidecars(electrodes=rows(Fz=("0", "80", "70")), coordsystem=system)) == ()
    assert np.allclose(raw.info["chs"][0]["loc"][:3], [0.0, 0.08, 0.07])


def test_coordinates_with_decimal_commas_are_read():
    raw = raw_of("Fz")
    table = rows(Fz=("0,5", "80,25", "\u221270,125"))
    assert apply_electrodes(raw, Sidecars(electrodes=table, coordsystem=SYSTEM)) == ()
    assert np.allclose(raw.info["chs"][0]["loc"][:3], [0.0005, 0.08025, -0.070125])


def test_an_electrode_with_a_coordinate_that_is_no_number_has_no_position():
    raw = raw_of("Fz", "Cz")
    table = rows(Fz=("0", "8O", "70"), Cz=("0", "0", "95"))
    [note] = apply_electrodes(raw, Sidecars(electrodes=table, coordsystem=SYSTEM))
    assert "electrodes.tsv" in note
    assert "'Fz'" in note
    assert not np.isfinite(raw.info["chs"][0]["loc"][:3]).all()
    assert np.allclose(raw.info["chs"][1]["loc"][:3], [0, 0, 0.095])


@pytest.mark.parametrize(
    ("landmarks", "words"),
    [
        ({"NAS": [0, "1O0", 0], "LPA": [-75, 0, 0], "RPA": [75, 0, 0]}, "nasion"),
        ({"NAS": [0, 0, 0], "LPA": [0, 0, 0], "RPA": [0, 0, 0]}, "on a line or in one point"),
    ],
)
def test_landmarks_that_define_no_head_are_named_and_not_used(landmarks, words):
    raw = raw_of("Fz")
    system = SYSTEM | {"AnatomicalLandmarkCoordinates": landmarks}
    [note] = apply_electrodes(raw, Sidecars(electrodes=rows(Fz=("0", "80", "70")), coordsystem=system))
    assert "coordsystem.json" in note
    assert words in note
    assert np.allclose(raw.info["chs"][0]["loc"][:3], [0.0, 0.08, 0.07])


def test_the_system_that_cannot_be_used_is_named():
    system = {"EEGCoordinateSystem": "MNI152Lin", "EEGCoordinateUnits": "mm"}
    [note] = apply_electrodes(raw_of("Fz"), Sidecars(electrodes=rows(Fz=("0", "80", "70")), coordsystem=system))
    assert "'MNI152Lin'" in note
