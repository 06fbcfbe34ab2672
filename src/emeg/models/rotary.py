"""Rotary positions as real cosines and sines, always in float32 and not part of a state dict."""

from typing import NamedTuple

import torch
from torch import Tensor

BASE = 10000.0


class Rotary(NamedTuple):
    """Tables of shape (steps, width / 2): one value for every step and pair of features."""

    cos: Tensor
    """float32 (steps, width / 2)."""
    sin: Tensor | None
    """float32 (steps, width / 2); None if positions only scale (`rotary: cosine`)."""


def rotary_tables(n_steps: int, width: int, *, mode: str, device: torch.device | None = None) -> Rotary:
    """Compute the tables. Frequencies 10000^(−2i / width) cover the whole width, so that each head has its own band.

    Parameters
    ----------
    n_steps : int
    width : int
        Number of features of all heads together.
    mode : str
        ``complex`` or ``cosine``.
    """
    exponents = torch.arange(0, width, 2, dtype=torch.float32, device=device) / width
    frequencies = 1.0 / BASE**exponents
    angle = torch.outer(torch.arange(n_steps, dtype=torch.float32, device=device), frequencies)
    return Rotary(angle.cos(), angle.sin() if mode == "complex" else None)


def turn(x: Tensor, rotary: Rotary) -> Tensor:
    """Rotate pairs (a, b) of neighbouring features by the angle of their step, in float32.

    With sines the result is (a cos − b sin, a sin + b cos), with cosines only (a cos, b cos).

    Parameters
    ----------
    x : float, shape (..., steps, width)
        Dimensionless features.
    rotary : Rotary
        Tables for at least as many steps.
    """
    pairs = torch.unflatten(x.float(), -1, (-1, 2))
    a, b = pairs[..., 0], pairs[..., 1]
    cos, sin = rotary
    turned = (a * cos, b * cos) if sin is None else (a * cos - b * sin, a * sin + b * cos)
    return torch.stack(turned, dim=-1).flatten(-2).to(x.dtype)
