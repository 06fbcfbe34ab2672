"""Logistic regression for many features and few windows, with a penalty chosen on the validation subjects."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from emeg.data.tasks.folds import Fold
from emeg.errors import UserError
from emeg.evaluation.metrics import score
from emeg.metrics import BALANCED_ACCURACY

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""Inverse penalty strengths C to choose from; features are scaled so that one grid fits any number of them."""


Rows = Fold[NDArray[np.int64]]
"""Indices of the windows of each side of a fold."""


class Setting(NamedTuple):
    """Setting chosen on the validation subjects."""

    features: str
    penalty: float
    validation: float
    """Balanced accuracy on validation."""


class Fitted(NamedTuple):
    """Probabilities for the test windows, float64 (windows, classes), and the setting used."""

    probabilities: NDArray[np.float64]
    setting: Setting | None


class RowSpace(NamedTuple):
    """Scaling of features, and a rotation onto the span of the training windows.

    The penalty of a linear model is invariant to rotation, and a solver is faster with fewer dimensions.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    basis: NDArray[np.float64]
    """Float64, shape (dimensions, features)."""

    @classmethod
    def of(cls, train: NDArray[np.float64]) -> "RowSpace":
        """Compute the scaling and the rotation from training windows.

        Parameters
        ----------
        train : float64, shape (windows, features)
            Features in any unit.
        """
        mean, sd = train.mean(axis=0), train.std(axis=0)
        varies = sd > 1e-12 * np.maximum(np.abs(mean), 1e-300)
        scale = np.where(varies, 1.0 / np.where(varies, sd, 1.0), 0.0) / np.sqrt(max(int(varies.sum()), 1))
        _, size, basis = np.linalg.svd((train - mean) * scale, full_matrices=False)
        return cls(mean, scale, basis[size > 1e-10 * max(float(size.max(initial=0.0)), 1e-300)])

    def apply(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scale and rotate features: float64, shape (windows, dimensions).

        Parameters
        ----------
        features : float64, shape (windows, features)
            Features in the unit of the training windows.
        """
        return np.asarray(((features - self.mean) * self.scale) @ self.basis.T)


class Space(Protocol):
    """Anything that scales and rotates features."""

    def apply(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scale and rotate features: float64, shape (windows, dimensions).

        Parameters
        ----------
        features : float64, shape (windows, features)
            Features in the unit of the training windows.
        """


class SharedSpace:
    """A space that is applied once to each array, for models that differ in their penalty only.

    Parameters
    ----------
    train : float64, shape (windows, features)
        Features of the training windows in any unit.
    """

    def __init__(self, train: NDArray[np.float64]) -> None:
        self._space = RowSpace.of(train)
        self._done: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []

    def apply(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scale and rotate features: float64, shape (windows, dimensions), the same object for the same array.

        Parameters
        ----------
        features : float64, shape (windows, features)
            Features in the unit of the training windows.
        """
        for array, made in self._done:
            if array is features:
                return made
        found = self._space.apply(features)
        self._done.append((features, found))
        return found


def fit_logistic(
    candidates: Mapping[str, NDArray[np.float64]], labels: NDArray[np.int64], n_classes: int, rows: Rows
) -> Fitted:
    """Fit every feature set and penalty on the training windows, choose on validation, and predict the test windows.

    The best setting has the highest balanced accuracy; ties are broken by lower cross-entropy, then by the stronger
    penalty. Classes are weighted equally. A class without a training window gets probability 0.

    Parameters
    ----------
    candidates : mapping of str to float, shape (windows, features)
        Feature sets; scaled here by mean and standard deviation of the training windows.
    labels : int64, shape (windows,)
        Class indices.
    rows : Rows
        Rows of `candidates` and `labels`.

    Raises
    ------
    UserError
        There is no feature set.
    """
    best: tuple[tuple[float, float], Setting, NDArray[np.float64]] | None = None
    for name, features in candidates.items():
        space = RowSpace.of(features[rows.train])
        train, validation, test = (space.apply(features[part]) for part in rows.sides().values())
        for penalty in PENALTIES:
            model = _fit(train, labels[rows.train], penalty)
            on_validation = _probabilities(model, validation, n_classes)
            judged = score(labels[rows.validation], on_validation, [BALANCED_ACCURACY])
            accuracy = judged[BALANCED_ACCURACY].value or 0.0
            rank = (accuracy, -_cross_entropy(labels[rows.validation], on_validation))
            if best is None or rank > best[0]:
                best = rank, Setting(name, penalty, accuracy), _probabilities(model, test, n_classes)
    if best is None:
        raise UserError("logistic regression: there is no feature set to fit; pass at least one")
    return Fitted(best[2], best[1])


def _fit(features: NDArray[np.float64], labels: NDArray[np.int64], penalty: float) -> LogisticRegression | int:
    present = np.unique(labels)
    if len(present) == 1:
        return int(present[0])
    return LogisticRegression(C=penalty, class_weight="balanced", max_iter=5000).fit(features, labels)


def _probabilities(
    model: LogisticRegression | int, features: NDArray[np.float64], n_classes: int
) -> NDArray[np.float64]:
    out = np.zeros((len(features), n_classes))
    if isinstance(model, int):
        out[:, model] = 1.0
    elif len(features):
        out[:, model.classes_] = model.predict_proba(features)
    return out


def _cross_entropy(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    if len(labels) == 0:
        return 0.0
    return float(-np.mean(np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12))))
