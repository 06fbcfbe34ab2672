import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from tests.messages import refusal

from emeg.errors import UserError
from emeg.metrics import balanced_accuracy, chance_agreement, code_agreement, pearson, perplexity
from emeg.tokenizers.braintokenizer import pcc


def test_agreement_is_the_share_of_equal_codes_by_quantizer():
    a = np.array([[[0, 1], [2, 3]], [[4, 5], [6, 7]]])
    b = np.array([[[0, 1], [2, 0]], [[4, 5], [0, 0]]])
    assert code_agreement(a, b).tolist() == [0.75, 0.5]
    assert code_agreement(a, a).tolist() == [1.0, 1.0]
    with refusal(UserError, "(2, 2, 2)", "(1, 2, 2)", action="one shape"):
        code_agreement(a, b[:1])


def test_chance_agreement_is_what_independent_draws_give():
    generator = np.random.default_rng(0)
    a, b = (generator.choice(8, size=(20000, 2), p=np.arange(1, 9) / 36) for _ in range(2))
    assert code_agreement(a, b) == pytest.approx(chance_agreement(a, b, 8), abs=0.02)


def test_perplexity_of_equal_use_is_the_number_of_codes():
    assert perplexity(np.array([7, 7, 7, 0, 7])) == pytest.approx(4.0)
    assert perplexity(np.zeros(4, np.int64)) == 0.0


def test_pearson_equals_numpy_and_marks_undefined_values():
    a, b = np.random.default_rng(0).standard_normal((2, 5, 40))
    expected = [np.corrcoef(x, y)[0, 1] for x, y in zip(a, b, strict=True)]
    assert pearson(a, b) == pytest.approx(expected)
    assert np.isnan(pearson(np.ones(4), np.arange(4.0)))
    assert pearson(np.arange(4.0), np.ones(4)) == 0.0


def test_pearson_is_the_losses_correlation_where_the_floor_does_not_matter():
    a, b = np.random.default_rng(1).standard_normal((2, 5, 40))
    theirs = pcc(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    assert pearson(a, b) == pytest.approx(theirs, abs=1e-5)


def test_balanced_accuracy_is_scikit_learns():
    labels, predicted = np.random.default_rng(0).integers(0, 4, (2, 200))
    assert balanced_accuracy(labels, predicted) == pytest.approx(balanced_accuracy_score(labels, predicted))
