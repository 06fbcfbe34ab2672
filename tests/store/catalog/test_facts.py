"""Tables of facts: read as one table, queried in SQL with the catalogue, without rows of a withdrawn subject."""

import pyarrow as pa
import pytest
from tests.messages import refusal

from emeg.errors import UserError
from emeg.store import (
    CatalogConfig,
    Store,
    find_labels,
    publish_row,
    query_catalog,
    read_catalog,
    read_facts,
    write_facts,
)
from emeg.store.catalog.facts import about_of, remove_subject_facts, with_about


def people(dataset: str, **columns: list) -> pa.Table:
    n = len(next(iter(columns.values())))
    return pa.table({"dataset": [dataset] * n, "subject": [f"0{i + 1}" for i in range(n)], **columns})


@pytest.fixture
def store(tmp_path, row) -> Store:
    store = Store.open(tmp_path / "store", create=True)
    for i, (dataset, subject) in enumerate([("a", "01"), ("a", "01"), ("a", "02"), ("b", "01")]):
        made = row(f"r{i}", dataset=dataset, subject=subject, source=f"{subject}/{i}.edf", session=str(i % 2))
        publish_row(store, made, [])
    write_facts(store, "subjects", "a", people("a", group=["patient", "control"], age=[61, 35]))
    write_facts(store, "subjects", "b", people("b", age=[20.5], hand=["L"]))
    scans = {"dataset": ["a"] * 2, "subject": ["01"] * 2, "source": ["01/0.edf", "01/1.edf"], "drug": ["on", "off"]}
    write_facts(store, "scans", "a", pa.table(scans))
    sessions = {"dataset": ["a"], "subject": ["01"], "session": ["1"], "weeks": [6]}
    write_facts(store, "sessions", "a", pa.table(sessions))
    return store


def ask(store: Store, **fields) -> list[tuple]:
    return list(query_catalog(CatalogConfig(root=str(store.root), **fields)).rows)


def test_tables_of_several_datasets_are_one(store):
    table = read_facts(store, "subjects")
    assert table.column_names == ["dataset", "subject", "group", "age", "hand"]
    assert table["age"].to_pylist() == [61.0, 35.0, 20.5]
    assert table["group"].to_pylist() == ["patient", "control", None]
    assert read_facts(store, "subjects", ["b"]).column_names == ["dataset", "subject", "age", "hand"]


def test_recordings_are_asked_by_facts_about_their_subject_session_and_scan(store):
    assert ask(store, columns=("recording",), where="subject_group = 'patient'") == [("r0",), ("r1",)]
    columns = ("recording", "subject_age", "session_weeks", "scan_drug")
    assert ask(store, columns=columns) == [
        ("r0", 61.0, None, "on"),
        ("r1", 61.0, 6, "off"),
        ("r2", 35.0, None, None),
        ("r3", 20.5, None, None),
    ]
    assert ask(store, table="subjects", columns=("subject",), where="hand = 'L'") == [("01",)]
    mean = ("subject_group", "avg(subject_age) as age")
    assert ask(store, columns=mean, group_by=("subject_group",), where="dataset = 'a'") == [
        ("control", 35.0),
        ("patient", 61.0),
    ]


def test_an_unknown_column_is_answered_with_those_there_are(store):
    with refusal(UserError, "subject_iq", action="subject_group"):
        ask(store, where="subject_iq > 1")


def test_a_recording_has_the_label_of_its_scan_or_session_or_subject(store):
    rows = read_catalog(store)
    assert find_labels(store, rows, "group") == {"r0": "patient", "r1": "patient", "r2": "control"}
    assert find_labels(store, rows, "drug") == {"r0": "on", "r1": "off"}
    assert find_labels(store, rows, "weeks") == {"r1": "6"}
    assert find_labels(store, rows, "subject_age") == {"r0": "61", "r1": "61", "r2": "35", "r3": "20.5"}
    with refusal(UserError, "'iq'", "drug, group", action="participants.tsv"):
        find_labels(store, rows, "iq")


def test_a_subject_is_removed_from_every_table(store):
    assert remove_subject_facts(store, "a", "01", only_count=True) == 4
    assert remove_subject_facts(store, "a", "01") == 4
    assert read_facts(store, "subjects", ["a"])["subject"].to_pylist() == ["02"]
    assert not store.exists("catalog", "scans", "a.parquet")
    assert remove_subject_facts(store, "a", "01") == 0


def test_a_table_without_facts_is_removed_and_an_equal_one_not_written(store):
    same = people("a", group=["patient", "control"], age=[61, 35])
    assert not write_facts(store, "subjects", "a", same)
    assert write_facts(store, "subjects", "a", people("a", group=["patient", "patient"]))
    assert write_facts(store, "subjects", "a", same.select(["dataset", "subject"]))
    assert not store.exists("catalog", "subjects", "a.parquet")
    with refusal(UserError, "'subject'", action="dataset, subject"):
        write_facts(store, "subjects", "a", pa.table({"dataset": ["a"], "age": [1]}))


def test_column_descriptions_of_a_dataset_are_kept(store):
    about = {"group": {"Levels": {"patient": "has it", "control": "has not"}}, "gone": {"Units": "m"}}
    write_facts(store, "subjects", "a", with_about(people("a", group=["patient", "control"]), about))
    assert about_of(read_facts(store, "subjects")) == {"group": about["group"]}
