"""Columns have the types that the tables and their JSON files state; what cannot be read is null."""

import pyarrow as pa

from emeg.ingest.subjects.column_types import levels_of, typed


def array(name, values, levels=(), unit=False):
    return typed(name, values, levels=frozenset(levels), has_unit=unit)


def test_whole_numbers_numbers_and_text():
    assert array("n", ["1", "2", None]).equals(pa.array([1, 2, None], pa.int64()))
    assert array("n", ["1", "2,5", "-3e2"]).equals(pa.array([1.0, 2.5, -300.0]))
    assert array("n", ["1", "two"]).equals(pa.array(["1", "two"]))
    assert array("n", [None, None]).type == pa.string()


def test_levels_make_text_of_numbers_and_units_numbers_of_text():
    assert array("group", ["1", "2"], levels=("1", "2")).equals(pa.array(["1", "2"]))
    assert array("weight", ["70", "heavy"], unit=True).to_pylist() == [70.0, None]


def test_ages_above_89_are_89():
    assert array("age", ["93", "89+", "40"]).to_pylist() == [89, 89, 40]
    assert array("Age_years", ["93.5", "40"]).to_pylist() == [89.0, 40.0]
    assert array("stage", ["93", "40"]).to_pylist() == [93, 40]


def test_levels_are_a_mapping_or_a_list():
    assert levels_of({"Levels": {"1": "control"}}) == {"1"}
    assert levels_of({"Levels": ["a", "b"]}) == {"a", "b"}
    assert levels_of({"Levels": "a"}) == levels_of({}) == frozenset()
