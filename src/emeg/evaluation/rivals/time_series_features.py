"""The 22 time-series features of catch22, for the channels of single windows.

Shape letters: B batch, C channels, N samples.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from emeg.evaluation.rivals.row_cache import CACHE
from emeg.evaluation.rivals.unfitted import UnfittedFeatures

MAX_CHANNELS = 16
"""Most channels to describe, spread evenly over the rows: a channel of 512 samples takes 2 ms."""


class Catch22Features(UnfittedFeatures):
    """Mean, standard deviation and the features of catch22 of each channel.

    The features of catch22 do not depend on the unit of a channel; mean and standard deviation are logarithmic in it.

    Parameters
    ----------
    max_channels : int
        Most channels to use.

    References
    ----------
    Lubba et al., Data Min Knowl Disc 33:1821-1852, 2019.
    """

    def __init__(self, max_channels: int = MAX_CHANNELS) -> None:
        self.max_channels = max_channels

    def transform(self, X: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Compute the features, float64 of shape (windows, 23 · channels).

        Parameters
        ----------
        X : float, shape (windows, channels, samples)
            V, T or T/m.
        """
        chosen = np.unique(np.linspace(0, X.shape[1] - 1, min(self.max_channels, X.shape[1])).round().astype(int))
        return CACHE.features("catch22", X[:, chosen], self._compute)

    def _compute(self, X: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        import pycatch22

        signal_BCN = np.asarray(X, np.float64)
        spread = signal_BCN.std(axis=-1)
        scaled_BCN = signal_BCN / np.where(spread > 0, spread, 1.0)[..., None]
        found = np.array(
            [[pycatch22.catch22_all(channel.tolist())["values"] for channel in window] for window in scaled_BCN]
        )
        # a flat channel has no such features
        found = np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0)
        power = np.log(np.maximum(spread, 1e-30))[..., None]
        return np.concatenate([found, power], axis=-1).reshape(len(X), -1)
