"""Windows with the settings of one split, as the rules divide them."""

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from emeg.data.tasks.folds import subject_folds
from emeg.data.tasks.recipes import SplitRule
from emeg.evaluation.protocol.splits.manifest import TEST, TRAIN, UNUSED, VALIDATION, Labelled, Sides

VALIDATION_SHARE = 0.2
"""Share of a subject's training time that validates where no other session can."""


def group_of(name: str, groups: Mapping[str, str]) -> str:
    """Return the key that all names of one person share; the name itself where there is none."""
    return groups.get(name, name)


def matching(sources: NDArray[np.str_], pattern: str | None) -> NDArray[np.bool_]:
    """Return which source files match a pattern; none without a pattern.

    Parameters
    ----------
    sources : str, shape (windows,)
        Paths of source files; no unit.
    pattern : str, optional
        Regular expression.
    """
    if pattern is None:
        return np.zeros(len(sources), bool)
    return np.array([re.search(pattern, source) is not None for source in sources.tolist()], bool)


def left_out(subjects: list[str], reason: str) -> str:
    """Return a notice that names subjects and the reason why they are in no fold; empty without subjects."""
    if not subjects:
        return ""
    listed = f"{', '.join(subjects[:6])}{' …' if len(subjects) > 6 else ''}"
    return f"{len(subjects)} subjects left out, because they {reason}: {listed}"


class Division:
    """Windows with the settings of one split."""

    def __init__(self, windows: Labelled, rule: SplitRule, seed: int, examples: int, groups: Mapping[str, str]) -> None:
        self.windows, self.rule, self.seed, self.examples = windows, rule, seed, examples
        self.groups = np.array([group_of(name, groups) for name in windows.subjects.tolist()])
        self.n_windows = len(self.groups)

    def folds_of_people(self, among: NDArray[np.bool_] | None = None) -> tuple[Sides, str]:
        """Return cross-subject folds, stratified by the labels of the subjects.

        Parameters
        ----------
        among : bool, shape (windows,), optional
            Windows to divide; all by default.
        """
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
        """Sort windows by session, recording and start.

        Parameters
        ----------
        rows : int64, shape (windows,)
            Indices of windows.
        """
        order = sorted(
            rows.tolist(),
            key=lambda i: (self.windows.sessions[i], self.windows.sources[i], self.windows.starts[i]),
        )
        return np.array(order, np.int64)

    def near(self, rows: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of `rows` overlap one of `others` or are closer to it than the gap.

        Parameters
        ----------
        rows, others : int64, shape (windows,)
            Indices of windows.
        """
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
