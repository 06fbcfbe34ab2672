"""Folds of the reference release against its golden values."""

import random

import pytest
from tests.evaluation.protocol.splits.conftest import sides_of, table
from tests.messages import refusal

from emeg.data.tasks.recipes import PaperSplit, known_tasks
from emeg.errors import UserError
from emeg.evaluation.protocol.splits import TEST, VALIDATION, make_paper_splits
from emeg.registry import Registry

PD31 = (
    "hc21 hc33 hc32 hc8 hc30 pd28",
    "pd9 pd19 pd11 pd5 hc10 hc4",
    "pd13 hc18 pd12 pd17 pd6 hc20",
    "pd26 hc25 hc29 pd22 hc1 hc2",
    "pd14 hc7 hc31 pd23 pd3 hc24",
)
"""Test people of each fold of the reference release."""


def listing(files):
    """Build one window for each file, (subject, source path, label)."""
    windows = table([(f"d/{s}", "", "x", path, 0, label) for s, path, label in files])
    windows.sources = windows.recordings
    return windows


def pd31_files():
    names = sorted({*" ".join(PD31).split(), "pd16"})
    for name in names:
        for session in ("off", "on") if name.startswith("pd") else ("hc",):
            yield (
                name,
                f"sub-{name}/ses-{session}/eeg/sub-{name}_ses-{session}_task-rest_eeg.bdf",
                int(name[:2] == "pd"),
            )


def test_paper_folds_of_pd31_are_the_release_s_file_by_file():
    files = list(pd31_files())
    assert len(files) == 46
    windows = listing(files)
    made = make_paper_splits(windows, known_tasks()["pd31"].paper)
    for fold, expected in enumerate(PD31):
        wanted = {path for name, path, _ in files if name in expected.split()}
        assert set(windows.sources[made.sides[fold] == TEST].tolist()) == wanted
    validating = [sides_of(windows, row, VALIDATION) for row in made.sides]
    tests = [sides_of(windows, row, TEST) for row in made.sides]
    assert validating[1:4] == tests[:3], "fold i validates on block i, which fold i - 1 tests"
    assert validating[4] == tests[3] | {"d/pd16"}
    assert made.notice == "never tested: pd16"


AD65 = [(f"{k:03d}", f"sub-{k:03d}/eeg/sub-{k:03d}_task-eyesclosed_eeg.set", int(k <= 36)) for k in range(1, 66)]
"""Listing of ds004504 without the 23 people of group F: 36 of group A, then 29 of group C."""

ASD74_TD = [
    *(f"K{n:04d}" for n in (59, 63, 66, 67, 69, 70, 71, 72, 75)),
    *(f"Z{n}" for n in (201, 202, 207, 209, 213, 214, 217, 218, 221, 224, 226, 227, *range(229, 244), 245, 246, 247)),
]
ASD74_ASD = [
    *(f"R{n:04d}" for n in (43, 65, 67, 70, 71, 72, 73)),
    *(f"Z{n}" for n in (401, 402, 403, 405, 410, 411, 413, 415, 418, 419, 421, 423, 424, 426, 427)),
    *(f"Z{n}" for n in (*range(429, 437), 440, 441, 443, 444, 446)),
]
"""participants.tsv of ds005234 2.1.7 by group."""
ASD74 = [
    (name, f"sub-{name}/meg/sub-{name}_task-vowels_run-0{run}_meg.fif", label)
    for label, names in enumerate((ASD74_TD, ASD74_ASD))
    for name in names
    for run in (1, 2, 3)
]

MMI_RUNS = """
21111:2 22658:2 22694:3 22695:2 22812:2 23490:1 23520:1 23540:1 23550:1 23593:1 23607:2 23641:1 23656:2 23672:1 23693:1
23732:2 23757:1 23777:1 23780:2 23809:1 23911:1 23927:2 23951:2 24071:1 24085:1 24103:1 24138:1 24169:1 24172:1 24175:1
24185:1 24199:1 24201:3 24208:1 24213:1 24216:1 24225:1 24227:1 24229:1 24232:1 24235:1 24238:2 24247:1 24252:2 24259:1
24263:2 24267:1 24281:1 24286:1 24287:2 24295:1
"""
"""Listing of ds003568 1.0.4: subjects with their number of runs of task mmi3."""
MMI_HEALTHY = {
    *(21111, 22658, 22694, 22695, 22812, 23656, 23693, 23911, 24138, 24172, 24175, 24185, 24199, 24201, 24208, 24213),
    *(24216, 24235, 24238, 24247, 24263, 24267),
}
"""Subjects of group HV in its participants.tsv."""


def mmi_files():
    for entry in MMI_RUNS.split():
        name, n_runs = entry.split(":")
        for run in range(1, int(n_runs) + 1):
            path = f"sub-{name}/meg/sub-{name}_task-mmi3_run-{run}_meg.ds"
            yield f"sub-{name}", path, int(int(name) not in MMI_HEALTHY)


def mdd_files():
    """List the files of figshare 4244171 and the subject of each.

    Subjects, conditions and what is missing are those of its BIDS edition (nm000114, 181 recordings, commit 47d38fb of
    github.com/nemarDatasets/nm000114), whose code names the two copies of one recording. Some names have a double blank
    before the condition; which ones, the edition does not tell.
    """
    missing = {
        "H S12 EC", "H S18 EC", "H S20 TASK", "H S21 TASK", "H S25 EO", "MDD S4 EC", "MDD S7 EO", "MDD S8 EC",
        "MDD S8 EO", "MDD S9 TASK", "MDD S12 EC", "MDD S16 EC", "H S15 EO",
    }  # fmt: skip
    key = Registry.load().get("mdd").subject_key
    for group, n in (("H", 30), ("MDD", 34)):
        for number in range(1, n + 1):
            for condition in ("EC", "EO", "TASK"):
                name = f"{group} S{number} {condition}"
                if name not in missing:
                    yield key.subject(f"{name}.edf"), f"{name}.edf", int(group == "MDD")
    for name in ("6921143_H S15 EO.edf", "6921959_H S15 EO.edf"):
        yield key.subject(name), name, 0


def named_files(entry, paths):
    """List files whose subject follows from the path by the rule of the registry; the label does not matter."""
    key = Registry.load().get(entry).subject_key
    return [(key.subject(path), path, 0) for path in paths]


def of_release(ids, n_folds=5):
    """Return the test subjects of each fold and those never tested, by the rule of the release on its own ids."""
    order = sorted(ids)
    random.Random(42).shuffle(order)
    size = len(order) // n_folds
    blocks = [set(order[k * size : (k + 1) * size]) for k in range(n_folds)]
    return [blocks[(k + 1) % n_folds] for k in range(n_folds)], set(order[n_folds * size :])


def test_paper_folds_of_mdd_are_the_release_s_where_names_have_single_blanks():
    """The release derives an id from the file name; the registry's ids sort alike, so that the shuffle is the same."""
    files = list(mdd_files())
    assert (len(files), len({name for name, _, _ in files})) == (181, 64)
    id_of = {name: f"{name.split('-')[0]}_S{name.split('-')[1]}" for name, _, _ in files}
    tests, never = of_release(id_of.values())
    windows = listing(files)
    made = make_paper_splits(windows, known_tasks()["mdd"].paper)
    found = [{id_of[name.removeprefix("d/")] for name in sides_of(windows, row, TEST)} for row in made.sides]
    assert found == tests
    assert [len(one) for one in found] == [12] * 5
    assert len(never) == 4
    other = Registry.load().get("mdd").subject_key.subject("MDD S11  EC.edf")
    assert other == "MDD-11", "a double blank is the same person; the release would make a second id of it"


# the BIDS edition of FACED has the subjects 000 to 122 (commit e6fabfd of github.com/nemarDatasets/nm000112)
FACED_FILES = [f"Processed_data/sub{k:03d}.pkl" for k in range(123)]
WBCIC = "derivatives/2C dataset_processeddata"
# the BIDS edition has 153 recordings of 51 subjects in three sessions (github.com/nemarDatasets/nm000246)
WBCIC_FILES = [
    f"{WBCIC}/sub-{k:03d}/ses-0{s}/sub-{k:03d}_ses-0{s}_task-motorimagery_eeg.mat"
    for k in range(1, 52)
    for s in (1, 2, 3)
]


@pytest.mark.parametrize(
    ("task", "paths", "n_subjects", "size", "n_never"),
    [("faced", FACED_FILES, 123, 24, 3), ("wbcic-shu", WBCIC_FILES, 51, 10, 1)],
)
def test_paper_folds_of_names_by_the_documented_pattern(task, paths, n_subjects, size, n_never):
    """Subjects and sessions are those of the BIDS editions, names those that the documentation gives."""
    windows = listing(named_files(task, paths))
    assert len(set(windows.subjects.tolist())) == n_subjects
    of_file = {path: path.rsplit("/", 1)[-1].removesuffix(".pkl").split("_")[0] for path in paths}
    tests, never = of_release(set(of_file.values()))
    made = make_paper_splits(windows, known_tasks()[task].paper)
    for row, expected in zip(made.sides, tests, strict=True):
        assert {of_file[path] for path in windows.sources[row == TEST].tolist()} == expected
        assert len(expected) == size
    assert len(never) == n_never


def test_paper_folds_of_tuev_test_the_official_part_whatever_its_file_names_begin_with():
    people = [f"aaaaa{a}{b}{c}" for a in "abc" for b in "abcdefghij" for c in "abcdefghij"][:290]
    train = [f"edf/train/{name}/{name}_0000000{k}.edf" for name in people for k in (1, 2)]
    labels = ("bckg", "gped", "pled", "spsw")
    evaluated = [f"edf/eval/zzzz{k:04d}/{labels[k % 4]}_zzzz{k:04d}_a_.edf" for k in range(80)]
    windows = listing(named_files("tuev", [*train, *evaluated]))
    assert len(set(windows.subjects.tolist())) == 370, "the person is the folder, not the first part of the name"
    made = make_paper_splits(windows, known_tasks()["tuev"].paper)
    order = sorted(people)
    random.Random(42).shuffle(order)
    for fold, row in enumerate(made.sides):
        assert set(windows.sources[row == TEST].tolist()) == set(evaluated)
        validating = {name.removeprefix("d/") for name in sides_of(windows, row, VALIDATION)}
        assert validating == set(order[58 * fold : 58 * fold + 58])


@pytest.mark.parametrize(
    ("task", "files", "by_class", "never"),
    [
        ("ad65", AD65, ["7/6", "8/5", "7/6", "8/5", "6/7"], set()),
        ("pd31", list(pd31_files()), ["1/5", "4/2", "4/2", "2/4", "3/3"], {"pd16"}),
        ("meg-mmi", list(mmi_files()), ["5/5", "4/6", "7/3", "7/3", "6/4"], {"sub-24235"}),
        ("asd74", ASD74, ["9/5", "6/8", "5/9", "7/7", "7/7"], {"Z232", "Z236", "K0067", "R0072"}),
    ],
)
def test_paper_folds_have_the_golden_classes(task, files, by_class, never):
    windows = listing(files)
    made = make_paper_splits(windows, known_tasks()[task].paper)
    label_of = {f"d/{name}": label for name, _, label in files}
    counted = []
    for row in made.sides:
        labels = [label_of[name] for name in sides_of(windows, row, TEST)]
        counted.append(f"{sum(labels)}/{len(labels) - sum(labels)}")
    assert counted == by_class
    tested = {name for row in made.sides for name in sides_of(windows, row, TEST)}
    assert {name.removeprefix("d/") for name in label_of.keys() - tested} == never


def test_paper_folds_of_physionet_sort_people_as_integers():
    files = [
        (f"S{k:03d}", f"S{k:03d}/S{k:03d}R{run:02d}.edf", 0) for k in range(1, 110) for run in (4, 6, 8, 10, 12, 14)
    ]
    windows = listing(files)
    made = make_paper_splits(windows, known_tasks()["physionet-mi"].paper)
    order = list(range(1, 110))
    random.Random(42).shuffle(order)
    golden = [(48, 85, 83), (43, 60, 93), (45, 46, 13), (72, 92, 78), (62, 10, 2)]
    for fold, row in enumerate(made.sides):
        tested = {int(name[-3:]) for name in sides_of(windows, row, TEST)}
        assert len(tested) == 21
        assert set(golden[fold]) <= tested
        block = (fold + 1) % 5
        assert tested == set(order[21 * block : 21 * block + 21])
    assert made.notice.endswith("S004, S015, S082, S095")


def test_paper_folds_of_five_people_test_one_each():
    windows = listing([(f"{k:02d}", f"sub-{k:02d}.fif", k % 2) for k in range(1, 6)])
    made = make_paper_splits(windows, PaperSplit())
    tested = [next(iter(sides_of(windows, row, TEST))) for row in made.sides]
    assert tested == ["d/02", "d/03", "d/05", "d/01", "d/04"]


def test_paper_folds_of_an_official_test_set_validate_block_by_block():
    files = [(f"{k:04d}", f"edf/{'eval' if k >= 20 else 'train'}/normal/01_tcp_ar/{k:04d}_s.edf", 0) for k in range(25)]
    windows = listing(files)
    made = make_paper_splits(windows, known_tasks()["tuab"].paper)
    order = [f"{k:04d}" for k in range(20)]
    random.Random(42).shuffle(order)
    for fold, row in enumerate(made.sides):
        assert sides_of(windows, row, TEST) == {f"d/{k:04d}" for k in range(20, 25)}
        assert sides_of(windows, row, VALIDATION) == {f"d/{name}" for name in order[4 * fold : 4 * fold + 4]}


def test_paper_folds_refuse_a_person_on_two_sides():
    windows = listing(list(pd31_files()))
    with refusal(UserError, "fold 1", action="cross_subject"):
        make_paper_splits(windows, PaperSplit(), groups={"d/hc21": "p", "d/pd9": "p"})
