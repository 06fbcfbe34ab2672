"""SEANet: convolutional encoder and decoder of single channels (arXiv 2009.02095, 2210.13438).

Activations are stored as (row, time, feature); a row is one window of one channel. Convolutions read this memory as a
channels-last image of height 1, which avoids the reordering that (row, feature, time) would need. Every ELU is
computed together with the padding of the convolution that follows it.

Shape letters: B batch (one window of one channel a row), T latent steps or samples, D features.
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
"""Largest number of values in an activation on a CPU, where rows are computed in small groups: 4 MiB stay in the cache
and below the size from which the allocator maps new pages. Rows are independent, so the result is the same."""
COMPILED_ROWS = 2048
"""Rows in one call of compiled layers on other devices. All calls have this shape, so that layers compile once."""


def _as_image(x_BTD: Tensor) -> Tensor:
    return x_BTD.transpose(1, 2).unsqueeze(2)


def _from_image(image: Tensor) -> Tensor:
    return image.squeeze(2).transpose(1, 2)


def pad_reflecting(x_BTD: Tensor, left: int, right: int) -> Tensor:
    """Pad both ends in time by reflection, without repeating the first and the last value.

    Parameters
    ----------
    x_BTD : float, shape (rows, time, features)
        Dimensionless features.
    left, right : int
        Steps to add.
    """
    if left == right == 0:
        return x_BTD
    parts = [x_BTD]
    if left:
        parts.insert(0, x_BTD[:, 1 : left + 1].flip(1))
    if right:
        parts.append(x_BTD[:, -right - 1 : -1].flip(1))
    return torch.cat(parts, dim=1)


class _PaddedELU(torch.autograd.Function):
    """ELU written into a padded tensor. Only the result is saved: the slope is 1 or result + 1."""

    @staticmethod
    def forward(ctx: Any, x_BTD: Tensor, left: int, right: int) -> Tensor:  # noqa: ANN401 - autograd's own
        rows, time, n_dim = x_BTD.shape
        padded = x_BTD.new_empty(rows, left + time + right, n_dim)
        inner = padded[:, left : left + time]
        torch.ops.aten.elu.out(x_BTD, 1.0, 1.0, 1.0, out=inner)
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


def elu_then_pad(x_BTD: Tensor, left: int = 0, right: int = 0) -> Tensor:
    """Apply ELU and `pad_reflecting` in one pass over the memory.

    Parameters
    ----------
    x_BTD : float, shape (rows, time, features)
        Dimensionless features.
    left, right : int
        Steps to add.
    """
    if torch.compiler.is_compiling():
        return pad_reflecting(F.elu(x_BTD), left, right)
    out: Tensor = _PaddedELU.apply(x_BTD, left, right)  # type: ignore[no-untyped-call]
    return out


class Conv(nn.Module):
    """Convolution in time with weight norm and reflect padding, after an ELU if asked; divides time by the stride."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int = 1, *, elu: bool = False) -> None:
        super().__init__()
        self.elu = elu
        self.conv = weight_norm(nn.Conv1d(n_in, n_out, kernel, stride=stride))
        self.stride = stride
        self.pad = ((kernel - stride + 1) // 2, (kernel - stride) // 2)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Convolve.

        Parameters
        ----------
        x_BTD : float, shape (rows, time, n_in)
            Dimensionless features.

        Returns
        -------
        float, shape (rows, time / stride, n_out)
        """
        image = _as_image(elu_then_pad(x_BTD, *self.pad) if self.elu else pad_reflecting(x_BTD, *self.pad))
        out = F.conv2d(image, self.conv.weight.unsqueeze(2), self.conv.bias, stride=(1, self.stride))
        return _from_image(out)


class TransposedConv(nn.Module):
    """Transposed convolution with weight norm after an ELU, kernel twice the stride; multiplies time by the stride."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.convtr = weight_norm(nn.ConvTranspose1d(n_in, n_out, 2 * stride, stride=stride))
        self.stride = stride

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Convolve and cut the overhang, an odd sample on the left.

        Parameters
        ----------
        x_BTD : float, shape (rows, time, n_in)
            Dimensionless features.

        Returns
        -------
        float, shape (rows, time · stride, n_out)
        """
        weight, right = self.convtr.weight.unsqueeze(2), self.stride // 2
        out = F.conv_transpose2d(
            _as_image(elu_then_pad(x_BTD)), weight, self.convtr.bias, stride=(1, self.stride), padding=(0, right)
        )
        return _from_image(out)[:, self.stride - 2 * right :]


class ResidualBlock(nn.Module):
    """ELU, convolution to half the width, ELU, convolution to the full width, plus a pointwise shortcut."""

    def __init__(self, n_dim: int) -> None:
        super().__init__()
        half = n_dim // 2
        first, second = Conv(n_dim, half, RESIDUAL_KERNEL, elu=True), Conv(half, n_dim, 1, elu=True)
        self.block = nn.Sequential(nn.Identity(), first, nn.Identity(), second)
        self.shortcut = Conv(n_dim, n_dim, 1)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Apply the block.

        Parameters
        ----------
        x_BTD : float, shape (rows, time, n_dim)
            Dimensionless features.

        Returns
        -------
        float, shape (rows, time, n_dim)
        """
        out: Tensor = self.shortcut(x_BTD) + self.block(x_BTD)
        return out


class SkippedLSTM(nn.Module):
    """Two LSTM layers with a residual connection."""

    def __init__(self, n_dim: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(n_dim, n_dim, num_layers=2, batch_first=True)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Apply the LSTM layers, under autocast too in the precision of their weights.

        Autocast on CUDA runs an LSTM in float16, whose gradients underflow without a loss scale.

        Parameters
        ----------
        x_BTD : float, shape (rows, time, n_dim)
            Dimensionless features.

        Returns
        -------
        float, shape (rows, time, n_dim)
        """
        with torch.autocast(x_BTD.device.type, enabled=False):
            out: Tensor = self.lstm(x_BTD.to(next(self.lstm.parameters()).dtype))[0]
        return out + x_BTD


class _Seanet(nn.Module):
    """Layers before an LSTM, the LSTM, and layers after it. Identities preserve the published numbering."""

    model: nn.Sequential

    def _start(self, layers: list[nn.Module], *, widest: int) -> None:
        """Set the layers.

        Parameters
        ----------
        layers : list of nn.Module
        widest : int
            Largest number of values that an activation holds for each input step of a row.
        """
        self.model = nn.Sequential(*layers)
        self._widest = widest
        index = next(i for i, layer in enumerate(layers) if isinstance(layer, SkippedLSTM))
        self._lstm = slice(index, index + 1)
        self._compiled: dict[str, Callable[[Tensor], Tensor]] = {}
        self.checkpointing = False

    def __getstate__(self) -> dict[str, Any]:
        # A copy compiles again: compiled code computes with the weights of the original.
        return {**self.__dict__, "_compiled": {}}

    def _before(self, x_BTD: Tensor) -> Tensor:
        out: Tensor = self.model[: self._lstm.start](x_BTD)
        return out

    def _after(self, x_BTD: Tensor) -> Tensor:
        out: Tensor = self.model[self._lstm.stop :](x_BTD)
        return out

    def compile_layers(self, backend: str) -> None:
        """Compile the layers before and after the LSTM, which itself cannot be compiled."""
        self._compiled = {
            part.__name__: torch.compile(part, dynamic=False, fullgraph=True, backend=backend)
            for part in (self._before, self._after)
        }

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Apply the layers to every row, in small groups on a CPU. Normed weights are computed once a call.

        Parameters
        ----------
        x_BTD : float, shape (rows, time, n_in)
            Dimensionless features, or a normalised signal with n_in = 1.
        """
        on_cpu = x_BTD.device.type == "cpu"
        size = max(1, CPU_ELEMENTS // (x_BTD.shape[1] * self._widest)) if on_cpu else COMPILED_ROWS
        if self.checkpointing and self.training and torch.is_grad_enabled():
            # Normed weights are recomputed with the rest: the second pass must save what the first pass saved.
            parts = [checkpoint(self.model, rows, use_reentrant=False) for rows in torch.split(x_BTD, size)]
            return torch.cat(parts)
        if self._compiled:
            return self._forward_compiled(x_BTD, size)
        with parametrize.cached():
            if not on_cpu or len(x_BTD) <= size:
                out: Tensor = self.model(x_BTD)
                return out
            return torch.cat([self.model(rows) for rows in torch.split(x_BTD, size)])

    def _forward_compiled(self, x_BTD: Tensor, size: int) -> Tensor:
        parts = []
        for rows in torch.split(x_BTD, size):
            filled = F.pad(rows, (0, 0, 0, 0, 0, size - len(rows)))
            hidden = self.model[self._lstm](self._compiled["_before"](filled))
            parts.append(self._compiled["_after"](hidden)[: len(rows)])
        return torch.cat(parts)


class SeanetEncoder(_Seanet):
    """Encode a signal (rows, samples, 1) as features (rows, steps, n_dim)."""

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
    """Decode features (rows, steps, n_dim) as a signal (rows, samples, 1)."""

    def __init__(self, n_filters: int, ratios: tuple[int, ...], n_dim: int, kernel: int, last_kernel: int) -> None:
        super().__init__()
        width = n_filters * 2 ** len(ratios)
        layers: list[nn.Module] = [Conv(n_dim, width, kernel), SkippedLSTM(width)]
        for stride in ratios:
            layers += [nn.Identity(), TransposedConv(width, width // 2, stride), ResidualBlock(width // 2)]
            width //= 2
        self._start([*layers, nn.Identity(), Conv(width, 1, last_kernel, elu=True)], widest=n_filters * prod(ratios))
