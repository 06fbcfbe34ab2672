"""SEANet: a convolutional encoder and decoder for one channel at a time (arXiv 2009.02095, 2210.13438).

Activations are (row, time, feature) in memory; a row is one window of one channel. Convolutions see that memory as
a channels-last image of height 1, which spares the reordering that (row, feature, time) would cost.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

RESIDUAL_KERNEL = 3
CPU_ROWS = 128
"""Rows taken at once on a CPU, where small activations stay in cache and below the allocator's threshold for
mapping fresh pages. Rows do not see each other, so the result is the same."""


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


class Conv(nn.Module):
    """Convolution in time with weight norm and reflect padding; time shrinks by the stride."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = weight_norm(nn.Conv1d(n_in, n_out, kernel, stride=stride))
        self.stride = stride
        self.pad = ((kernel - stride + 1) // 2, (kernel - stride) // 2)

    def forward(self, x_RTD: Tensor) -> Tensor:
        """Map (rows, time, n_in) to (rows, time / stride, n_out)."""
        image = _as_image(pad_reflecting(x_RTD, *self.pad))
        out = F.conv2d(image, self.conv.weight.unsqueeze(2), self.conv.bias, stride=(1, self.stride))
        return _from_image(out)


class TransposedConv(nn.Module):
    """Transposed convolution with weight norm, kernel twice the stride; time grows by the stride."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.convtr = weight_norm(nn.ConvTranspose1d(n_in, n_out, 2 * stride, stride=stride))
        self.stride = stride

    def forward(self, x_RTD: Tensor) -> Tensor:
        """Map (rows, time, n_in) to (rows, time · stride, n_out); the overhang is cut, the odd sample on the left."""
        weight, right = self.convtr.weight.unsqueeze(2), self.stride // 2
        out = F.conv_transpose2d(
            _as_image(x_RTD), weight, self.convtr.bias, stride=(1, self.stride), padding=(0, right)
        )
        return _from_image(out)[:, self.stride - 2 * right :]


class ResidualBlock(nn.Module):
    """ELU, convolution to half the width, ELU, convolution back, beside a pointwise shortcut."""

    def __init__(self, n_dim: int) -> None:
        super().__init__()
        half = n_dim // 2
        self.block = nn.Sequential(nn.ELU(), Conv(n_dim, half, RESIDUAL_KERNEL), nn.ELU(), Conv(half, n_dim, 1))
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
    model: nn.Sequential

    def forward(self, x_RTD: Tensor) -> Tensor:
        """Map rows independently; on a CPU a few at a time. Normed weights are computed once a pass."""
        with parametrize.cached():
            if x_RTD.device.type != "cpu" or len(x_RTD) <= CPU_ROWS:
                out: Tensor = self.model(x_RTD)
                return out
            return torch.cat([self.model(rows) for rows in torch.split(x_RTD, CPU_ROWS)])


class SeanetEncoder(_Seanet):
    """(rows, samples, 1) → (rows, steps, n_dim)."""

    def __init__(self, n_filters: int, ratios: tuple[int, ...], n_dim: int, kernel: int, last_kernel: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [Conv(1, n_filters, kernel)]
        width = n_filters
        for stride in reversed(ratios):
            layers += [ResidualBlock(width), nn.ELU(), Conv(width, 2 * width, 2 * stride, stride)]
            width *= 2
        layers += [SkippedLSTM(width), nn.ELU(), Conv(width, n_dim, last_kernel)]
        self.model = nn.Sequential(*layers)


class SeanetDecoder(_Seanet):
    """(rows, steps, n_dim) → (rows, samples, 1)."""

    def __init__(self, n_filters: int, ratios: tuple[int, ...], n_dim: int, kernel: int, last_kernel: int) -> None:
        super().__init__()
        width = n_filters * 2 ** len(ratios)
        layers: list[nn.Module] = [Conv(n_dim, width, kernel), SkippedLSTM(width)]
        for stride in ratios:
            layers += [nn.ELU(), TransposedConv(width, width // 2, stride), ResidualBlock(width // 2)]
            width //= 2
        layers += [nn.ELU(), Conv(width, 1, last_kernel)]
        self.model = nn.Sequential(*layers)
