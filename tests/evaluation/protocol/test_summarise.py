"""Comparisons over scores with known subjects."""

import pytest

from emeg.evaluation.protocol.products import GridScore, ModelKey
from emeg.evaluation.protocol.summarise import compare


def scores_of_task(task: str, gain: float, *, examples: int | None = None, read_out: str = "logistic"):
    """Scores of chance and of a network that is better by `gain` for nine of ten subjects."""
    subjects = {f"d/{k}": 0.5 for k in range(10)}
    network = {name: 0.5 + (gain if k else -gain) for k, name in enumerate(subjects)}
    shared = {"task": task, "metric": "balanced_accuracy", "mean": 0.5, "sd": 0.1, "n_runs": 1, "interval": None}
    shared |= {"subject_metric": "balanced_accuracy", "by_subject": None}
    return [
        GridScore(key=ModelKey(model="chance", examples_per_class=examples), title="", subjects=subjects, **shared),
        GridScore(
            key=ModelKey(
                model="omni", weights="pretrained", mode="frozen", read_out=read_out, examples_per_class=examples
            ),
            title="", subjects=network, **shared,
        ),
    ]  # fmt: skip


def test_p_values_are_corrected_over_tasks_of_every_kind_and_number_of_examples():
    """A network with one read-out for classes and another for targets is still tested once for every task."""
    one = scores_of_task("hands", 0.1)
    (alone,) = compare(one)
    assert alone.p_corrected == alone.p
    several = [
        *one,
        *scores_of_task("age", 0.1, read_out="ridge"),
        *scores_of_task("shots", 0.1, examples=1),
        *scores_of_task("shots", 0.1, examples=5),
    ]
    found = compare(several)
    assert [c.task for c in found] == ["hands", "age", "shots", "shots"]
    assert [c.p for c in found] == [alone.p] * 4
    assert [c.p_corrected for c in found] == pytest.approx([4 * alone.p] * 4), "equal p-values are all multiplied"
    assert alone.passed
    assert not any(c.passed for c in found)
