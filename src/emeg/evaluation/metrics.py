"""Compute classification metrics from probabilities, for any classes that a test set holds.

A metric that is not defined is `None` with the reason, never NaN and never a silent zero.
"""

from collections.abc import Callable, Collection
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as sk

from emeg.metrics import BALANCED_ACCURACY, balanced_accuracy

METRICS = (BALANCED_ACCURACY, "auroc", "auprc", "kappa", "weighted_f1")
"""Names in the order of tables."""


class Score(NamedTuple):
    """Value of a metric; `note` states why there is none, or over which classes it was computed."""

    value: float | None
    note: str = ""


def score(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], names: Collection[str] = METRICS
) -> dict[str, Score]:
    """Compute metrics from probabilities.

    Parameters
    ----------
    labels : int, shape (windows,)
        True class indices.
    probabilities : float, shape (windows, classes)
        Probabilities; rows sum to one, and the predicted class is the first of the largest.
    names : collection of str
        Metrics of `METRICS` to compute.

    Returns
    -------
    dict of str to Score
        ``balanced_accuracy``: mean recall over the classes that occur in `labels`. ``auroc``, ``auprc``: for two
        classes those of class 1; for more the mean of one class against the rest, over the classes that occur; not
        defined if only one class occurs. ``kappa``: Cohen's; not defined if labels and predictions are all of one
        class. ``weighted_f1``: F1 weighted by how often a class occurs; a class never predicted counts 0.

    References
    ----------
    The metrics of arXiv 2505.18185, section 4; definitions are those of scikit-learn.
    """
    fault = _fault(labels, probabilities)
    if fault:
        return {name: Score(None, fault) for name in names}
    n_classes = probabilities.shape[1]
    present = np.unique(labels)
    predicted = probabilities.argmax(axis=1)
    note = "" if len(present) == n_classes else f"over the {len(present)} of {n_classes} classes that occur"
    compute: dict[str, Callable[[], Score]] = {
        BALANCED_ACCURACY: lambda: Score(balanced_accuracy(labels, predicted), note),
        "auroc": lambda: _one_vs_rest(sk.roc_auc_score, labels, probabilities, present, note),
        "auprc": lambda: _one_vs_rest(sk.average_precision_score, labels, probabilities, present, note),
        "kappa": lambda: _kappa(labels, predicted, n_classes),
        "weighted_f1": lambda: Score(_weighted_f1(labels, predicted, present), note),
    }
    return {name: compute[name]() for name in names}


def confusion(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    """Count windows by true (row) and predicted (column) class.

    Parameters
    ----------
    labels : int64, shape (windows,)
        True class indices.
    probabilities : float64, shape (windows, classes)
        Probabilities of the classes.

    Returns
    -------
    int64, shape (classes, classes)
    """
    n_classes = probabilities.shape[1]
    if len(labels) == 0:
        return np.zeros((n_classes, n_classes), np.int64)
    matrix = sk.confusion_matrix(labels, probabilities.argmax(axis=1), labels=np.arange(n_classes))
    return np.asarray(matrix, np.int64)


def mean_and_sd(scores: list[Score]) -> tuple[Score, Score]:
    """Return mean and standard deviation (n - 1) over folds; the note counts folds without a value."""
    values = [s.value for s in scores if s.value is not None]
    missing = len(scores) - len(values)
    note = f"{missing} of {len(scores)} folds have no value" if missing else ""
    if not values:
        return Score(None, note or "no folds"), Score(None, note or "no folds")
    sd = Score(float(np.std(values, ddof=1)), note) if len(values) > 1 else Score(None, note or "one fold only")
    return Score(float(np.mean(values)), note), sd


def _fault(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> str:
    if len(labels) == 0:
        return "no windows"
    if not np.isfinite(probabilities).all():
        return f"{int((~np.isfinite(probabilities)).any(axis=1).sum())} of {len(labels)} predictions are not finite"
    return ""


def _one_vs_rest(
    metric: Callable[..., float],
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    present: NDArray[np.int64],
    note: str,
) -> Score:
    if len(present) < 2:
        return Score(None, "one class only occurs")
    n_classes = probabilities.shape[1]
    classes = [1] if n_classes == 2 else present.tolist()
    return Score(float(np.mean([metric(labels == k, probabilities[:, k]) for k in classes])), note)


def _kappa(labels: NDArray[np.int64], predicted: NDArray[np.int64], n_classes: int) -> Score:
    if len(np.unique(np.concatenate([labels, predicted]))) < 2:
        return Score(None, "labels and predictions are all of one class")
    return Score(float(sk.cohen_kappa_score(labels, predicted, labels=np.arange(n_classes))))


def _weighted_f1(labels: NDArray[np.int64], predicted: NDArray[np.int64], present: NDArray[np.int64]) -> float:
    return float(sk.f1_score(labels, predicted, labels=present, average="weighted", zero_division=0))
