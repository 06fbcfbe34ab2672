"""Count how the codes of each quantizer level are used.

Shape letters: Q quantizer levels, K codes.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emeg.evaluation.products import CodebookSummary
from emeg.metrics import perplexity


def count_codes(codes: Iterator[NDArray[np.integer[Any]]], n_codes: int) -> NDArray[np.int64]:
    """Count every code of every quantizer level.

    Parameters
    ----------
    codes : iterator of int, shape (..., quantizer levels)
        Code indices, block by block.
    n_codes : int
        Codes of a codebook.

    Returns
    -------
    int64, shape (quantizer levels, codes)
    """
    total: NDArray[np.int64] | None = None
    for block in codes:
        flat = block.reshape(-1, block.shape[-1])
        counts = np.stack([np.bincount(flat[:, k], minlength=n_codes) for k in range(flat.shape[1])])
        total = counts if total is None else total + counts
    return np.zeros((0, n_codes), np.int64) if total is None else total.astype(np.int64)


def summarise_codebooks(counts: NDArray[np.int64]) -> tuple[CodebookSummary, ...]:
    """Return use and perplexity of every codebook.

    Parameters
    ----------
    counts : int64, shape (quantizer levels, codes)
        How often each code was used, dimensionless.
    """
    return tuple(
        CodebookSummary(
            n_codes=len(row), n_used=int((row > 0).sum()), perplexity=perplexity(row), n_tokens=int(row.sum())
        )
        for row in counts
    )
