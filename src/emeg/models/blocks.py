"""The transformer's block: attention over time beside attention over sources, then feed-forward."""

import torch
from torch import Tensor, nn

from emeg.models.rotary import Rotary, turn
from emeg.tokenizers.braintokenizer.attention import attend, join_heads, split_heads
from emeg.tokenizers.braintokenizer.layers import NORM_EPS, FeedForward


class SelfAttention(nn.Module):
    """Multi-head self-attention over the last but one dimension, with rotary positions where tables are given."""

    def __init__(self, n_dim: int, n_head: int, dropout_p: float) -> None:
        super().__init__()
        self.qkv = nn.Linear(n_dim, 3 * n_dim)
        self.proj = nn.Linear(n_dim, n_dim)
        self.n_head, self.dropout_p = n_head, dropout_p

    def forward(self, x: Tensor, rotary: Rotary | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Map (rows, token, n_dim) to the same shape."""
        query, key, value = self.qkv(x).chunk(3, dim=-1)
        if rotary is not None:
            query, key = turn(query, rotary), turn(key, rotary)
        attended = attend(
            split_heads(query, self.n_head),
            split_heads(key, self.n_head),
            split_heads(value, self.n_head),
            dropout_p=self.dropout_p if self.training else 0.0,
            generator=generator,
        )
        out: Tensor = self.proj(join_heads(attended))
        return out


class Block(nn.Module):
    """x + attention(RMSNorm x), then x + feed-forward(RMSNorm x) (arXiv 2505.18185, section 3.2)."""

    def __init__(self, n_dim: int, n_head: int, dropout_p: float) -> None:
        super().__init__()
        self.pre_attn_norm = nn.RMSNorm(n_dim, eps=NORM_EPS)
        self.time_attn = SelfAttention(n_dim // 2, n_head // 2, dropout_p)
        self.spatial_attn = SelfAttention(n_dim // 2, n_head // 2, dropout_p)
        self.pre_ff_norm = nn.RMSNorm(n_dim, eps=NORM_EPS)
        self.ff = FeedForward(n_dim, dropout_p)

    def forward(self, x_BQWd: Tensor, rotary: Rotary, generator: torch.Generator | None = None) -> Tensor:
        """Map (batch, source, step, feature) to the same shape."""
        x_BQWd = x_BQWd + self._attend(self.pre_attn_norm(x_BQWd), rotary, generator)
        out: Tensor = x_BQWd + self.ff(self.pre_ff_norm(x_BQWd), generator)
        return out

    def _attend(self, x_BQWd: Tensor, rotary: Rotary, generator: torch.Generator | None) -> Tensor:
        batch, sources, steps, _ = x_BQWd.shape
        for_time, for_space = x_BQWd.chunk(2, dim=-1)
        time = self.time_attn(for_time.flatten(0, 1), rotary, generator).unflatten(0, (batch, sources))
        rows = for_space.transpose(1, 2).flatten(0, 1)
        space = self.spatial_attn(rows, None, generator).unflatten(0, (batch, steps)).transpose(1, 2)
        # The halves change places, so that the next block attends the other way over each.
        return torch.cat([space, time], dim=-1)
