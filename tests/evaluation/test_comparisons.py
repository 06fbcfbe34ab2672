import numpy as np
import pytest
from scipy import stats

from emeg.evaluation.comparisons import gates, holm, interval, metric_interval, paired_interval, sign_flip_p
from emeg.evaluation.products import EvaluationSummary, ModelSummary, TaskSummary


def model(name: str, values: list[float | None]) -> ModelSummary:
    return ModelSummary(name=name, title=name, subjects={f"d/{i:02}": value for i, value in enumerate(values)})


def summary(*models: ModelSummary) -> EvaluationSummary:
    task = TaskSummary(
        name="t",
        classes=("a", "b"),
        definition={},
        inferred=False,
        n_subjects=20,
        n_windows=400,
        windows_per_class={"a": 200, "b": 200},
        folds=(),
        chance=0.5,
    )
    return EvaluationSummary(
        version="0",
        task=task,
        task_missing_reason="",
        models=models,
        reconstruction=(),
        examples=(),
        codebook=(),
        provenance={},
    )


def test_the_interval_covers_the_true_mean_about_as_often_as_its_level():
    draws = np.random.default_rng(0)
    covered = []
    for _ in range(200):
        found = interval(draws.normal(0.6, 0.1, 30).tolist())
        assert found is not None
        covered.append(found.low <= 0.6 <= found.high)
    assert 0.88 <= np.mean(covered) <= 0.99


def test_the_interval_is_close_to_that_of_student_for_many_subjects():
    values = np.random.default_rng(1).normal(0.55, 0.08, 100)
    low, high = stats.t.interval(0.95, 99, values.mean(), stats.sem(values))
    found = interval(values.tolist())
    assert found is not None
    assert (found.mean, found.low, found.high) == pytest.approx((values.mean(), low, high), abs=0.003)


def test_the_interval_of_a_metric_of_all_subjects_has_its_closed_form():
    """Balanced accuracy of 80 and 40 subjects is the mean of two shares, each with binomial variance."""
    classes = np.repeat([0, 1], [80, 40])
    right = np.concatenate([np.arange(80) < 64, np.arange(40) < 24])

    def balanced(rows):
        assert np.bincount(classes[rows]).tolist() == [80, 40], "every resample has the classes of the data"
        return float(np.mean([right[rows][classes[rows] == k].mean() for k in (0, 1)]))

    sd = np.sqrt(0.8 * 0.2 / 80 + 0.6 * 0.4 / 40) / 2
    assert metric_interval(balanced, classes) == pytest.approx((0.7 - 1.96 * sd, 0.7 + 1.96 * sd), abs=0.01)


def test_a_metric_that_is_rarely_defined_has_no_interval():
    assert metric_interval(lambda rows: 0.5, np.zeros(4)) is None
    assert metric_interval(lambda rows: None, np.zeros(20)) is None
    assert metric_interval(lambda rows: 0.5 if len(np.unique(rows)) > 5 else None, np.zeros(20)) == (0.5, 0.5)


def test_fewer_than_five_subjects_give_no_interval_and_no_verdict():
    assert interval([0.5, 0.6, 0.7, 0.8]) is None
    found = gates(summary(model("pretrained_full", [0.9] * 4), model("random_full", [0.1] * 4)))
    assert [gate.passed for gate in found] == [None] * 3
    assert "4 subjects" in found[0].reason


def test_differences_are_paired_by_subject_and_skip_subjects_without_a_value():
    own = model("pretrained_full", [0.9, 0.6, 0.8, 0.5, 0.7, None])
    rival = model("random_full", [0.8, 0.5, 0.7, 0.4, 0.6, 0.1])
    found = paired_interval(own, rival)
    assert found is not None
    assert found.n_subjects == 5
    assert (found.mean, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))


def test_a_real_effect_passes_and_its_absence_does_not():
    draws = np.random.default_rng(2)
    base = draws.normal(0.6, 0.1, 20)
    own = model("pretrained_full", (base + 0.1 + draws.normal(0, 0.02, 20)).tolist())
    random = model("random_full", base.tolist())
    strong = model("tangent_space", (base + 0.2).tolist())
    weak = model("band_power", (base - 0.1).tolist())
    above_chance, above_random, above_best = gates(summary(own, random, weak, strong))
    assert (above_chance.passed, above_random.passed, above_best.passed) == (True, True, False)
    assert "tangent_space" in above_best.question


def test_a_rival_that_was_not_evaluated_is_named_as_such():
    found = gates(summary(model("pretrained_probe", [0.7] * 6)))
    assert [gate.passed for gate in found] == [True, None, None]
    assert "not evaluated" in found[1].reason


def test_sign_flips_of_few_subjects_are_counted_exactly():
    assert sign_flip_p([1.0, 2.0, 0.5, 1.5, 3.0]) == 2 / 2**5
    assert sign_flip_p([1.0, -1.0, 2.0, -2.0]) == 1.0
    assert sign_flip_p([0.0] * 6) == 1.0


def test_sign_flips_of_many_subjects_agree_with_student():
    differences = np.random.default_rng(0).normal(0.3, 1.0, 40)
    assert sign_flip_p(differences.tolist()) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.02)


def test_holm_corrects_step_by_step():
    # sorted .005 .01 .03 .04, times 4 3 2 1, never falling
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
