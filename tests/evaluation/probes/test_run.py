import json

import numpy as np
import pytest
from benchmarks.planted import featurize, make_windows, subject_folds_of

from emeg.evaluation.probes import run_probes
from emeg.evaluation.probes.run import score_task


@pytest.fixture(scope="module")
def probed():
    windows = make_windows("real", seed=2000)
    folds = subject_folds_of(windows)
    layers = {"0": np.random.default_rng(0).normal(size=(len(windows.labels), 8))}
    return run_probes(
        windows, featurize(windows), folds, layers=layers, conditions=("without_alpha", "sensors_dropped")
    )


def test_a_rhythm_is_lost_with_its_band_and_not_with_the_subject(probed):
    assert probed.intact.mean > 0.7
    assert probed.erased.mean > 0.6
    assert probed.conditions["without_alpha"].mean < probed.intact.mean - 0.1
    assert 0.35 < probed.permuted.mean < 0.65


def test_the_subject_is_found_and_gone_after_erasure(probed):
    assert probed.identity["subject"].accuracy > 3 * probed.identity["subject"].chance
    assert probed.subject_after_erasure.accuracy < 2 * probed.identity["subject"].chance
    assert probed.variance["subject"].share > probed.variance["label"].share
    assert min(own.ratio for own in probed.variance.values()) > 3
    assert probed.identity["dataset"].accuracy is None


def test_a_layer_of_noise_is_chance(probed):
    assert 0.35 < probed.layers["0"].mean < 0.65


def test_results_are_plain_json(probed):
    found = json.loads(json.dumps(probed.to_json()))
    assert found["identity"]["subject"]["accuracy"] == probed.identity["subject"].accuracy
    assert set(found["intact"]) == {"mean", "subjects", "note"}


def test_a_score_is_a_mean_over_subjects_and_a_fold_of_one_class_is_left_out():
    from emeg.data.tasks.folds import Fold

    labels = np.array([0, 1] * 10 + [0] * 10)
    subjects = np.repeat(["d/a", "d/b", "d/c"], 10)
    rows = [np.arange(10 * k, 10 * k + 10) for k in range(3)]
    features = labels[:, None].astype(float)
    scored = score_task(features, labels, subjects, [Fold(rows[0], rows[1], rows[2]), Fold(rows[2], rows[1], rows[0])])
    assert scored.subjects == {"d/c": 1.0}
    none = score_task(features, labels, subjects, [Fold(rows[2], rows[1], rows[0])])
    assert none.mean is None
    assert "two classes" in none.note
