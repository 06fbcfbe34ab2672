"""Linear read-outs of features: logistic regression and ridge regression, with the features scaled by training rows.

Shape letters: B batch, D features.
"""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.linear_model import LogisticRegression
from sklearn.utils.metadata_routing import UNUSED

from emeg.errors import UserError
from emeg.evaluation.classical.logistic import RowSpace, Space


class LogisticReadOut(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Logistic regression with equal weight for each class.

    Parameters
    ----------
    penalty : float
        Inverse strength C of the penalty; features are scaled so that one range fits any number of them.
    n_classes : int
        Columns of the probabilities. A class without a training row has probability 0.
    """

    __metadata_request__score = {"sample_weight": UNUSED}  # noqa: RUF012 - scikit-learn's name; windows count alike

    def __init__(self, penalty: float = 1.0, *, n_classes: int = 2) -> None:
        self.penalty = penalty
        self.n_classes = n_classes

    def fit(self, X: NDArray[np.floating[Any]], y: NDArray[np.int64]) -> Self:
        """Fit the regression.

        Parameters
        ----------
        X : float, shape (windows, features)
            Features in any unit.
        y : int64, shape (windows,)
            Class index of every window.

        Raises
        ------
        UserError
            A feature is not finite.
        """
        return self.fit_in(RowSpace.of(checked_features(X)), X, y)

    def fit_in(self, space: Space, X: NDArray[np.floating[Any]], y: NDArray[np.int64]) -> Self:
        """Fit the regression in a space that several penalties share.

        Parameters
        ----------
        space : Space
            ``RowSpace.of(X)``, or ``SharedSpace(X)``.
        X : float, shape (windows, features)
            Features in any unit.
        y : int64, shape (windows,)
            Class index of every window.
        """
        features_BD = checked_features(X)
        self.classes_ = np.arange(self.n_classes)
        self.space_ = space
        present = np.unique(y)
        self.only_class_ = int(present[0]) if len(present) == 1 else None
        if self.only_class_ is None:
            model = LogisticRegression(C=self.penalty, class_weight="balanced", max_iter=5000)
            self.model_ = model.fit(self.space_.apply(features_BD), y)
        return self

    def predict_proba(self, X: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return probabilities, float64 of shape (windows, classes).

        Parameters
        ----------
        X : float, shape (windows, features)
            Features in the unit of those fitted.
        """
        found = np.zeros((len(X), self.n_classes))
        if self.only_class_ is not None:
            found[:, self.only_class_] = 1.0
        elif len(X):
            found[:, self.model_.classes_] = self.model_.predict_proba(self.space_.apply(checked_features(X)))
        return found

    def predict(self, X: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
        """Return the most probable class index of each window.

        Parameters
        ----------
        X : float, shape (windows, features)
            Features in the unit of those fitted.
        """
        return np.asarray(self.predict_proba(X).argmax(axis=1), np.int64)


class RidgeReadOut(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Ridge regression in closed form, of one or several targets.

    Parameters
    ----------
    penalty : float
        Strength of the penalty, relative to the mean variance of a scaled feature times the number of windows.
    n_classes : int
        Above 0: `y` are class indices, and the targets are 1 for the class of a window and 0 elsewhere, with equal
        weight for each class. 0: `y` are the targets.
    """

    __metadata_request__score = {"sample_weight": UNUSED}  # noqa: RUF012 - scikit-learn's name; windows count alike

    def __init__(self, penalty: float = 1.0, *, n_classes: int = 0) -> None:
        self.penalty = penalty
        self.n_classes = n_classes

    def fit(self, X: NDArray[np.floating[Any]], y: NDArray[Any]) -> Self:
        """Fit the regression.

        Parameters
        ----------
        X : float, shape (windows, features)
            Features in any unit.
        y : float64 or int64, shape (windows,) or (windows, targets)
            Targets in any unit, or class indices.

        Raises
        ------
        UserError
            A feature is not finite.
        """
        return self.fit_in(RowSpace.of(checked_features(X)), X, y)

    def fit_in(self, space: Space, X: NDArray[np.floating[Any]], y: NDArray[Any]) -> Self:
        """Fit the regression in a space that several penalties share.

        Parameters
        ----------
        space : Space
            ``RowSpace.of(X)``, or ``SharedSpace(X)``.
        X : float, shape (windows, features)
            Features in any unit.
        y : float64 or int64, shape (windows,) or (windows, targets)
            Targets in any unit, or class indices.
        """
        features_BD = checked_features(X)
        labels = np.asarray(y)
        weight = np.ones(len(labels))
        targets = labels.astype(np.float64)
        if self.n_classes:
            self.classes_ = np.arange(self.n_classes)
            targets = np.eye(self.n_classes)[labels]
            share = np.bincount(labels, minlength=self.n_classes) / len(labels)
            weight = 1.0 / (share[labels] * np.count_nonzero(share))
        self.space_ = space
        scaled_BD = self.space_.apply(features_BD)
        self.is_one_target_ = targets.ndim == 1
        targets = targets.reshape(len(targets), -1)
        self.middle_ = np.average(scaled_BD, axis=0, weights=weight)
        self.intercept_ = np.average(targets, axis=0, weights=weight)
        centred_BD = (scaled_BD - self.middle_) * np.sqrt(weight)[:, None]
        wanted = (targets - self.intercept_) * np.sqrt(weight)[:, None]
        gram = centred_BD.T @ centred_BD
        gram[np.diag_indices_from(gram)] += self.penalty * len(labels) / max(features_BD.shape[1], 1)
        self.coef_ = np.linalg.solve(gram, centred_BD.T @ wanted)
        return self

    def predict(self, X: NDArray[np.floating[Any]]) -> NDArray[Any]:
        """Return the targets, float64, or the class indices, int64, of each window.

        Parameters
        ----------
        X : float, shape (windows, features)
            Features in the unit of those fitted.
        """
        found = self._scores(X)
        if self.n_classes:
            return np.asarray(found.argmax(axis=1), np.int64)
        return np.asarray(found[:, 0] if self.is_one_target_ else found)

    def predict_proba(self, X: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return the scores of the classes, clipped to 0 to 1 and scaled to sum 1, shape (windows, classes).

        Parameters
        ----------
        X : float, shape (windows, features)
            Features in the unit of those fitted.
        """
        if not self.n_classes:
            raise UserError("ridge: a regression has no probabilities; use predict, or set n_classes")
        # a small floor keeps the order of the scores where all of them are below 0
        scores = np.clip(self._scores(X), 1e-6, 1.0)
        return np.asarray(scores / scores.sum(axis=1, keepdims=True))

    def _scores(self, X: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        return np.asarray(
            (self.space_.apply(checked_features(X)) - self.middle_) @ self.coef_ + self.intercept_, np.float64
        )


READ_OUTS = ("logistic", "ridge")
"""Linear read-outs of frozen features by name."""
PENALTIES = {"logistic": (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0), "ridge": (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)}
"""Penalties to choose from on validation, by read-out; `LogisticReadOut` and `RidgeReadOut` state their meaning."""


def read_out(name: str, penalty: float, *, n_classes: int) -> LogisticReadOut | RidgeReadOut:
    """Create a linear read-out.

    Parameters
    ----------
    name : str
        One of `READ_OUTS`.
    penalty : float
        Penalty in the meaning of that read-out.
    n_classes : int
        Number of classes; 0 for a regression, which needs ridge.

    Raises
    ------
    UserError
        There is no such read-out, or it does not fit the kind of task.
    """
    if name not in READ_OUTS:
        raise UserError(f"read-out {name!r}: there is none of this name; use one of {', '.join(READ_OUTS)}")
    if name == "ridge":
        return RidgeReadOut(penalty, n_classes=n_classes)
    if n_classes < 2:
        raise UserError(f"read-out logistic: {n_classes} classes; use the read-out ridge for a regression")
    return LogisticReadOut(penalty, n_classes=n_classes)


def checked_features(features_BD: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return features as float64 after a check.

    Parameters
    ----------
    features_BD : float, shape (windows, features)
        Features in any unit.

    Raises
    ------
    UserError
        The array has another shape, or a value is not finite.
    """
    found_BD = np.asarray(features_BD, np.float64)
    if found_BD.ndim != 2:
        raise UserError(
            f"features: shape {found_BD.shape} is not (windows, features); pass one row of features for each window"
        )
    if not np.isfinite(found_BD).all():
        n_wrong = int((~np.isfinite(found_BD)).any(axis=1).sum())
        raise UserError(
            f"features: {n_wrong} of {len(found_BD)} windows have values that are not finite; leave those windows out,"
            " or correct the features"
        )
    return found_BD
