"""Features of spatial covariance, fitted on training windows: tangent space, common spatial patterns, xDAWN.

Shape letters: B batch, C channels, N samples, D features.
"""

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, decimate, sosfiltfilt
from sklearn.base import BaseEstimator, TransformerMixin

from emeg.errors import UserError
from emeg.evaluation.classical.baselines import MAX_NARROW_COMPONENTS, principal_filters, shrunk_covariances
from emeg.evaluation.classical.spectra import Spectra
from emeg.evaluation.rivals.spectral_features import spectra_of

TangentBands = Literal["classical", "broad", "narrow"]
FILTER_BANK_HZ = ((4.0, 8.0), (8.0, 12.0), (12.0, 20.0), (20.0, 30.0))
"""Bands of the filter bank of common spatial patterns, Hz."""
ERP_BAND_HZ = (0.5, 20.0)
"""Band of evoked responses for xDAWN, Hz."""
ERP_RATE = 64.0
"""Rate to which evoked responses are reduced, Hz."""
MAX_FILTERED = 32
"""Most principal components that enter common spatial patterns and xDAWN, which need full rank."""
SHRINKAGE = 0.05
"""Shrinkage of the covariances of common spatial patterns towards a multiple of the identity."""


class TangentFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Covariances of bands, shrunk (OAS), in the tangent space at the Riemannian mean of the training windows.

    Parameters
    ----------
    sfreq : float
        Sampling rate, Hz.
    sensor_types : tuple of int
        `emeg.sensors.SensorType` of each channel.
    bands : {"classical", "broad", "narrow"}
        Each of delta to gamma; 1 to 45 Hz as one band; or bands of 1 Hz, for windows of 2 s or longer.

    References
    ----------
    Barachant et al., IEEE Trans Biomed Eng 59(4):920-928, 2012.
    """

    def __init__(self, sfreq: float, sensor_types: tuple[int, ...], bands: TangentBands = "classical") -> None:
        self.sfreq = sfreq
        self.sensor_types = sensor_types
        self.bands = bands

    def fit(self, X: NDArray[np.floating[Any]], y: object = None) -> Self:
        """Fit spatial filters, and the mean covariance of each band.

        Parameters
        ----------
        X : float, shape (windows, channels, samples)
            V, T or T/m.
        """
        from pyriemann.tangentspace import TangentSpace

        spectra = spectra_of(X, self.sfreq, self.sensor_types)
        self.filters_ = principal_filters(spectra, np.arange(len(X)))
        covariances = self._covariances(spectra)
        self.spaces_ = [TangentSpace(metric="riemann").fit(band) for band in covariances]
        return self

    def transform(self, X: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Compute the features, float64 of shape (windows, features).

        Parameters
        ----------
        X : float, shape (windows, channels, samples)
            V, T or T/m.
        """
        covariances = self._covariances(spectra_of(X, self.sfreq, self.sensor_types))
        parts = [space.transform(band) for space, band in zip(self.spaces_, covariances, strict=True)]
        return np.concatenate(parts, axis=1).astype(np.float64)

    def _covariances(self, spectra: Spectra) -> list[NDArray[np.float64]]:
        classical = list(spectra.classical_bands().values())
        bands, filters = classical, self.filters_
        if self.bands == "broad":
            bands = [np.unique(np.concatenate(classical))]
        elif self.bands == "narrow" and (narrow := spectra.narrow_bands()):
            bands, filters = list(narrow.values()), self.filters_[:MAX_NARROW_COMPONENTS]
        return [
            shrunk_covariances(np.einsum("kc,bcf->bkf", filters, spectra.coefficients[..., bins])) for bins in bands
        ]


class _Components(BaseEstimator):  # type: ignore[misc]
    """Filter windows to a band and project them onto the principal components of the training windows."""

    def __init__(self, sfreq: float, sensor_types: tuple[int, ...], band: tuple[float, float], rate: float) -> None:
        self.sfreq = sfreq
        self.sensor_types = sensor_types
        self.band = band
        self.rate = rate

    def fit(self, signal_BCN: NDArray[np.floating[Any]]) -> Self:
        filters = principal_filters(spectra_of(signal_BCN, self.sfreq, self.sensor_types), np.arange(len(signal_BCN)))
        self.filters_ = filters[:MAX_FILTERED]
        return self

    def apply(self, signal_BCN: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        projected = np.einsum("kc,bcn->bkn", self.filters_, np.asarray(signal_BCN, np.float64))
        filtered = band_pass(projected, self.sfreq, self.band)
        step = max(int(self.sfreq // self.rate), 1) if self.rate else 1
        return np.asarray(decimate(filtered, step, ftype="fir", axis=-1) if step > 1 else filtered)


class CspFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Log variance of common spatial patterns, in one band or in each band of a filter bank.

    Parameters
    ----------
    sfreq : float
        Sampling rate, Hz.
    sensor_types : tuple of int
        `emeg.sensors.SensorType` of each channel.
    bands : tuple of (float, float)
        Bands, Hz.
    n_components : int
        Components of each band.

    References
    ----------
    `mne.decoding.CSP`; the filter bank of Ang et al., IJCNN 2390-2397, 2008.
    """

    def __init__(
        self,
        sfreq: float,
        sensor_types: tuple[int, ...],
        bands: tuple[tuple[float, float], ...] = ((8.0, 30.0),),
        n_components: int = 6,
    ) -> None:
        self.sfreq = sfreq
        self.sensor_types = sensor_types
        self.bands = bands
        self.n_components = n_components

    def fit(self, X: NDArray[np.floating[Any]], y: NDArray[np.int64]) -> Self:
        """Fit the spatial filters of each band.

        Parameters
        ----------
        X : float, shape (windows, channels, samples)
            V, T or T/m.
        y : int64, shape (windows,)
            Class indices.

        Raises
        ------
        UserError
            All windows are of one class.
        """
        import mne
        from mne.decoding import CSP

        if len(np.unique(y)) < 2:
            raise UserError("CSP: all training windows are of one class; use fewer folds")
        self.fitted_ = []
        for band in self.bands:
            components = _Components(self.sfreq, self.sensor_types, band, 0.0).fit(X)
            projected = components.apply(X)
            n_kept = min(self.n_components, projected.shape[1])
            # the components are independent directions, so that rank is known and needs no estimate
            csp = CSP(n_kept, reg=SHRINKAGE, log=True, norm_trace=False, rank={"eeg": projected.shape[1]})
            with mne.use_log_level("ERROR"):
                self.fitted_.append((components, csp.fit(projected, y)))
        return self

    def transform(self, X: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Compute the features, float64 of shape (windows, bands · components).

        Parameters
        ----------
        X : float, shape (windows, channels, samples)
            V, T or T/m.
        """
        import mne

        with mne.use_log_level("ERROR"):
            parts = [csp.transform(components.apply(X)) for components, csp in self.fitted_]
        return np.concatenate(parts, axis=1).astype(np.float64)


class XdawnFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Covariances of windows and evoked responses after xDAWN filters, in tangent space.

    Parameters
    ----------
    sfreq : float
        Sampling rate, Hz.
    sensor_types : tuple of int
        `emeg.sensors.SensorType` of each channel.
    n_filters : int
        xDAWN filters of each class.

    References
    ----------
    Rivet et al., IEEE Trans Biomed Eng 56(8):2035-2043, 2009; `pyriemann.estimation.XdawnCovariances`.
    """

    def __init__(self, sfreq: float, sensor_types: tuple[int, ...], n_filters: int = 2) -> None:
        self.sfreq = sfreq
        self.sensor_types = sensor_types
        self.n_filters = n_filters

    def fit(self, X: NDArray[np.floating[Any]], y: NDArray[np.int64]) -> Self:
        """Fit filters, evoked responses and the mean covariance.

        Parameters
        ----------
        X : float, shape (windows, channels, samples)
            V, T or T/m.
        y : int64, shape (windows,)
            Class indices.
        """
        from pyriemann.estimation import XdawnCovariances
        from pyriemann.tangentspace import TangentSpace

        self.components_ = _Components(self.sfreq, self.sensor_types, ERP_BAND_HZ, ERP_RATE).fit(X)
        projected = self.components_.apply(X)
        n_filters = min(self.n_filters, projected.shape[1])
        self.xdawn_ = XdawnCovariances(n_filters, estimator="oas", xdawn_estimator="oas").fit(projected, y)
        self.space_ = TangentSpace(metric="riemann").fit(self.xdawn_.transform(projected))
        return self

    def transform(self, X: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Compute the features, float64 of shape (windows, features).

        Parameters
        ----------
        X : float, shape (windows, channels, samples)
            V, T or T/m.
        """
        covariances = self.xdawn_.transform(self.components_.apply(X))
        return np.asarray(self.space_.transform(covariances), np.float64)


def band_pass(signal_BCN: NDArray[np.floating[Any]], sfreq: float, band: tuple[float, float]) -> NDArray[np.float64]:
    """Filter windows to a band without delay (Butterworth of order 4, forwards and backwards).

    Parameters
    ----------
    signal_BCN : float, shape (windows, channels, samples)
        Any unit.
    sfreq : float
        Sampling rate, Hz.
    band : tuple of float
        Lowest and highest frequency, Hz; the highest is limited to 95 % of half the rate.
    """
    high = min(band[1], 0.95 * sfreq / 2)
    sos = butter(4, (band[0], high), "bandpass", fs=sfreq, output="sos")
    padded = min(3 * (2 * len(sos) + 1), signal_BCN.shape[-1] - 1)
    return np.asarray(sosfiltfilt(sos, np.asarray(signal_BCN, np.float64), axis=-1, padlen=padded))
