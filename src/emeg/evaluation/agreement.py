"""Whether two devices that recorded the same sources tell the same tokens."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from emeg.errors import UserError


def tokens_agree(codes_a: NDArray[np.integer[Any]], codes_b: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Share of equal codes, for each quantizer.

    Parameters
    ----------
    codes_a, codes_b : int, shape (..., quantizers)
        Codes of the same stretch of the same source activity, from two devices.

    Returns
    -------
    float64, shape (quantizers,)
        1 where every code is the same. What chance would give is the sum over codes of the product of both shares.

    Raises
    ------
    UserError
        Shapes differ, or there are no codes.
    """
    if codes_a.shape != codes_b.shape or codes_a.size == 0:
        raise UserError(f"codes of shape {codes_a.shape} and {codes_b.shape}: both must be the same, and not empty")
    equal = (codes_a == codes_b).reshape(-1, codes_a.shape[-1])
    return np.asarray(equal.mean(axis=0), np.float64)


def chance_agreement(
    codes_a: NDArray[np.integer[Any]], codes_b: NDArray[np.integer[Any]], n_codes: int
) -> NDArray[np.float64]:
    """Share of equal codes to expect if both devices drew theirs independently, for each quantizer."""
    shares = [
        np.stack(
            [np.bincount(column, minlength=n_codes) / len(column) for column in codes.reshape(-1, codes.shape[-1]).T]
        )
        for codes in (codes_a, codes_b)
    ]
    return np.asarray(np.sum(shares[0] * shares[1], axis=1), np.float64)
