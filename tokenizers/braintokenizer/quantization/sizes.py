"""Sizes of the scalar quantizer, without PyTorch."""


def numbers_per_level(codebook_size: int, n_values: int) -> int | None:
    """Return how many numbers of `n_values` values make `codebook_size` codes, or None if no whole number does."""
    n, product = 0, 1
    while product < codebook_size:
        n, product = n + 1, product * n_values
    return n if product == codebook_size else None
