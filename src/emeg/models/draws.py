"""Chance in a pretraining step."""

from typing import NamedTuple

import torch
from torch import Tensor


class PretrainingDraws(NamedTuple):
    """What a pretraining step of BrainOmni leaves to chance, dropout apart."""

    uniform_mask: Tensor
    """float32 (B, Q, W) in [0, 1): places above the mask ratio are kept."""
    uniform_mask_token: Tensor
    """float32 (B, Q, W) in [0, 1): masked places up to 0.8 take the mask token, the others another place's feature."""
    shuffle: Tensor
    """int64 (B·Q·W,): the place, counted through the batch, whose feature each place would take."""


def draw_pretraining_step(
    generator: torch.Generator | None, *, shape: tuple[int, int, int], device: torch.device
) -> PretrainingDraws:
    """Draw for (batch, source, step) on the generator's own device and move to `device`."""
    origin = device if generator is None else generator.device
    mask = torch.rand(shape, generator=generator, device=origin)
    token = torch.rand(shape, generator=generator, device=origin)
    shuffle = torch.randperm(mask.numel(), generator=generator, device=origin)
    return PretrainingDraws(mask.to(device), token.to(device), shuffle.to(device))
