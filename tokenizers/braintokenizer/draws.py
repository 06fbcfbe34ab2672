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
