"""Parts of the pretraining task beyond the published one: masks in blocks, log power, contrast between segments.

Shape letters: B batch, S latent sources, T latent steps, W windows, D features.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

MaskGeometry = Literal["tokens", "time", "sources"]
FEATURE_FLOOR = 1e-2
"""Added to the standard deviation of a feature before its logarithm; features have length 1."""
SPREAD_FLOOR = 0.1
"""Added to the standard deviation that targets are divided by."""
STD_FLOOR = 1e-3
"""Added to the standard deviation of an embedding before its logarithm."""
SPREAD_OF_BATCH_FLOOR = 0.02
"""Added to the standard deviation over the batch before dividing by it."""
TEMPERATURE = 0.1
"""Divides the cosines of the contrastive term."""


def arrange_draws(uniform_BST: Tensor, geometry: MaskGeometry, span: int) -> Tensor:
    """Return the draws that decide which tokens are masked, equal within each block of the geometry.

    Parameters
    ----------
    uniform_BST : float32, shape (batch, sources, steps)
        Uniform draws from 0 to below 1, dimensionless, one a token.
    geometry : str
        ``tokens`` masks each token by itself; ``time`` all sources over blocks of `span` steps; ``sources`` whole
        sources.
    span : int
        Latent steps of a block of time.

    Returns
    -------
    float32, shape (batch, sources, steps)
    """
    if geometry == "tokens":
        return uniform_BST
    if geometry == "sources":
        return uniform_BST[:, :, :1].expand_as(uniform_BST)
    blocks = uniform_BST[:, :1, ::span].repeat_interleave(span, dim=2)
    return blocks[:, :, : uniform_BST.shape[2]].expand_as(uniform_BST)


def power_targets(features_BSTD: Tensor, steps_per_window: int) -> Tensor:
    """Compute the log standard deviation of each feature over every window, standardised over batch and windows.

    Log power in single frequencies was tried too: a periodogram of one window is so noisy that a network predicts
    little more than its mean.

    Parameters
    ----------
    features_BSTD : float32, shape (batch, sources, steps, features)
        Features of the tokenizer, dimensionless; steps are whole windows.
    steps_per_window : int

    Returns
    -------
    float32, shape (batch, sources, windows, features)
    """
    windows = torch.unflatten(features_BSTD, 2, (-1, steps_per_window))
    log_std = (windows.std(dim=3, correction=0) + FEATURE_FLOOR).log()
    mean = log_std.mean(dim=(0, 2), keepdim=True)
    spread = log_std.std(dim=(0, 2), correction=0, keepdim=True)
    standardised: Tensor = (log_std - mean) / (spread + SPREAD_FLOOR)
    return standardised


def power_loss(predicted_BSWD: Tensor, target_BSWD: Tensor, masked_BST: Tensor) -> Tensor:
    """Return the mean squared error of predicted log power, windows weighted by their share of masked tokens.

    Parameters
    ----------
    predicted_BSWD, target_BSWD : float32, shape (batch, sources, windows, features)
        Standardised log power, dimensionless.
    masked_BST : bool, shape (batch, sources, steps)
        True for masked tokens.
    """
    weight_BSW = torch.unflatten(masked_BST.float(), 2, (predicted_BSWD.shape[2], -1)).mean(dim=3)
    error_BSW = (predicted_BSWD.float() - target_BSWD).square().mean(dim=-1)
    total: Tensor = (error_BSW * weight_BSW).sum() / weight_BSW.sum().clamp(min=1e-6)
    return total


def standardised_spreads(halves: Sequence[Tensor]) -> Tensor:
    """Return the log standard deviation over time of embeddings, standardised over all halves of the batch.

    Without this, what all segments share would dominate the cosines between them.

    Parameters
    ----------
    halves : sequence of float tensors, shape (batch, sources, steps, features)
        Output of a block for the first and the second half of the segments, dimensionless.

    Returns
    -------
    float32, shape (halves · batch, sources · features)
    """
    units = [F.normalize(half.float(), dim=-1) for half in halves]
    spreads = torch.cat([(unit.std(dim=2, correction=0) + STD_FLOOR).log().flatten(1) for unit in units])
    return (spreads - spreads.mean(dim=0)) / (spreads.std(dim=0, correction=0) + SPREAD_OF_BATCH_FLOOR)


def contrastive_loss(first_BD: Tensor, second_BD: Tensor) -> Tensor:
    """Return the cross-entropy of finding each segment's second half among those of the batch, and its first.

    Parameters
    ----------
    first_BD, second_BD : float32, shape (batch, features)
        Projections of the two halves of the segments, dimensionless.
    """
    logits = F.normalize(first_BD, dim=-1) @ F.normalize(second_BD, dim=-1).T / TEMPERATURE
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
