"""Reconstruction target, correlation, and the terms of the training loss.

Shape letters: B batch, C channels, W windows, L samples in a window.
"""

import torch
from torch import Tensor

TARGET_FLOOR = 1e-6
"""Added to a window's standard deviation before dividing by it."""


def at_least_float32(x: Tensor) -> Tensor:
    """Convert half precisions to float32; leave float32 and float64 unchanged.

    Parameters
    ----------
    x : float, any shape
        Any unit, or dimensionless.
    """
    return x if x.dtype == torch.float64 else x.float()


def target(x_BCWL: Tensor) -> Tensor:
    """Standardise every window of every channel to mean 0 and standard deviation 1 (n−1, plus 1e-6).

    Parameters
    ----------
    x_BCWL : float, shape (batch, channels, windows, samples)
        Normalised signal, dimensionless.

    Returns
    -------
    float32, shape (batch, channels, windows, samples)
    """
    x_BCWL = at_least_float32(x_BCWL)
    centred = x_BCWL - x_BCWL.mean(dim=-1, keepdim=True)
    return centred / (x_BCWL.std(dim=-1, keepdim=True) + TARGET_FLOOR)


def correlation(a: Tensor, b: Tensor, *, floor: float = 1e-6) -> Tensor:
    """Compute the Pearson correlation over the last dimension; 0 where one of the two is constant.

    Parameters
    ----------
    a, b : float, shape (..., samples)
        Signals in any unit.
    floor : float
        Added to the product of the norms.

    Returns
    -------
    float32, shape (...)
    """
    a, b = at_least_float32(a), at_least_float32(b)
    a = a - a.mean(dim=-1, keepdim=True)
    b = b - b.mean(dim=-1, keepdim=True)
    return (a * b).sum(-1) / (a.square().sum(-1).sqrt() * b.square().sum(-1).sqrt() + floor)


def pcc(reconstruction_BCWL: Tensor, target_BCWL: Tensor, channel_mask: Tensor | None = None) -> Tensor:
    """Correlate reconstruction and target within every channel and window.

    Parameters
    ----------
    reconstruction_BCWL, target_BCWL : float, shape (batch, channels, windows, samples)
        Normalised signals, dimensionless.
    channel_mask : bool, shape (batch, channels), optional
        True for real channels.

    Returns
    -------
    float32, shape (batch, channels, windows)
        NaN in padded channels.
    """
    values_BCW = correlation(reconstruction_BCWL, target_BCWL)
    return values_BCW if channel_mask is None else values_BCW.masked_fill(~channel_mask[..., None], torch.nan)


def mean_over_channels(values: Tensor, channel_mask: Tensor | None) -> Tensor:
    """Average over all dimensions, counting real channels only.

    Parameters
    ----------
    values : float, shape (batch, channels, ...)
        Any unit, or dimensionless.
    channel_mask : bool, shape (batch, channels), optional
        True for real channels. None: all are real.
    """
    if channel_mask is None:
        return values.mean()
    per_channel_BC = values.flatten(2).mean(dim=-1)
    return per_channel_BC.where(channel_mask, 0.0).sum() / channel_mask.sum()


def spectral_distance(a: Tensor, b: Tensor) -> Tensor:
    """Compute the L1 distance of the complex orthonormal spectra of two signals, by frequency.

    There is no taper: with one, errors at the ends of a window would hardly count.

    Parameters
    ----------
    a, b : float, shape (..., samples)
        Signals, dimensionless.

    Returns
    -------
    float32, shape (..., frequencies)
    """
    distance: Tensor = torch.fft.rfft(at_least_float32(a) - at_least_float32(b), norm="ortho").abs()
    return distance


def spectrum(x: Tensor) -> tuple[Tensor, Tensor]:
    """Compute magnitude and angle (radians) of the orthonormal real FFT after a Hamming window.

    Parameters
    ----------
    x : float, shape (..., samples)
        Normalised signal, dimensionless.
    """
    x = at_least_float32(x)
    window = torch.hamming_window(x.shape[-1], dtype=x.dtype, device=x.device)
    spectrum_complex = torch.fft.rfft(x * window, norm="ortho")
    return spectrum_complex.abs(), spectrum_complex.angle()
