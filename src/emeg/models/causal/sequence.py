"""Flatten a grid of codes into sequences in the order in which tokens are predicted.

Shape letters: B batch, N tokens of a sequence, S latent sources, T latent steps, Q quantizer levels, D features.
"""

from typing import NamedTuple

import torch
from torch import Tensor

BASE = 10000.0


class TokenSequence(NamedTuple):
    """Tokens in the order time, source, level. Those of absent sources come last, so that no other token sees them."""

    codes: Tensor
    """int64 (B, N)."""
    time: Tensor
    """int64 (B, N): latent step, counted from the start of the sequence."""
    source: Tensor
    """int64 (B, N)."""
    level: Tensor
    """int64 (B, N)."""
    valid: Tensor
    """bool (B, N): False for tokens of absent sources."""
    order: Tensor
    """int64 (B, N): index of each token in the flattened grid (time, source, level)."""

    def cut(self, start: int, stop: int) -> "TokenSequence":
        """Return the tokens from `start` to `stop`."""
        return TokenSequence(*(part[:, start:stop] for part in self))


def flatten_codes(codes_BSTQ: Tensor, mask_BS: Tensor | None = None) -> TokenSequence:
    """Flatten the codes of all sources into one sequence for each sample.

    Parameters
    ----------
    codes_BSTQ : int64, shape (batch, sources, steps, levels)
        Codes.
    mask_BS : bool, shape (batch, sources), optional
        True for sources that are there.
    """
    batch, sources, steps, levels = codes_BSTQ.shape
    device = codes_BSTQ.device
    axes = (torch.arange(n, device=device) for n in (steps, sources, levels))
    grids = (axis.flatten() for axis in torch.meshgrid(*axes, indexing="ij"))
    time, source, level = (grid.expand(batch, -1) for grid in grids)
    flat = codes_BSTQ.transpose(1, 2).flatten(1)
    if mask_BS is None:
        valid = torch.ones_like(flat, dtype=torch.bool)
        order = torch.arange(flat.shape[1], device=device).expand(batch, -1)
        return TokenSequence(flat, time, source, level, valid, order)
    valid = mask_BS.gather(1, source)
    order = (~valid).to(torch.int8).argsort(dim=1, stable=True)
    flat, time, source, level, valid = (part.gather(1, order) for part in (flat, time, source, level, valid))
    return TokenSequence(flat, time, source, level, valid, order)


def rotary_angles(time: Tensor, source: Tensor, level: Tensor, head_dim: int) -> Tensor:
    """Compute the rotation angles of tokens: half of the pairs turn with time, a quarter each with source and level.

    Parameters
    ----------
    time, source, level : int64, shape (batch, tokens)
        Indices on the three axes.
    head_dim : int
        Features of a head, an even number.

    Returns
    -------
    float32, shape (batch, tokens, head_dim / 2)
        Radians.
    """
    n_pairs = head_dim // 2
    n_each = n_pairs // 4
    parts = []
    for position, n in ((time, n_pairs - 2 * n_each), (source, n_each), (level, n_each)):
        exponents = torch.arange(n, dtype=torch.float32, device=position.device) / max(n, 1)
        parts.append(position[..., None].float() * BASE**-exponents)
    return torch.cat(parts, dim=-1)


def turn_pairs(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate the first half of the features against the second by an angle for each pair.

    Parameters
    ----------
    x : float, shape (batch, heads, tokens, head_dim)
        Dimensionless features.
    angles : float32, shape (batch, tokens, head_dim / 2)
        Radians.
    """
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1).to(x.dtype)
