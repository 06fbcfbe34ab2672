"""Attention in which some keys may be padding, and chance is drawn by a generator."""

from math import sqrt

import torch
from torch import Tensor
from torch.nn import functional as F

from emeg.tokenizers.braintokenizer.draws import dropout


def split_heads(x: Tensor, n_head: int) -> Tensor:
    """(…, token, feature) → (…, head, token, feature / head)."""
    return torch.unflatten(x, -1, (n_head, -1)).transpose(-3, -2)


def join_heads(x: Tensor) -> Tensor:
    """(…, head, token, feature / head) → (…, token, feature)."""
    return x.transpose(-3, -2).flatten(-2)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    key_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Scaled dot-product attention over the last but one dimension.

    Parameters
    ----------
    query, key, value : float, shape (rows, head, token, feature)
    key_mask : bool, shape (rows, token), optional
        True for keys that may be looked at; a row without any gives 0.
    dropout_p : float
        Share of weights to drop; callers pass 0 outside training. The fused kernels take no generator, so with
        dropout the weights are computed openly.
    """
    mask = None if key_mask is None else key_mask[:, None, None, :].expand(-1, 1, query.shape[-2], -1)
    if dropout_p == 0.0:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    scores = query @ key.transpose(-2, -1) / sqrt(query.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = dropout(scores.softmax(dim=-1), dropout_p, training=True, generator=generator)
    return weights @ value
