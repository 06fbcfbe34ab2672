"""Draw random numbers and orders that are equal on every machine, rank and library version.

A draw is the raw output of Philox4x64-10 under a key derived from the draw's name. The raw stream of a numpy bit
generator is fixed; the methods of `numpy.random.Generator` may change between releases, so they are not used here.
"""

import hashlib
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from emeg.hashing import canonical_json


def draws(n: int, *key: str | int) -> NDArray[np.uint64]:
    """Draw `n` independent 64-bit numbers under the name `key`.

    References
    ----------
    Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (Philox).
    """
    digest = hashlib.sha256(canonical_json(list(key)).encode()).digest()
    raw: NDArray[np.uint64] = np.random.Philox(key=int.from_bytes(digest[:16], "little")).random_raw(n)
    return raw


def permutation(n: int, *key: str | int) -> NDArray[np.int64]:
    """Permute ``range(n)`` by the order of `n` draws under the name `key`."""
    return np.argsort(draws(n, *key), kind="stable").astype(np.int64)


def block_permutation(n: int, block: int, window: int, *key: str | int) -> NDArray[np.int64]:
    """Permute ``range(n)``: shuffle blocks of `block` neighbours, then spread each over the next `window` blocks.

    The position of an item is the position of its block plus a draw from 0 to `window` blocks. At any moment items of
    at most `window` blocks are due, so that a reader that keeps these blocks reads each block once.
    """
    position = np.empty(-(-n // block), np.uint64)
    position[permutation(len(position), "blocks", *key)] = np.arange(len(position), dtype=np.uint64)
    due = position[np.arange(n) // block] << np.uint64(32)
    due += (draws(n, "mix", *key) >> np.uint64(32)) * np.uint64(window)
    return np.argsort(due, kind="stable").astype(np.int64)


def hash_order(names: list[str], *key: str | int) -> list[str]:
    """Sort names by a hash keyed with `key`. A new name does not change the order of the others."""
    prefix = canonical_json(list(key))
    return sorted(names, key=lambda name: hashlib.sha256(f"{prefix}\x00{name}".encode()).digest())


def exact(value: float) -> Fraction:
    """Return a setting as the exact decimal number that was written: 0.15 is 3/20, not the nearest double."""
    return Fraction(repr(float(value)))


def round_half_down(value: Fraction) -> int:
    """Round to the nearest whole number, halves towards zero."""
    return -((1 - 2 * value) // 2)


def round_half_up(value: Fraction) -> int:
    """Round to the nearest whole number, halves upwards."""
    return (1 + 2 * value) // 2
