"""Folds by subject: every subject is tested once, and no subject is on two sides of a fold."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from emeg.data.sampling.order import hash_order
from emeg.errors import UserError

Side = TypeVar("Side")
OtherSide = TypeVar("OtherSide")


@dataclass(frozen=True)
class Fold(Generic[Side]):
    """The three sides of a fold: global names of subjects, or indices of windows. No subject is on two of them."""

    train: Side
    """Fitted on."""
    validation: Side
    """Used to choose settings."""
    test: Side
    """Predicted once."""

    def sides(self) -> dict[str, Side]:
        """Return the three sides by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def map(self, function: Callable[[Side], OtherSide]) -> "Fold[OtherSide]":
        """Apply a function to each side, for instance from subjects to the indices of their windows."""
        return Fold(function(self.train), function(self.validation), function(self.test))


SubjectFold = Fold[tuple[str, ...]]
"""Global names ``dataset/subject`` of each side."""


@dataclass(frozen=True)
class Folds(Sequence[SubjectFold]):
    """Folds in order. ``notice`` is one line on what differs from the request; empty if nothing does."""

    folds: tuple[SubjectFold, ...]
    notice: str = ""

    def __len__(self) -> int:
        return len(self.folds)

    def __iter__(self) -> Iterator[SubjectFold]:
        return iter(self.folds)

    @overload
    def __getitem__(self, index: int) -> SubjectFold: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[SubjectFold]: ...
    def __getitem__(self, index: int | slice) -> SubjectFold | Sequence[SubjectFold]:
        return self.folds[index]


def subject_folds(
    labels: NDArray[np.integer[Any]], subjects: NDArray[np.str_] | Sequence[str], n_folds: int, seed: int
) -> Folds:
    """Create stratified cross-subject folds.

    Subjects with the same set of labels form a stratum (patients and controls; a single stratum if every subject has
    all labels) and are assigned to the test folds in turn, in an order hashed with the seed. The validation subjects of
    a fold are the test subjects of the next fold if training then still has every class; with two folds, or if a class
    would be missing, they are fewer of the remaining subjects.

    Parameters
    ----------
    labels : int, shape (windows,)
        Class index of every window.
    subjects : str, shape (windows,)
        Global name of the subject of every window; no unit.
    n_folds : int
        At least 2. With fewer subjects there are fewer folds, with a notice; three subjects always give 3 folds.
    seed : int

    Raises
    ------
    UserError
        There are fewer than three subjects or two classes, or a class is missing from training in some fold.
    """
    names = np.asarray(subjects, str)
    classes = {str(s): frozenset(np.asarray(labels)[names == s].tolist()) for s in np.unique(names)}
    everything = frozenset().union(*classes.values())
    if n_folds < 2:
        raise UserError(f"n_folds={n_folds}: use at least 2, so that test subjects are not trained on")
    if len(classes) < 3:
        raise UserError(
            f"{len(classes)} subjects with windows ({', '.join(sorted(classes))}): training, validation and test need"
            " one each; use more subjects, or hold out a larger share with `emeg shard --held-out`"
        )
    if len(everything) < 2:
        raise UserError(
            f"all {len(names)} windows have the same label; a task needs at least two classes: add some to task.classes"
        )
    # with three subjects in two folds, the one that is not tested would have to train and validate
    n_made = min(n_folds, len(classes)) if len(classes) > 3 else len(classes)
    notice = f"{n_made} folds instead of {n_folds}: there are {len(classes)} subjects" if n_made != n_folds else ""
    tests = _deal(classes, n_made, seed)
    folds = tuple(_fold(i, tests, classes, everything) for i in range(n_made))
    return Folds(folds, notice)


def _deal(classes: dict[str, frozenset[int]], n_folds: int, seed: int) -> list[list[str]]:
    """Assign subjects to folds, stratum after stratum, without restarting at the first fold."""
    strata: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for person, own in classes.items():
        strata[tuple(sorted(own))].append(person)
    tests: list[list[str]] = [[] for _ in range(n_folds)]
    turn = 0
    for _, members in sorted(strata.items()):
        for person in hash_order(members, "folds", seed):
            tests[turn % n_folds].append(person)
            turn += 1
    return tests


def _fold(
    number: int, tests: list[list[str]], classes: dict[str, frozenset[int]], everything: frozenset[int]
) -> SubjectFold:
    test = tests[number]
    rest = [p for k in range(1, len(tests)) for p in tests[(number + k) % len(tests)]]
    n_next = len(tests[(number + 1) % len(tests)])
    largest = n_next if len(tests) > 2 else max(1, len(rest) // 3)
    for n_validation in range(min(largest, len(rest) - 1), 0, -1):
        for start in range(len(rest)):
            validation = [rest[(start + k) % len(rest)] for k in range(n_validation)]
            train = [p for p in rest if p not in validation]
            if frozenset().union(*(classes[p] for p in train)) == everything:
                return Fold(tuple(sorted(train)), tuple(sorted(validation)), tuple(sorted(test)))
    held = {c: sum(c in own for own in classes.values()) for c in sorted(everything)}
    raise UserError(
        f"fold {number + 1}: a class is missing from training whichever subject validates; subjects by class: {held}."
        " Use more subjects or fewer folds, or remove the rare class"
    )
