import numpy as np
import pytest

from emeg.errors import UserError
from emeg.evaluation.agreement import chance_agreement, tokens_agree
from emeg.evaluation.codebook import codebook_figures, count_codes, perplexity


def test_agreement_is_the_share_of_equal_codes_by_quantizer():
    a = np.array([[[0, 1], [2, 3]], [[4, 5], [6, 7]]])
    b = np.array([[[0, 1], [2, 0]], [[4, 5], [0, 0]]])
    assert tokens_agree(a, b).tolist() == [0.75, 0.5]
    assert tokens_agree(a, a).tolist() == [1.0, 1.0]
    with pytest.raises(UserError, match="shape"):
        tokens_agree(a, b[:1])


def test_chance_agreement_is_what_independent_draws_give():
    generator = np.random.default_rng(0)
    a, b = (generator.choice(8, size=(20000, 2), p=np.arange(1, 9) / 36) for _ in range(2))
    assert tokens_agree(a, b) == pytest.approx(chance_agreement(a, b, 8), abs=0.02)


def test_codes_are_counted_by_quantizer_over_blocks():
    blocks = [np.array([[[0, 3]], [[1, 3]]]), np.array([[[1, 3]]])]
    counts = count_codes(iter(blocks), 4)
    assert counts.tolist() == [[1, 2, 0, 0], [0, 0, 0, 3]]
    first, second = codebook_figures(counts)
    assert (first.n_used, first.n_tokens, second.n_used) == (2, 3, 1)
    assert second.perplexity == pytest.approx(1.0)


def test_perplexity_of_equal_use_is_the_number_of_codes():
    assert perplexity(np.array([7, 7, 7, 0, 7])) == pytest.approx(4.0)
    assert perplexity(np.zeros(4, np.int64)) == 0.0
