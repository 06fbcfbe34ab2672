"""Erase from features what a linear read-out could use to tell subjects apart (LEACE).

Shape letters: B batch, D features.
"""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

TOLERANCE = 1e-8
"""Eigenvalues of the covariance below this share of the largest, and correlations below it, count as zero."""


class LinearEraser(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """The smallest change of features after which no linear read-out of them knows the group.

    After it the mean of every group is the same, so that a linear read-out with any convex loss predicts no better than
    a constant. The change is applied to new windows, also of groups that were not fitted.

    References
    ----------
    Belrose et al., LEACE: Perfect linear concept erasure in closed form, arXiv 2306.03819, theorem 4.3.
    """

    def fit(self, X: NDArray[np.floating[Any]], y: NDArray[Any]) -> Self:
        """Find the directions of the groups.

        Parameters
        ----------
        X : float, shape (windows, features)
            Features in any unit.
        y : any dtype, shape (windows,)
            Group of each window, such as an index or a name.
        """
        features = np.asarray(X, np.float64)
        self.mean_ = features.mean(axis=0)
        # features of very different sizes would put small ones below the tolerance
        spread = features.std(axis=0)
        self.scale_ = np.where(spread > 0, spread, 1.0)
        centred = (features - self.mean_) / self.scale_
        groups = np.unique(y, return_inverse=True)[1]
        concept = np.eye(int(groups.max()) + 1)[groups]
        concept -= concept.mean(axis=0)
        covariance = centred.T @ centred / len(centred)
        size, axes = np.linalg.eigh(covariance)
        kept = size > TOLERANCE * max(float(size[-1]), 1e-300)
        root = np.sqrt(size[kept])
        whiten, colour = axes[:, kept] / root, axes[:, kept] * root
        left, strength, _ = np.linalg.svd(whiten.T @ (centred.T @ concept) / len(centred), full_matrices=False)
        # in units of correlation, since the features are whitened
        directions = left[:, strength > TOLERANCE]
        self.rank_ = directions.shape[1]
        self.remove_ = whiten @ directions
        self.restore_ = colour @ directions
        return self

    def transform(self, X: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return the features without the directions of the groups, float64 of shape (windows, features).

        Parameters
        ----------
        X : float, shape (windows, features)
            Features in the unit of those fitted.
        """
        centred = (np.asarray(X, np.float64) - self.mean_) / self.scale_
        erased = centred - (centred @ self.remove_) @ self.restore_.T
        return np.asarray(erased * self.scale_ + self.mean_)
