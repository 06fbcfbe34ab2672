"""Compute the features of each window once and reuse them in all folds, seeds and settings."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_BYTES = 256 * 2**20
"""Memory of all kept features; those not used for longest are dropped first."""


class RowCache:
    """Features of windows by content of the window and name of the features.

    Parameters
    ----------
    most_bytes : int
        Memory of all kept features.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._rows: OrderedDict[bytes, NDArray[np.float64]] = OrderedDict()
        self._n_bytes = 0

    def features(
        self, name: str, X: NDArray[Any], compute: Callable[[NDArray[Any]], NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        """Return the features of windows; those not kept are computed.

        Parameters
        ----------
        name : str
            Name of the features with all of their parameters.
        X : float, shape (windows, channels, samples)
            V, T or T/m.
        compute : callable
            Function of windows that describes each on its own.

        Returns
        -------
        float64, shape (windows, features)
        """
        keys = [self._key(name, window) for window in X]
        missing = [i for i, key in enumerate(keys) if key not in self._rows]
        found: dict[bytes, NDArray[np.float64]] = {}
        if missing:
            made = compute(X[missing])
            found = {keys[i]: row for i, row in zip(missing, made, strict=True)}
        rows = []
        for key in keys:
            if key in self._rows:
                self._rows.move_to_end(key)
            rows.append(found[key] if key in found else self._rows[key])
        for key, row in found.items():
            self._keep(key, row)
        return np.array(rows)

    def _keep(self, key: bytes, row: NDArray[np.float64]) -> None:
        self._rows[key] = row.copy()
        self._n_bytes += row.nbytes
        while self._n_bytes > self._most_bytes and self._rows:
            _, dropped = self._rows.popitem(last=False)
            self._n_bytes -= dropped.nbytes

    @staticmethod
    def _key(name: str, window: NDArray[Any]) -> bytes:
        digest = hashlib.blake2b(np.ascontiguousarray(window).tobytes(), digest_size=16)
        digest.update(f"{name} {window.shape} {window.dtype}".encode())
        return digest.digest()


CACHE = RowCache()
"""The cache of this process."""
