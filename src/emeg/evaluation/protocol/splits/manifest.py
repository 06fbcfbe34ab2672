"""Side of every window in every fold: what it names, and the windows to fit and to predict.

A `SplitManifest` is frozen by a hash over the identity of the windows and their sides, and saved with the evaluation.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from emeg.errors import UserError
from emeg.hashing import hash_json

Side = Literal["train", "validation", "test", "support", "validation_support", "calibration", "unused"]
SIDES: tuple[Side, ...] = ("train", "validation", "test", "support", "validation_support", "calibration", "unused")
TRAIN, VALIDATION, TEST, SUPPORT, VALIDATION_SUPPORT, CALIBRATION, UNUSED = range(len(SIDES))
ALONE = frozenset({"within_subject_blocks", "cross_session"})
"""Rules under which each subject is fitted alone, on windows of that subject."""

Sides = NDArray[np.int8]


class Labelled(Protocol):
    """Windows of a task as split rules read them; `emeg.data.TaskWindows` is one. Every array has shape (windows,)."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class or stimulus index."""

    @property
    def targets(self) -> NDArray[np.float64] | None:
        """Target of a regression."""

    @property
    def subjects(self) -> NDArray[np.str_]:
        """Global names."""

    @property
    def sessions(self) -> NDArray[np.str_]:
        """Session labels."""

    @property
    def devices(self) -> NDArray[np.str_]:
        """Devices."""

    @property
    def recordings(self) -> NDArray[np.str_]:
        """Recording ids."""

    @property
    def sources(self) -> NDArray[np.str_]:
        """Paths of the source files."""

    @property
    def starts(self) -> NDArray[np.int64]:
        """First samples."""

    @property
    def n_samples(self) -> int:
        """Samples of a window."""

    @property
    def sfreq(self) -> float:
        """Sampling rate, Hz."""


class Episode(NamedTuple):
    """Indices of windows to fit on, and of windows to predict."""

    fit: NDArray[np.int64]
    predict: NDArray[np.int64]


class Part(NamedTuple):
    """One choice of settings: episodes scored on validation windows, then episodes predicted once for test windows."""

    choose: tuple[Episode, ...]
    test: tuple[Episode, ...]


@dataclass(frozen=True, eq=False)
class SplitManifest:
    """Side of every window in every fold."""

    rule: str
    """Name of the rule."""
    sides: Sides
    """int8, shape (folds, windows), index into `SIDES`."""
    identity: str
    """Hash of rule, windows and sides."""
    notice: str = ""
    """How the folds differ from the request; empty if they do not."""

    def __len__(self) -> int:
        """Return the number of folds."""
        return len(self.sides)

    def rows(self, fold: int, side: int) -> NDArray[np.int64]:
        """Return the indices of the windows on one side of a fold."""
        return np.flatnonzero(self.sides[fold] == side).astype(np.int64)

    def parts(self, fold: int, subjects: NDArray[np.str_], *, alone: bool = False) -> tuple[Part, ...]:
        """Return the windows to fit and to predict in a fold.

        Parameters
        ----------
        fold : int
        subjects : str, shape (windows,)
            Global name of the subject of every window; no unit.
        alone : bool
            Fit each subject separately under any rule, as encoding requires.
        """
        everything = tuple(self.rows(fold, side) for side in range(len(SIDES)))
        if self.rule == "few_shot":
            choose = _episodes(everything[VALIDATION_SUPPORT], everything[VALIDATION], subjects)
            return (Part(choose, _episodes(everything[SUPPORT], everything[TEST], subjects)),)
        if self.rule in ALONE or alone:
            names = np.unique(subjects[everything[TEST]])
            own = [tuple(rows[subjects[rows] == name] for rows in everything) for name in names]
        else:
            own = [everything]
        return tuple(
            Part((Episode(rows[TRAIN], rows[VALIDATION]),), (Episode(rows[TRAIN], rows[TEST]),)) for rows in own
        )


def _episodes(fit: NDArray[np.int64], predict: NDArray[np.int64], subjects: NDArray[np.str_]) -> tuple[Episode, ...]:
    names = np.unique(subjects[predict])
    return tuple(Episode(fit[subjects[fit] == name], predict[subjects[predict] == name]) for name in names)


def check_apart(sides: Sides, groups: NDArray[np.str_]) -> None:
    """Raise an error if a person is on two of the training, validation and test sides of a fold.

    Parameters
    ----------
    sides : int8, shape (folds, windows)
        Indices into `SIDES`. Support and calibration windows belong to the side of their subject.
    groups : str, shape (windows,)
        Key of the person of every window; no unit.

    Raises
    ------
    UserError
        A person is on two sides; the message names the person.
    """
    side_of = {SUPPORT: TEST, CALIBRATION: TEST, VALIDATION_SUPPORT: VALIDATION}
    for fold, row in enumerate(sides):
        people: dict[int, set[str]] = defaultdict(set)
        for side in np.unique(row[row != UNUSED]).tolist():
            people[side_of.get(side, side)] |= set(groups[row == side].tolist())
        for one, other in ((TRAIN, VALIDATION), (TRAIN, TEST), (VALIDATION, TEST)):
            shared = sorted(people[one] & people[other])
            if shared:
                raise UserError(
                    f"fold {fold + 1}: {', '.join(shared[:6])}{' …' if len(shared) > 6 else ''} would be in"
                    f" {SIDES[one]} and {SIDES[other]}; they are one person under several names, or are in an official"
                    " test set and in training: use split rule cross_subject, or leave them out with subjects"
                )


def manifest_of(rule: str, windows: Labelled, sides: Sides, notice: str) -> SplitManifest:
    """Return the manifest of some sides.

    Parameters
    ----------
    rule : str
        Name of the rule.
    windows : Labelled
    sides : int8, shape (folds, windows)
        Indices into `SIDES`.
    notice : str
        How the folds differ from the request.
    """
    identities = [list(pair) for pair in zip(windows.recordings.tolist(), windows.starts.tolist(), strict=True)]
    name = hash_json({"rule": rule, "windows": identities, "sides": sides.tolist()})
    return SplitManifest(rule, sides, name, notice)


def split_rows(task: str, seed: int, windows: Labelled, manifest: SplitManifest) -> Iterator[dict[str, object]]:
    """Yield rows of `emeg.evaluation.protocol.rows.SPLITS`."""
    columns = zip(windows.subjects.tolist(), windows.recordings.tolist(), windows.starts.tolist(), strict=True)
    identities = list(columns)
    for fold, row in enumerate(manifest.sides.tolist()):
        for (subject, recording, start), side in zip(identities, row, strict=True):
            yield {
                "task": task,
                "seed": seed,
                "fold": fold,
                "subject": subject,
                "recording": recording,
                "start": start,
                "side": SIDES[side],
            }
