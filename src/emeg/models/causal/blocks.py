"""Block of the causal transformer, with a cache of keys and values.

Shape letters: B batch, N tokens, D features.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emeg.models.causal.sequence import turn_pairs
from emeg.tokenizers.braintokenizer.attention import join_heads, split_heads
from emeg.tokenizers.braintokenizer.layers import NORM_EPS, FeedForward


class KeyValueCache:
    """Keys and values of the tokens that a block has seen, so that each token is processed once.

    Parameters
    ----------
    n_tokens : int
        Most tokens to hold.
    """

    def __init__(self, n_tokens: int) -> None:
        self.n_tokens = n_tokens
        self.n_held = 0
        self._held: Tensor | None = None

    def add(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append the keys and values of new tokens and return those of all tokens.

        Parameters
        ----------
        key, value : float, shape (batch, heads, new tokens, features of a head)
            Dimensionless.
        """
        if self._held is None:
            shape = (2, *key.shape[:2], self.n_tokens, key.shape[3])
            self._held = key.new_zeros(shape)
        stop = self.n_held + key.shape[2]
        self._held[0, :, :, self.n_held : stop] = key
        self._held[1, :, :, self.n_held : stop] = value
        self.n_held = stop
        return self._held[0, :, :, :stop], self._held[1, :, :, :stop]


class CausalBlock(nn.Module):
    """x + attention(RMSNorm x) to earlier tokens and itself, then x + feed-forward(RMSNorm x)."""

    def __init__(self, width: int, n_head: int, dropout: float) -> None:
        super().__init__()
        self.n_head = n_head
        self.attention_norm = nn.RMSNorm(width, eps=NORM_EPS)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.feed_forward_norm = nn.RMSNorm(width, eps=NORM_EPS)
        self.feed_forward = FeedForward(width, dropout)

    def forward(
        self,
        x: Tensor,
        angles: Tensor,
        generator: torch.Generator | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Apply the block.

        Parameters
        ----------
        x : float, shape (batch, tokens, width)
            Dimensionless features.
        angles : float32, shape (batch, tokens, features of a head / 2)
            Rotary positions, radians.
        generator : torch.Generator, optional
            Source of the dropout draws.
        cache : KeyValueCache, optional
            Tokens before these, which are read and appended to. With tokens in the cache, pass one new token.

        Returns
        -------
        float, shape (batch, tokens, width)
        """
        query, key, value = (split_heads(part, self.n_head) for part in self.qkv(self.attention_norm(x)).chunk(3, -1))
        query, key = turn_pairs(query, angles), turn_pairs(key, angles)
        if cache is not None:
            key, value = cache.add(key, value)
        is_first = key.shape[2] == query.shape[2]
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=is_first and query.shape[2] > 1)
        x = x + self.out(join_heads(attended))
        out: Tensor = x + self.feed_forward(self.feed_forward_norm(x), generator)
        return out
