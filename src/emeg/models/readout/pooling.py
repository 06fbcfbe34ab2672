"""Pool embeddings over latent steps to a fixed number of features.

Features of a tokenizer follow the phase of rhythms, so their mean over time is near zero where a rhythm is strong. The
poolings that square the features first keep its power (docs/explanation/study.md).

Shape letters: B batch, S latent sources, T latent steps, D features.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from emeg.errors import UserError
from emeg.models.readout.kinds import POOLINGS, Pooling

N_BINS = 8
"""Frequency bands of `power`, of equal width, from above 0 to half the rate of the latent steps."""
STD_FLOOR = 1e-3
"""Added to the standard deviation before its logarithm."""
POWER_FLOOR = 1e-6
"""Added to power before its logarithm; features have length 1, so that their power is about 1 / D."""


def pool(embedding_BSTD: Tensor, pooling: Pooling) -> Tensor:
    """Pool an embedding over its steps.

    Parameters
    ----------
    embedding_BSTD : float, shape (batch, sources, steps, features)
        Embedding or features of a tokenizer, dimensionless.
    pooling : str
        One of `POOLINGS`.

    Returns
    -------
    float32, shape (batch, n_pooled(pooling, sources, features))

    Raises
    ------
    UserError
        There is no such pooling.
    """
    embedding_BSTD = embedding_BSTD.float()
    if pooling == "log_std":
        return (embedding_BSTD.std(dim=2, correction=0) + STD_FLOOR).log().flatten(1)
    if pooling == "power":
        return _log_power(embedding_BSTD)
    mean = embedding_BSTD.mean(dim=2).flatten(1)
    if pooling == "mean":
        return mean
    if pooling == "mean_std":
        return torch.cat([mean, embedding_BSTD.std(dim=2, correction=0).flatten(1)], dim=1)
    if pooling == "mean_power":
        return torch.cat([mean, _log_power(embedding_BSTD)], dim=1)
    raise UserError(f"pooling: there is no {pooling!r}; choose from {', '.join(POOLINGS)}")


def n_pooled(pooling: Pooling, n_sources: int, n_dim: int) -> int:
    """Return the number of features that `pool` makes."""
    mean, power = n_sources * n_dim, N_BINS * n_sources * n_dim
    return {"mean": mean, "mean_std": 2 * mean, "log_std": mean, "power": power, "mean_power": mean + power}[pooling]


def pooled_names(pooling: Pooling, n_sources: int, n_dim: int) -> list[str]:
    """Name the features that `pool` makes, in their order."""
    mean = [f"source{s}_{d}" for s in range(n_sources) for d in range(n_dim)]
    power = [f"source{s}_{d}_power{k}" for s in range(n_sources) for d in range(n_dim) for k in range(N_BINS)]
    std = [f"{name}_std" for name in mean]
    names = {"mean": mean, "mean_std": mean + std, "log_std": [f"{name}_log_std" for name in mean]}
    return {**names, "power": power, "mean_power": mean + power}[pooling]


def _log_power(embedding_BSTD: Tensor) -> Tensor:
    """Return the log power over time, as (batch, sources · features · bands)."""
    with torch.autocast(embedding_BSTD.device.type, enabled=False):
        centred_BSTD = embedding_BSTD - embedding_BSTD.mean(dim=2, keepdim=True)
        if centred_BSTD.shape[2] < 2:
            centred_BSTD = F.pad(centred_BSTD, (0, 0, 0, 1))
        spectrum = torch.fft.rfft(centred_BSTD, dim=2, norm="ortho")[:, :, 1:]
        power = spectrum.real.square() + spectrum.imag.square()
        binned = F.adaptive_avg_pool1d(power.transpose(2, 3).flatten(0, 1), N_BINS)
        return torch.unflatten((binned + POWER_FLOOR).log(), 0, centred_BSTD.shape[:2]).flatten(1)
