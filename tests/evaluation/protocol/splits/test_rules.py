"""Split rules against hand-counted folds and splitters of scikit-learn."""

import numpy as np
import pytest
from sklearn.model_selection import GroupKFold, LeaveOneGroupOut
from tests.evaluation.protocol.splits.conftest import people, sides_of, table
from tests.messages import refusal

from emeg.data.tasks.recipes import SplitRule
from emeg.errors import UserError
from emeg.evaluation.protocol.splits import (
    ACROSS,
    CALIBRATION,
    SUPPORT,
    TEST,
    TRAIN,
    UNUSED,
    VALIDATION,
    VALIDATION_SUPPORT,
    make_splits,
)


@pytest.mark.parametrize(
    ("n", "diagnosis"), [(3, False), (7, False), (10, False), (23, False), (7, True), (10, True), (23, True)]
)
def test_cross_subject_tests_everybody_once_and_keeps_people_apart(n, diagnosis):
    windows = people(n, diagnosis=diagnosis)
    made = make_splits(windows, SplitRule(), seed=3)
    tested = [name for row in made.sides for name in sorted(sides_of(windows, row, TEST))]
    assert sorted(tested) == sorted(set(windows.subjects.tolist()))
    sizes = [len(sides_of(windows, row, TEST)) for row in made.sides]
    assert max(sizes) - min(sizes) <= 1
    # as many people a fold as scikit-learn's folds by group, whose assignment differs
    expected = [
        len(set(windows.subjects[t])) for _, t in GroupKFold(len(made)).split(windows.labels, groups=windows.subjects)
    ]
    assert sorted(sizes) == sorted(expected)
    for row in made.sides:
        assert not sides_of(windows, row, TRAIN) & sides_of(windows, row, TEST)
        assert not sides_of(windows, row, VALIDATION) & sides_of(windows, row, TEST)
        assert not sides_of(windows, row, TRAIN) & sides_of(windows, row, VALIDATION)
    if diagnosis:
        per_fold = [sum(int(name[-2:]) % 2 for name in sides_of(windows, row, TEST)) for row in made.sides]
        assert max(per_fold) - min(per_fold) <= 1, "patients are spread evenly"


def test_seeds_redraw_folds_and_equal_seeds_give_equal_manifests():
    windows = people(20)
    one, again, other = (make_splits(windows, SplitRule(), seed=s) for s in (0, 0, 1))
    assert one.identity == again.identity != other.identity


def test_a_manifest_changes_its_hash_with_the_windows():
    windows = people(6)
    before = make_splits(windows, SplitRule())
    windows.starts = windows.starts + 1
    assert make_splits(windows, SplitRule()).identity != before.identity


def test_one_person_under_two_names_stays_on_one_side():
    windows = people(12)
    groups = {"d/00": "d/00", "d/07": "d/00"}
    for seed in range(5):
        for row in make_splits(windows, SplitRule(), seed=seed, groups=groups).sides:
            assert row[windows.subjects == "d/00"][0] == row[windows.subjects == "d/07"][0]


def test_leave_one_subject_out_tests_as_scikit_learn_does():
    windows = people(9)
    made = make_splits(windows, SplitRule(rule="leave_one_subject_out"))
    expected = [test.tolist() for _, test in LeaveOneGroupOut().split(windows.labels, groups=windows.subjects)]
    assert [made.rows(k, TEST).tolist() for k in range(len(made))] == expected
    assert all(len(sides_of(windows, row, VALIDATION)) == 2 for row in made.sides)  # a fifth of eight


def test_blocks_of_time_leave_a_gap():
    windows = people(2, n_windows=40)
    made = make_splits(windows, SplitRule(rule="within_subject_blocks", n_folds=4, gap_s=2))
    row = made.sides[0][windows.subjects == "d/00"]
    # ten windows a block; windows 0-9 test, 10-19 validate, 20-39 train; less than 2 s apart are 10, 11 and 20, 21
    assert np.flatnonzero(row == TEST).tolist() == list(range(10))
    assert np.flatnonzero(row == VALIDATION).tolist() == list(range(12, 20))
    assert np.flatnonzero(row == TRAIN).tolist() == list(range(22, 40))
    assert np.flatnonzero(row == UNUSED).tolist() == [10, 11, 20, 21]
    tested = sorted(int(i) for k in range(4) for i in made.rows(k, TEST))
    assert tested == list(range(80)), "every window is tested once"
    parts = made.parts(1, windows.subjects)
    assert len(parts) == 2, "each subject is fitted alone"
    for part in parts:
        names = {name for e in (*part.choose, *part.test) for name in windows.subjects[np.concatenate(e)].tolist()}
        assert len(names) == 1


def test_overlapping_windows_are_never_on_two_sides():
    rows = [("d/00", "", "x", "r", 0.5 * k, (k // 2) % 2) for k in range(80)]
    windows = table(rows)
    made = make_splits(windows, SplitRule(rule="within_subject_blocks", n_folds=4))
    for row in made.sides:
        used = np.flatnonzero(row != UNUSED)
        for i in used:
            close = used[(np.abs(windows.starts[used] - windows.starts[i]) < 256)]
            assert len(set(row[close].tolist())) == 1


def test_cross_session_tests_each_session_with_the_others():
    windows = people(3, sessions=("a", "b", "c"))
    made = make_splits(windows, SplitRule(rule="cross_session"))
    assert len(made) == 3
    for fold, session in enumerate("abc"):
        assert set(windows.sessions[made.sides[fold] == TEST]) == {session}
        assert len(set(windows.sessions[made.sides[fold] == VALIDATION])) == 1
        assert not set(windows.sessions[made.sides[fold] == TRAIN]) & {session}
    two = make_splits(people(3, sessions=("a", "b"), n_windows=10), SplitRule(rule="cross_session"))
    # the last fifth of the time of the other session validates
    assert np.bincount(two.sides[0], minlength=7)[[TRAIN, VALIDATION, TEST]].tolist() == [24, 6, 30]
    with refusal(UserError, "cross_session", action="within_subject_blocks"):
        make_splits(people(3), SplitRule(rule="cross_session"))


def test_a_held_out_device_is_tested_on_new_people():
    windows = people(6, devices=("x", "y", "z"))
    made = make_splits(windows, SplitRule(rule="held_out_device", n_folds=3))
    assert len(made) == 9
    for row in made.sides:
        (device,) = set(windows.devices[row == TEST].tolist())
        assert device not in set(windows.devices[np.isin(row, [TRAIN, VALIDATION])].tolist())
        assert not sides_of(windows, row, TEST) & sides_of(windows, row, TRAIN)
    tested = {
        (d, s)
        for row in made.sides
        for d, s in zip(windows.devices[row == TEST], windows.subjects[row == TEST], strict=True)
    }
    assert len(tested) == 18


def test_few_shot_uses_the_first_examples_of_each_new_person():
    windows = people(6, n_windows=12)
    made = make_splits(windows, SplitRule(rule="few_shot", n_folds=3, examples_per_class=(2,)))
    for fold, row in enumerate(made.sides):
        for side, queries in ((SUPPORT, TEST), (VALIDATION_SUPPORT, VALIDATION)):
            for name in sides_of(windows, row, queries):
                own = (windows.subjects == name) & (row == side)
                assert np.bincount(windows.labels[own]).tolist() == [2, 2]
                assert windows.starts[own].max() < windows.starts[(windows.subjects == name) & (row == queries)].min()
        (part,) = made.parts(fold, windows.subjects)
        assert len(part.test) == len(sides_of(windows, row, TEST)) == 2
        assert all(len(episode.fit) == 4 for episode in (*part.choose, *part.test))


def test_calibration_sets_the_first_seconds_of_new_people_aside():
    windows = people(6, n_windows=12)
    made = make_splits(windows, SplitRule(rule="calibration", n_folds=3, calibration_s=5))
    for row in made.sides:
        for name in sides_of(windows, row, TEST):
            own = row[windows.subjects == name]
            assert own.tolist() == [CALIBRATION] * 5 + [TEST] * 7
        assert (row == CALIBRATION).sum() == 5 * len(sides_of(windows, row, TEST))


def test_unseen_stimuli_are_in_no_training_window():
    rows = [("d/00", "", "x", "r", k, k % 10) for k in range(50)]
    made = make_splits(table(rows), SplitRule(rule="unseen_stimuli"))
    windows = table(rows)
    tested = []
    for row in made.sides:
        test, train = (set(windows.labels[row == side].tolist()) for side in (TEST, TRAIN))
        assert len(test) == 2
        assert not test & train
        tested += sorted(test)
    assert sorted(tested) == list(range(10))


def test_a_continuous_target_is_balanced_between_folds():
    rows = [(f"d/{p:02d}", "", "x", f"r{p}", k, 0) for p in range(20) for k in range(4)]
    windows = table(rows, targets=[p for p in range(20) for _ in range(4)])
    for row in make_splits(windows, SplitRule()).sides:
        upper = sum(int(name[-2:]) >= 10 for name in sides_of(windows, row, TEST))
        assert upper == 2  # of four people


def test_too_little_data_is_refused_with_the_next_action():
    with refusal(UserError, "2 subjects", action="subjects"):
        make_splits(people(2), SplitRule())
    with refusal(UserError, "held_out_device", action="cross_subject"):
        make_splits(people(6), SplitRule(rule="held_out_device"))


def test_an_official_test_set_with_a_training_person_is_refused():
    windows = people(12)
    windows.sources = np.array(
        [f"{'eval' if s == 'd/03' and k % 2 else 'train'}/{s}" for k, s in enumerate(windows.subjects)]
    )
    with refusal(UserError, "d/03", action="cross_subject"):
        make_splits(windows, SplitRule(official_test="^eval/"))


def test_an_official_test_set_is_the_test_set_of_every_fold():
    windows = people(12)
    windows.sources = np.array([f"{'eval' if s in ('d/03', 'd/04') else 'train'}/{s}" for s in windows.subjects])
    made = make_splits(windows, SplitRule(official_test="^eval/"))
    assert all(sides_of(windows, row, TEST) == {"d/03", "d/04"} for row in made.sides)
    validated = [name for row in made.sides for name in sorted(sides_of(windows, row, VALIDATION))]
    assert sorted(validated) == sorted(set(windows.subjects.tolist()) - {"d/03", "d/04"})


def test_every_rule_across_people_is_checked():
    assert {"cross_subject", "leave_one_subject_out", "held_out_device", "few_shot", "calibration"} == ACROSS
