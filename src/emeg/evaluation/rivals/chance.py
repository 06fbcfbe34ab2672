"""Models that do not look at the data: chance and random guesses.

Shape letters: B batch.
"""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin


class ChanceClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Predict the same class frequencies for every window: those of the labels that it is fitted on.

    Parameters
    ----------
    n_classes : int
        Columns of the probabilities.
    """

    def __init__(self, n_classes: int) -> None:
        self.n_classes = n_classes

    def fit(self, X: NDArray[Any] | None, y: NDArray[np.int64]) -> Self:
        """Count the classes.

        Parameters
        ----------
        X : any dtype, shape (windows, …), or None
            Not used; any unit.
        y : int64, shape (windows,)
            Class indices.
        """
        self.classes_ = np.arange(self.n_classes)
        self.shares_ = np.bincount(y, minlength=self.n_classes) / len(y)
        return self

    def predict_proba(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Return the class frequencies for each window, float64 of shape (windows, classes).

        Parameters
        ----------
        X : any dtype, shape (windows, …)
            Only its length is used; any unit.
        """
        return np.tile(self.shares_, (len(X), 1))

    def predict(self, X: NDArray[Any]) -> NDArray[np.int64]:
        """Return the most frequent class for each window.

        Parameters
        ----------
        X : any dtype, shape (windows, …)
            Only its length is used; any unit.
        """
        return np.asarray(self.predict_proba(X).argmax(axis=1), np.int64)


class DummyOutput(BaseEstimator):  # type: ignore[misc]
    """A dummy of scikit-learn whose probabilities have a column for each class of the task.

    Parameters
    ----------
    dummy : estimator
        `sklearn.dummy.DummyClassifier` or `sklearn.dummy.DummyRegressor`.
    n_classes : int
        Number of classes; 0 for a regression.
    """

    def __init__(self, dummy: Any, n_classes: int) -> None:  # noqa: ANN401 - an estimator of scikit-learn
        self.dummy = dummy
        self.n_classes = n_classes

    def fit(self, X: NDArray[Any] | None, y: NDArray[Any]) -> Self:
        """Fit the dummy to the labels.

        Parameters
        ----------
        X : any dtype, shape (windows, …), or None
            Not used; any unit.
        y : int64 or float64, shape (windows,)
            Class indices, or targets in any unit.
        """
        self.dummy.fit(np.zeros((len(y), 1)), y)
        if self.n_classes:
            self.classes_ = np.arange(self.n_classes)
        return self

    def predict(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return a guess for each window.

        Parameters
        ----------
        X : any dtype, shape (windows, …)
            Only its length is used; any unit.
        """
        return np.asarray(self.dummy.predict(np.zeros((len(X), 1))))

    def predict_proba(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Return 1 for the guessed class of each window, float64 of shape (windows, classes).

        Parameters
        ----------
        X : any dtype, shape (windows, …)
            Only its length is used; any unit.
        """
        found = np.zeros((len(X), self.n_classes))
        found[:, self.dummy.classes_] = self.dummy.predict_proba(np.zeros((len(X), 1)))
        return found
