from dataclasses import replace

import numpy as np
import pytest

from emeg.evaluation.leaks.people import (
    dataset_id,
    datasets_of_pretraining,
    people_on_two_sides,
    subjects_of_pretraining,
    subjects_on_two_sides,
)


def test_a_subject_on_two_sides_is_named_with_the_sides(moved, setup):
    leaked = moved(validation=np.append(setup.folds[0].validation, setup.folds[0].test[0]))
    assert subjects_on_two_sides(leaked) == ["fold 1: d/e in validation and test"]
    assert subjects_on_two_sides(replace(leaked, rule="within_subject_blocks")) == []


def test_labelled_examples_of_a_test_subject_are_no_leak_but_those_of_a_training_subject_are(moved, setup):
    test = setup.folds[0].test
    assert subjects_on_two_sides(moved(test=test[2:], shown=test[:2])) == []
    assert subjects_on_two_sides(moved(shown=setup.folds[0].train[:2])) != []


def test_one_person_under_two_names_is_found_in_the_folds_that_divide_them(setup):
    twins = replace(setup, groups={"d/a": "twins", "d/e": "twins"})
    found = people_on_two_sides(twins)
    assert found[0] == "fold 1: d/a and d/e in train and test"
    assert subjects_on_two_sides(twins) == []


def test_a_tested_subject_of_pretraining_is_found_also_under_another_name(setup):
    splits = {"d/a": "held_out", "d/b": "validation", "p/9": "train"}
    found = subjects_of_pretraining(replace(setup, pretraining={"c": splits}))
    assert found == ["d/b: validation subject d/b of corpus c"]
    renamed = replace(setup, pretraining={"c": {"p/9": "train"}}, groups={"p/9": "one", "d/e": "one"})
    assert subjects_of_pretraining(renamed) == ["d/e: train subject p/9 of corpus c"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("openneuro:DS004504@1.0.8", "ds004504"),
        ("https://openneuro.org/datasets/ds000117/", "ds000117"),
        ("10.18112/openneuro.ds000117", "ds000117"),
        ("tuab", "tuab"),
    ],
)
def test_spellings_of_a_dataset_are_one(text, name):
    assert dataset_id(text) == name


def test_a_declared_dataset_is_found_and_so_is_one_with_the_same_subjects(setup):
    def found(own, *declared):
        return datasets_of_pretraining(replace(setup, dataset_ids={"d": own}, pretraining_datasets={"m": declared}))

    assert found("ds000117", "sleep-edf") == []
    assert "m declares openneuro:ds000117" in found("ds000117", "openneuro:ds000117")[0]
    assert found("ds000117", "ds003645") != [], "the registry knows that both have the same subjects"
