"""Orders and draws that are the same on every machine, rank and library version.

A draw is the raw output of Philox4x64-10 under a key made of the draw's name. The raw stream of a numpy bit
generator is fixed; the methods of `numpy.random.Generator` on top of it may change between releases, so none is used.
"""

import hashlib
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from emeg.hashing import canonical_json


def draws(n: int, *key: str | int) -> NDArray[np.uint64]:
    """Draw `n` independent 64-bit numbers named by `key`.

    References
    ----------
    Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (Philox).
    """
    digest = hashlib.sha256(canonical_json(list(key)).encode()).digest()
    raw: NDArray[np.uint64] = np.random.Philox(key=int.from_bytes(digest[:16], "little")).random_raw(n)
    return raw


def permutation(n: int, *key: str | int) -> NDArray[np.int64]:
    """Permute ``range(n)``: the order of `n` draws named by `key`."""
    return np.argsort(draws(n, *key), kind="stable").astype(np.int64)


def block_permutation(n: int, block: int, window: int, *key: str | int) -> NDArray[np.int64]:
    """Permute ``range(n)`` by blocks of `block` neighbours, then mix inside windows of `window` permuted blocks.

    Reads stay local (a window is `block` · `window` items from `window` places) while neighbours part.
    """
    blocks = permutation(-(-n // block), "blocks", *key)
    starts = blocks * block
    lengths = np.minimum(block, n - starts)
    firsts = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    order = firsts + np.arange(n)
    borders = np.concatenate([[0], np.cumsum(lengths)])[::window]
    borders = np.unique(np.append(borders, n))
    group = np.searchsorted(borders, np.arange(n), side="right")
    mixed = np.lexsort((draws(n, "mix", *key), group))
    return np.asarray(order[mixed], np.int64)


def hash_order(names: list[str], *key: str | int) -> list[str]:
    """Sort names by a hash keyed with `key`: an order in which a new name moves no other."""
    prefix = canonical_json(list(key))
    return sorted(names, key=lambda name: hashlib.sha256(f"{prefix}\x00{name}".encode()).digest())


def exact(value: float) -> Fraction:
    """Read a setting as the decimal number a person wrote: 0.15 is 3/20, not the nearest double."""
    return Fraction(repr(float(value)))


def round_half_down(value: Fraction) -> int:
    """Round to the nearest whole number, halves towards zero."""
    return -((1 - 2 * value) // 2)


def round_half_up(value: Fraction) -> int:
    """Round to the nearest whole number, halves upwards."""
    return (1 + 2 * value) // 2
