"""Metrics of every kind against closed forms, scikit-learn and hand-made cases."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, r2_score

from emeg.evaluation.metrics import METRICS
from emeg.evaluation.protocol.contrastive import ContrastiveReadOut
from emeg.evaluation.protocol.scoring import Outcomes, choice, figures, noise_ceiling, ranks

USED = {
    "auroc": {"roc_auc_score"},
    "auprc": {"average_precision_score"},
    "kappa": {"cohen_kappa_score"},
    "weighted_f1": {"f1_score"},
}
"""Functions of scikit-learn that a metric needs."""


def outcome(truth, predicted, subjects=(), stimuli=(), table=None) -> Outcomes:
    n = len(truth)
    return Outcomes(
        np.asarray(truth),
        np.asarray(predicted, float).reshape(n, -1),
        np.array(list(subjects) or ["d/1"] * n),
        np.asarray(stimuli if len(stimuli) else np.zeros(n), np.int64),
        table,
    )


def values(kind, one) -> dict[tuple[str, str, str], float | None]:
    return {(f.subject, f.unit, f.metric): f.value for f in figures(kind, one)}


def test_a_diagnosis_is_measured_by_window_and_by_person():
    # two windows a person: the mean probability decides for the person
    probabilities = [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3], [0.1, 0.9], [0.45, 0.55]]
    truth = [0, 0, 1, 1, 1, 1]
    people = ["d/a", "d/a", "d/b", "d/b", "d/c", "d/c"]
    found = values("diagnosis", outcome(truth, probabilities, people))
    predicted = np.argmax(probabilities, axis=1)
    assert found["", "window", "balanced_accuracy"] == balanced_accuracy_score(truth, predicted)
    assert found["", "subject", "balanced_accuracy"] == 1.0
    assert found["d/a", "window", "balanced_accuracy"] == 0.5
    assert ("", "subject", "balanced_accuracy") not in values("classification", outcome(truth, probabilities, people))


def test_a_regression_is_measured_by_window_and_by_person():
    truth = np.repeat([20.0, 30.0, 40.0], 2)
    predicted = np.array([22.0, 26.0, 28.0, 30.0, 30.0, 42.0])
    people = np.repeat(["d/a", "d/b", "d/c"], 2)
    found = values("regression", outcome(truth, predicted, people))
    assert found["", "window", "r2"] == pytest.approx(r2_score(truth, predicted))
    assert found["", "window", "pearson"] == pytest.approx(np.corrcoef(truth, predicted)[0, 1])
    assert found["", "subject", "mae"] == pytest.approx(np.mean([4, 1, 4]))
    assert found["d/a", "window", "pearson"] is None
    assert found["d/a", "window", "mae"] == 4.0


def test_ranks_count_more_similar_candidates_and_ties_against_the_right_one():
    table = np.eye(4)
    predicted = [[1, 0, 0, 0], [0.5, 0.6, 0.4, 0], [0, 0, 0, 0]]
    one = outcome([0, 0, 2], predicted, stimuli=[0, 0, 2], table=table)
    found, n_candidates = ranks(one)
    assert n_candidates == 2, "candidates are the tested stimuli"
    assert found.tolist() == [0, 0, 1], "a prediction of zero knows nothing"
    assert values("retrieval", one)["", "window", "top1"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(("noise", "n_repeats"), [(0.5, 4), (1.0, 8), (2.0, 10)])
def test_the_noise_ceiling_has_its_closed_form(noise, n_repeats):
    """Mean responses have signal variance 1 and noise variance noise² / n: correlation at most sqrt(1 / (1 + n²/r))."""
    generator = np.random.default_rng(0)
    signal = generator.normal(size=(400, 6))
    stimuli = np.repeat(np.arange(400), n_repeats)
    responses = signal[stimuli] + noise * generator.normal(size=(len(stimuli), 6))
    expected = np.sqrt(1 / (1 + noise**2 / n_repeats))
    assert noise_ceiling(responses, stimuli).value == pytest.approx(expected, abs=0.02)
    perfect = outcome(responses, signal[stimuli], stimuli=stimuli)
    found = values("encoding", perfect)
    assert found["", "window", "correlation"] == pytest.approx(expected, abs=0.03)
    assert found["", "window", "share_of_ceiling"] == pytest.approx(1.0, abs=0.05)


def test_responses_that_do_not_repeat_have_no_share():
    generator = np.random.default_rng(1)
    responses = generator.normal(size=(60, 2))
    one = outcome(responses, generator.normal(size=(60, 2)), stimuli=np.arange(60))
    assert values("encoding", one)["", "window", "noise_ceiling"] is None
    assert values("encoding", one)["", "window", "share_of_ceiling"] is None


def test_the_choice_prefers_the_metric_then_the_likelihood():
    truth = [0, 1, 0, 1]
    sure = outcome(truth, [[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.1, 0.9]])
    unsure = outcome(truth, [[0.6, 0.4], [0.4, 0.6], [0.6, 0.4], [0.4, 0.6]])
    wrong = outcome(truth, [[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.1, 0.9]])
    scores = [choice("classification", "balanced_accuracy", one) for one in (sure, unsure, wrong)]
    assert scores[0] > scores[1] > scores[2]
    near, far = outcome([1.0, 2.0], [1.1, 2.1]), outcome([1.0, 2.0], [3.0, 4.0])
    assert choice("regression", "pearson", near) > choice("regression", "pearson", far)


def test_a_contrastive_map_finds_unseen_stimuli_of_a_linear_code():
    generator = np.random.default_rng(0)
    table = generator.normal(size=(60, 5))
    stimuli = np.repeat(np.arange(60), 4)
    features = table[stimuli] @ generator.normal(size=(5, 30)) + 0.5 * generator.normal(size=(240, 30))
    train, test = stimuli < 45, stimuli >= 45
    model = ContrastiveReadOut(seed=0).fit(features[train], table[stimuli[train]])
    one = outcome(stimuli[test], model.predict(features[test]), stimuli=stimuli[test], table=table)
    found = values("retrieval", one)
    assert found["", "window", "top1"] > 0.7
    again = ContrastiveReadOut(seed=0).fit(features[train], table[stimuli[train]])
    np.testing.assert_array_equal(again.coef_, model.coef_)


@pytest.mark.parametrize("metric", METRICS)
def test_the_choice_computes_its_own_metric_only(monkeypatch, metric):
    generator = np.random.default_rng(4)
    one = outcome(generator.integers(3, size=40), generator.dirichlet(np.ones(3), 40))
    expected = values("classification", one)["", "window", metric]
    for name in {"roc_auc_score", "average_precision_score", "cohen_kappa_score", "f1_score"} - USED.get(metric, set()):
        monkeypatch.delattr(f"emeg.evaluation.metrics.sk.{name}")
    assert choice("classification", metric, one)[0] == expected


def test_a_prediction_that_does_not_vary_has_no_correlation_with_responses():
    generator = np.random.default_rng(2)
    stimuli = np.repeat(np.arange(20), 3)
    responses = generator.normal(size=(20, 2))[stimuli] + 0.1 * generator.normal(size=(60, 2))
    half = responses.copy()
    half[:, 1] = 0.3
    found = [
        values("encoding", outcome(responses, predicted, stimuli=stimuli))["", "window", "correlation"]
        for predicted in (np.full((60, 2), 0.1), half)
    ]
    assert found == pytest.approx([0.0, 0.5])
