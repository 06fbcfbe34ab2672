"""Divide the windows of a task into training, validation and test by the rules of task recipes.

A `SplitManifest` holds the side of every window in every fold. It is frozen by a hash over the identity of the windows
and their sides, and saved with the evaluation.
"""

import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from emeg.data.sampling.order import hash_order
from emeg.data.tasks.folds import subject_folds
from emeg.data.tasks.recipes import PaperSplit, SplitRule
from emeg.errors import UserError
from emeg.hashing import hash_json

Side = Literal["train", "validation", "test", "support", "validation_support", "calibration", "unused"]
SIDES: tuple[Side, ...] = ("train", "validation", "test", "support", "validation_support", "calibration", "unused")
TRAIN, VALIDATION, TEST, SUPPORT, VALIDATION_SUPPORT, CALIBRATION, UNUSED = range(len(SIDES))
ALONE = frozenset({"within_subject_blocks", "cross_session"})
"""Rules under which each subject is fitted alone, on windows of that subject."""
ACROSS = frozenset({"cross_subject", "leave_one_subject_out", "held_out_device", "few_shot", "calibration"})
"""Rules under which no subject is on two sides of a fold."""
PAPER_SEED = 42
"""Seed with which the reference release shuffles the subjects."""
VALIDATION_SHARE = 0.2
"""Share of a subject's training time that validates where no other session can."""

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


def make_splits(
    windows: Labelled,
    rule: SplitRule,
    *,
    seed: int = 0,
    examples: int | None = None,
    groups: Mapping[str, str] | None = None,
) -> SplitManifest:
    """Divide the windows of a task by a rule.

    Parameters
    ----------
    windows : Labelled
    rule : SplitRule
    seed : int
        Seed of the order of subjects or stimuli.
    examples : int, optional
        Labelled examples of each class and subject, for few_shot; by default the first that the rule lists.
    groups : mapping, optional
        Key shared by names of the same person or family, which are never on two sides.

    Raises
    ------
    UserError
        There are too few subjects, sessions, devices or windows for the rule, or a class is missing from training.
    """
    made = _Made(windows, rule, seed, examples or rule.examples_per_class[0], groups or {})
    sides, notice = _RULES[rule.rule](made)
    if rule.rule in ACROSS:
        check_apart(sides, made.groups)
    _check_full(sides, windows, rule.rule)
    return _manifest(rule.rule, windows, sides, notice)


def make_paper_splits(
    windows: Labelled, paper: PaperSplit, *, n_folds: int = 5, groups: Mapping[str, str] | None = None
) -> SplitManifest:
    """Divide the windows of a task into the folds of the reference release.

    The sorted subjects are shuffled by Python's generator with seed 42 and cut into blocks of equal size. Fold i
    validates on block i and tests on block i + 1; the last fold tests on block 0 and validates on the last block and
    the remaining subjects, who are never tested. With an official test set, fold i validates on block i.

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
        There are fewer subjects than folds, or one group is on two sides.

    References
    ----------
    Reference release of arXiv 2505.18185, ``downstream/dataset_maker/dataset_spliter.py``.
    """
    of_windows = np.array([_group_of(name, groups or {}) for name in windows.subjects.tolist()])
    official = _matching(windows.sources, paper.official_test)
    names = np.array([name.split("/", 1)[-1] for name in windows.subjects.tolist()])
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
    check_apart(sides, of_windows)
    notice = "" if official.any() or not rest else f"never tested: {', '.join(sorted(rest, key=_order(paper)))}"
    return _manifest("paper_compat", windows, sides, notice)


def _order(paper: PaperSplit) -> Callable[[str], tuple[int, str]]:
    def key(name: str) -> tuple[int, str]:
        digits = re.sub(r"\D", "", name)
        return (int(digits) if paper.subjects_as == "integer" and digits else 0, name)

    return key


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


def _check_full(sides: Sides, windows: Labelled, rule: str) -> None:
    needed = (SUPPORT, VALIDATION, TEST) if rule == "few_shot" else (TRAIN, VALIDATION, TEST)
    for fold, row in enumerate(sides):
        for side in needed:
            if not (row == side).any():
                n_subjects = len(set(windows.subjects.tolist()))
                raise UserError(
                    f"split rule {rule}: fold {fold + 1} has no {SIDES[side]} windows ({n_subjects} subjects,"
                    f" {len(row)} windows); use fewer folds, another rule, or more data"
                )


def _manifest(rule: str, windows: Labelled, sides: Sides, notice: str) -> SplitManifest:
    places = [list(pair) for pair in zip(windows.recordings.tolist(), windows.starts.tolist(), strict=True)]
    return SplitManifest(rule, sides, hash_json({"rule": rule, "windows": places, "sides": sides.tolist()}), notice)


def _group_of(name: str, groups: Mapping[str, str]) -> str:
    return groups.get(name, name)


def _matching(sources: NDArray[np.str_], pattern: str | None) -> NDArray[np.bool_]:
    if pattern is None:
        return np.zeros(len(sources), bool)
    return np.array([re.search(pattern, source) is not None for source in sources.tolist()], bool)


class _Made:
    """Windows with the settings of one split."""

    def __init__(self, windows: Labelled, rule: SplitRule, seed: int, examples: int, groups: Mapping[str, str]) -> None:
        self.windows, self.rule, self.seed, self.examples = windows, rule, seed, examples
        self.groups = np.array([_group_of(name, groups) for name in windows.subjects.tolist()])
        self.n_windows = len(self.groups)

    def folds_of_people(self, among: NDArray[np.bool_] | None = None) -> tuple[Sides, str]:
        """Return cross-subject folds, stratified by the labels of the people."""
        rows = np.arange(self.n_windows) if among is None else np.flatnonzero(among)
        labels, groups = self._strata(rows)
        folds = subject_folds(labels, groups, self.rule.n_folds, self.seed)
        sides = np.full((len(folds), self.n_windows), UNUSED, np.int8)
        for number, fold in enumerate(folds):
            for side, people in ((TRAIN, fold.train), (VALIDATION, fold.validation), (TEST, fold.test)):
                sides[number, rows[np.isin(self.groups[rows], people)]] = side
        return sides, folds.notice

    def _strata(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
        """Return a label and a person for each window; targets become halves below and above the median person."""
        groups = self.groups[rows]
        if self.windows.targets is None:
            return self.windows.labels[rows], groups
        people = np.unique(groups)
        means = np.array([self.windows.targets[rows][groups == person].mean() for person in people])
        upper = (means > np.median(means)).astype(np.int64)
        if len(people) < 6 or len(np.unique(upper)) < 2:  # too few for strata: everybody has both labels
            return np.tile([0, 1], len(people)), np.repeat(people, 2)
        return upper, people

    @property
    def is_classes(self) -> bool:
        """Whether labels are classes that training must have."""
        return self.windows.targets is None

    def in_time(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sort windows by session, recording and start."""
        order = sorted(
            rows.tolist(),
            key=lambda i: (self.windows.sessions[i], self.windows.sources[i], self.windows.starts[i]),
        )
        return np.array(order, np.int64)

    def near(self, rows: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of `rows` overlap one of `others` or are closer to it than the gap."""
        gap = self.rule.gap_s * self.windows.sfreq
        n, starts = self.windows.n_samples, self.windows.starts
        close = np.zeros(len(rows), bool)
        for recording in np.unique(self.windows.recordings[others]):
            own = np.flatnonzero(self.windows.recordings[rows] == recording)
            there = np.sort(starts[others[self.windows.recordings[others] == recording]])
            begins = starts[rows[own]]
            position = np.searchsorted(there, begins)
            before = np.where(position > 0, begins - there[np.maximum(position - 1, 0)] - n, np.inf)
            after = np.where(position < len(there), there[np.minimum(position, len(there) - 1)] - begins - n, np.inf)
            distance = np.minimum(before, after)
            close[own] = (distance < 0) | (distance < gap)
        return close


def _cross_subject(made: _Made) -> tuple[Sides, str]:
    official = _matching(made.windows.sources, made.rule.official_test)
    if not official.any():
        if made.rule.official_test is not None:
            raise UserError(f"no recording matches official_test {made.rule.official_test!r}; correct the pattern")
        return made.folds_of_people()
    folded, notice = made.folds_of_people(~official)
    # everybody outside the official test set trains or validates
    sides = np.where(folded == TEST, VALIDATION, np.where(folded == VALIDATION, TRAIN, folded)).astype(np.int8)
    sides[:, official] = TEST
    return sides, notice


def _leave_one_subject_out(made: _Made) -> tuple[Sides, str]:
    people = sorted(set(made.groups.tolist()))
    if len(people) < 3:
        raise UserError(f"{len(people)} subjects: training, validation and test need one each; use more subjects")
    n_validation = max(1, round(VALIDATION_SHARE * (len(people) - 1)))
    order = hash_order(people, "folds", made.seed)
    everything = set(made.windows.labels.tolist())
    sides = np.full((len(people), made.n_windows), TRAIN, np.int8)
    for fold, person in enumerate(people):
        others = [name for name in order if name != person]
        turned = others[fold % len(others) :] + others[: fold % len(others)]
        chosen = _validation_people(made, turned, n_validation, everything, fold)
        sides[fold, np.isin(made.groups, chosen)] = VALIDATION
        sides[fold, made.groups == person] = TEST
    return sides, ""


def _validation_people(made: _Made, turned: list[str], n: int, everything: set[int], fold: int) -> list[str]:
    """Return the first `n` people that can be left out of training without losing a class."""
    for count in range(n, 0, -1):
        for start in range(len(turned)):
            chosen = [turned[(start + k) % len(turned)] for k in range(count)]
            rest = np.isin(made.groups, [name for name in turned if name not in chosen])
            if not made.is_classes or set(made.windows.labels[rest].tolist()) == everything:
                return chosen
    raise UserError(f"fold {fold + 1}: a class is missing from training, whichever people validate; use more subjects")


def _within_subject_blocks(made: _Made) -> tuple[Sides, str]:
    windows, n_folds = made.windows, made.rule.n_folds
    sides = np.full((n_folds, made.n_windows), UNUSED, np.int8)
    left_out = []
    for subject in sorted(set(windows.subjects.tolist())):
        own = np.flatnonzero(windows.subjects == subject)
        block_of = np.zeros(made.n_windows, np.int64)
        for recording in np.unique(windows.recordings[own]):
            rows = own[windows.recordings[own] == recording]
            rows = rows[np.argsort(windows.starts[rows], kind="stable")]
            block_of[rows] = np.arange(len(rows)) * n_folds // len(rows)
        found = [_blocks(made, own, block_of, fold) for fold in range(n_folds)]
        if all(_is_usable(made, one) for one in found):
            for fold, one in enumerate(found):
                for side, rows in one.items():
                    sides[fold, rows] = side
        else:
            left_out.append(subject)
    return sides, _left_out(left_out, "have too few windows of each class in each block")


def _blocks(
    made: _Made, own: NDArray[np.int64], block_of: NDArray[np.int64], fold: int
) -> dict[int, NDArray[np.int64]]:
    test = own[block_of[own] == fold]
    validation = own[block_of[own] == (fold + 1) % made.rule.n_folds]
    train = own[~np.isin(block_of[own], [fold, (fold + 1) % made.rule.n_folds])]
    validation = validation[~made.near(validation, test)]
    train = train[~made.near(train, np.concatenate([test, validation]))]
    return {TRAIN: train, VALIDATION: validation, TEST: test}


def _is_usable(made: _Made, one: Mapping[int, NDArray[np.int64]]) -> bool:
    """Return whether no side is empty and training has every class that the subject's validation and test have."""
    if any(len(rows) == 0 for rows in one.values()):
        return False
    if not made.is_classes:
        return True
    labels = {side: set(made.windows.labels[rows].tolist()) for side, rows in one.items()}
    return len(labels[TRAIN]) > 1 and (labels[VALIDATION] | labels[TEST]) <= labels[TRAIN]


def _left_out(subjects: list[str], reason: str) -> str:
    if not subjects:
        return ""
    listed = f"{', '.join(subjects[:6])}{' …' if len(subjects) > 6 else ''}"
    return f"{len(subjects)} subjects left out, because they {reason}: {listed}"


def _cross_session(made: _Made) -> tuple[Sides, str]:
    windows = made.windows
    sessions = {
        subject: sorted(set(windows.sessions[windows.subjects == subject].tolist()))
        for subject in sorted(set(windows.subjects.tolist()))
    }
    n_folds = max(map(len, sessions.values()))
    if n_folds < 2:
        raise UserError("cross_session: no subject has two sessions; use rule within_subject_blocks")
    sides = np.full((n_folds, made.n_windows), UNUSED, np.int8)
    left_out = []
    for subject, own_sessions in sessions.items():
        own = np.flatnonzero(windows.subjects == subject)
        found = [_sessions(made, own, own_sessions, fold) for fold in range(len(own_sessions))]
        if len(own_sessions) < 2 or not all(_is_usable(made, one) for one in found):
            left_out.append(subject)
            continue
        for fold, one in enumerate(found):
            for side, rows in one.items():
                sides[fold, rows] = side
    return sides, _left_out(left_out, "have one session, or a session without one of the classes")


def _sessions(made: _Made, own: NDArray[np.int64], sessions: list[str], fold: int) -> dict[int, NDArray[np.int64]]:
    session_of = made.windows.sessions[own]
    test, train = own[session_of == sessions[fold]], own[session_of != sessions[fold]]
    if len(sessions) > 2:
        validates = made.windows.sessions[train] == sessions[(fold + 1) % len(sessions)]
        return {TRAIN: train[~validates], VALIDATION: train[validates], TEST: test}
    late = np.zeros(len(train), bool)
    for recording in np.unique(made.windows.recordings[train]):
        rows = np.flatnonzero(made.windows.recordings[train] == recording)
        order = rows[np.argsort(made.windows.starts[train[rows]], kind="stable")]
        late[order[len(order) - max(1, round(VALIDATION_SHARE * len(order))) :]] = True
    validation, early = train[late], train[~late]
    return {TRAIN: early[~made.near(early, validation)], VALIDATION: validation, TEST: test}


def _held_out_device(made: _Made) -> tuple[Sides, str]:
    devices = sorted(set(made.windows.devices.tolist()))
    if len(devices) < 2:
        raise UserError(f"held_out_device: all recordings are of device {devices[0]}; use rule cross_subject")
    folded, notice = made.folds_of_people()
    parts = []
    for device in devices:
        of_device = made.windows.devices == device
        one = folded.copy()
        one[(folded == TEST) & ~of_device] = UNUSED
        one[(folded != TEST) & of_device] = UNUSED
        # a fold whose test people were not recorded with the device is no fold
        parts += [row for row in one if all((row == side).any() for side in (TRAIN, VALIDATION, TEST))]
    if not parts:
        raise UserError("held_out_device: no device leaves windows for training and validation; use fewer folds")
    return np.stack(parts), notice


def _few_shot(made: _Made) -> tuple[Sides, str]:
    if not made.is_classes:
        raise UserError("few_shot needs classes; use rule within_subject_blocks for a continuous target")
    folded, notice = made.folds_of_people()
    support = np.zeros(made.n_windows, bool)
    query = np.zeros(made.n_windows, bool)
    left_out = []
    for subject in sorted(set(made.windows.subjects.tolist())):
        own = made.in_time(np.flatnonzero(made.windows.subjects == subject))
        labels = made.windows.labels[own]
        first = [own[labels == label][: made.examples] for label in np.unique(labels)]
        chosen = np.concatenate(first)
        rest = own[~np.isin(own, chosen)]
        rest = rest[~made.near(rest, chosen)]
        complete = set(made.windows.labels[rest].tolist()) == set(labels.tolist())
        if len(first) < 2 or not complete or any(len(one) < made.examples for one in first):
            left_out.append(subject)
            continue
        support[chosen], query[rest] = True, True
    sides = np.full_like(folded, UNUSED)
    sides[(folded == VALIDATION) & query] = VALIDATION
    sides[(folded == VALIDATION) & support] = VALIDATION_SUPPORT
    sides[(folded == TEST) & query] = TEST
    sides[(folded == TEST) & support] = SUPPORT
    left = _left_out(left_out, f"have fewer than {made.examples} examples of each class beside those tested")
    return sides, "; ".join(filter(None, (notice, left)))


def _calibration(made: _Made) -> tuple[Sides, str]:
    folded, notice = made.folds_of_people()
    early = calibration_windows(made.windows, made.rule.calibration_s)
    sides = folded.copy()
    sides[(folded == TEST) & early] = CALIBRATION
    return sides, notice


def calibration_windows(windows: Labelled, calibration_s: float) -> NDArray[np.bool_]:
    """Return which windows lie in the first unlabelled signal of their subject; the last window is never one.

    Parameters
    ----------
    windows : Labelled
    calibration_s : float
        Signal of each subject, s.

    Returns
    -------
    bool, shape (windows,)
    """
    made = _Made(windows, SplitRule(), 0, 1, {})
    early = np.zeros(made.n_windows, bool)
    n_most = max(1, int(calibration_s * windows.sfreq / windows.n_samples))
    for subject in np.unique(windows.subjects):
        own = made.in_time(np.flatnonzero(windows.subjects == subject))
        early[own[: min(n_most, len(own) - 1)]] = True
    return early


def _unseen_stimuli(made: _Made) -> tuple[Sides, str]:
    labels, n_folds = made.windows.labels, made.rule.n_folds
    stimuli = [str(label) for label in sorted(set(labels.tolist()))]
    if len(stimuli) < max(3, n_folds):
        raise UserError(f"unseen_stimuli: {len(stimuli)} stimuli are fewer than {max(3, n_folds)} folds; use fewer")
    order = np.array([int(label) for label in hash_order(stimuli, "stimuli", made.seed)])
    block_of = dict(zip(order.tolist(), (np.arange(len(order)) * n_folds // len(order)).tolist(), strict=True))
    blocks = np.array([block_of[label] for label in labels.tolist()])
    sides = np.full((n_folds, made.n_windows), TRAIN, np.int8)
    for fold in range(n_folds):
        sides[fold, blocks == (fold + 1) % n_folds] = VALIDATION
        sides[fold, blocks == fold] = TEST
    return sides, ""


_RULES: dict[str, Callable[[_Made], tuple[Sides, str]]] = {
    "cross_subject": _cross_subject,
    "leave_one_subject_out": _leave_one_subject_out,
    "within_subject_blocks": _within_subject_blocks,
    "cross_session": _cross_session,
    "held_out_device": _held_out_device,
    "few_shot": _few_shot,
    "calibration": _calibration,
    "unseen_stimuli": _unseen_stimuli,
}


def split_rows(task: str, seed: int, windows: Labelled, manifest: SplitManifest) -> Iterator[dict[str, object]]:
    """Yield rows of `emeg.evaluation.protocol.rows.SPLITS`."""
    columns = zip(windows.subjects.tolist(), windows.recordings.tolist(), windows.starts.tolist(), strict=True)
    places = list(columns)
    for fold, row in enumerate(manifest.sides.tolist()):
        for (subject, recording, start), side in zip(places, row, strict=True):
            yield {
                "task": task,
                "seed": seed,
                "fold": fold,
                "subject": subject,
                "recording": recording,
                "start": start,
                "side": SIDES[side],
            }
