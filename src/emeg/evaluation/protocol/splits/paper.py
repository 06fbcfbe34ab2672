"""Folds of the reference release."""

import random
import re
from collections import defaultdict
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from emeg.data.tasks.recipes import PaperSplit
from emeg.errors import UserError
from emeg.evaluation.protocol.splits.division import group_of, matching
from emeg.evaluation.protocol.splits.manifest import (
    TEST,
    TRAIN,
    VALIDATION,
    Labelled,
    SplitManifest,
    check_apart,
    manifest_of,
)

PAPER_SEED = 42
"""Seed with which the reference release shuffles the subjects."""


def make_paper_splits(
    windows: Labelled, paper: PaperSplit, *, n_folds: int = 5, groups: Mapping[str, str] | None = None
) -> SplitManifest:
    """Divide the windows of a task into the folds of the reference release.

    The sorted subjects are shuffled by Python's generator with seed 42 and cut into blocks of equal size. Fold i
    validates on block i and tests on block i + 1; the last fold tests on block 0 and validates on the last block and
    the remaining subjects, who are never tested. With an official test set, fold i validates on block i.

    Where the release has several names for one subject (``paper.subject_names``), the subject can be on two sides of a
    fold, as in the release; the notice and the leak checks say so.

    Parameters
    ----------
    windows : Labelled
    paper : PaperSplit
    n_folds : int
    groups : mapping, optional
        Key shared by names of the same person or family.

    Raises
    ------
    UserError
        There are fewer subjects than folds, or one group is on two sides, although each of its subjects has one name.

    References
    ----------
    Reference release of arXiv 2505.18185, ``downstream/dataset_maker/dataset_spliter.py``.
    """
    of_windows = np.array([group_of(name, groups or {}) for name in windows.subjects.tolist()])
    official = matching(windows.sources, paper.official_test)
    names = np.array(
        [
            _name(path, name, paper)
            for path, name in zip(windows.sources.tolist(), windows.subjects.tolist(), strict=True)
        ]
    )
    distinct = sorted(set(names[~official].tolist()), key=_order(paper))
    if len(distinct) < n_folds:
        raise UserError(f"{len(distinct)} subjects are fewer than {n_folds} folds; use fewer folds or more subjects")
    random.Random(PAPER_SEED).shuffle(distinct)
    size = len(distinct) // n_folds
    blocks = [distinct[i * size : (i + 1) * size] for i in range(n_folds)]
    rest = distinct[n_folds * size :]
    sides = np.full((n_folds, len(names)), TRAIN, np.int8)
    for i in range(n_folds):
        if official.any():
            validation, test = blocks[i], official
        else:
            last = i == n_folds - 1
            validation = [*blocks[i], *rest] if last else blocks[i]
            test = np.isin(names, blocks[0 if last else i + 1])
        sides[i, np.isin(names, validation) & ~official] = VALIDATION
        sides[i, test] = TEST
    doubled = _subjects_with_several(windows.subjects, names)
    once = ~np.isin(windows.subjects, doubled)
    check_apart(sides[:, once], of_windows[once])
    notices = []
    if rest and not official.any():
        notices.append(f"never tested: {', '.join(sorted(rest, key=_order(paper)))}")
    if doubled:
        notices.append(f"divided as several subjects, as in the release: {', '.join(doubled)}")
    return manifest_of("paper_compat", windows, sides, "; ".join(notices))


def _name(path: str, subject: str, paper: PaperSplit) -> str:
    """Return the name of a subject in the release."""
    for rule in paper.subject_names:
        found = re.search(rule.pattern, path)
        if found:
            return found.expand(rule.to)
    return subject.split("/", 1)[-1]


def _subjects_with_several(subjects: NDArray[np.str_], names: NDArray[np.str_]) -> list[str]:
    """Return the subjects of the store who have several names in the release."""
    names_of: dict[str, set[str]] = defaultdict(set)
    for subject, name in zip(subjects.tolist(), names.tolist(), strict=True):
        names_of[subject].add(name)
    return sorted(subject for subject, own in names_of.items() if len(own) > 1)


def _order(paper: PaperSplit) -> Callable[[str], tuple[int, str]]:
    def key(name: str) -> tuple[int, str]:
        digits = re.sub(r"\D", "", name)
        return (int(digits) if paper.subjects_as == "integer" and digits else 0, name)

    return key
