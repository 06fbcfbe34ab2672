import logging
from types import SimpleNamespace

import pytest

from emeg.data import load_task, single_task
from emeg.flows import pipeline
from emeg.flows.pipeline import PipelineConfig, _evaluated, _shared_by_ranks
from emeg.training import TrainTokenizerConfig


@pytest.mark.parametrize(("workers", "micro_batches", "ranks"), [(1, 2, 1), (2, 2, 2), (2, 3, 1), (8, 4, 2), (2, 1, 1)])
def test_ranks_divide_the_micro_batches_and_are_at_most_two(workers, micro_batches, ranks):
    config = TrainTokenizerConfig(root="store", device="cpu", sampling={"micro_batches": micro_batches})
    assert _shared_by_ranks(config, workers).processes == ranks


@pytest.fixture
def asked(monkeypatch):
    """Configurations that the steps receive in place of running them."""
    calls = {}
    monkeypatch.setattr(
        pipeline, "run_finetune", lambda c: calls.setdefault("finetune", c) and SimpleNamespace(model="f")
    )
    monkeypatch.setattr(
        pipeline, "run_evaluate", lambda c: calls.setdefault("evaluate", c) and SimpleNamespace(evaluation="e")
    )
    return calls


def test_a_task_with_classes_is_fine_tuned_and_evaluated(asked):
    config = PipelineConfig(root="store", task="arithmetic", workers=0)
    assert _evaluated(config, "m", "c") == "e"
    assert asked["finetune"].task == single_task(load_task("arithmetic"))
    assert (asked["finetune"].model, asked["finetune"].corpus, asked["finetune"].workers) == ("m", "c", 1)
    assert (asked["evaluate"].finetuned, asked["evaluate"].tasks) == ("f", ())


@pytest.mark.parametrize("task", ["arithmetic-age", "imagined-fists", "slowing-new-device"])
def test_a_task_that_fine_tuning_cannot_do_is_evaluated_by_frozen_features(asked, caplog, task):
    with caplog.at_level(logging.WARNING):
        assert _evaluated(PipelineConfig(root="store", task=task), "m", "c") == "e"
    assert "finetune" not in asked
    assert (asked["evaluate"].tasks, asked["evaluate"].model, asked["evaluate"].finetuned) == ((task,), "m", None)
    assert task in caplog.text
    assert "frozen features" in caplog.text
