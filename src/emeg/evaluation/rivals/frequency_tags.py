"""Canonical correlation with sines at the frequencies of flickering stimuli.

Shape letters: B batch, C channels, N samples, D features.
"""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from emeg.evaluation.rivals.spatial_features import band_pass

SEARCH_HZ = tuple(np.arange(4.0, 40.01, 0.25).tolist())
"""Stimulation frequencies that are tried for each class, Hz."""
MAX_WINDOWS = 60
"""Most training windows of a class that its frequency is chosen on."""
BAND_HZ = (3.0, 80.0)
"""Band of the responses and their harmonics, Hz."""
MAX_COMPONENTS = 16
"""Most principal components of a window that enter a correlation: with more, noise alone correlates with sines."""


class CcaFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Largest canonical correlation of a window with sines and cosines at the frequency of each class.

    The frequency of a class is chosen on the training windows: the one at which its windows correlate most, compared
    with the windows of the other classes. So the names of the classes are not needed.

    Parameters
    ----------
    sfreq : float
        Sampling rate, Hz.
    n_harmonics : int
        Harmonics of each frequency, the first included.

    References
    ----------
    Lin et al., IEEE Trans Biomed Eng 53(12):2610-2614, 2006.
    """

    def __init__(self, sfreq: float, n_harmonics: int = 2) -> None:
        self.sfreq = sfreq
        self.n_harmonics = n_harmonics

    def fit(self, X: NDArray[np.floating[Any]], y: NDArray[np.int64]) -> Self:
        """Choose the frequency of each class.

        Parameters
        ----------
        X : float, shape (windows, channels, samples)
            V, T or T/m.
        y : int64, shape (windows,)
            Class indices.
        """
        chosen = np.sort(np.concatenate([np.flatnonzero(y == k)[:MAX_WINDOWS] for k in np.unique(y)]))
        found = self._correlations(X[chosen], SEARCH_HZ)
        labels = np.asarray(y)[chosen]
        overall = found.mean(axis=0)
        self.freqs_ = tuple(
            SEARCH_HZ[int(np.argmax(found[labels == k].mean(axis=0) - overall))] for k in np.unique(labels)
        )
        return self

    def transform(self, X: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Compute the correlations, float64 of shape (windows, classes).

        Parameters
        ----------
        X : float, shape (windows, channels, samples)
            V, T or T/m.
        """
        return self._correlations(X, self.freqs_)

    def _correlations(self, signal_BCN: NDArray[np.floating[Any]], freqs: tuple[float, ...]) -> NDArray[np.float64]:
        filtered_BCN = band_pass(signal_BCN, self.sfreq, BAND_HZ)
        references = [sines(f, self.n_harmonics, signal_BCN.shape[-1], self.sfreq) for f in freqs]
        return np.array(
            [[canonical_correlation(window, r) for r in references] for window in map(_basis, filtered_BCN)]
        )


def sines(freq: float, n_harmonics: int, n_samples: int, sfreq: float) -> NDArray[np.float64]:
    """Return orthonormal sines and cosines at a frequency and its harmonics, shape (samples, 2 · harmonics).

    Harmonics at or above half of the sampling rate are left out.
    """
    time_s = np.arange(n_samples) / sfreq
    phases = [2 * np.pi * freq * k * time_s for k in range(1, n_harmonics + 1) if freq * k < sfreq / 2]
    waves = np.array([wave for phase in phases for wave in (np.sin(phase), np.cos(phase))])
    waves -= waves.mean(axis=1, keepdims=True)
    return np.asarray(np.linalg.qr(waves.T)[0])


def canonical_correlation(basis_a: NDArray[np.float64], basis_b: NDArray[np.float64]) -> float:
    """Return the largest canonical correlation of two sets of signals, given by orthonormal bases.

    Parameters
    ----------
    basis_a, basis_b : float64, shape (samples, dimensions)
        Orthonormal columns without a mean, dimensionless.

    References
    ----------
    Björck and Golub, Math Comput 27(123):579-594, 1973.
    """
    return float(np.linalg.norm(basis_a.T @ basis_b, ord=2))


def _basis(signal_CN: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return an orthonormal basis of the principal time courses of a window, shape (samples, components)."""
    centred_CN = signal_CN - signal_CN.mean(axis=1, keepdims=True)
    spread = np.sqrt(np.mean(centred_CN**2, axis=1, keepdims=True))
    # channels of different units weigh the same
    scaled_CN = centred_CN / np.where(spread > 0, spread, 1.0)
    _, size, basis = np.linalg.svd(scaled_CN, full_matrices=False)
    kept = size > 1e-8 * max(float(size[0]), 1e-300)
    return np.asarray(basis[kept][:MAX_COMPONENTS].T)
