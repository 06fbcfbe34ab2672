"""Rotary positions as real cosines and sines, always in float32 and not part of a state dict."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BASE = 10000.0


class Rotary(NamedTuple):
    """Tables with a value for every step and pair of features."""

    cos: Tensor
    """float32 (steps, width / 2)."""
    sin: Tensor | None
    """float32 (steps, width / 2); None if positions only scale (`rotary: cosine`)."""
    signed_sin: Tensor | None
    """float32 (steps, width / 2, 2): −sin for the first feature of a pair and sin for the second; None like `sin`."""


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
    if mode != "complex":
        return Rotary(angle.cos(), None, None)
    sin = angle.sin()
    return Rotary(angle.cos(), sin, torch.stack([-sin, sin], dim=-1))


def turn(x: Tensor, rotary: Rotary) -> Tensor:
    """Rotate pairs (a, b) of neighbouring features by the angle of their step, in float32.

    With sines the result is (a cos − b sin, a sin + b cos), with cosines only (a cos, b cos).

    Parameters
    ----------
    x : float, shape (..., steps, width) or (..., steps, n · width)
        Dimensionless features; with n > 1, n groups of features that are rotated alike, such as queries and keys.
    rotary : Rotary
        Tables for exactly as many steps.
    """
    if torch.compiler.is_compiling():
        return _turn(x, rotary.cos, rotary.signed_sin)
    out: Tensor = _Turn.apply(x, rotary.cos, rotary.signed_sin)  # type: ignore[no-untyped-call]
    return out


def _turn(x: Tensor, cos: Tensor, signed_sin: Tensor | None) -> Tensor:
    """Rotate in as few kernels as possible. Each product and each sum is rounded as in the formula."""
    pairs = torch.unflatten(x, -1, (-1, cos.shape[-1], 2))  # (..., steps, groups, width / 2, 2)
    turned = pairs * cos[:, None, :, None]
    if signed_sin is not None:
        turned = turned + pairs.flip(-1) * signed_sin[:, None]
    out: Tensor = turned.flatten(-3).to(x.dtype)
    return out


def _turn_on_gpu(x: Tensor, cos: Tensor, signed_sin: Tensor | None) -> Tensor:
    """Rotate with half the memory traffic of `_turn`.

    One kernel multiplies, adds and stores the result in the precision of `x`; it may round the sum only once.
    """
    if signed_sin is None:
        return _turn(x, cos, None)
    pairs = torch.unflatten(x, -1, (-1, cos.shape[-1], 2))
    turned = torch.empty_like(pairs, memory_format=torch.contiguous_format)
    torch.addcmul(pairs * cos[:, None, :, None], pairs.flip(-1), signed_sin[:, None], out=turned)
    return turned.flatten(-3)


class _Turn(torch.autograd.Function):
    """`_turn` with the rotation by the opposite angle as its gradient. Nothing but the tables is saved."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, signed_sin: Tensor | None) -> Tensor:  # noqa: ANN401 - autograd's own
        ctx.save_for_backward(cos, signed_sin)
        return _turn_on(x.device)(x, cos, signed_sin)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401 - autograd's own
        cos, signed_sin = ctx.saved_tensors
        back = None if signed_sin is None else signed_sin.flip(-1)
        return _turn_on(gradient.device)(gradient, cos, back), None, None


def _turn_on(device: torch.device) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    return _turn_on_gpu if device.type == "cuda" else _turn
