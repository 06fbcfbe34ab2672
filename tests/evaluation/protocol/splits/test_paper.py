"""Folds of the reference release, file by file, on listings of its datasets, and its golden values."""

import random

import pytest
from tests.evaluation.protocol.splits.conftest import sides_of, table
from tests.evaluation.protocol.splits.listings import LISTINGS, PD31
from tests.messages import refusal

from emeg.data.tasks.recipes import PaperSplit, known_tasks
from emeg.errors import UserError
from emeg.evaluation.protocol.splits import TEST, TRAIN, VALIDATION, make_paper_splits

N_FILES = {
    "tuab": 2993, "tuev": 518, "ad65": 65, "mdd": 181, "pd31": 46, "faced": 123, "wbcic-shu": 153, "physionet-mi": 654,
    "asd74": 228, "meg-mmi": 69, "somato-emeg": 15,
}  # fmt: skip
"""Documented numbers of recordings."""
N_SUBJECTS = {
    "tuab": 2329, "tuev": 370, "ad65": 65, "mdd": 64, "pd31": 31, "faced": 123, "wbcic-shu": 51, "physionet-mi": 109,
    "asd74": 74, "meg-mmi": 51, "somato-emeg": 5,
}  # fmt: skip
"""Documented numbers of people."""
PD31_TESTED = (
    "hc21 hc33 hc32 hc8 hc30 pd28",
    "pd9 pd19 pd11 pd5 hc10 hc4",
    "pd13 hc18 pd12 pd17 pd6 hc20",
    "pd26 hc25 hc29 pd22 hc1 hc2",
    "pd14 hc7 hc31 pd23 pd3 hc24",
)
"""Test people of each fold of the reference release."""


def windows_of(files):
    """Build one window for each file, (subject, source path, label)."""
    windows = table([(f"d/{s}", "", "x", path, 0, label) for s, path, label in files])
    windows.sources = windows.recordings
    return windows


def windows_of_task(task):
    listing = LISTINGS[task]
    return windows_of([(listing.of_store(path), path, listing.label(path)) for path in listing.paths])


def folds_of_release(listing, n_folds=5):
    """Divide paths by the rule of the release, written again from its description; (train, validation, test) a fold."""
    is_official = {path: bool(listing.official_test) and listing.official_test in path for path in listing.paths}
    order = sorted({listing.of_release(path) for path in listing.paths if not is_official[path]})
    random.Random(42).shuffle(order)
    size = len(order) // n_folds

    def block(k):
        return set(order[k * size : (k + 1) * size])

    folds = []
    for k in range(n_folds):
        last = k == n_folds - 1
        if listing.official_test:
            validation, test = block(k), set()
        else:
            validation = block(k) | (set(order[n_folds * size :]) if last else set())
            test = block(0) if last else block(k + 1)
        tested = {p for p in listing.paths if is_official[p] or listing.of_release(p) in test}
        validating = {p for p in listing.paths if not is_official[p] and listing.of_release(p) in validation}
        folds.append((set(listing.paths) - tested - validating, validating, tested))
    return folds


@pytest.mark.parametrize("task", LISTINGS)
def test_paper_folds_are_the_release_s_file_by_file(task):
    windows = windows_of_task(task)
    assert len(windows.sources) == len(set(windows.sources.tolist())) == N_FILES[task]
    assert len(set(windows.subjects.tolist())) == N_SUBJECTS[task]
    made = make_paper_splits(windows, known_tasks()[task].paper)
    found = [
        tuple(set(windows.sources[row == side].tolist()) for side in (TRAIN, VALIDATION, TEST)) for row in made.sides
    ]
    assert found == folds_of_release(LISTINGS[task])


def test_paper_folds_of_double_blanks_divide_one_person_and_say_so():
    """The release has 69 names for the 64 people of MDD."""
    windows = windows_of_task("mdd")
    made = make_paper_splits(windows, known_tasks()["mdd"].paper)
    assert made.notice.endswith("several subjects, as in the release: d/MDD-1, d/MDD-11, d/MDD-2, d/MDD-24, d/MDD-7")
    for row in made.sides:
        on_two = sides_of(windows, row, TRAIN) & sides_of(windows, row, TEST)
        assert on_two < {"d/MDD-1", "d/MDD-11", "d/MDD-2", "d/MDD-24", "d/MDD-7"}
    assert any(sides_of(windows, row, TRAIN) & sides_of(windows, row, TEST) for row in made.sides)


def test_paper_folds_of_pd31_are_the_golden_ones():
    windows = windows_of_task("pd31")
    made = make_paper_splits(windows, known_tasks()["pd31"].paper)
    for fold, expected in enumerate(PD31_TESTED):
        wanted = {path for path in PD31 if path.split("/")[0].removeprefix("sub-") in expected.split()}
        assert set(windows.sources[made.sides[fold] == TEST].tolist()) == wanted
    validating = [sides_of(windows, row, VALIDATION) for row in made.sides]
    tests = [sides_of(windows, row, TEST) for row in made.sides]
    assert validating[1:4] == tests[:3], "fold i validates on block i, which fold i - 1 tests"
    assert validating[4] == tests[3] | {"d/pd16"}
    assert made.notice == "never tested: pd16"


@pytest.mark.parametrize(
    ("task", "by_class", "never"),
    [
        ("ad65", ["7/6", "8/5", "7/6", "8/5", "6/7"], set()),
        ("pd31", ["1/5", "4/2", "4/2", "2/4", "3/3"], {"pd16"}),
        ("meg-mmi", ["5/5", "4/6", "7/3", "7/3", "6/4"], {"24235"}),
        ("asd74", ["9/5", "6/8", "5/9", "7/7", "7/7"], {"Z232", "Z236", "K0067", "R0072"}),
    ],
)
def test_paper_folds_have_the_golden_classes(task, by_class, never):
    windows = windows_of_task(task)
    made = make_paper_splits(windows, known_tasks()[task].paper)
    label_of = dict(zip(windows.subjects.tolist(), windows.labels.tolist(), strict=True))
    counted = []
    for row in made.sides:
        labels = [label_of[name] for name in sides_of(windows, row, TEST)]
        counted.append(f"{sum(labels)}/{len(labels) - sum(labels)}")
    assert counted == by_class
    tested = {name for row in made.sides for name in sides_of(windows, row, TEST)}
    assert {name.removeprefix("d/") for name in label_of.keys() - tested} == never


def test_paper_folds_of_physionet_sort_people_as_integers():
    windows = windows_of_task("physionet-mi")
    made = make_paper_splits(windows, known_tasks()["physionet-mi"].paper)
    golden = [(48, 85, 83), (43, 60, 93), (45, 46, 13), (72, 92, 78), (62, 10, 2)]
    for fold, row in enumerate(made.sides):
        tested = {int(name[-3:]) for name in sides_of(windows, row, TEST)}
        assert len(tested) == 21
        assert set(golden[fold]) <= tested
    assert made.notice.endswith("S004, S015, S082, S095")


def test_paper_folds_of_somato_test_the_golden_person():
    windows = windows_of_task("somato-emeg")
    made = make_paper_splits(windows, PaperSplit())
    tested = [next(iter(sides_of(windows, row, TEST))) for row in made.sides]
    assert tested == ["d/02", "d/03", "d/05", "d/01", "d/04"]


def test_paper_folds_refuse_a_person_on_two_sides():
    windows = windows_of_task("pd31")
    with refusal(UserError, "fold 1", action="cross_subject"):
        make_paper_splits(windows, PaperSplit(), groups={"d/hc21": "p", "d/pd9": "p"})
