"""Linear probes for what should not matter: subject, session, dataset, device.

Shape letters: B batch, D features.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.evaluation.rivals.read_outs import LogisticReadOut
from emeg.metrics import balanced_accuracy

PENALTY = 10.0
"""Inverse strength of the penalty of all probes."""
N_FOLDS = 4
"""Folds of a probe that is tested on unseen subjects."""
TRAIN_SHARE = 0.5
"""Share of each recording, from its start, that a probe for subjects is fitted on."""
GAP_SHARE = 0.1
"""Share of each recording after it that is not used, so that neighbouring windows are apart."""


class IdentityProbe(NamedTuple):
    """How well a linear read-out of features tells one property of a window."""

    name: str
    """subject, session, dataset or device."""
    accuracy: float | None
    """Balanced accuracy; None if the property does not vary."""
    chance: float | None
    """One over the number of values."""
    n_values: int
    n_windows: int
    """Windows that were tested."""
    note: str = ""


def probe_identity(
    name: str,
    features_BD: NDArray[np.floating[Any]],
    values: NDArray[np.str_],
    *,
    subjects: NDArray[np.str_],
    recordings: NDArray[np.str_],
    starts: NDArray[np.int64],
) -> IdentityProbe:
    """Fit a linear probe for one property of windows, and test it on windows that are apart.

    A probe for subjects is fitted on the first half of each recording and tested on the end of it. Any other property
    is tested on subjects that the probe was not fitted on, so that it is not found through the subject.

    Parameters
    ----------
    name : str
        Name of the property; ``subject`` selects the division by time.
    features_BD : float, shape (windows, features)
        Features in any unit.
    values : str, shape (windows,)
        Value of the property; no unit.
    subjects, recordings : str, shape (windows,)
        Global name of the subject and recording of each window; no unit.
    starts : int64, shape (windows,)
        First sample of each window, an index into the recording.
    """
    names, labels = np.unique(values, return_inverse=True)
    if len(names) < 2:
        return IdentityProbe(name, None, None, len(names), 0, "the property has a single value")
    if name == "subject":
        pairs = [divide_by_time(recordings, starts)]
    else:
        pairs = _by_subject(subjects, labels)
        if not pairs:
            return IdentityProbe(name, None, None, len(names), 0, "a value has one subject only")
    truth, predicted = [], []
    for train, test in pairs:
        test = test[np.isin(labels[test], labels[train])]
        model = LogisticReadOut(PENALTY, n_classes=len(names)).fit(features_BD[train], labels[train])
        truth.append(labels[test])
        predicted.append(model.predict(features_BD[test]))
    tested = np.concatenate(truth)
    if not len(tested):
        return IdentityProbe(name, None, None, len(names), 0, "recordings are too short to divide")
    accuracy = balanced_accuracy(tested, np.concatenate(predicted))
    return IdentityProbe(name, accuracy, 1.0 / len(np.unique(tested)), len(names), len(tested))


def divide_by_time(
    recordings: NDArray[np.str_], starts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first and the last windows of each recording, with a gap between them.

    Parameters
    ----------
    recordings : str, shape (windows,)
        Recording of each window; no unit.
    starts : int64, shape (windows,)
        First sample of each window, an index into the recording.
    """
    train, test = [], []
    for recording in np.unique(recordings):
        own = np.flatnonzero(recordings == recording)
        own = own[np.argsort(starts[own], kind="stable")]
        end = round(TRAIN_SHARE * len(own))
        train.append(own[:end])
        test.append(own[end + round(GAP_SHARE * len(own)) :])
    return np.concatenate(train), np.concatenate(test)


def _by_subject(
    subjects: NDArray[np.str_], labels: NDArray[np.intp]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return folds by subject, such that each value has subjects in training; empty if that is not possible."""
    of_value = [np.unique(subjects[labels == k]) for k in np.unique(labels)]
    if min(len(own) for own in of_value) < 2:
        return []
    fold_of: dict[str, int] = {}
    for own in of_value:
        for i, subject in enumerate(own.tolist()):
            fold_of.setdefault(subject, i % min(N_FOLDS, len(own)))
    folds = np.array([fold_of[subject] for subject in subjects.tolist()])
    pairs = [(np.flatnonzero(folds != k), np.flatnonzero(folds == k)) for k in np.unique(folds)]
    return [(train, test) for train, test in pairs if len(np.unique(labels[train])) > 1]
