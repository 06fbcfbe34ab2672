"""Chance in a training step, drawn by a generator that is passed in, so that a step can be repeated or prescribed."""

from typing import NamedTuple

import torch
from torch import Tensor


class TokenizerDraws(NamedTuple):
    """What a training step of the tokenizer leaves to chance."""

    channel_order: Tensor
    """int64, (C,) for the whole batch or (B, C): a shuffle of the channels. The first real ones in it are hidden."""
    noise: Tensor
    """float32 (B, C, N, L), standard deviation 1, in the channels' own order. Hidden channels' rows are not used."""


def draw_tokenizer_step(
    generator: torch.Generator | None, *, shape: tuple[int, int, int, int], device: torch.device
) -> TokenizerDraws:
    """Draw one order of channels for the batch, and noise of shape (batch, channel, window, sample).

    The numbers come from the generator's own device and are moved to `device`: a generator on the CPU gives the
    same step everywhere.
    """
    origin = device if generator is None else generator.device
    order_C = torch.randperm(shape[1], generator=generator, device=origin)
    noise_BCNL = torch.randn(shape, generator=generator, device=origin)
    return TokenizerDraws(order_C.to(device), noise_BCNL.to(device))


class Seen(NamedTuple):
    """The channels of a training step that the encoder sees; V is the most that any sample has."""

    channels: Tensor
    """int64 (B, V): channels in drawn order; where a sample has fewer, others fill up."""
    mask: Tensor | None
    """bool (B, V): False for those that fill up. None where nothing had to be filled up."""


def hide_channels(order: Tensor, real_BC: Tensor | None, ratio: float, *, shape: tuple[int, int]) -> Seen:
    """Choose what the encoder sees: of each sample's real channels, the first ⌊ratio · C⌋ in the order are hidden.

    At least one is hidden, but one at least stays visible.

    Parameters
    ----------
    order : int64, shape (C,) or (B, C)
    real_BC : bool, shape (batch, channel), optional
        None: all are real.
    ratio : float
    shape : tuple
        (batch, channel).
    """
    order_BC = order.expand(shape) if order.ndim == 1 else order
    if real_BC is None:
        n_hidden = min(max(int(shape[1] * ratio), 1), shape[1] - 1)
        return Seen(order_BC[:, n_hidden:], None)
    real_in_order_BC = real_BC.gather(1, order_BC)
    n_real_B1 = real_BC.sum(dim=1, keepdim=True)
    n_hidden_B1 = torch.minimum((n_real_B1 * ratio).floor().long().clamp(min=1), n_real_B1 - 1)
    seen_in_order_BC = real_in_order_BC & (real_in_order_BC.cumsum(dim=1) > n_hidden_B1)
    n_most = int((n_real_B1 - n_hidden_B1).max())
    place_BV = seen_in_order_BC.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :n_most]
    return Seen(order_BC.gather(1, place_BV), seen_in_order_BC.gather(1, place_BV))


def dropout(x: Tensor, p: float, *, training: bool, generator: torch.Generator | None) -> Tensor:
    """Drop a share `p` and scale the rest by 1 / (1 − p), while training only; the draw is the generator's."""
    if not training or p == 0.0:
        return x
    origin = x.device if generator is None else generator.device
    kept = torch.rand(x.shape, generator=generator, device=origin) >= p
    return x * kept.to(x.device, x.dtype) / (1.0 - p)
