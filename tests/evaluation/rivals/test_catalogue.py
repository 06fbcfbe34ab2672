import numpy as np
import pytest
from tests.messages import refusal

from emeg.errors import UserError
from emeg.evaluation.rivals import RIVALS, missing_reason, permuted_labels, spread_settings
from emeg.evaluation.rivals.catalogue import EXTRAS, RivalModel

HERE = [name for name, rival in RIVALS.items() if not missing_reason(rival)]
WITH_FEATURES = ("band_power", "aperiodic", "time_series", "tangent_space", "csp", "xdawn", "cca", "eegnet", "shallow")


def test_every_model_that_was_asked_for_is_there():
    assert {"chance", "dummy", *WITH_FEATURES, "labram", "biot", "cbramod", "eegpt"} <= set(RIVALS)
    assert {f"{name}_random" for name in ("labram", "biot", "cbramod", "eegpt")} <= set(RIVALS)
    assert {rival.package for rival in RIVALS.values()} - {""} == set(EXTRAS)


@pytest.mark.parametrize("budget", [1, 3, 6])
def test_each_has_the_same_budget_and_no_setting_twice(budget):
    for name in WITH_FEATURES:
        settings = [tuple(sorted(setting.items())) for setting in RIVALS[name].settings(budget)]
        assert len(settings) == len(set(settings)) == budget, name
    assert len(RIVALS["chance"].settings(budget)) == 1


def test_a_budget_reaches_every_option():
    options = {"a": (1, 2, 3), "b": ("x", "y")}
    assert spread_settings(options, 1) == [{"a": 1, "b": "x"}]
    four = spread_settings(options, 4)
    assert {setting["b"] for setting in four} == {"x", "y"}
    assert {setting["a"] for setting in four} == {1, 2, 3}
    assert len(spread_settings(options, 99)) == 6
    with refusal(UserError, "budget", "0", action="budget"):
        spread_settings(options, 0)


@pytest.mark.parametrize(
    "name", [n for n in ("band_power", "time_series", "tangent_space", "csp", "eegnet", "shallow") if n in HERE]
)
def test_a_lateralised_rhythm_is_decoded_from_unseen_subjects(made, accuracy, name):
    assert accuracy(name, made("rhythm")) > 0.8


@pytest.mark.skipif("xdawn" not in HERE, reason="pyriemann is not installed")
def test_an_evoked_response_is_decoded_from_unseen_subjects(made, accuracy):
    assert accuracy("xdawn", made("evoked")) > 0.8


def test_the_frequency_of_a_flicker_is_decoded_by_canonical_correlation(made, accuracy):
    assert accuracy("cca", made("flicker")) > 0.9


def test_a_slope_is_decoded_by_the_aperiodic_model_and_a_rhythm_is_not(made, accuracy):
    assert accuracy("aperiodic", made("slope")) > 0.9
    assert accuracy("aperiodic", made("rhythm")) < 0.75


@pytest.mark.parametrize("name", [n for n in ("chance", "dummy", *WITH_FEATURES) if n in HERE])
def test_nothing_is_decoded_where_there_is_nothing(made, accuracy, name):
    assert 0.3 < accuracy(name, made("none")) < 0.7


@pytest.mark.parametrize("name", [n for n in ("tangent_space", "csp", "xdawn", "cca", "shallow") if n in HERE])
def test_a_prediction_does_not_depend_on_the_other_test_windows(made, name):
    data = made("rhythm")
    estimator = RIVALS[name].estimator(
        RIVALS[name].settings(1)[0], kind="classification", n_classes=2, channels=data.channels, sfreq=128.0, seed=0
    )
    estimator.fit(data.signal[:72], data.labels[:72])
    together = estimator.predict_proba(data.signal[72:])
    assert estimator.predict_proba(data.signal[80:81]) == pytest.approx(together[8:9], abs=1e-5)
    assert estimator.predict_proba(data.signal[72:][::-1])[::-1] == pytest.approx(together, abs=1e-5)


@pytest.mark.parametrize("name", [n for n in ("chance", "dummy", "band_power", "aperiodic", "eegnet") if n in HERE])
def test_a_regression_predicts_a_target(made, name):
    data = made("rhythm")
    power = np.log(data.signal[:, 0].std(axis=1)).astype(np.float64)
    rival = RIVALS[name]
    estimator = rival.estimator(
        rival.settings(1)[0], kind="regression", n_classes=0, channels=data.channels, sfreq=128.0, seed=0
    )
    estimator.fit(data.signal[:96], power[:96])
    predicted = estimator.predict(data.signal[96:])
    assert predicted.shape == (24,)
    if name in ("band_power", "eegnet"):
        assert np.corrcoef(predicted, power[96:])[0, 1] > 0.6


def test_a_model_refuses_a_kind_of_task_that_it_cannot_do(made):
    with refusal(UserError, "csp", "regression", action="models"):
        RIVALS["csp"].estimator({}, kind="regression", n_classes=0, channels=(), sfreq=128.0, seed=0)


def test_a_model_whose_package_is_missing_names_the_extra():
    rival = RivalModel("x", "X", lambda request: None, {}, package="no_such_package_here")
    assert "pip install no_such_package_here" in missing_reason(rival)
    with refusal(UserError, "model x", action="pip install no_such_package_here"):
        rival.estimator({}, kind="classification", n_classes=2, channels=(), sfreq=128.0, seed=0)
    if "labram" not in HERE:
        assert "emeg[braindecode]" in missing_reason(RIVALS["labram"])


def test_labels_are_permuted_within_subjects_or_among_them():
    subjects = np.repeat(["a", "b", "c", "d", "e", "f"], 20)
    within = np.tile([0, 0, 1, 2], 30)
    found = permuted_labels(within, subjects, seed=0)
    assert not np.array_equal(found, within)
    for subject in np.unique(subjects):
        own = subjects == subject
        assert np.array_equal(np.sort(found[own]), np.sort(within[own]))
    among = np.repeat([0, 0, 0, 1, 1, 1], 20)
    moved = [permuted_labels(among, subjects, seed=seed) for seed in range(8)]
    assert all(len(np.unique(one[subjects == subject])) == 1 for one in moved for subject in np.unique(subjects))
    assert all(np.array_equal(np.sort(one), np.sort(among)) for one in moved)
    assert any(not np.array_equal(one, among) for one in moved)
    assert np.array_equal(permuted_labels(within, subjects, seed=0), found)
