"""Slow tokens: the log power of a tokenizer's features, or of its sources' waveforms, in each of its windows.

Features follow the phase of rhythms, which is random and cannot be predicted. Their power changes slowly.

Shape letters: B batch, S latent sources, T latent steps, W windows, L samples in a window, D features.
"""

from collections.abc import Callable, Iterable
from itertools import pairwise

import torch
from torch import Tensor, nn

POWER_FLOOR = 1e-4
"""Added to power before its logarithm; features are of length 1 or less."""
SPREAD_FLOOR = 0.1
"""Added to the standard deviation of a value before dividing by it."""
LOWEST_BIN, BAND_BINS, HIGHEST_BIN = 2, 4, 92
"""Bands of waveforms, in multiples of the lowest frequency of a window: 1 to 2 Hz, then every 2 Hz up to 46 Hz for
windows of 2 s."""


class WindowPower(nn.Module):
    """Compute one standardised token for each source and window.

    Parameters
    ----------
    n_values : int
        Numbers of a token.
    values : callable
        Turns features, shape (batch, sources, steps, n_dim), into (batch, sources, windows, n_values).
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, n_values: int, values: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.n_values = n_values
        self._values = values
        self.register_buffer("centre", torch.zeros(n_values))
        self.register_buffer("spread", torch.ones(n_values))

    def forward(self, features_BSTD: Tensor) -> Tensor:
        """Compute the tokens.

        Parameters
        ----------
        features_BSTD : float, shape (batch, sources, steps, n_dim)
            Features of whole windows, dimensionless.

        Returns
        -------
        float32, shape (batch, sources, windows, n_values)
        """
        return (self._values(features_BSTD) - self.centre) / self.spread

    @torch.no_grad()
    def fit(self, batches: Iterable[Tensor]) -> None:
        """Set mean and standard deviation of every value to those of training segments.

        Parameters
        ----------
        batches : iterable of float tensors, shape (batch, sources, steps, n_dim)
            Features of training segments, dimensionless.
        """
        count, total, squares = 0, torch.zeros(()), torch.zeros(())
        for features_BSTD in batches:
            values = self._values(features_BSTD).flatten(0, 2).double()
            count += len(values)
            total = total + values.sum(dim=0)
            squares = squares + values.square().sum(dim=0)
        if count == 0:
            raise ValueError("no training segment was given")
        mean = total / count
        self.centre.copy_(mean)
        self.spread.copy_((squares / count - mean.square()).clamp(min=0.0).sqrt() + SPREAD_FLOOR)


def log_power(features_BSTD: Tensor, steps_per_window: int) -> Tensor:
    """Compute the log power of each feature in each window, in every frequency above 0 and in their sum.

    Parameters
    ----------
    features_BSTD : float, shape (batch, sources, steps, features)
        Features of whole windows, dimensionless.
    steps_per_window : int

    Returns
    -------
    float32, shape (batch, sources, windows, (steps_per_window // 2 + 1) · features)
        Frequency after frequency, then the sum.
    """
    with torch.autocast(features_BSTD.device.type, enabled=False):
        windows = torch.unflatten(features_BSTD.float(), 2, (-1, steps_per_window))
        spectrum = torch.fft.rfft(windows - windows.mean(dim=3, keepdim=True), dim=3)[:, :, :, 1:]
        power = spectrum.real.square() + spectrum.imag.square()
        return torch.cat([power, power.sum(dim=3, keepdim=True)], dim=3).add(POWER_FLOOR).log().flatten(3)


def waveform_bands(window_length: int) -> list[tuple[int, int]]:
    """Return the bands of `waveform_power` as first frequency and end, in multiples of the lowest of a window."""
    edges = [LOWEST_BIN, *range(BAND_BINS, min(HIGHEST_BIN, window_length // 2) + 1, BAND_BINS)]
    return list(pairwise(edges))


def waveform_power(waves_BSWL: Tensor) -> Tensor:
    """Compute the log power of waveforms in each window and band, with a Hann taper.

    Parameters
    ----------
    waves_BSWL : float, shape (batch, sources, windows, samples of a window)
        Waveforms of latent sources, dimensionless.

    Returns
    -------
    float32, shape (batch, sources, windows, bands)
    """
    with torch.autocast(waves_BSWL.device.type, enabled=False):
        waves_BSWL = waves_BSWL.float()
        taper_L = torch.hann_window(waves_BSWL.shape[-1], device=waves_BSWL.device)
        spectrum = torch.fft.rfft((waves_BSWL - waves_BSWL.mean(dim=-1, keepdim=True)) * taper_L)
        power = spectrum.real.square() + spectrum.imag.square()
        bands = [power[..., low:high].mean(dim=-1) for low, high in waveform_bands(waves_BSWL.shape[-1])]
        return torch.stack(bands, dim=-1).add(POWER_FLOOR).log()
