import json
from pathlib import Path

import numpy as np
from tests.evaluation.protocol.test_run import HANDS, config_of, write_recipe

from emeg.evaluation import evaluate
from emeg.evaluation.probes import PERTURBATIONS
from emeg.evaluation.protocol.probing import spread_windows


def test_probes_of_a_task_are_published_with_the_evaluation(root, tmp_path):
    result = evaluate(config_of(root, write_recipe(tmp_path, HANDS), probes=True))
    path = Path(root) / "evaluations" / result.evaluation / "probes.json"
    (found,) = json.loads(path.read_text()).values()
    assert found["reason"] == ""
    checks = json.loads((path.parent / "checks.json").read_text())
    assert [check["passed"] for check in checks if check["name"] == "isolation"] == [True]
    assert (found["n_windows"], found["n_channels"]) == (100, 5)
    assert set(found["conditions"]) == set(PERTURBATIONS)
    assert set(found["layers"]) == {"0", "1", "2"}
    assert set(found["intact"]["subjects"]) == set(found["erased"]["subjects"])
    assert 0 <= found["identity"]["subject"]["accuracy"] <= 1
    assert found["identity"]["device"]["accuracy"] is None, "the task has one device"


def test_a_task_without_classes_or_unseen_subjects_states_why_it_is_not_probed(root, tmp_path):
    within = {"rule": "within_subject_blocks", "n_folds": 4}
    result = evaluate(config_of(root, write_recipe(tmp_path, HANDS, split=within), probes=True))
    path = Path(root) / "evaluations" / result.evaluation / "probes.json"
    (found,) = json.loads(path.read_text()).values()
    reason = "probes need unseen subjects; the split rule is within subject blocks"
    assert found == {"reason": reason, "device_tokens": []}


def test_windows_are_spread_over_subjects_classes_and_time():
    subjects, labels = np.repeat(["a", "b"], 100), np.tile([0, 1], 100)
    chosen = spread_windows(subjects, labels, 24)
    assert len(chosen) == 24
    for subject in "ab":
        own = chosen[subjects[chosen] == subject]
        assert np.bincount(labels[own]).tolist() == [6, 6]
        assert np.ptp(own) > 90
    assert len(spread_windows(subjects, labels, 1000)) == 200
