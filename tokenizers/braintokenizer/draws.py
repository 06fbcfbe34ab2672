"""Random draws of a training step. They come from a given generator, so that a step can be repeated or prescribed.

Shape letters: B batch, C channels, W windows, L samples in a window.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class TokenizerDraws(NamedTuple):
    """Random draws of one training step of the tokenizer."""

    channel_order: Tensor
    """int64, (C,) for the whole batch or (B, C): a permutation of the channels. The first real channels are hidden."""
    noise: Tensor
    """float32 (B, C, W, L), standard deviation 1, in the original order of the channels. Rows of hidden channels are
    not used."""


def draw_tokenizer_step(
    generator: torch.Generator | None, *, shape: tuple[int, int, int, int], device: torch.device
) -> TokenizerDraws:
    """Draw one order of channels for the batch, and noise of shape (batch, channels, windows, samples).

    Numbers are drawn on the generator's device and moved to `device`: a generator on the CPU gives the same step on
    every device.
    """
    origin = device if generator is None else generator.device
    order_C = torch.randperm(shape[1], generator=generator, device=origin)
    noise_BCWL = torch.randn(shape, generator=generator, device=origin)
    return TokenizerDraws(order_C.to(device), noise_BCWL.to(device))


class Seen(NamedTuple):
    """Channels of a training step that the encoder sees, padded to the largest number of any sample."""

    channels: Tensor
    """int64 (batch, visible): channels in drawn order; samples with fewer visible channels are padded with others."""
    mask: Tensor | None
    """bool (batch, visible): False for padding. None where nothing is padded."""


def hide_channels(order: Tensor, real_BC: Tensor | None, ratio: float, *, shape: tuple[int, int]) -> Seen:
    """Choose the channels that the encoder sees.

    The first ⌊ratio · C⌋ real channels of each sample, in the given order, are hidden: at least one, and never all.

    Parameters
    ----------
    order : int64, shape (channels,) or (batch, channels)
        Permutation of the channel indices.
    real_BC : bool, shape (batch, channels), optional
        True for real channels. None: all are real.
    ratio : float
        Share of the channels to hide.
    shape : tuple
        (batch, channels).
    """
    order_BC = order.expand(shape) if order.ndim == 1 else order
    if real_BC is None:
        first = min(max(int(shape[1] * ratio), 1), shape[1] - 1)
        return Seen(order_BC[:, first:], None)
    real_in_order_BC = real_BC.gather(1, order_BC)
    n_real = real_BC.sum(dim=1, keepdim=True)
    n_hidden = torch.minimum((n_real * ratio).floor().long().clamp(min=1), n_real - 1)
    seen_in_order_BC = real_in_order_BC & (real_in_order_BC.cumsum(dim=1) > n_hidden)
    n_most = int((n_real - n_hidden).max())
    seen_first = seen_in_order_BC.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :n_most]
    return Seen(order_BC.gather(1, seen_first), seen_in_order_BC.gather(1, seen_first))


def hide_regions(order: Tensor, region_BC: Tensor, real_BC: Tensor | None, ratio: float) -> Seen:
    """Choose the channels that the encoder sees when whole regions are hidden.

    Regions are drawn one after another, a region with many channels more often, and hidden as long as at most
    ⌊ratio · C⌋ real channels are hidden. The first region is hidden whatever its size, unless it is the only one of its
    sample: then its first channels are hidden, as `hide_channels` does. A channel without a region is a region of its
    own.

    Parameters
    ----------
    order : int64, shape (channels,) or (batch, channels)
        Permutation of the channel indices; a region is drawn when its first channel comes.
    region_BC : float or int, shape (batch, channels)
        Index of each channel's region; 0 unknown. No unit.
    real_BC : bool, shape (batch, channels), optional
        True for real channels. None: all are real.
    ratio : float
        Share of the channels to hide.

    Returns
    -------
    Seen
        As `hide_channels` returns it: no real channel of a hidden region is among the visible ones.
    """
    n_channels = region_BC.shape[1]
    order_BC = order.expand(region_BC.shape)
    real_BC = torch.ones_like(region_BC, dtype=torch.bool) if real_BC is None else real_BC
    # everything below is in drawn order
    real_BC = real_BC.gather(1, order_BC)
    own = -1 - torch.arange(n_channels, device=order.device)
    region_BC = torch.where(region_BC == 0, own, region_BC.long()).gather(1, order_BC)
    same_BCC = (region_BC[:, :, None] == region_BC[:, None, :]) & real_BC[:, None, :]
    position = torch.arange(n_channels, device=order.device)
    drawn_BC = torch.where(same_BCC, position, n_channels).amin(dim=2)
    up_to_BC = ((drawn_BC[:, None, :] <= drawn_BC[:, :, None]) & real_BC[:, None, :]).sum(dim=2)
    n_real = real_BC.sum(dim=1, keepdim=True)
    most = (n_real * ratio).floor().long().clamp(min=1)
    first = torch.where(real_BC, drawn_BC, n_channels).amin(dim=1, keepdim=True)
    by_region_BC = ((up_to_BC <= most) | (drawn_BC == first)) & real_BC
    by_channel_BC = real_BC & (real_BC.cumsum(dim=1) <= torch.minimum(most, n_real - 1))
    is_only_one = by_region_BC.sum(dim=1, keepdim=True) == n_real
    seen_BC = real_BC & ~torch.where(is_only_one, by_channel_BC, by_region_BC)
    n_most = int(seen_BC.sum(dim=1).max())
    seen_first = seen_BC.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :n_most]
    return Seen(order_BC.gather(1, seen_first), seen_BC.gather(1, seen_first))


def dropout(x: Tensor, p: float, *, training: bool, generator: torch.Generator | None) -> Tensor:
    """Set a random share of the values to 0 and scale the others by 1 / (1 − p), in training only.

    Parameters
    ----------
    x : float, any shape
        Dimensionless features.
    p : float
        Share of the values to set to 0.
    training : bool
    generator : torch.Generator, optional
        Source of the draws; PyTorch's default generator if omitted.
    """
    if not training or p == 0.0:
        return x
    if generator is None and x.device.type != "cpu":
        return F.dropout(x, p)  # one kernel, which compiled code can contain
    origin = x.device if generator is None else generator.device
    kept = torch.rand(x.shape, generator=generator, device=origin) >= p
    return x * kept.to(x.device, x.dtype) / (1.0 - p)
