"""Compute tapered Fourier coefficients of windows, the input of the classical baselines.

Shape letters: B batch, C channels, N samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft, rfftfreq
from scipy.signal import detrend

CLASSICAL_BANDS = {"delta": (1.0, 4.0), "theta": (4.0, 8.0), "alpha": (8.0, 13.0), "beta": (13.0, 30.0)} | {
    "gamma": (30.0, 45.0)
}
"""Bands, Hz. The last ends below 50 and 60 Hz mains."""
NARROW_S = 2.0
"""Shortest window, s, that a tapered spectrum resolves into bands of 1 Hz (the main lobe is 4 / duration wide)."""


@dataclass(frozen=True, eq=False)
class Spectra:
    """Fourier coefficients of windows of one set of channels.

    ``coefficients`` complex64 (B, C, F), square-rooted power per Hz, units of the signal; ``freqs`` float64 (F,), Hz;
    ``sensor_type`` int8 (C,); ``pass_band``, Hz, the narrowest of the recordings.
    """

    coefficients: NDArray[np.complex64]
    freqs: NDArray[np.float64]
    sensor_type: NDArray[np.int8]
    pass_band: tuple[float, float]

    @classmethod
    def of(
        cls,
        signal_BCN: NDArray[np.float32],
        *,
        sfreq: float,
        sensor_type: NDArray[np.int8],
        pass_band: tuple[float, float],
    ) -> Self:
        """Remove the linear trend, taper (Hann) and transform; keep coefficients from 1 to 45 Hz.

        Parameters
        ----------
        signal_BCN : float32, shape (windows, channels, samples)
            V, T or T/m.
        sensor_type : int8, shape (channels,)
            Sensor type index of each channel.
        """
        n_samples = signal_BCN.shape[-1]
        taper = np.hanning(n_samples + 1)[:-1]
        density = np.sqrt(2.0 / (sfreq * np.sum(taper**2)))
        freqs = rfftfreq(n_samples, 1.0 / sfreq)
        kept = (freqs >= CLASSICAL_BANDS["delta"][0]) & (freqs <= CLASSICAL_BANDS["gamma"][1])
        straight = detrend(signal_BCN.astype(np.float64), axis=-1)
        coefficients = rfft(straight * taper, axis=-1)[..., kept] * density
        return cls(coefficients.astype(np.complex64), freqs[kept], sensor_type, pass_band)

    @classmethod
    def joined(cls, parts: Sequence["Spectra"]) -> "Spectra":
        """Concatenate windows of the same channels."""
        first = parts[0]
        band = (max(p.pass_band[0] for p in parts), min(p.pass_band[1] for p in parts))
        return cls(np.concatenate([p.coefficients for p in parts]), first.freqs, first.sensor_type, band)

    @property
    def duration_s(self) -> float:
        """Length of a window, s."""
        return float(1.0 / (self.freqs[1] - self.freqs[0])) if len(self.freqs) > 1 else 0.0

    def bins(self, low: float, high: float) -> NDArray[np.intp]:
        """Return the indices of coefficients from `low` up to, not including, `high` Hz inside the pass band."""
        inside = (self.freqs >= self.pass_band[0]) & (self.freqs <= self.pass_band[1])
        return np.flatnonzero((self.freqs >= low) & (self.freqs < high) & inside)

    def classical_bands(self) -> dict[str, NDArray[np.intp]]:
        """Return the coefficients of delta to gamma; a band with less than half of it in the pass band is left out."""
        bands: dict[str, NDArray[np.intp]] = {}
        for name, (low, high) in CLASSICAL_BANDS.items():
            inside = min(high, self.pass_band[1]) - max(low, self.pass_band[0])
            found = self.bins(low, high)
            if inside >= (high - low) / 2 and len(found):
                bands[name] = found
        return bands

    def narrow_bands(self) -> dict[str, NDArray[np.intp]]:
        """Return the coefficients of 1-Hz bands around 2, 3, … 44 Hz, if the windows are long enough for them."""
        if self.duration_s < NARROW_S:
            return {}
        found = {f"{centre} Hz": self.bins(centre - 0.5, centre + 0.5) for centre in range(2, 45)}
        return {name: bins for name, bins in found.items() if len(bins)}

    def power(self, bands: dict[str, NDArray[np.intp]]) -> NDArray[np.float64]:
        """Return the mean power per Hz, shape (B, C, bands).

        Parameters
        ----------
        bands : mapping of str to intp, shape (coefficients,)
            Indices of the coefficients of each band.
        """
        power = np.square(np.abs(self.coefficients))
        return np.stack([power[..., bins].mean(axis=-1, dtype=np.float64) for bins in bands.values()], axis=-1)


def log_power(spectra: Spectra, bands: dict[str, NDArray[np.intp]]) -> NDArray[np.float64]:
    """Return the log power of every channel in each band, shape (windows, channels · bands).

    Parameters
    ----------
    spectra : Spectra
    bands : mapping of str to intp, shape (coefficients,)
        Indices of the coefficients of each band.
    """
    power = spectra.power(bands)
    for kind in np.unique(spectra.sensor_type):
        own = spectra.sensor_type == kind
        # a flat channel has no logarithm: use a floor far below the noise of the other sensors of its type
        floor = 1e-12 * np.maximum(np.median(power[:, own], axis=(1, 2), keepdims=True), 1e-288)
        power[:, own] = np.maximum(power[:, own], floor)
    return np.log(power).reshape(len(power), -1)
