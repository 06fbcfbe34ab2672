"""Shares of the variance of features by subject and by label, against shuffled nulls.

Shape letters: B batch, D features.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.evaluation.rivals.catalogue import permuted_labels

N_SHUFFLES = 99
"""Shuffles of a null."""


class VarianceShare(NamedTuple):
    """Share of the variance of features between the groups of windows."""

    share: float
    """Sum of squares between groups over the total, features scaled to variance 1."""
    null: float
    """Mean of the same after shuffling."""
    ratio: float
    """Share over null: 1 where groups explain nothing."""
    p: float
    """Share of shuffles, the data included, that reach `share`."""


def share_of_variance(
    features_BD: NDArray[np.floating[Any]],
    groups: NDArray[Any],
    *,
    within: NDArray[np.str_] | None = None,
    seed: int = 0,
) -> VarianceShare:
    """Compute the share of the variance between groups.

    Parameters
    ----------
    features_BD : float, shape (windows, features)
        Features in any unit.
    groups : any dtype, shape (windows,)
        Group of each window, such as its subject or its class index.
    within : str, shape (windows,), optional
        Subjects (no unit): the variance between them is removed first where groups vary within subjects, and groups are
        shuffled within subjects, or among them where each has one group. By default groups are shuffled among windows.
    seed : int
        Seed of the shuffles.
    """
    features = np.asarray(features_BD, np.float64)
    spread = features.std(axis=0)
    scaled = (features - features.mean(axis=0))[:, spread > 0] / spread[spread > 0]
    index = np.unique(groups, return_inverse=True)[1]
    generator = np.random.default_rng(seed)
    if within is None:
        shuffled = [generator.permutation(index) for _ in range(N_SHUFFLES)]
    else:
        shuffled = [permuted_labels(index, within, int(one)) for one in generator.integers(2**31, size=N_SHUFFLES)]
        if any(len(np.unique(index[within == subject])) > 1 for subject in np.unique(within)):
            scaled = scaled - group_means(scaled, np.unique(within, return_inverse=True)[1])
    share = _share(scaled, index)
    nulls = np.array([_share(scaled, one) for one in shuffled])
    null = float(nulls.mean())
    p = float((np.sum(nulls >= share) + 1) / (N_SHUFFLES + 1))
    return VarianceShare(share, null, share / null if null > 0 else 1.0, p)


def group_means(features_BD: NDArray[np.float64], index: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the mean of the group of each window, shape (windows, features).

    Parameters
    ----------
    features_BD : float64, shape (windows, features)
        Features in any unit.
    index : int, shape (windows,)
        Index of the group of each window.
    """
    sums = np.zeros((int(index.max()) + 1, features_BD.shape[1]))
    np.add.at(sums, index, features_BD)
    return np.asarray((sums / np.maximum(np.bincount(index), 1)[:, None])[index])


def _share(scaled: NDArray[np.float64], index: NDArray[np.intp]) -> float:
    total = float(np.sum((scaled - scaled.mean(axis=0)) ** 2))
    between = float(np.sum((group_means(scaled, index) - scaled.mean(axis=0)) ** 2))
    return between / total if total > 0 else 0.0
