import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.messages import refusal

from emeg.data.tasks.folds import subject_folds
from emeg.errors import UserError


def windows(people):
    """Labels and subjects of windows: person -> labels."""
    pairs = [(label, person) for person, labels in people.items() for label in labels]
    return np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])


@given(st.integers(3, 30), st.integers(2, 8), st.integers(0, 9))
def test_everybody_is_tested_once_and_on_one_side(n_people, n_folds, seed):
    labels, subjects = windows({f"d/{i:02d}": [0, 1, 2] for i in range(n_people)})
    folds = subject_folds(labels, subjects, n_folds, seed)
    assert sorted(p for fold in folds for p in fold.test) == sorted(set(subjects.tolist()))
    for fold in folds:
        assert not set(fold.train) & set(fold.validation)
        assert not set(fold.test) & (set(fold.train) | set(fold.validation))
        assert fold.train
        assert fold.validation
        assert len(fold.train) + len(fold.validation) + len(fold.test) == n_people
    assert len(folds) == (min(n_folds, n_people) if n_people > 3 else 3)
    assert bool(folds.notice) == (len(folds) != n_folds)


def test_five_folds_are_three_one_one():
    labels, subjects = windows({f"d/{i}": [0, 1] for i in range(10)})
    sizes = {(len(f.train), len(f.validation), len(f.test)) for f in subject_folds(labels, subjects, 5, 0)}
    assert sizes == {(6, 2, 2)}


def test_groups_of_people_are_spread_over_folds():
    people = {f"d/{i:02d}": [i % 2] * 4 for i in range(20)}
    labels, subjects = windows(people)
    for fold in subject_folds(labels, subjects, 5, 3):
        for side in fold.sides().values():
            kinds = [people[p][0] for p in side]
            assert kinds.count(0) == kinds.count(1)


def test_training_always_has_every_class():
    people = {"d/0": [0, 2], "d/1": [0, 2], "d/2": [0, 2]} | {f"d/{i}": [0, 1] for i in range(3, 12)}
    labels, subjects = windows(people)
    for fold in subject_folds(labels, subjects, 5, 0):
        assert {c for p in fold.train for c in people[p]} == {0, 1, 2}


def test_impossible_is_refused_with_counts():
    labels, subjects = windows({"d/0": [0, 1], "d/1": [0], "d/2": [0], "d/3": [0]})
    with refusal(UserError, "fold 1", "{0: 4, 1: 1}", action="fewer folds"):
        subject_folds(labels, subjects, 3, 0)
    labels, subjects = windows({"d/0": [0, 1], "d/1": [0, 1]})
    with refusal(UserError, "d/0, d/1", action="`emeg shard --held-out`"):
        subject_folds(labels, subjects, 2, 0)
    labels, subjects = windows({f"d/{i}": [0] for i in range(5)})
    with refusal(UserError, "5 windows", action="task.classes"):
        subject_folds(labels, subjects, 5, 0)


def test_order_of_windows_does_not_matter():
    labels, subjects = windows({f"d/{i}": [0, 1] for i in range(9)})
    order = np.random.default_rng(0).permutation(len(labels))
    assert list(subject_folds(labels, subjects, 3, 1)) == list(subject_folds(labels[order], subjects[order], 3, 1))
    assert list(subject_folds(labels, subjects, 3, 1)) != list(subject_folds(labels, subjects, 3, 2))
