"""Folds by person: everybody is tested once, nobody is on two sides."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from emeg.data.sampling.order import hash_order
from emeg.errors import UserError


class Fold(NamedTuple):
    """Global names of the people on each side."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class Folds(Sequence[Fold]):
    """Folds in order. ``notice`` says in one line what differs from what was asked for; empty if nothing does."""

    folds: tuple[Fold, ...]
    notice: str = ""

    def __len__(self) -> int:
        return len(self.folds)

    def __iter__(self) -> Iterator[Fold]:
        return iter(self.folds)

    @overload
    def __getitem__(self, index: int) -> Fold: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Fold]: ...
    def __getitem__(self, index: int | slice) -> Fold | Sequence[Fold]:
        return self.folds[index]


def subject_folds(
    labels: NDArray[np.integer[Any]], subjects: NDArray[np.str_] | Sequence[str], n_folds: int, seed: int
) -> Folds:
    """Make stratified cross-subject folds.

    People with the same set of labels form a stratum (patients and controls; one stratum where everybody has all) and
    are dealt out to the test folds in turn, in an order hashed with the seed. The validation people of a fold are the
    next fold's test people, if training then still has every class; with two folds, or where classes would go
    missing, they are fewer people of the rest.

    Parameters
    ----------
    labels : int, shape (n,)
        Class of every window.
    subjects : str, shape (n,)
        Person of every window.
    n_folds : int
        At least 2; fewer are made, with a notice, where there are fewer people, and always 3 of three people.
    seed : int

    Raises
    ------
    UserError
        Fewer than three people or two classes, or a class that cannot be in the training people of every fold.
    """
    names = np.asarray(subjects, str)
    classes = {str(s): frozenset(np.asarray(labels)[names == s].tolist()) for s in np.unique(names)}
    everything = frozenset().union(*classes.values())
    if n_folds < 2:
        raise UserError(f"n_folds={n_folds}: at least 2 are needed, so that those tested have not been trained on")
    if len(classes) < 3:
        raise UserError(
            f"{len(classes)} people with windows ({', '.join(sorted(classes))}): training, validation and test need one"
            " each; use more people, or hold out a larger share when sharding"
        )
    if len(everything) < 2:
        raise UserError(f"all {len(names)} windows have one label: there is nothing to tell apart; name more classes")
    # with three people in two folds, whoever is not tested would have to train and validate
    n_made = min(n_folds, len(classes)) if len(classes) > 3 else len(classes)
    notice = f"{n_made} folds instead of {n_folds}: there are {len(classes)} people" if n_made != n_folds else ""
    tests = _deal(classes, n_made, seed)
    folds = tuple(_fold(i, tests, classes, everything) for i in range(n_made))
    return Folds(folds, notice)


def _deal(classes: dict[str, frozenset[int]], n_folds: int, seed: int) -> list[list[str]]:
    """Deal people out, stratum after stratum, without starting again at the first fold."""
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


def _fold(number: int, tests: list[list[str]], classes: dict[str, frozenset[int]], everything: frozenset[int]) -> Fold:
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
        f"fold {number}: whoever validates, a class is missing from training; people with each class: {held}."
        " Use more people, fewer folds, or leave the rare class out"
    )
