"""Equaliser: one fixed zero-phase gain over frequency for each sensor type, fitted on training subjects.

Brain signals lose power with frequency, and a network encodes what carries the variance. The equaliser flattens the
spectrum before the encoder, and its inverse restores the signal after the decoder (docs/explanation/study.md).

Signals are extended by their mirror image, so that a gain for every frequency of the extended signal is a zero-phase
filter, which the reciprocal gain inverts exactly.

Shape letters: B batch, C channels, N samples, W windows, L samples in a window, K frequencies of the grid.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emeg.tokenizers.braintokenizer.config import N_OUTER_TYPES

WINDOW = 512
"""Samples of a window whose spectrum is measured: 2 s at 256 Hz, so that the grid has steps of 0.5 Hz."""
GRID_SIZE = WINDOW // 2 + 1
LOWEST, HIGHEST = 2, 180
"""Frequencies of the grid (1 and 90 Hz at 256 Hz) outside which the gain is constant: below, windows of 2 s resolve no
spectrum; above, standardised recordings hold nothing."""
SMOOTHING = 0.15
"""Standard deviation of the smoothing of power over the logarithm of frequency: about a quarter of an octave, so that
the gain follows neither single rhythms nor the notch at the mains frequency."""
FLOOR = 1e-4
"""Smallest power, relative to the largest, that the gain is fitted to. Above their low-pass, recordings hold only the
noise of their number format; without the floor, the gain would amplify this noise to the level of the signal."""


class PowerSum(NamedTuple):
    """Sum of power spectra of windows, by sensor type, and the number of windows."""

    power: Tensor
    """float64, shape (types, frequencies of the grid)."""
    n_windows: Tensor
    """float64, shape (types,)."""


def sum_power(x_BCN: Tensor, sensor_type_BC: Tensor, n_types: int = N_OUTER_TYPES) -> PowerSum:
    """Sum the power spectra of half-overlapping Hann windows of all channels of each sensor type.

    Parameters
    ----------
    x_BCN : float32, shape (batch, channels, samples)
        Output of `normalise_signal`, dimensionless.
    sensor_type_BC : int, shape (batch, channels)
        Codes of `SensorType`.
    n_types : int
        Sensor types that the network knows.
    """
    if x_BCN.shape[-1] < WINDOW:
        x_BCN = F.pad(x_BCN, (0, WINDOW - x_BCN.shape[-1]))
    x_BCWL = x_BCN.double().unfold(-1, WINDOW, WINDOW // 2)
    taper_L = torch.hann_window(WINDOW, dtype=x_BCWL.dtype, device=x_BCWL.device)
    scale = WINDOW * taper_L.square().sum() / 2
    power_BCK = (torch.fft.rfft(x_BCWL * taper_L).abs().square() / scale).sum(dim=2)
    member = F.one_hot(sensor_type_BC.long(), n_types).to(power_BCK.dtype)
    return PowerSum(torch.einsum("bct,bck->tk", member, power_BCK), member.sum(dim=(0, 1)) * x_BCWL.shape[2])


class Equaliser(nn.Module):
    """Zero-phase filter with one gain over frequency for each sensor type; gain 1 until `fit` is called."""

    gain: Tensor

    def __init__(self, n_types: int = N_OUTER_TYPES) -> None:
        super().__init__()
        self.register_buffer("gain", torch.ones(n_types, GRID_SIZE))

    def forward(self, x_BCN: Tensor, sensor_type_BC: Tensor) -> Tensor:
        """Filter a signal.

        Parameters
        ----------
        x_BCN : float32, shape (batch, channels, samples)
            Normalised signal, dimensionless.
        sensor_type_BC : int, shape (batch, channels)
            Codes: 0 EEG, 1 magnetometer, 2 gradiometer.

        Returns
        -------
        float32, shape (batch, channels, samples)
        """
        return self._filter(x_BCN, sensor_type_BC, sign=1.0)

    def invert(self, x_BCN: Tensor, sensor_type_BC: Tensor) -> Tensor:
        """Undo `forward`, exactly up to rounding for a signal of the same length.

        Parameters
        ----------
        x_BCN : float32, shape (batch, channels, samples)
            Equalised signal, dimensionless.
        sensor_type_BC : int, shape (batch, channels)
            Codes: 0 EEG, 1 magnetometer, 2 gradiometer.

        Returns
        -------
        float32, shape (batch, channels, samples)
        """
        return self._filter(x_BCN, sensor_type_BC, sign=-1.0)

    def _filter(self, x_BCN: Tensor, sensor_type_BC: Tensor, *, sign: float) -> Tensor:
        with torch.autocast(x_BCN.device.type, enabled=False):
            x_BCN = x_BCN.float()
            n_samples = x_BCN.shape[-1]
            mirrored = torch.cat([x_BCN, x_BCN.flip(-1)], dim=-1)
            log_gain = F.interpolate(
                self.gain.float().log()[None], size=n_samples + 1, mode="linear", align_corners=True
            )[0]
            gain = (sign * log_gain).exp()[sensor_type_BC.long()]
            filtered: Tensor = torch.fft.irfft(torch.fft.rfft(mirrored) * gain, n=2 * n_samples)
            return filtered[..., :n_samples]

    @torch.no_grad()
    def fit(self, measured: PowerSum, exponent: float) -> None:
        """Fit the gains to the mean power spectra of training subjects.

        After the equaliser, mean power falls as frequency^(−exponent) and the variance of each sensor type is 1.
        Types that were not measured take the mean of the logarithmic gains of the others.

        Parameters
        ----------
        measured : PowerSum of float64 tensors, shape (types, frequencies) and (types,)
            Sum of `sum_power` over training segments, dimensionless.
        exponent : float
            0 gives a white spectrum, 1 equal power in every octave.
        """
        present = measured.n_windows > 0
        if not bool(present.any()):
            raise ValueError("no training segment was measured")
        log_gain = torch.stack(
            [
                _fitted(power_K / count, exponent).log()
                for power_K, count in zip(measured.power[present], measured.n_windows[present], strict=True)
            ]
        )
        self.gain.copy_(log_gain.mean(dim=0).exp().to(self.gain.dtype).expand_as(self.gain))
        self.gain[present.to(self.gain.device)] = log_gain.exp().to(self.gain)


def _fitted(power_K: Tensor, exponent: float) -> Tensor:
    grid_K = torch.arange(GRID_SIZE, dtype=power_K.dtype, device=power_K.device)
    log_K = grid_K.clamp(min=0.5).log()
    weight = torch.exp(-0.5 * ((log_K[:, None] - log_K[None]) / SMOOTHING) ** 2)
    weight[:, grid_K < LOWEST - 0.5] = 0.0
    weight[:, grid_K > HIGHEST] = 0.0
    inner_K = grid_K.long().clamp(LOWEST, HIGHEST)
    smooth_K = ((weight @ power_K) / weight.sum(dim=1).clamp(min=1e-12))[inner_K]
    smooth_K = torch.maximum(smooth_K, FLOOR * smooth_K.max())
    gain_K = inner_K.to(power_K.dtype) ** (-exponent / 2) / smooth_K.sqrt()
    sides_K = torch.full_like(power_K, 2.0)  # every frequency but the first and the last stands for two
    sides_K[0] = sides_K[-1] = 1.0
    variance = (sides_K * power_K * gain_K.square()).sum() / 2
    return gain_K / variance.sqrt().clamp(min=1e-12)
