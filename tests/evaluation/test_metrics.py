import numpy as np
import pytest

from emeg.evaluation.metrics import METRICS, Score, confusion, mean_and_sd, score


def certain(predicted, n_classes):
    return np.eye(n_classes)[list(predicted)]


def test_figures_of_a_confusion_matrix_worked_by_hand():
    # true 0: 3 of 4 right; true 1: 1 of 2 right; true 2: 0 of 2 right
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    predicted = [0, 0, 0, 1, 1, 0, 0, 1]
    found = score(labels, certain(predicted, 3))
    assert found["balanced_accuracy"].value == pytest.approx((3 / 4 + 1 / 2 + 0) / 3)
    # agreement 4/8; expected by chance: (4·5 + 2·3 + 2·0)/64
    expected = 26 / 64
    assert found["kappa"].value == pytest.approx((4 / 8 - expected) / (1 - expected))
    # F1: class 0 precision 3/5 recall 3/4 → 2/3; class 1 precision 1/3 recall 1/2 → 2/5; class 2 → 0
    assert found["weighted_f1"].value == pytest.approx((4 * (2 / 3) + 2 * (2 / 5) + 0) / 8)
    assert confusion(labels, certain(predicted, 3)).tolist() == [[3, 1, 0], [1, 1, 0], [1, 1, 0]]


def test_ranking_figures_of_two_classes_worked_by_hand():
    labels = np.array([0, 0, 1, 1])
    of_one = np.array([0.1, 0.4, 0.35, 0.8])
    found = score(labels, np.stack([1 - of_one, of_one], axis=1))
    # of the four pairs, .35 against .4 alone is the wrong way round
    assert found["auroc"].value == pytest.approx(3 / 4)
    # precision at the two hits: 1/1 and 2/3, each worth half
    assert found["auprc"].value == pytest.approx((1 + 2 / 3) / 2)


def test_ranking_figures_of_three_classes_are_the_mean_of_one_against_the_rest():
    labels = np.array([0, 1, 2, 2])
    probabilities = np.array([[0.6, 0.3, 0.1], [0.5, 0.3, 0.2], [0.2, 0.2, 0.6], [0.3, 0.4, 0.3]])
    found = score(labels, probabilities)
    # class 0: .6 above all, 3/3; class 1: .3 ties once, beats .2, loses to .4, 1.5/3; class 2: 4/4
    assert found["auroc"].value == pytest.approx((1 + 0.5 + 1) / 3)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_constant_probabilities_are_chance(n_classes):
    labels = np.tile(np.arange(n_classes), 5)
    found = score(labels, np.full((len(labels), n_classes), 1 / n_classes))
    assert found["balanced_accuracy"].value == pytest.approx(1 / n_classes)
    assert found["auroc"].value == pytest.approx(0.5)
    assert found["auprc"].value == pytest.approx(1 / n_classes)
    assert found["kappa"].value == pytest.approx(0.0)


def test_perfect_predictions_are_one_everywhere():
    labels = np.array([0, 1, 2, 3, 3])
    assert {name: s.value for name, s in score(labels, certain(labels, 4)).items()} == dict.fromkeys(METRICS, 1.0)


def test_an_absent_class_is_left_out_and_noted():
    labels = np.array([0, 0, 2, 2])
    found = score(labels, certain([0, 0, 2, 1], 3))
    assert found["balanced_accuracy"] == Score(pytest.approx(3 / 4), "over the 2 of 3 classes that occur")
    assert found["auroc"].value is not None
    assert "2 of 3" in found["auroc"].note


def test_one_class_alone_has_no_ranking_and_no_kappa_but_a_reason():
    labels = np.zeros(4, np.int64)
    found = score(labels, certain([0, 0, 0, 0], 2))
    assert found["balanced_accuracy"].value == 1.0
    assert found["auroc"] == Score(None, "one class only occurs")
    assert found["auprc"].value is None
    assert found["kappa"] == Score(None, "labels and predictions are all of one class")


def test_no_windows_and_probabilities_that_are_not_finite_have_no_figures():
    assert score(np.zeros(0, np.int64), np.zeros((0, 3)))["kappa"] == Score(None, "no windows")
    broken = score(np.array([0, 1]), np.array([[np.nan, 1.0], [0.5, 0.5]]))
    assert set(broken.values()) == {Score(None, "1 of 2 predictions are not finite")}
    assert confusion(np.zeros(0, np.int64), np.zeros((0, 3))).tolist() == [[0] * 3] * 3


def test_mean_and_deviation_leave_undefined_folds_out():
    mean, sd = mean_and_sd([Score(0.5), Score(None, "x"), Score(0.7)])
    assert mean == Score(pytest.approx(0.6), "1 of 3 folds have no value")
    assert sd.value == pytest.approx(np.sqrt(0.02))
    assert mean_and_sd([Score(None, "x")])[0].value is None
    assert mean_and_sd([Score(0.5)]) == (Score(0.5), Score(None, "one fold only"))
