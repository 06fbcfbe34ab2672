"""Columns and cells that may identify a person are dropped; classes and measurements are kept."""

import pytest

from emeg.ingest.subjects.private import rule_on_name, rule_on_values


@pytest.mark.parametrize(
    "name",
    [
        "name", "Name", "first_name", "lastName", "Surname", "patient name", "dob", "DateOfBirth", "birth_date",
        "birth", "year_of_birth", "geburtsdatum", "address", "home_address", "zip", "Postcode", "phone", "Email",
        "hospital_id", "hospital number", "patient_id", "MRN", "mrn", "case_number",
        "initials", "physician", "examiner", "comments",
        "Notes", "acq_time", "test_date", "guid", "contact", "subject_name",
    ],
)  # fmt: skip
def test_private_by_name(name):
    assert rule_on_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "age", "sex", "group", "handedness", "medication_name", "birth_weight", "diagnosis", "MMSE", "site", "scanner",
        "education_years", "bdi_score", "n_sessions", "species", "numbers_correct",
    ],
)  # fmt: skip
def test_not_private_by_name(name):
    assert not rule_on_name(name)


def ruled(name: str, values: list[str], levels: tuple[str, ...] = (), unit: bool = False):
    cells = {f"sub-{i:02}": [value] for i, value in enumerate(values) if value}
    return rule_on_values(name, cells, levels=frozenset(levels), has_unit=unit)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("group", ["patient", "control", "patient", "control"]),
        ("group", ["MDD", "HC", "MDD", "HC", "MDD"]),
        ("diagnosis", ["Parkinson's disease", "essential tremor", "Parkinson's disease", "epilepsy"]),
        ("Group", ["A", "F", "C", "A", "F", "C"]),
        ("sex", ["M", "F", "F", "M"]),
        ("handedness", ["right", "left", "right"]),
        ("age", ["61", "35", "72"]),
        ("score", ["1.5", "2,5", "3.25"]),
        ("smoker", ["yes", "no", "no"]),
        ("cap", ["cap 1", "cap 2", "cap 1"]),
    ],
)
def test_classes_and_measurements_are_kept(name, values):
    assert ruled(name, values) == ("", frozenset())


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("info", ["Anna Schmidt", "Bernd Vogel", "Carla Meier"]),
        ("info", ["anna", "bernd", "carla"]),
        ("who", ["Schmidt", "Schmidt", "Vogel", "Vogel"]),
        ("code", ["AS", "BV", "CM"]),
        ("code", ["A.S.", "A.S.", "B.V."]),
        ("ref", ["48213", "51799", "50032"]),
        ("ref", ["0048213", "0051799", "0050032"]),
        ("when", ["12.05.1987", "03.04.1990", "01.01.1970"]),
        ("when", ["19870512", "19900403", "19700101"]),
        ("jahr", ["1987", "1990", "1970"]),
        ("remark_of_day", ["was tired", "came late with his wife", "fine"]),
        ("web", ["a@b.org", "a@b.org", "c@d.org"]),
    ],
)
def test_what_identifies_is_dropped_by_its_values(name, values):
    assert ruled(name, values).reason or ruled(name, values).hidden >= set(values)


def test_single_cells_that_may_name_somebody_are_hidden():
    values = ["MDD", "HC", "MDD", "Anna Schmidt", "HC", "Dr. Vogel", "born 12.05.1987", "H0048213", "annaschmidt"]
    assert ruled("group", values).hidden == set(values) - {"MDD", "HC"}


def test_declared_levels_and_units_keep_a_column():
    values = ["Zürich", "Oslo", "Zürich", "Anna Schmidt"]
    assert ruled("where_", values).reason
    assert ruled("where_", values, levels=("Zürich", "Oslo")) == ("", frozenset({"Anna Schmidt"}))
    counts = ["48213", "51799", "50032"]
    assert ruled("counts", counts).reason
    assert not ruled("counts", counts, unit=True).reason
