"""Base of transformers that compute features of single windows and fit nothing."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin


class UnfittedFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Transformer whose features of a window do not depend on other windows."""

    def fit(self, X: NDArray[np.floating[Any]], y: object = None) -> Self:
        """Return the transformer; nothing is fitted.

        Parameters
        ----------
        X : float, shape (windows, channels, samples)
            V, T or T/m.
        """
        return self
