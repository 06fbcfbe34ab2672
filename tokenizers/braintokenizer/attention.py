"""Attention with a key mask, whose dropout draws come from a given generator."""

from math import sqrt

import torch
from torch import Tensor
from torch.nn import functional as F

from emeg.tokenizers.braintokenizer.draws import dropout


def split_heads(x: Tensor, n_head: int) -> Tensor:
    """Split the features into heads.

    Parameters
    ----------
    x : float, shape (..., tokens, features)
        Dimensionless features.
    n_head : int

    Returns
    -------
    float, shape (..., heads, tokens, features / heads)
    """
    return torch.unflatten(x, -1, (n_head, -1)).transpose(-3, -2)


def join_heads(x: Tensor) -> Tensor:
    """Join the heads: the inverse of `split_heads`.

    Parameters
    ----------
    x : float, shape (..., heads, tokens, features / heads)
        Dimensionless features.

    Returns
    -------
    float, shape (..., tokens, features)
    """
    return x.transpose(-3, -2).flatten(-2)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    key_mask: Tensor | None = None,
    gain: Tensor | None = None,
    dropout_p: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Compute scaled dot-product attention over the last but one dimension.

    Parameters
    ----------
    query, key, value : float, shape (rows, heads, tokens, features)
        Dimensionless features of one head each.
    key_mask : bool, shape (rows, tokens), optional
        True for keys to attend to; the result is 0 in a row that has none.
    gain : float, shape (rows, heads, query tokens, key tokens), optional
        Factor on every attention weight, which may be negative; the weights are then computed explicitly.
    dropout_p : float
        Share of the attention weights to drop; callers pass 0 outside training. PyTorch's fused kernels accept no
        generator, so with one, and on a CPU, the weights are computed explicitly when there is dropout.
    generator : torch.Generator, optional
        Source of the dropout draws.
    """
    mask = None if key_mask is None else key_mask[:, None, None, :].expand(-1, 1, query.shape[-2], -1)
    if gain is None and (dropout_p == 0.0 or (generator is None and query.device.type != "cpu")):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout_p)
    scores = query @ key.transpose(-2, -1) / sqrt(query.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1)
    if gain is not None:
        weights = weights * gain if mask is None else (weights * gain).masked_fill(~mask, 0.0)
    weights = dropout(weights, dropout_p, training=dropout_p > 0, generator=generator)
    return weights @ value
