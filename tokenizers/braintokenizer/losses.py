"""What a reconstruction is held to: target, correlation, and the training loss's terms."""

import torch
from torch import Tensor

TARGET_FLOOR = 1e-6
"""Added to a window's standard deviation before dividing by it."""


def at_least_float32(x: Tensor) -> Tensor:
    """Widen half precisions; float32 and float64 stay as they are."""
    return x if x.dtype == torch.float64 else x.float()


def target(x_BCNL: Tensor) -> Tensor:
    """Bring every window of every channel to mean 0 and standard deviation 1 (n−1, plus 1e-6)."""
    x_BCNL = at_least_float32(x_BCNL)
    centred = x_BCNL - x_BCNL.mean(dim=-1, keepdim=True)
    return centred / (x_BCNL.std(dim=-1, keepdim=True) + TARGET_FLOOR)


def correlation(a: Tensor, b: Tensor, *, floor: float = 1e-6) -> Tensor:
    """Pearson correlation over the last dimension; 0 where one of the two is constant."""
    a, b = at_least_float32(a), at_least_float32(b)
    a = a - a.mean(dim=-1, keepdim=True)
    b = b - b.mean(dim=-1, keepdim=True)
    return (a * b).sum(-1) / (a.square().sum(-1).sqrt() * b.square().sum(-1).sqrt() + floor)


def pcc(reconstruction_BCNL: Tensor, target_BCNL: Tensor, channel_mask: Tensor | None = None) -> Tensor:
    """Correlate reconstruction and target within every channel and window.

    Parameters
    ----------
    reconstruction_BCNL, target_BCNL : float, shape (batch, channel, window, sample)
    channel_mask : bool, shape (batch, channel), optional
        True for real channels.

    Returns
    -------
    float32, shape (batch, channel, window)
        NaN in padded channels.
    """
    values_BCN = correlation(reconstruction_BCNL, target_BCNL)
    return values_BCN if channel_mask is None else values_BCN.masked_fill(~channel_mask[..., None], torch.nan)


def mean_over_channels(values: Tensor, channel_mask: Tensor | None) -> Tensor:
    """Average over everything, real channels only; `values` starts with (batch, channel)."""
    if channel_mask is None:
        return values.mean()
    per_channel_BC = values.flatten(2).mean(dim=-1)
    return per_channel_BC.where(channel_mask, 0.0).sum() / channel_mask.sum()


def spectrum(x: Tensor) -> tuple[Tensor, Tensor]:
    """Magnitude and angle of the orthonormal real FFT after a Hamming window, along the last dimension."""
    x = at_least_float32(x)
    window = torch.hamming_window(x.shape[-1], dtype=x.dtype, device=x.device)
    spectrum_complex = torch.fft.rfft(x * window, norm="ortho")
    return spectrum_complex.abs(), spectrum_complex.angle()
