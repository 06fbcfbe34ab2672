"""Listings of the eleven datasets that the reference release divides, and the subject that it reads from each path.

`docs/decisions/0117-folds-of-the-release.md` says where each listing comes from. Those of TUAB and TUEV have made-up
names by the documented scheme, with the documented counts; names of Somato are assumed; the others are real.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from emeg.registry import Registry


class Listing(NamedTuple):
    """Files of a dataset as a task uses them."""

    paths: list[str]
    of_release: Callable[[str], str | int]
    """Subject that the release reads from a path."""
    of_store: Callable[[str], str]
    """Subject label in the store."""
    official_test: str = ""
    """Text in the paths of an official test set."""
    label: Callable[[str], int] = lambda path: 0
    """Class of a file."""


def _first_part(path: str) -> str:
    return path.rsplit("/", 1)[-1].split("_", 1)[0]


def _bids(path: str) -> str:
    return re.search(r"sub-([^/_]+)", path)[1]


def _by_registry(entry: str) -> Callable[[str], str]:
    key = Registry.load().get(entry).subject_key
    return key.subject


AD65 = [f"sub-{k:03d}/eeg/sub-{k:03d}_task-eyesclosed_eeg.set" for k in range(1, 66)]
"""ds004504 1.0.8 without the 23 people of group F: 36 of group A, then 29 of group C."""

PD31_HEALTHY = (1, 2, 4, 7, 8, 10, 18, 20, 21, 24, 25, 29, 30, 31, 32, 33)
PD31_PARKINSON = (3, 5, 6, 9, 11, 12, 13, 14, 16, 17, 19, 22, 23, 26, 28)
PD31 = [
    *(f"sub-hc{k}/ses-hc/eeg/sub-hc{k}_ses-hc_task-rest_eeg.bdf" for k in PD31_HEALTHY),
    *(f"sub-pd{k}/ses-{s}/eeg/sub-pd{k}_ses-{s}_task-rest_eeg.bdf" for k in PD31_PARKINSON for s in ("off", "on")),
]
"""ds002778 1.0.5."""

ASD74_TYPICAL = [
    *(f"K{n:04d}" for n in (59, 63, 66, 67, 69, 70, 71, 72, 75)),
    *(f"Z{n}" for n in (201, 202, 207, 209, 213, 214, 217, 218, 221, 224, 226, 227, *range(229, 244), 245, 246, 247)),
]
ASD74_AUTISTIC = [
    *(f"R{n:04d}" for n in (43, 65, 67, 70, 71, 72, 73)),
    *(f"Z{n}" for n in (401, 402, 403, 405, 410, 411, 413, 415, 418, 419, 421, 423, 424, 426, 427)),
    *(f"Z{n}" for n in (*range(429, 437), 440, 441, 443, 444, 446)),
]
ASD74_RUNS = {
    1: "R0065",
    2: "R0073 Z232 Z233 Z234 Z235 Z237 Z238 Z239 Z240 Z245 Z247 Z430 Z444 Z446",
    4: "K0059 R0067 R0071 Z202 Z209 Z229 Z241 Z246 Z401 Z402 Z419 Z426 Z436 Z441",
    5: "R0043 Z231 Z243 Z411",
}
"""Subjects whose number of runs is not three."""


def _asd74() -> list[str]:
    n_runs = {name: n for n, names in ASD74_RUNS.items() for name in names.split()}
    return [
        f"sub-{name}/meg/sub-{name}_task-vowels_run-{run:02d}_meg.fif"
        for name in (*ASD74_TYPICAL, *ASD74_AUTISTIC)
        for run in range(1, n_runs.get(name, 3) + 1)
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


def _meg_mmi() -> list[str]:
    counts = (entry.split(":") for entry in MMI_RUNS.split())
    return [
        f"sub-{name}/meg/sub-{name}_task-mmi3_run-{run}_meg.ds" for name, n in counts for run in range(1, int(n) + 1)
    ]


SOMATO = [f"sub-{k:02d}/meg/sub-{k:02d}_task-somatomotor_run-{run}_meg.fif" for k in range(1, 6) for run in (1, 2, 3)]
"""ds006035 1.0.0 has five people and 15 recordings; the names are assumed."""

PHYSIONET = [f"S{k:03d}/S{k:03d}R{run:02d}.edf" for k in range(1, 110) for run in (4, 6, 8, 10, 12, 14)]
"""EEGMMIDB 1.0.0."""

FACED = [f"Processed_data/sub{k:03d}.pkl" for k in range(123)]

WBCIC = [
    f"derivatives/2C dataset_processeddata/sub-{k:03d}/ses-0{s}/eeg/sub-{k:03d}_ses-0{s}_task-motorimagery_eeg.mat"
    for k in range(1, 53)
    if k != 11
    for s in (1, 2, 3)
]
"""Folder of two classes: subjects 001 to 052 without 011."""

MDD_DOUBLE_BLANKS = {"MDD S1 EO", "MDD S2 EC", "MDD S7 EC", "MDD S11 EC", "MDD S16 EC", "MDD S24 EC"}
MDD_LOST = {
    "H S12 EC", "H S18 EC", "H S20 TASK", "H S21 TASK", "H S25 EO", "MDD S4 EC", "MDD S7 EO", "MDD S8 EC", "MDD S8 EO",
    "MDD S9 TASK", "MDD S12 EC", "MDD S16 EC",
}  # fmt: skip
"""Listed by figshare, but cannot be downloaded."""


def _mdd() -> list[str]:
    """List figshare 4244171 version 2; the names of the two copies of H S15 EO are those of the whole archive."""
    names = [f"{group} S{k} {c}" for group, n in (("H", 30), ("MDD", 34)) for k in range(1, n + 1) for c in _CONDITIONS]
    there = [name for name in names if name not in MDD_LOST | {"H S15 EO"}]
    spaced = [re.sub(r" (\w+)$", r"  \1", name) if name in MDD_DOUBLE_BLANKS else name for name in there]
    return [f"{name}.edf" for name in (*spaced, "6921143_H S15 EO", "6921959_H S15 EO")]


_CONDITIONS = ("EC", "EO", "TASK")


def _mdd_of_release(path: str) -> str:
    return "H_S15" if "692" in path else path.rsplit("/", 1)[-1].replace(" ", "_").rsplit("_", 1)[0]


def _person(number: int) -> str:
    """Return a name in the form of the TUH corpora: eight lower-case letters."""
    letters = [chr(ord("a") + number // 26**k % 26) for k in range(3)]
    return "aaaaa" + "".join(reversed(letters))


def _tuab() -> list[str]:
    """List 2,717 recordings of 2,076 people for training and 276 of 253 others for evaluation."""
    paths = []
    for part, first, n_people, n_normal, n_files in (("train", 0, 2076, 1371, 2717), ("eval", 3000, 253, 150, 276)):
        for k in range(n_files):
            kind = "normal" if k < n_normal else "abnormal"
            name = f"{_person(first + 7 * k % n_people)}_s{1 + k // n_people:03d}_t000"
            paths.append(f"edf/{part}/{kind}/01_tcp_ar/{name}.edf")
    return paths


def _tuev() -> list[str]:
    """List 359 recordings of 290 people for training and 159 of 80 others for evaluation."""
    train = [
        f"edf/train/{_person(11 * (k % 290))}/{_person(11 * (k % 290))}_{1 + k // 290:08d}.edf" for k in range(359)
    ]
    labels = ("bckg", "gped", "pled", "spsw", "eyem", "artf")
    evaluated = [f"edf/eval/{k % 80:03d}/{labels[k % 6]}_{k % 80:03d}_a_{k // 80 or ''}.edf" for k in range(159)]
    return train + evaluated


def _label_of(positive: set[str]) -> Callable[[str], int]:
    return lambda path: int(_bids(path) in positive)


LISTINGS = {
    "tuab": Listing(_tuab(), _first_part, _by_registry("tuab"), "/eval/"),
    "tuev": Listing(_tuev(), _first_part, _by_registry("tuev"), "/eval/"),
    "ad65": Listing(AD65, _first_part, _bids, label=_label_of({f"{k:03d}" for k in range(1, 37)})),
    "mdd": Listing(_mdd(), _mdd_of_release, _by_registry("mdd"), label=lambda path: int("MDD" in path)),
    "pd31": Listing(PD31, _first_part, _bids, label=lambda path: int("sub-pd" in path)),
    "faced": Listing(FACED, lambda path: path.rsplit("/", 1)[-1].split(".")[0], _by_registry("faced")),
    "wbcic-shu": Listing(WBCIC, _first_part, _by_registry("wbcic-shu")),
    "physionet-mi": Listing(PHYSIONET, lambda path: int(path[1:4]), _by_registry("physionet-mi")),
    "asd74": Listing(_asd74(), _first_part, _bids, label=_label_of(set(ASD74_AUTISTIC))),
    "meg-mmi": Listing(_meg_mmi(), _first_part, _bids, label=lambda path: int(int(_bids(path)) not in MMI_HEALTHY)),
    "somato-emeg": Listing(SOMATO, _first_part, _bids, label=lambda path: int(_bids(path)) % 2),
}
"""Listings by task."""
