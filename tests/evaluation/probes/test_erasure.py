import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from emeg.evaluation.probes import LinearEraser


@pytest.fixture
def data():
    generator = np.random.default_rng(0)
    subjects = np.repeat(np.arange(6), 60)
    labels = np.tile([0, 1], 180)
    mixing = generator.normal(size=(20, 20)) * np.geomspace(1e-6, 10, 20)
    offsets = generator.normal(size=(6, 20))[subjects]
    effect = labels[:, None] * generator.normal(size=20)
    return (generator.normal(size=(360, 20)) + 2 * offsets + effect) @ mixing, subjects, labels


def accuracy(features, target):
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    return LogisticRegression(C=100.0, max_iter=5000).fit(scaled, target).score(scaled, target)


def test_a_linear_probe_for_the_subject_falls_to_chance_and_the_label_stays(data):
    features, subjects, labels = data
    erased = LinearEraser().fit(features, subjects).transform(features)
    assert accuracy(features, subjects) > 0.95
    # the same windows: with equal means the best linear model is a constant
    assert accuracy(erased, subjects) == pytest.approx(1 / 6, abs=0.02)
    assert accuracy(erased, labels) > 0.9
    means = np.array([erased[subjects == k].mean(axis=0) for k in range(6)])
    assert np.ptp(means, axis=0) / features.std(axis=0) == pytest.approx(0, abs=1e-8)


def test_directions_are_as_many_as_groups_minus_one_and_nothing_else_changes(data):
    features, subjects, _ = data
    eraser = LinearEraser().fit(features, subjects)
    assert eraser.rank_ == 5
    change = eraser.transform(features) - features
    assert np.linalg.matrix_rank(change / features.std(axis=0), tol=1e-6) == 5
    # erasing twice changes nothing more
    again = LinearEraser().fit(eraser.transform(features), subjects)
    assert again.transform(eraser.transform(features)) == pytest.approx(eraser.transform(features), rel=1e-4, abs=1e-9)


def test_the_change_is_smaller_than_that_of_an_orthogonal_projection(data):
    """Of all affine changes that make the means equal, that of the closed form is the smallest (theorem 4.3)."""
    features, subjects, _ = data
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    erased = LinearEraser().fit(scaled, subjects).transform(scaled)
    means = np.array([scaled[subjects == k].mean(axis=0) for k in range(6)])
    axes = np.linalg.svd(means, full_matrices=False)[2][:5]
    projected = scaled - scaled @ axes.T @ axes
    assert np.sum((erased - scaled) ** 2) < np.sum((projected - scaled) ** 2)


def test_one_group_and_features_without_variance_are_survived():
    features = np.random.default_rng(0).normal(size=(20, 3))
    features[:, 1] = 4.0
    eraser = LinearEraser().fit(features, np.zeros(20))
    assert eraser.rank_ == 0
    assert eraser.transform(features) == pytest.approx(features)
