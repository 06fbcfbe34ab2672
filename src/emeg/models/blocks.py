"""Transformer block: attention over time and over sources in parallel, then feed-forward.

Shape letters: B batch, S latent sources, T latent steps, D features.
"""

import torch
from torch import Tensor, nn

from emeg.models.rotary import Rotary, turn
from emeg.tokenizers.braintokenizer.attention import attend, join_heads, split_heads
from emeg.tokenizers.braintokenizer.layers import NORM_EPS, FeedForward, RMSNorm


class SelfAttention(nn.Module):
    """Multi-head self-attention over the last but one dimension, with rotary positions if tables are given."""

    def __init__(self, n_dim: int, n_head: int, dropout_p: float) -> None:
        super().__init__()
        self.qkv = nn.Linear(n_dim, 3 * n_dim)
        self.proj = nn.Linear(n_dim, n_dim)
        self.n_head, self.dropout_p = n_head, dropout_p

    def forward(self, x: Tensor, rotary: Rotary | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Attend to all tokens of a row.

        Parameters
        ----------
        x : float, shape (rows, tokens, n_dim)
            Dimensionless features.
        rotary : Rotary, optional
            Tables of the rotary positions.
        generator : torch.Generator, optional
            Source of the dropout draws.

        Returns
        -------
        float, shape (rows, tokens, n_dim)
        """
        if rotary is None:
            query, key, value = self.qkv(x).chunk(3, dim=-1)
        else:
            both, value = self.qkv(x).split([2 * x.shape[-1], x.shape[-1]], dim=-1)
            query, key = turn(both, rotary).chunk(2, dim=-1)
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
        self.pre_attn_norm = RMSNorm(n_dim, eps=NORM_EPS)
        self.time_attn = SelfAttention(n_dim // 2, n_head // 2, dropout_p)
        self.spatial_attn = SelfAttention(n_dim // 2, n_head // 2, dropout_p)
        self.pre_ff_norm = RMSNorm(n_dim, eps=NORM_EPS)
        self.ff = FeedForward(n_dim, dropout_p)

    def forward(self, x_BSTD: Tensor, rotary: Rotary, generator: torch.Generator | None = None) -> Tensor:
        """Apply the block.

        Parameters
        ----------
        x_BSTD : float, shape (batch, sources, steps, features)
            Dimensionless features.
        rotary : Rotary
            Tables of the rotary positions.
        generator : torch.Generator, optional
            Source of the dropout draws.

        Returns
        -------
        float, shape (batch, sources, steps, features)
        """
        x_BSTD = x_BSTD + self._attend(self.pre_attn_norm(x_BSTD), rotary, generator)
        out: Tensor = x_BSTD + self.ff(self.pre_ff_norm(x_BSTD), generator)
        return out

    def _attend(self, x_BSTD: Tensor, rotary: Rotary, generator: torch.Generator | None) -> Tensor:
        batch, sources, steps, _ = x_BSTD.shape
        for_time, for_space = x_BSTD.chunk(2, dim=-1)
        time = self.time_attn(for_time.flatten(0, 1), rotary, generator).unflatten(0, (batch, sources))
        rows = for_space.transpose(1, 2).flatten(0, 1)
        space = self.spatial_attn(rows, None, generator).unflatten(0, (batch, steps)).transpose(1, 2)
        # The halves are swapped, so that the next block attends over the other dimension.
        return torch.cat([space, time], dim=-1)
