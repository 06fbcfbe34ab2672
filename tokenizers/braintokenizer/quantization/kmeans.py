"""Find nearest code vectors, and initialise a codebook by k-means.

Shape letters: B batch (one latent a row), D features, K codes of a codebook.
"""

import torch
from torch import Tensor

KMEANS_ITERATIONS = 10
KMEANS_SAMPLES = 4096
ROWS_AT_ONCE = 1 << 16
"""Rows whose distances to all vectors are in memory at the same time: 128 MiB for 512 vectors."""
FIXED_POINT = 2.0**32
"""Latents are summed as 64-bit integers in units of 1 / FIXED_POINT, so that a sum is the same in any order, on any
device and with any number of ranks. The unit of 2e-10 is finer than float32 near 1; sums may reach 2e9."""


def nearest(x_BD: Tensor, vectors_KD: Tensor) -> Tensor:
    """Return the index of the nearest vector by Euclidean distance.

    |x|² is the same for all vectors, so |v|² − 2 x·v orders them without differences of shape (rows, codes, features).

    Parameters
    ----------
    x_BD : float32, shape (rows, features)
        Latents or residuals, features of length about 1.
    vectors_KD : float32, shape (codes, features)
        Code vectors, features.

    Returns
    -------
    int64, shape (rows,)
    """
    squares_K = vectors_KD.square().sum(dim=1)
    codes = [
        torch.addmm(squares_K, rows, vectors_KD.T, alpha=-2.0).argmin(dim=1) for rows in torch.split(x_BD, ROWS_AT_ONCE)
    ]
    return torch.cat(codes)


def draw_integers(n: int, below: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
    """Draw n integers from 0 to below `below` on the generator's device and move them to `device`."""
    origin = device if generator is None else generator.device
    return torch.randint(below, (n,), generator=generator, device=origin).to(device)


def _draw_rows(x_BD: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
    if len(x_BD) < n:
        return x_BD[draw_integers(n, len(x_BD), generator, x_BD.device)]
    origin = x_BD.device if generator is None else generator.device
    order = torch.randperm(len(x_BD), generator=generator, device=origin)[:n]
    return x_BD[order.to(x_BD.device)]


def cluster(x_BD: Tensor, n_clusters: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Group up to 4096 rows into clusters by k-means.

    Ten iterations start from drawn rows. A cluster without rows keeps its centre.

    Parameters
    ----------
    x_BD : float32, shape (rows, features)
        Latents or residuals, features.
    n_clusters : int
    generator : torch.Generator, optional
        Source of the draws; PyTorch's default generator if omitted.

    Returns
    -------
    centres : float32, shape (n_clusters, features)
    counts : float32, shape (n_clusters,)
        Rows in each cluster, scaled to the whole of `x_BD`.
    """
    rows_BD = x_BD if len(x_BD) <= KMEANS_SAMPLES else _draw_rows(x_BD, KMEANS_SAMPLES, generator)
    centres_KD = _draw_rows(rows_BD, n_clusters, generator).clone()
    counts_K = torch.zeros(n_clusters, device=x_BD.device, dtype=x_BD.dtype)
    for _ in range(KMEANS_ITERATIONS):
        codes_B = nearest(rows_BD, centres_KD)
        counts_K = count_codes(codes_B, n_clusters).to(x_BD.dtype)
        sums_KD = _sums_of_clusters(rows_BD, codes_B, n_clusters)
        means_KD = sums_KD / counts_K.clamp(min=1)[:, None]
        centres_KD = torch.where(counts_K[:, None] > 0, means_KD, centres_KD)
    return centres_KD, counts_K * (len(x_BD) / len(rows_BD))


def _sums_of_clusters(rows_BD: Tensor, codes_B: Tensor, n_clusters: int) -> Tensor:
    if rows_BD.device.type == "cpu":
        return rows_BD.new_zeros(n_clusters, rows_BD.shape[1]).index_add_(0, codes_B, rows_BD)
    return sum_exactly(rows_BD, codes_B, n_clusters)


def count_codes(codes_B: Tensor, n_codes: int) -> Tensor:
    """Count how often each code occurs. Unlike bincount, this does not look for the largest code on the host.

    Parameters
    ----------
    codes_B : int64, shape (rows,)
        Codes below `n_codes`.
    n_codes : int

    Returns
    -------
    int64, shape (n_codes,)
    """
    return codes_B.new_zeros(n_codes).index_add_(0, codes_B, codes_B.new_ones(()).expand(len(codes_B)))


def sum_exactly(rows_BD: Tensor, codes_B: Tensor, n_clusters: int) -> Tensor:
    """Sum the rows of each cluster as integers: the result is the same in any order, such as that of a GPU's atomics.

    Parameters
    ----------
    rows_BD : float32, shape (rows, features)
        Latents or residuals, features below 2e9.
    codes_B : int64, shape (rows,)
        Index of each row's cluster.
    n_clusters : int

    Returns
    -------
    float32, shape (n_clusters, features)
    """
    whole_BD = fixed_point(rows_BD)
    sums_KD = whole_BD.new_zeros(n_clusters, rows_BD.shape[1]).index_add_(0, codes_B, whole_BD)
    return sums_KD.to(rows_BD.dtype) / FIXED_POINT


def fixed_point(x: Tensor) -> Tensor:
    """Convert numbers below 2e9 to int64 in units of 1 / `FIXED_POINT`.

    Parameters
    ----------
    x : float, any shape
        Dimensionless features.
    """
    return (x * FIXED_POINT).round().long()
