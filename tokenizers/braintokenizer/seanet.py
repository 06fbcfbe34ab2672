"""SEANet: a convolutional encoder and decoder for one channel at a time (arXiv 2009.02095, 2210.13438).

Activations are (row, time, feature) in memory; a row is one window of one channel. Convolutions see that memory as
a channels-last image of height 1, which spares the reordering that (row, feature, time) would cost. Every ELU here
stands before a convolution, which computes it together with its padding.
"""

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.checkpoint import checkpoint

RESIDUAL_KERNEL = 3
CPU_ELEMENTS = 1 << 20
"""Numbers in the largest activation on a CPU, where rows are taken a few at a time: 4 MiB stay in cache and below the
allocator's threshold for mapping fresh pages. Rows do not see each other, so the result is the same."""
COMPILED_ROWS = 2048
"""Rows taken at once by compiled layers elsewhere: one shape, so that they are compiled once."""


def _as_image(x_RTD: Tensor) -> Tensor:
    return x_RTD.transpose(1, 2).unsqueeze(2)


def _from_image(x_RD1T: Tensor) -> Tensor:
    return x_RD1T.squeeze(2).transpose(1, 2)


def pad_reflecting(x_RTD: Tensor, left: int, right: int) -> Tensor:
    """Mirror both ends in time, without repeating the first and the last value."""
    if left == right == 0:
        return x_RTD
    parts = [x_RTD]
    if left:
        parts.insert(0, x_RTD[:, 1 : left + 1].flip(1))
    if right:
        parts.append(x_RTD[:, -right - 1 : -1].flip(1))
    return torch.cat(parts, dim=1)


class _PaddedELU(torch.autograd.Function):
    """ELU written into its padded place. Only the result is kept: the slope is 1 or result + 1."""

    @staticmethod
    def forward(ctx: Any, x_RTD: Tensor, left: int, right: int) -> Tensor:  # noqa: ANN401 - autograd's own
        rows, time, n_dim = x_RTD.shape
        padded = x_RTD.new_empty(rows, left + time + right, n_dim)
        inner = padded[:, left : left + time]
        torch.ops.aten.elu.out(x_RTD, 1.0, 1.0, 1.0, out=inner)
        if left:
            padded[:, :left] = inner[:, 1 : left + 1].flip(1)
        if right:
            padded[:, left + time :] = inner[:, -right - 1 : -1].flip(1)
        ctx.save_for_backward(padded)
        ctx.pad = (left, right)
        return padded

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401 - autograd's own
        (padded,) = ctx.saved_tensors
        left, right = ctx.pad
        end = padded.shape[1] - right
        back: Tensor = torch.ops.aten.elu_backward(gradient, 1.0, 1.0, 1.0, True, padded)
        inner = back[:, left:end]
        if left:
            inner[:, 1 : left + 1] += back[:, :left].flip(1)
        if right:
            inner[:, -right - 1 : -1] += back[:, end:].flip(1)
        return inner, None, None


def elu_then_pad(x_RTD: Tensor, left: int = 0, right: int = 0) -> Tensor:
    """ELU, then `pad_reflecting`, in one pass over the memory."""
    if torch.compiler.is_compiling():
        return pad_reflecting(F.elu(x_RTD), left, right)
    out: Tensor = _PaddedELU.apply(x_RTD, left, right)  # type: ignore[no-untyped-call]
    return out


class Conv(nn.Module):
    """Convolution in time with weight norm and reflect padding, of the ELU where asked; time shrinks by the stride."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int = 1, *, elu: bool = False) -> None:
        super().__init__()
        self.elu = elu
        self.conv = weight_norm(nn.Conv1d(n_in, n_out, kernel, stride=stride))
        self.stride = stride
        self.pad = ((kernel - stride + 1) // 2, (kernel - stride) // 2)

    def forward(self, x_RTD: Tensor) -> Tensor:
        """Map (rows, time, n_in) to (rows, time / stride, n_out)."""
        image = _as_image(elu_then_pad(x_RTD, *self.pad) if self.elu else pad_reflecting(x_RTD, *self.pad))
        out = F.conv2d(image, self.conv.weight.unsqueeze(2), self.conv.bias, stride=(1, self.stride))
        return _from_image(out)


class TransposedConv(nn.Module):
    """Transposed convolution of the ELU with weight norm, kernel twice the stride; time grows by the stride."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.convtr = weight_norm(nn.ConvTranspose1d(n_in, n_out, 2 * stride, stride=stride))
        self.stride = stride

    def forward(self, x_RTD: Tensor) -> Tensor:
        """Map (rows, time, n_in) to (rows, time · stride, n_out); the overhang is cut, the odd sample on the left."""
        weight, right = self.convtr.weight.unsqueeze(2), self.stride // 2
        out = F.conv_transpose2d(
            _as_image(elu_then_pad(x_RTD)), weight, self.convtr.bias, stride=(1, self.stride), padding=(0, right)
        )
        return _from_image(out)[:, self.stride - 2 * right :]


class ResidualBlock(nn.Module):
    """ELU, convolution to half the width, ELU, convolution back, beside a pointwise shortcut."""

    def __init__(self, n_dim: int) -> None:
        super().__init__()
        half = n_dim // 2
        first, second = Conv(n_dim, half, RESIDUAL_KERNEL, elu=True), Conv(half, n_dim, 1, elu=True)
        self.block = nn.Sequential(nn.Identity(), first, nn.Identity(), second)
        self.shortcut = Conv(n_dim, n_dim, 1)

    def forward(self, x_RTD: Tensor) -> Tensor:
        """Map (rows, time, n_dim) to the same shape."""
        out: Tensor = self.shortcut(x_RTD) + self.block(x_RTD)
        return out


class SkippedLSTM(nn.Module):
    """Two LSTM layers, their input added to their output."""

    def __init__(self, n_dim: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(n_dim, n_dim, num_layers=2, batch_first=True)

    def forward(self, x_RTD: Tensor) -> Tensor:
        """Map (rows, time, n_dim) to the same shape."""
        out: Tensor = self.lstm(x_RTD)[0]
        return out + x_RTD


class _Seanet(nn.Module):
    """Layers before an LSTM, the LSTM, layers after it. Identities keep the published numbering of the layers."""

    model: nn.Sequential

    def _start(self, layers: list[nn.Module], *, widest: int) -> None:
        """Take the layers; `widest` numbers are held for each step of a row where that is most."""
        self.model = nn.Sequential(*layers)
        self._widest = widest
        place = next(i for i, layer in enumerate(layers) if isinstance(layer, SkippedLSTM))
        self._lstm = slice(place, place + 1)
        self._compiled: dict[str, Callable[[Tensor], Tensor]] = {}
        self.checkpointing = False

    def __getstate__(self) -> dict[str, Any]:
        # A copy compiles anew: what was compiled computes with the weights of the original.
        return {**self.__dict__, "_compiled": {}}

    def _before(self, x_RTD: Tensor) -> Tensor:
        out: Tensor = self.model[: self._lstm.start](x_RTD)
        return out

    def _after(self, x_RTD: Tensor) -> Tensor:
        out: Tensor = self.model[self._lstm.stop :](x_RTD)
        return out

    def compile_layers(self, backend: str) -> None:
        """Compile what stands before and after the LSTM, which would make a compiled region eager as a whole."""
        self._compiled = {
            part.__name__: torch.compile(part, dynamic=False, fullgraph=True, backend=backend)
            for part in (self._before, self._after)
        }

    def forward(self, x_RTD: Tensor) -> Tensor:
        """Map rows independently; on a CPU a few at a time. Normed weights are computed once a pass."""
        on_cpu = x_RTD.device.type == "cpu"
        size = max(1, CPU_ELEMENTS // (x_RTD.shape[1] * self._widest)) if on_cpu else COMPILED_ROWS
        if self.checkpointing and self.training and torch.is_grad_enabled():
            # Normed weights are computed anew with the rest: the second pass must keep what the first did.
            parts = [checkpoint(self.model, rows, use_reentrant=False) for rows in torch.split(x_RTD, size)]
            return torch.cat(parts)
        if self._compiled:
            return self._forward_compiled(x_RTD, size)
        with parametrize.cached():
            if not on_cpu or len(x_RTD) <= size:
                out: Tensor = self.model(x_RTD)
                return out
            return torch.cat([self.model(rows) for rows in torch.split(x_RTD, size)])

    def _forward_compiled(self, x_RTD: Tensor, size: int) -> Tensor:
        parts = []
        for rows in torch.split(x_RTD, size):
            filled = F.pad(rows, (0, 0, 0, 0, 0, size - len(rows)))
            hidden = self.model[self._lstm](self._compiled["_before"](filled))
            parts.append(self._compiled["_after"](hidden)[: len(rows)])
        return torch.cat(parts)


class SeanetEncoder(_Seanet):
    """(rows, samples, 1) → (rows, steps, n_dim)."""

    def __init__(self, n_filters: int, ratios: tuple[int, ...], n_dim: int, kernel: int, last_kernel: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [Conv(1, n_filters, kernel)]
        width = n_filters
        for stride in reversed(ratios):
            layers += [ResidualBlock(width), nn.Identity(), Conv(width, 2 * width, 2 * stride, stride, elu=True)]
            width *= 2
        self._start(
            [*layers, SkippedLSTM(width), nn.Identity(), Conv(width, n_dim, last_kernel, elu=True)], widest=n_filters
        )


class SeanetDecoder(_Seanet):
    """(rows, steps, n_dim) → (rows, samples, 1)."""

    def __init__(self, n_filters: int, ratios: tuple[int, ...], n_dim: int, kernel: int, last_kernel: int) -> None:
        super().__init__()
        width = n_filters * 2 ** len(ratios)
        layers: list[nn.Module] = [Conv(n_dim, width, kernel), SkippedLSTM(width)]
        for stride in ratios:
            layers += [nn.Identity(), TransposedConv(width, width // 2, stride), ResidualBlock(width // 2)]
            width //= 2
        self._start([*layers, nn.Identity(), Conv(width, 1, last_kernel, elu=True)], widest=n_filters * prod(ratios))
