"""Slow tokens: the log power of a tokenizer's features in each of its windows.

Features follow the phase of rhythms, which is random and cannot be predicted. Their power changes slowly.

Shape letters: B batch, S latent sources, T latent steps, W windows, D features.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from emeg.tokenizers.sizes import TokenizerSizes

POWER_FLOOR = 1e-4
"""Added to power before its logarithm; features are of length 1 or less."""
SPREAD_FLOOR = 0.1
"""Added to the standard deviation of a value before dividing by it."""


class WindowPower(nn.Module):
    """Compute one standardised token for each source and window: log power by feature, in each frequency and in all.

    Parameters
    ----------
    sizes : TokenizerSizes
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, sizes: TokenizerSizes) -> None:
        super().__init__()
        self.steps_per_window = sizes.steps_per_window
        self.n_values = sizes.n_dim * (sizes.steps_per_window // 2 + 1)
        self.register_buffer("centre", torch.zeros(self.n_values))
        self.register_buffer("spread", torch.ones(self.n_values))

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
        return (log_power(features_BSTD, self.steps_per_window) - self.centre) / self.spread

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
            values = log_power(features_BSTD, self.steps_per_window).flatten(0, 2).double()
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
