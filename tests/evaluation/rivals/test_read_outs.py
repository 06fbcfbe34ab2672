import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from tests.messages import refusal

from emeg.errors import UserError
from emeg.evaluation.rivals import RidgeReadOut, read_out
from emeg.evaluation.rivals.read_outs import LogisticReadOut


@pytest.fixture
def data():
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 40)
    features = generator.normal(size=(120, 8)) * np.array([1, 10, 1e-6, 1, 1, 1, 1, 1]) + 5
    features[:, 2] += 4e-6 * (labels == 1)
    features[:, 1] += 40 * (labels == 2)
    return features, labels


def test_ridge_is_that_of_scikit_learn_with_scaled_features(data):
    features, labels = data
    target = labels + 0.1 * features[:, 0]
    own = RidgeReadOut(2.0).fit(features, target).predict(features)
    # features scaled by their deviation times the root of their number, penalty by windows over features
    scaled = StandardScaler().fit_transform(features) / np.sqrt(8)
    reference = Ridge(alpha=2.0 * 120 / 8).fit(scaled, target).predict(scaled)
    assert own == pytest.approx(reference, abs=1e-9)


def test_ridge_predicts_several_targets(data):
    features, labels = data
    targets = np.stack([labels, -labels], axis=1).astype(float)
    found = RidgeReadOut(1e-3).fit(features, targets).predict(features)
    assert found.shape == (120, 2)
    assert found[:, 0] == pytest.approx(-found[:, 1])


@pytest.mark.parametrize("name", ["logistic", "ridge"])
def test_classes_are_separated_whatever_the_units(data, name):
    features, labels = data
    model = read_out(name, 1e-2 if name == "ridge" else 100.0, n_classes=3).fit(features, labels)
    assert np.mean(model.predict(features) == labels) > 0.9
    assert model.predict_proba(features).sum(axis=1) == pytest.approx(1)


def test_a_class_without_training_windows_is_never_predicted(data):
    features, labels = data
    kept = labels < 2
    for name in ("logistic", "ridge"):
        model = read_out(name, 1.0, n_classes=3).fit(features[kept], labels[kept])
        assert model.predict_proba(features)[:, 2] == pytest.approx(0, abs=1e-3)
    only = LogisticReadOut(n_classes=3).fit(features[:40], labels[:40])
    assert only.predict(features).tolist() == [0] * 120


def test_wrong_features_and_names_are_refused(data):
    features, labels = data
    broken = features.copy()
    broken[3, 1] = np.nan
    with refusal(UserError, "1 of 120", action="features"):
        read_out("logistic", 1.0, n_classes=3).fit(broken, labels)
    with refusal(UserError, "(120, 1, 8)", action="features"):
        read_out("ridge", 1.0, n_classes=3).fit(features[:, None], labels)
    with refusal(UserError, "forest", action="logistic, ridge"):
        read_out("forest", 1.0, n_classes=3)
    with refusal(UserError, "logistic", action="ridge"):
        read_out("logistic", 1.0, n_classes=0)
    with refusal(UserError, "ridge", action="predict"):
        RidgeReadOut().fit(features, labels.astype(float)).predict_proba(features)
