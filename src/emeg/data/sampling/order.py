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
    """Permute ``range(n)``: blocks of `block` neighbours in a new order, each spread over the next `window` blocks.

    An item comes at the place of its block plus a draw from 0 to `window` blocks, so that at any moment items of
    `window` blocks at most are due: a reader that keeps these reads every block once, one after the other, while the
    items of a block part.
    """
    place = np.empty(-(-n // block), np.uint64)
    place[permutation(len(place), "blocks", *key)] = np.arange(len(place), dtype=np.uint64)
    due = place[np.arange(n) // block] << np.uint64(32)
    due += (draws(n, "mix", *key) >> np.uint64(32)) * np.uint64(window)
    return np.argsort(due, kind="stable").astype(np.int64)


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
