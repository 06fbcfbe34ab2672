"""Test a fitting procedure as a black box: what it does to test windows must not depend on other test windows.

Shape letters: B batch.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.evaluation.leaks.setup import Check

TOLERANCE = 1e-5
"""Largest difference of a probability that rounding explains: networks sum in another order for other batches."""


class Outcome(NamedTuple):
    """Result of a procedure."""

    predictions: NDArray[np.float64]
    """Float64, shape (test windows,) or (test windows, classes)."""
    setting: str
    """Text of the setting that was chosen."""


ISOLATION = "isolation"
"""Name of the check."""

Procedure = Callable[[NDArray[Any], NDArray[Any]], Outcome]
"""Function of all windows and all labels that fits on training windows, chooses on validation windows and predicts the
test windows. Which windows are which must be fixed inside."""


def check_isolation(procedure: Procedure, X: NDArray[Any], labels: NDArray[Any], test: NDArray[np.int64]) -> Check:
    """Check that test windows and their labels influence nothing but their own predictions.

    The procedure runs three times: as it is; with the labels of the test windows permuted, which must change nothing;
    and with every second test window replaced by a larger and noisier one, which must not change the predictions of the
    others, nor the setting. A scaler fitted on all windows, a setting chosen on test windows and a normalisation over
    the test windows are found.

    Parameters
    ----------
    procedure : callable
    X : float, shape (windows, …)
        Signal in V, T or T/m, or features.
    labels : int64 or float64, shape (windows,)
        Class indices or targets.
    test : int64, shape (test windows,)
        Indices of the test windows, at least two.
    """
    generator = np.random.default_rng(0)
    base = procedure(X, labels)
    found = []
    relabelled = labels.copy()
    relabelled[test] = np.roll(np.sort(labels[test]), len(test) // 2)
    if np.array_equal(relabelled, labels):
        relabelled[test] = generator.permutation(labels[test])
    again = procedure(X, relabelled)
    if again.setting != base.setting:
        found.append(f"the setting depends on the labels of test windows: {base.setting} became {again.setting}")
    if _differ(again.predictions, base.predictions):
        found.append("predictions depend on the labels of test windows")
    changed = X.copy()
    replaced = test[1::2]
    noise = generator.normal(size=changed[replaced].shape) * 5 * float(np.std(X))
    changed[replaced] = (5 * changed[replaced] + noise).astype(X.dtype)
    moved = procedure(changed, labels)
    if moved.setting != base.setting:
        found.append(f"the setting depends on test windows: {base.setting} became {moved.setting}")
    if _differ(moved.predictions[0::2], base.predictions[0::2]):
        found.append("predictions of test windows depend on other test windows")
    title = "Test windows influence nothing but their own predictions"
    return Check(ISOLATION, title, not found, stops=True, found=tuple(found))


def _differ(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    return one.shape != other.shape or bool(np.max(np.abs(one - other), initial=0.0) > TOLERANCE)
