"""Which coordinate system belongs to which table of electrodes."""

import pytest

from emeg.ingest.tables.coordinate_systems import choose_pair, read_system

CAPTRAK = {"EEGCoordinateSystem": "CapTrak", "EEGCoordinateUnits": "m"}
TEMPLATE = {"EEGCoordinateSystem": "fsaverage", "EEGCoordinateUnits": "mm"}
PLACED = [{"name": "Cz", "x": "0", "y": "0", "z": "0.1"}]
LANDMARKS = {"AnatomicalLandmarkCoordinates": {"NAS": [0, 1, 0], "LPA": [-1, 0, 0], "RPA": [1, 0, 0]}}


def name(space, kind):
    extension = "tsv" if kind == "electrodes" else "json"
    return f"sub-01_{f'space-{space}_' if space else ''}{kind}.{extension}"


@pytest.mark.parametrize(
    ("electrodes", "systems", "expected"),
    [
        (["CapTrak", "MNI"], {"CapTrak": CAPTRAK, "MNI": TEMPLATE}, ("CapTrak", "CapTrak")),
        (["CapTrak", "fsaverage"], {"CapTrak": CAPTRAK}, ("CapTrak", "CapTrak")),
        (["a", "b"], {"a": CAPTRAK, "b": TEMPLATE | LANDMARKS}, ("a", "a")),
        (["", "MNI"], {"": CAPTRAK, "MNI": TEMPLATE}, ("", "")),
        (["MNI"], {"CapTrak": CAPTRAK}, ("MNI", None)),
        ([""], {"CapTrak": CAPTRAK}, ("", "CapTrak")),
        (["CapTrak"], {"": CAPTRAK}, ("CapTrak", "")),
        (["CapTrak"], {}, ("CapTrak", None)),
    ],
)
def test_table_and_system_are_of_one_space(electrodes, systems, expected):
    paths = [name(space, "electrodes") for space in electrodes]
    contents = {name(space, "coordsystem"): stated for space, stated in systems.items()}
    table, system = expected
    tables = dict.fromkeys(paths, PLACED)
    assert choose_pair(tables, list(contents), contents) == (
        name(table, "electrodes"),
        "" if system is None else name(system, "coordsystem"),
    )


def test_the_nearest_table_of_a_space_counts():
    electrodes = ["space-CapTrak_electrodes.tsv", "sub-01/eeg/sub-01_space-CapTrak_electrodes.tsv"]
    systems = {"space-CapTrak_coordsystem.json": CAPTRAK}
    tables = dict.fromkeys(electrodes, PLACED)
    assert choose_pair(tables, list(systems), systems) == (electrodes[1], "space-CapTrak_coordsystem.json")


@pytest.mark.parametrize(("n_known", "chosen"), [(0, "EEGLAB"), (1, "EEGLAB"), (2, "CapTrak")])
def test_a_table_with_few_positions_is_not_chosen(n_known, chosen):
    """Both systems can be used and rank alike; CapTrak's table comes last."""
    unknown = {"name": "Cz", "x": "n/a", "y": "n/a", "z": "n/a"}
    tables = {
        name("EEGLAB", "electrodes"): PLACED * 4,
        name("CapTrak", "electrodes"): PLACED * n_known + [unknown] * (4 - n_known),
    }
    contents = {
        name("EEGLAB", "coordsystem"): {"EEGCoordinateSystem": "EEGLAB"},
        name("CapTrak", "coordsystem"): CAPTRAK,
    }
    assert choose_pair(tables, list(contents), contents)[0] == name(chosen, "electrodes")


def test_a_system_without_a_table_is_kept_for_its_landmarks():
    assert choose_pair({}, ["coordsystem.json"], {"coordsystem.json": CAPTRAK}) == ("", "coordsystem.json")


@pytest.mark.parametrize(
    ("stated", "axes"),
    [
        (CAPTRAK, "head"),
        ({"EEGCoordinateSystem": "EEGLAB-HJ"}, "als"),
        (TEMPLATE, ""),
        (TEMPLATE | LANDMARKS, "landmarks"),
        ({}, ""),
    ],
)
def test_positions_reach_the_head_by_landmarks_or_by_the_name_of_the_system(stated, axes):
    assert read_system(stated).axes == axes


def test_landmarks_have_their_own_unit_or_that_of_the_electrodes():
    stated = CAPTRAK | LANDMARKS
    assert read_system(stated).landmarks["rpa"].tolist() == [1, 0, 0]
    assert read_system(stated | {"AnatomicalLandmarkCoordinateUnits": "n/a"}).landmarks["rpa"].tolist() == [1, 0, 0]
    assert read_system(stated | {"AnatomicalLandmarkCoordinateUnits": "centimetres"}).landmarks["rpa"][0] == 0.01
