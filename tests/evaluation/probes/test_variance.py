import numpy as np
import pytest
from sklearn.feature_selection import f_classif

from emeg.evaluation.probes import share_of_variance

SUBJECTS = np.repeat([f"d/{k}" for k in range(10)], 40)
LABELS = np.tile([0, 1], 200)


def test_the_share_is_that_of_an_analysis_of_variance():
    generator = np.random.default_rng(0)
    offsets = np.repeat(generator.normal(size=(10, 200)), 40, axis=0)
    features = 2.0 * offsets + generator.normal(size=(400, 200))
    found = share_of_variance(features, SUBJECTS)
    ratio = f_classif(features, SUBJECTS)[0]
    assert found.share == pytest.approx(np.mean(ratio / (ratio + 390 / 9)))
    assert found.share > 0.7
    # of 400 windows at random in 10 groups, 9 of 399 degrees of freedom
    assert found.null == pytest.approx(9 / 399, abs=0.002)
    assert found.ratio == pytest.approx(found.share / found.null)
    assert found.p == pytest.approx(0.01)


def test_noise_is_at_its_null():
    found = share_of_variance(np.random.default_rng(1).normal(size=(400, 30)), SUBJECTS)
    assert found.ratio == pytest.approx(1.0, abs=0.15)
    assert found.p > 0.02


def test_labels_are_compared_within_subjects():
    generator = np.random.default_rng(2)
    offsets = np.repeat(5 * generator.normal(size=(10, 30)), 40, axis=0)
    features = offsets + generator.normal(size=(400, 30)) + 0.5 * LABELS[:, None]
    assert share_of_variance(features, LABELS, within=SUBJECTS).p == pytest.approx(0.01)
    nothing = offsets + generator.normal(size=(400, 30))
    assert share_of_variance(nothing, LABELS, within=SUBJECTS).p > 0.02


def test_labels_of_subjects_are_shuffled_among_subjects():
    generator = np.random.default_rng(3)
    offsets = np.repeat(5 * generator.normal(size=(10, 30)), 40, axis=0)
    diagnosis = np.repeat(np.arange(10) % 2, 40)
    # shuffling windows would call this an effect
    assert share_of_variance(offsets, diagnosis).p == pytest.approx(0.01)
    assert share_of_variance(offsets, diagnosis, within=SUBJECTS).p > 0.02
