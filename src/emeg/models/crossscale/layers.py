"""Layers of the cross-scale encoder. None depends on the number or the order of the sensors.

Shape letters: B batch, S sources or channels, W windows, L steps in a window, T latent steps, D features, K regions.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emeg.models.crossscale.regions import SensorLayout
from emeg.models.rotary import Rotary, turn
from emeg.tokenizers.braintokenizer.attention import attend, join_heads, split_heads
from emeg.tokenizers.braintokenizer.layers import NORM_EPS, FeedForward, RMSNorm


def split_widths(n_dim: int) -> tuple[int, int, int]:
    """Return the numbers of features of the three scales: half, a quarter and a quarter."""
    return n_dim // 2, n_dim // 4, n_dim // 4


class StepKernels(nn.Module):
    """Convolutions of three lengths over the steps of each source, side by side."""

    def __init__(self, n_dim: int, lengths: tuple[int, ...]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv1d(n_dim, width, length, padding=length // 2)
            for width, length in zip(split_widths(n_dim), lengths, strict=True)
        )

    def forward(self, x_BSTD: Tensor) -> Tensor:
        """Convolve every source alike.

        Parameters
        ----------
        x_BSTD : float, shape (batch, sources, steps, features)
            Dimensionless features.

        Returns
        -------
        float, shape (batch, sources, steps, features)
        """
        rows = x_BSTD.flatten(0, 1).transpose(1, 2)
        mixed = torch.cat([conv(rows) for conv in self.convs], dim=1)
        return torch.unflatten(mixed.transpose(1, 2), 0, x_BSTD.shape[:2])


class RegionKernels(nn.Module):
    """Averages over three neighbourhoods in the region of each sensor, each with a linear map, side by side."""

    def __init__(self, n_dim: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(n_dim, width) for width in split_widths(n_dim))

    def forward(self, x_BSTD: Tensor, layout: SensorLayout) -> Tensor:
        """Mix the sensors of each region.

        Parameters
        ----------
        x_BSTD : float, shape (batch, sensors, steps, features)
            Dimensionless features.
        layout : SensorLayout
            Regions and kernels of these sensors.

        Returns
        -------
        float, shape (batch, sensors, steps, features)
        """
        parts = []
        for scale, linear in enumerate(self.maps):
            mapped_BSTD = linear(x_BSTD)
            mixed = layout.kernel[:, scale].to(mapped_BSTD.dtype) @ mapped_BSTD.flatten(2)
            parts.append(torch.unflatten(mixed, 2, mapped_BSTD.shape[2:]))
        return torch.cat(parts, dim=-1)


class WindowAttention(nn.Module):
    """Self-attention between windows: a step attends to the steps of the same source at the same offset in all windows.

    The attention weights are never stored, so that memory grows with the number of steps and not with its square.
    """

    def __init__(self, n_dim: int, n_head: int, window_steps: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(n_dim, 3 * n_dim)
        self.proj = nn.Linear(n_dim, n_dim)
        self.n_head, self.window_steps = n_head, window_steps

    def forward(self, x_BSTD: Tensor, rotary: Rotary) -> Tensor:
        """Attend between windows.

        Parameters
        ----------
        x_BSTD : float, shape (batch, sources, steps, features)
            Dimensionless features; the last window may be shorter than the others.
        rotary : Rotary
            Tables with a row for each window.

        Returns
        -------
        float, shape (batch, sources, steps, features)
        """
        batch, sources, steps, _ = x_BSTD.shape
        length = self.window_steps
        missing = -steps % length
        padded = F.pad(x_BSTD, (0, 0, 0, missing))
        rows = torch.unflatten(padded, 2, (-1, length)).transpose(2, 3).flatten(0, 2)  # (B · S · L, W, D)
        both, value = self.qkv(rows).split([2 * rows.shape[-1], rows.shape[-1]], dim=-1)
        query, key = turn(both, rotary).chunk(2, dim=-1)
        attended = attend(
            split_heads(query, self.n_head),
            split_heads(key, self.n_head),
            split_heads(value, self.n_head),
            key_mask=None if missing == 0 else self._is_real(len(rows), rows.shape[1], missing, x_BSTD.device),
        )
        out = torch.unflatten(self.proj(join_heads(attended)), 0, (batch, sources, length))
        joined: Tensor = out.transpose(2, 3).flatten(2, 3)[:, :, :steps]
        return joined

    def _is_real(self, n_rows: int, n_windows: int, missing: int, device: torch.device) -> Tensor:
        """Return which keys are no padding: bool (rows, windows)."""
        offset = torch.arange(n_rows, device=device) % self.window_steps
        is_last = torch.arange(n_windows, device=device) == n_windows - 1
        return ~(is_last & (offset >= self.window_steps - missing)[:, None])


class RegionAttention(nn.Module):
    """Attention of each sensor, at each step, to the means of the regions."""

    def __init__(self, n_dim: int, n_head: int) -> None:
        super().__init__()
        self.q = nn.Linear(n_dim, n_dim)
        self.kv = nn.Linear(n_dim, 2 * n_dim)
        self.proj = nn.Linear(n_dim, n_dim)
        self.n_head = n_head

    def forward(self, x_BSTD: Tensor, layout: SensorLayout) -> Tensor:
        """Attend to the regions that have sensors.

        Parameters
        ----------
        x_BSTD : float, shape (batch, sensors, steps, features)
            Dimensionless features.
        layout : SensorLayout
            Regions and kernels of these sensors.

        Returns
        -------
        float, shape (batch, sensors, steps, features)
        """
        batch, _, steps, _ = x_BSTD.shape
        share = layout.member / layout.member.sum(dim=-1, keepdim=True).clamp(min=1.0)
        means = torch.unflatten(share.to(x_BSTD.dtype) @ x_BSTD.flatten(2), 2, x_BSTD.shape[2:])  # (B, K, T, D)
        key, value = self.kv(means.transpose(1, 2).flatten(0, 1)).chunk(2, dim=-1)
        query = self.q(x_BSTD.transpose(1, 2).flatten(0, 1))
        attended = attend(
            split_heads(query, self.n_head),
            split_heads(key, self.n_head),
            split_heads(value, self.n_head),
            key_mask=layout.is_present.repeat_interleave(steps, dim=0),
        )
        return torch.unflatten(self.proj(join_heads(attended)), 0, (batch, steps)).transpose(1, 2)


class CrossScaleBlock(nn.Module):
    """Attention between windows, attention to regions, feed-forward, each after a norm and added to its input."""

    def __init__(self, n_dim: int, n_head: int, window_steps: int, dropout: float) -> None:
        super().__init__()
        self.window_norm = RMSNorm(n_dim, eps=NORM_EPS)
        self.window_attn = WindowAttention(n_dim, n_head, window_steps)
        self.region_norm = RMSNorm(n_dim, eps=NORM_EPS)
        self.region_attn = RegionAttention(n_dim, n_head)
        self.ff_norm = RMSNorm(n_dim, eps=NORM_EPS)
        self.ff = FeedForward(n_dim, dropout)

    def forward(
        self, x_BSTD: Tensor, layout: SensorLayout, rotary: Rotary, generator: torch.Generator | None = None
    ) -> Tensor:
        """Apply the block.

        Parameters
        ----------
        x_BSTD : float, shape (batch, sensors, steps, features)
            Dimensionless features.
        layout : SensorLayout
            Regions and kernels of these sensors.
        rotary : Rotary
            Tables with a row for each window.
        generator : torch.Generator, optional
            Source of the dropout draws.

        Returns
        -------
        float, shape (batch, sensors, steps, features)
        """
        x_BSTD = x_BSTD + self.window_attn(self.window_norm(x_BSTD), rotary)
        x_BSTD = x_BSTD + self.region_attn(self.region_norm(x_BSTD), layout)
        out: Tensor = x_BSTD + self.ff(self.ff_norm(x_BSTD), generator)
        return out
