"""Rules under which each subject is fitted alone, on windows of that subject."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from emeg.errors import UserError
from emeg.evaluation.protocol.splits.division import VALIDATION_SHARE, Division, left_out
from emeg.evaluation.protocol.splits.manifest import TEST, TRAIN, UNUSED, VALIDATION, Sides


def within_subject_blocks(division: Division) -> tuple[Sides, str]:
    """Divide each recording into blocks of time, and test each block with the others."""
    windows, n_folds = division.windows, division.rule.n_folds
    sides = np.full((n_folds, division.n_windows), UNUSED, np.int8)
    without = []
    for subject in sorted(set(windows.subjects.tolist())):
        own = np.flatnonzero(windows.subjects == subject)
        block_of = np.zeros(division.n_windows, np.int64)
        for recording in np.unique(windows.recordings[own]):
            rows = own[windows.recordings[own] == recording]
            rows = rows[np.argsort(windows.starts[rows], kind="stable")]
            block_of[rows] = np.arange(len(rows)) * n_folds // len(rows)
        found = [_blocks(division, own, block_of, fold) for fold in range(n_folds)]
        if all(_is_usable(division, one) for one in found):
            for fold, one in enumerate(found):
                for side, rows in one.items():
                    sides[fold, rows] = side
        else:
            without.append(subject)
    return sides, left_out(without, "have too few windows of each class in each block")


def _blocks(
    division: Division, own: NDArray[np.int64], block_of: NDArray[np.int64], fold: int
) -> dict[int, NDArray[np.int64]]:
    test = own[block_of[own] == fold]
    validation = own[block_of[own] == (fold + 1) % division.rule.n_folds]
    train = own[~np.isin(block_of[own], [fold, (fold + 1) % division.rule.n_folds])]
    validation = validation[~division.near(validation, test)]
    train = train[~division.near(train, np.concatenate([test, validation]))]
    return {TRAIN: train, VALIDATION: validation, TEST: test}


def _is_usable(division: Division, one: Mapping[int, NDArray[np.int64]]) -> bool:
    """Return whether no side is empty and training has every class that the subject's validation and test have."""
    if any(len(rows) == 0 for rows in one.values()):
        return False
    if not division.is_classes:
        return True
    labels = {side: set(division.windows.labels[rows].tolist()) for side, rows in one.items()}
    return len(labels[TRAIN]) > 1 and (labels[VALIDATION] | labels[TEST]) <= labels[TRAIN]


def cross_session(division: Division) -> tuple[Sides, str]:
    """Test each session of a subject with the other sessions of that subject."""
    windows = division.windows
    sessions = {
        subject: sorted(set(windows.sessions[windows.subjects == subject].tolist()))
        for subject in sorted(set(windows.subjects.tolist()))
    }
    n_folds = max(map(len, sessions.values()))
    if n_folds < 2:
        raise UserError("cross_session: no subject has two sessions; use rule within_subject_blocks")
    sides = np.full((n_folds, division.n_windows), UNUSED, np.int8)
    without = []
    for subject, own_sessions in sessions.items():
        own = np.flatnonzero(windows.subjects == subject)
        found = [_sessions(division, own, own_sessions, fold) for fold in range(len(own_sessions))]
        if len(own_sessions) < 2 or not all(_is_usable(division, one) for one in found):
            without.append(subject)
            continue
        for fold, one in enumerate(found):
            for side, rows in one.items():
                sides[fold, rows] = side
    return sides, left_out(without, "have one session, or a session without one of the classes")


def _sessions(
    division: Division, own: NDArray[np.int64], sessions: list[str], fold: int
) -> dict[int, NDArray[np.int64]]:
    session_of = division.windows.sessions[own]
    test, train = own[session_of == sessions[fold]], own[session_of != sessions[fold]]
    if len(sessions) > 2:
        validates = division.windows.sessions[train] == sessions[(fold + 1) % len(sessions)]
        return {TRAIN: train[~validates], VALIDATION: train[validates], TEST: test}
    late = np.zeros(len(train), bool)
    for recording in np.unique(division.windows.recordings[train]):
        rows = np.flatnonzero(division.windows.recordings[train] == recording)
        order = rows[np.argsort(division.windows.starts[train[rows]], kind="stable")]
        late[order[len(order) - max(1, round(VALIDATION_SHARE * len(order))) :]] = True
    validation, early = train[late], train[~late]
    return {TRAIN: early[~division.near(early, validation)], VALIDATION: validation, TEST: test}
