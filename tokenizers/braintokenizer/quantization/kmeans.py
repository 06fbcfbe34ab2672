"""Nearest code vectors, and k-means to start a codebook."""

import torch
from torch import Tensor

KMEANS_ITERATIONS = 10
KMEANS_SAMPLES = 4096
ROWS_AT_ONCE = 1 << 16
"""Rows whose distances to all vectors are held at once: 128 MiB for 512 vectors."""


def nearest(x_RD: Tensor, vectors_VD: Tensor) -> Tensor:
    """Index of the nearest vector by Euclidean distance, int64 (R,).

    |x|² is the same for all vectors, so |v|² − 2 x·v orders them, without differences of shape (R, V, D).
    """
    squares_V = vectors_VD.square().sum(dim=1)
    codes = [
        torch.addmm(squares_V, rows, vectors_VD.T, alpha=-2.0).argmin(dim=1) for rows in torch.split(x_RD, ROWS_AT_ONCE)
    ]
    return torch.cat(codes)


def draw_integers(n: int, below: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
    """Draw n integers in [0, below) on the generator's device and move them to `device`."""
    origin = device if generator is None else generator.device
    return torch.randint(below, (n,), generator=generator, device=origin).to(device)


def _draw_rows(x_RD: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
    if len(x_RD) < n:
        return x_RD[draw_integers(n, len(x_RD), generator, x_RD.device)]
    origin = x_RD.device if generator is None else generator.device
    order = torch.randperm(len(x_RD), generator=generator, device=origin)[:n]
    return x_RD[order.to(x_RD.device)]


def cluster(x_RD: Tensor, n_clusters: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """k-means on up to 4096 rows: ten iterations from drawn rows; a cluster that loses all rows stays where it was.

    Returns
    -------
    centres : float32, shape (n_clusters, D)
    counts : float32, shape (n_clusters,)
        Rows in each cluster, scaled to the whole of `x_RD`.
    """
    rows_SD = x_RD if len(x_RD) <= KMEANS_SAMPLES else _draw_rows(x_RD, KMEANS_SAMPLES, generator)
    centres_VD = _draw_rows(rows_SD, n_clusters, generator).clone()
    counts_V = torch.zeros(n_clusters, device=x_RD.device, dtype=x_RD.dtype)
    for _ in range(KMEANS_ITERATIONS):
        codes_S = nearest(rows_SD, centres_VD)
        counts_V = torch.bincount(codes_S, minlength=n_clusters).to(x_RD.dtype)
        sums_VD = torch.zeros_like(centres_VD).index_add_(0, codes_S, rows_SD)
        means_VD = sums_VD / counts_V.clamp(min=1)[:, None]
        centres_VD = torch.where(counts_V[:, None] > 0, means_VD, centres_VD)
    return centres_VD, counts_V * (len(x_RD) / len(rows_SD))
