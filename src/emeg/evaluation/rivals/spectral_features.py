"""Spectral features of single windows: log band power, and slope and offset of the aperiodic part.

No feature depends on other windows, so none can be fitted on test subjects.

Shape letters: B batch, C channels, N samples, D features.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.errors import UserError
from emeg.evaluation.classical.spectra import Spectra, log_power
from emeg.evaluation.rivals.row_cache import CACHE
from emeg.evaluation.rivals.unfitted import UnfittedFeatures

FIT_RANGE_HZ = (2.0, 40.0)
"""Frequencies of the aperiodic fit: above the high-pass of ingest, below mains."""
N_REWEIGHTINGS = 8
"""Rounds of the robust fit; slopes change by less than 0.001 afterwards."""
PEAK_SPREAD = 1.5
"""Residual above the fit, in robust standard deviations, from which a frequency is taken for a part of a peak."""
FULL_BAND_HZ = (0.0, 1000.0)
"""Pass band of windows whose recordings' pass bands are not known."""

BandsName = Literal["classical", "narrow"]


class BandPower(UnfittedFeatures):
    """Log power of each channel in delta to gamma, or in bands of 1 Hz where windows are 2 s or longer.

    Parameters
    ----------
    sfreq : float
        Sampling rate, Hz.
    sensor_types : tuple of int
        `emeg.sensors.SensorType` of each channel.
    bands : {"classical", "narrow"}
        Bands to use.
    """

    def __init__(self, sfreq: float, sensor_types: tuple[int, ...], bands: BandsName = "classical") -> None:
        self.sfreq = sfreq
        self.sensor_types = sensor_types
        self.bands = bands

    def transform(self, X: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Compute the features, float64 of shape (windows, channels · bands).

        Parameters
        ----------
        X : float, shape (windows, channels, samples)
            V, T or T/m.
        """
        return CACHE.features(f"BandPower({self.sfreq}, {self.sensor_types}, {self.bands})", X, self._compute)

    def _compute(self, signal_BCN: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        spectra = spectra_of(signal_BCN, self.sfreq, self.sensor_types)
        narrow = spectra.narrow_bands() if self.bands == "narrow" else {}
        return log_power(spectra, narrow or spectra.classical_bands())


class AperiodicFit(NamedTuple):
    """Aperiodic part of power spectra: log10 power per Hz is ``offset - exponent · log10 frequency``."""

    offset: NDArray[np.float64]
    """Float64, shape of the spectra without frequencies; log10 of squared signal units per Hz at 1 Hz."""
    exponent: NDArray[np.float64]
    """Float64, same shape, dimensionless: 0 for white noise, 2 for brown noise."""

    def power(self, freqs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the power per Hz of the aperiodic part, shape (..., frequencies).

        Parameters
        ----------
        freqs : float64, shape (frequencies,)
            Frequencies above 0, Hz.
        """
        return np.asarray(10.0 ** (self.offset[..., None] - self.exponent[..., None] * np.log10(freqs)))


def fit_aperiodic(
    power: NDArray[np.floating[Any]], freqs: NDArray[np.float64], fit_range: tuple[float, float] = FIT_RANGE_HZ
) -> AperiodicFit:
    """Fit a line to each power spectrum on logarithmic axes, robust against peaks of rhythms.

    Frequencies that lie more than `PEAK_SPREAD` robust standard deviations above the line are left out, and the line is
    fitted again until the rounds end.

    Parameters
    ----------
    power : float, shape (..., frequencies)
        Power per Hz, squared units of the signal (V²/Hz, T²/Hz).
    freqs : float64, shape (frequencies,)
        Hz.
    fit_range : tuple of float
        Lowest and highest frequency of the fit, Hz.

    Raises
    ------
    UserError
        Fewer than four frequencies lie in the range.

    References
    ----------
    The model without a knee of Donoghue et al., Nat Neurosci 23:1655-1665, 2020, eq. 3.
    """
    inside = (freqs >= fit_range[0]) & (freqs <= fit_range[1])
    if inside.sum() < 4:
        raise UserError(
            f"aperiodic fit: {int(inside.sum())} frequencies lie between {fit_range[0]:g} and {fit_range[1]:g} Hz, and"
            " four are needed; use longer windows"
        )
    x = np.log10(freqs[inside])
    y = np.log10(np.maximum(np.asarray(power, np.float64)[..., inside], 1e-300))
    weight = np.ones_like(y)
    for _ in range(N_REWEIGHTINGS):
        intercept, slope = _weighted_line(x, y, weight)
        residual = y - intercept[..., None] - slope[..., None] * x
        spread = 1.4826 * np.median(np.abs(residual), axis=-1, keepdims=True)
        weight = np.where(residual > PEAK_SPREAD * spread, 0.0, 1.0)
    return AperiodicFit(offset=intercept, exponent=-slope)


class AperiodicFeatures(UnfittedFeatures):
    """Exponent, and optionally offset, of the aperiodic part of each channel of a window.

    Parameters
    ----------
    sfreq : float
        Sampling rate, Hz.
    with_offset : bool
        Whether the offset, the overall power, is a feature too.
    """

    def __init__(self, sfreq: float, *, with_offset: bool = False) -> None:
        self.sfreq = sfreq
        self.with_offset = with_offset

    def transform(self, X: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Compute the features, float64 of shape (windows, channels) or (windows, 2 · channels).

        Parameters
        ----------
        X : float, shape (windows, channels, samples)
            V, T or T/m.
        """
        return CACHE.features(f"AperiodicFeatures({self.sfreq}, {self.with_offset})", X, self._compute)

    def _compute(self, signal_BCN: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        spectra = spectra_of(signal_BCN, self.sfreq, (0,) * signal_BCN.shape[1])
        found = fit_aperiodic(np.square(np.abs(spectra.coefficients)), spectra.freqs)
        parts = [found.exponent, found.offset] if self.with_offset else [found.exponent]
        return np.concatenate(parts, axis=1)


def spectra_of(signal_BCN: NDArray[np.floating[Any]], sfreq: float, sensor_types: tuple[int, ...]) -> Spectra:
    """Compute the spectra of windows.

    Parameters
    ----------
    signal_BCN : float, shape (windows, channels, samples)
        V, T or T/m.
    sfreq : float
        Sampling rate, Hz.
    sensor_types : tuple of int
        `emeg.sensors.SensorType` of each channel.
    """
    return Spectra.of(
        np.asarray(signal_BCN, np.float32),
        sfreq=sfreq,
        sensor_type=np.array(sensor_types, np.int8),
        pass_band=FULL_BAND_HZ,
    )


def _weighted_line(
    x: NDArray[np.float64], y: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    total = weight.sum(axis=-1)
    mean_x, mean_y = (weight * x).sum(axis=-1) / total, (weight * y).sum(axis=-1) / total
    centred = x - mean_x[..., None]
    spread = (weight * centred**2).sum(axis=-1)
    slope = (weight * centred * (y - mean_y[..., None])).sum(axis=-1) / np.maximum(spread, 1e-300)
    return mean_y - slope * mean_x, slope
