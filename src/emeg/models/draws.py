"""Random draws of a pretraining step."""

from typing import NamedTuple

import torch
from torch import Tensor


class PretrainingDraws(NamedTuple):
    """Random draws of one pretraining step of BrainOmni, except those of dropout."""

    uniform_mask: Tensor
    """float32 (batch, sources, steps) from 0 to below 1: tokens up to the mask ratio are masked."""
    uniform_mask_token: Tensor
    """float32 (batch, sources, steps) from 0 to below 1: masked tokens up to 0.8 become the mask token, the others take
    the features of another token."""
    shuffle: Tensor
    """int64 (batch · sources · steps,): flat index of the token whose features each token would take."""


def draw_pretraining_step(
    generator: torch.Generator | None, *, shape: tuple[int, int, int], device: torch.device
) -> PretrainingDraws:
    """Draw for (batch, sources, steps) on the generator's device and move to `device`."""
    origin = device if generator is None else generator.device
    mask = torch.rand(shape, generator=generator, device=origin)
    token = torch.rand(shape, generator=generator, device=origin)
    shuffle = torch.randperm(mask.numel(), generator=generator, device=origin)
    return PretrainingDraws(mask.to(device), token.to(device), shuffle.to(device))
