"""How the codes of each quantizer are used."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emeg.evaluation.products import CodebookFigures
from emeg.metrics import perplexity


def count_codes(codes: Iterator[NDArray[np.integer[Any]]], n_codes: int) -> NDArray[np.int64]:
    """Count every code of every quantizer: (…, quantizer) arrays become int64 (quantizers, `n_codes`)."""
    total: NDArray[np.int64] | None = None
    for block in codes:
        flat = block.reshape(-1, block.shape[-1])
        counts = np.stack([np.bincount(flat[:, k], minlength=n_codes) for k in range(flat.shape[1])])
        total = counts if total is None else total + counts
    return np.zeros((0, n_codes), np.int64) if total is None else total.astype(np.int64)


def codebook_figures(counts: NDArray[np.int64]) -> tuple[CodebookFigures, ...]:
    """Figures of every quantizer, from counts (quantizers, codes)."""
    return tuple(
        CodebookFigures(
            n_codes=len(row), n_used=int((row > 0).sum()), perplexity=perplexity(row), n_tokens=int(row.sum())
        )
        for row in counts
    )
