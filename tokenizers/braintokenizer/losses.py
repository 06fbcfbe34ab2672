"""Reconstruction target, correlation, and the terms of the training loss.

Shape letters: B batch, C channels, W windows, L samples in a window.
"""

from typing import NamedTuple

import torch
from torch import Tensor

TARGET_FLOOR = 1e-6
"""Added to a window's standard deviation before dividing by it."""
PHASE_WEIGHT = 0.5
SPECTRAL_WEIGHT = 2.0
"""Weight of the complex spectral term; with 2, it and the L1 term start at about the same size."""


class TokenizerLosses(NamedTuple):
    """Loss terms of one training step, scalars. Only `total` carries a gradient."""

    total: Tensor
    """ramp · (time + amplitude + 0.5 · phase) + exp(−pcc) + commitment; with `spectral_loss` complex,
    ramp · (time + 2 · amplitude) + exp(−pcc) + commitment."""
    time: Tensor
    """Mean absolute difference."""
    pcc: Tensor
    """Pearson correlation of reconstruction and target per channel and window, averaged."""
    amplitude: Tensor
    """Mean absolute difference of the magnitudes of the spectra, or of complex spectra (`spectral_loss` complex)."""
    phase: Tensor
    """Mean absolute difference of the angles of the spectra, rad, not wrapped; 0 with `spectral_loss` complex."""
    commitment: Tensor
    """0.25 · mean squared distance of latents and code vectors."""


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


def step_losses(
    x_BCWL: Tensor,
    target_BCWL: Tensor,
    commitment: Tensor,
    channel_mask: Tensor | None,
    *,
    ramp: float,
    has_angles: bool,
) -> TokenizerLosses:
    """Compute the loss of a training step and its terms, in float32 under any autocast.

    Parameters
    ----------
    x_BCWL, target_BCWL : float, shape (batch, channels, windows, samples)
        Reconstruction and target, dimensionless.
    commitment : float32, scalar
        Loss of the quantizer, dimensionless.
    channel_mask : bool, shape (batch, channels), optional
        True for real channels. None: all are real.
    ramp : float
        Weight of the terms other than correlation and commitment.
    has_angles : bool
        Whether the spectral terms compare magnitudes and angles, or complex spectra.
    """
    with torch.autocast(x_BCWL.device.type, enabled=False):
        x_BCWL = at_least_float32(x_BCWL)
        # before the other terms: the order of the terms is that in which their gradients are added, bit for bit
        spectra = [spectrum(x_BCWL), spectrum(target_BCWL)] if has_angles else []
        time = mean_over_channels((x_BCWL - target_BCWL).abs(), channel_mask)
        correlated = mean_over_channels(correlation(x_BCWL, target_BCWL), channel_mask)
        if spectra:
            (magnitude, angle), (target_magnitude, target_angle) = spectra
            amplitude = mean_over_channels((magnitude - target_magnitude).abs(), channel_mask)
            phase = mean_over_channels((angle - target_angle).abs(), channel_mask)
            total = ramp * (time + amplitude + PHASE_WEIGHT * phase) + torch.exp(-correlated) + commitment
        else:
            amplitude = mean_over_channels(spectral_distance(x_BCWL, target_BCWL), channel_mask)
            phase = torch.zeros_like(amplitude)
            total = ramp * (time + SPECTRAL_WEIGHT * amplitude) + torch.exp(-correlated) + commitment
    terms = (term.detach() for term in (time, correlated, amplitude, phase, commitment))
    return TokenizerLosses(total, *terms)
