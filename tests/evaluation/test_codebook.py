import numpy as np
import pytest

from emeg.evaluation.codebook import count_codes, summarise_codebooks


def test_codes_are_counted_by_quantizer_over_blocks():
    blocks = [np.array([[[0, 3]], [[1, 3]]]), np.array([[[1, 3]]])]
    counts = count_codes(iter(blocks), 4)
    assert counts.tolist() == [[1, 2, 0, 0], [0, 0, 0, 3]]
    first, second = summarise_codebooks(counts)
    assert (first.n_used, first.n_tokens, second.n_used) == (2, 3, 1)
    assert second.perplexity == pytest.approx(1.0)
