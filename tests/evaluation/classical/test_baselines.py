import importlib.util

import numpy as np
import pytest
from sklearn.covariance import OAS
from tests.messages import refusal

from emeg.errors import UserError
from emeg.evaluation.classical import baselines
from emeg.evaluation.classical.baselines import expected_chance, fit_baseline, missing_package, shrunk_covariances
from emeg.evaluation.classical.logistic import Rows, fit_logistic
from emeg.evaluation.classical.spectra import Spectra
from emeg.evaluation.metrics import score

SFREQ = 256.0
EEG = np.zeros(6, np.int8)


def rows_of(people, train, validation, test):
    return Rows(*(np.flatnonzero(np.isin(people, part)) for part in (train, validation, test)))


@pytest.fixture(scope="module")
def lateralised():
    """Return windows of five subjects, 24 of 2 s each; the class decides which channel has weaker alpha."""
    generator = np.random.default_rng(0)
    people, labels = np.repeat(np.arange(5), 24), np.tile([0, 1], 60)
    time = np.arange(512) / SFREQ
    signal = generator.normal(size=(120, 6, 512))
    for i, (person, label) in enumerate(zip(people, labels, strict=True)):
        rhythm = np.sin(2 * np.pi * (10 * time + generator.uniform()))
        strength = np.array([1.0, 2.0] if label else [2.0, 1.0]) * generator.uniform(0.8, 1.2, 2)
        signal[i, :2] += strength[:, None] * rhythm
        signal[i] *= 1e-5 * (1 + person)
    return signal.astype(np.float32), labels.astype(np.int64), people


def spectra_of(signal, pass_band=(0.1, 96.0), sensor_type=EEG):
    return Spectra.of(signal, sfreq=SFREQ, sensor_type=sensor_type, pass_band=pass_band)


@pytest.mark.parametrize("name", ["band_power", "tangent_space"])
def test_a_lateralised_rhythm_is_classified_for_unseen_subjects(lateralised, name):
    signal, labels, people = lateralised
    rows = rows_of(people, [0, 1, 2], [3], [4])
    fitted = fit_baseline(name, spectra_of(signal), labels, 2, rows)
    assert score(labels[rows.test], fitted.probabilities)["balanced_accuracy"].value > 0.85
    assert fitted.probabilities.sum(axis=1) == pytest.approx(1)
    assert fitted.setting is not None


@pytest.mark.parametrize("name", ["band_power", "tangent_space", "chance"])
def test_test_people_influence_nothing_but_their_own_predictions(lateralised, name):
    signal, labels, people = lateralised
    rows = rows_of(people, [0, 1, 2], [3], [4])
    fitted = fit_baseline(name, spectra_of(signal), labels, 2, rows)
    shuffled = labels.copy()
    shuffled[rows.test] = 1 - shuffled[rows.test]
    again = fit_baseline(name, spectra_of(signal), shuffled, 2, rows)
    assert np.array_equal(fitted.probabilities, again.probabilities)
    one = Rows(rows.train, rows.validation, rows.test[:1])
    alone = fit_baseline(name, spectra_of(signal), labels, 2, one)
    assert alone.probabilities == pytest.approx(fitted.probabilities[:1], abs=1e-9)


def test_labels_of_noise_are_chance(lateralised):
    _, labels, people = lateralised
    noise = np.random.default_rng(1).normal(size=(120, 6, 512)).astype(np.float32)
    fitted = [fit_baseline("band_power", spectra_of(noise), labels, 2, rows_of(people, *split)) for split in (
        ([0, 1, 2], [3], [4]), ([1, 2, 3], [4], [0]), ([2, 3, 4], [0], [1]))]  # fmt: skip
    found = [score(labels[:24], f.probabilities)["balanced_accuracy"].value for f in fitted]
    assert 0.3 < np.mean(found) < 0.7


def test_units_of_a_sensor_type_do_not_matter(lateralised):
    signal, labels, people = lateralised
    kinds = np.array([0, 0, 0, 1, 1, 1], np.int8)
    rows = rows_of(people, [0, 1, 2], [3], [4])
    scaled = signal.copy()
    scaled[:, 3:] *= 1e-7
    for name in ("band_power", "tangent_space"):
        a = fit_baseline(name, spectra_of(signal, sensor_type=kinds), labels, 2, rows)
        b = fit_baseline(name, spectra_of(scaled, sensor_type=kinds), labels, 2, rows)
        assert b.probabilities == pytest.approx(a.probabilities, abs=1e-3), name


def test_average_reference_and_flat_channels_are_survived(lateralised):
    signal, labels, people = lateralised
    poor = signal - signal.mean(axis=1, keepdims=True)
    poor[:, 5] = 0.0
    rows = rows_of(people, [0, 1, 2], [3], [4])
    for name in ("band_power", "tangent_space"):
        fitted = fit_baseline(name, spectra_of(poor), labels, 2, rows)
        assert score(labels[rows.test], fitted.probabilities)["balanced_accuracy"].value > 0.8, name


def test_many_channels_are_reduced():
    generator = np.random.default_rng(2)
    signal = (generator.normal(size=(30, 306, 512)) * 1e-12).astype(np.float32)
    labels, people = np.tile([0, 1], 15), np.repeat(np.arange(3), 10)
    kinds = np.tile(np.array([1, 2, 2], np.int8), 102)
    fitted = fit_baseline("tangent_space", spectra_of(signal, sensor_type=kinds), labels, 2, rows_of(people, 0, 1, 2))
    assert fitted.probabilities.shape == (10, 2)


def test_chance_gives_the_shares_of_training():
    labels = np.array([0, 0, 0, 1, 2, 0, 1])
    rows = Rows(np.arange(4), np.array([4]), np.array([5, 6]))
    fitted = fit_baseline("chance", None, labels, 3, rows)
    assert fitted.probabilities.tolist() == [[0.75, 0.25, 0.0]] * 2
    assert expected_chance(labels, np.array([0.5, 0.3, 0.2])) == pytest.approx(1 / 3)
    with refusal(UserError, "baseline band_power", action="one device"):
        fit_baseline("band_power", None, labels, 3, rows)


def test_shrinkage_is_that_of_scikit_learn():
    generator = np.random.default_rng(3)
    coefficients = generator.normal(size=(4, 5, 7)) + 1j * generator.normal(size=(4, 5, 7))
    found = shrunk_covariances(coefficients)
    for own, covariance in zip(coefficients, found, strict=True):
        samples = np.concatenate([own.real, own.imag], axis=1).T
        assert covariance == pytest.approx(OAS(assume_centered=True).fit(samples).covariance_, abs=1e-12)


def test_power_of_a_sine_lands_in_its_band_with_parsevals_size():
    time = np.arange(1024) / SFREQ
    signal = np.zeros((1, 2, 1024), np.float32)
    signal[0, 0] = 3.0 * np.sin(2 * np.pi * 10 * time)
    signal[0, 1] = 0.5 * np.sin(2 * np.pi * 20 * time) + 5 * time
    spectra = spectra_of(signal, sensor_type=EEG[:2])
    bands = spectra.classical_bands()
    power = spectra.power(bands)[0]
    names = list(bands)
    assert names == ["delta", "theta", "alpha", "beta", "gamma"]
    # a sine of amplitude A has power A²/2; alpha is 5 Hz wide, beta 17 Hz
    assert power[0, 2] * 5 == pytest.approx(4.5, rel=0.01)
    assert power[1, 3] * 17 == pytest.approx(0.125, rel=0.01)
    assert power[1, 0] < 1e-3


def test_bands_end_with_the_pass_band_and_with_the_windows_length():
    signal = np.random.default_rng(0).normal(size=(2, 2, 512)).astype(np.float32)
    narrow_pass = spectra_of(signal, pass_band=(0.5, 25.0), sensor_type=EEG[:2])
    assert list(narrow_pass.classical_bands()) == ["delta", "theta", "alpha", "beta"]
    assert narrow_pass.freqs[narrow_pass.classical_bands()["beta"]].max() <= 25.0
    assert len(narrow_pass.narrow_bands()) > 20
    assert spectra_of(signal[..., :256], sensor_type=EEG[:2]).narrow_bands() == {}


def test_the_penalty_is_chosen_on_validation_and_a_class_unseen_in_training_gets_nothing():
    generator = np.random.default_rng(4)
    labels = np.array([0, 1] * 10 + [2] * 2)
    good, noise = labels[:, None] + 0.1 * generator.normal(size=(22, 1)), generator.normal(size=(22, 50))
    rows = Rows(np.arange(12), np.arange(12, 18), np.arange(18, 22))
    fitted = fit_logistic({"noise": noise, "good": good}, labels, 3, rows)
    assert fitted.setting.features == "good"
    assert (fitted.probabilities[:, 2] == 0).all()
    assert fitted.probabilities.sum(axis=1) == pytest.approx(1)
    with refusal(UserError, "feature set", action="at least"):
        fit_logistic({}, labels, 3, rows)


def test_a_missing_package_is_a_reason_not_an_error(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pyriemann" in missing_package("tangent_space")
    assert missing_package("band_power") == ""
    assert set(baselines.BASELINES) == {"chance", "band_power", "tangent_space"}
