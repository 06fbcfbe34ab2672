"""Every feature against a closed form."""

import numpy as np
import pytest

from emeg.evaluation.rivals.time_series_features import FEATURES, TimeSeriesFeatures, histogram_mode

N = 1200
SINE = np.sin(2 * np.pi * np.arange(N) / 40)  # 30 whole periods of 40 samples
SQUARE = np.tile(np.repeat([1.0, -1.0], 20), N // 40)
SAWTOOTH = np.tile(np.arange(40.0), N // 40)  # rises slowly, falls at once
NOISE = np.random.default_rng(0).normal(size=20_000)


def feature(name: str, values: np.ndarray) -> float:
    scaled = (values - values.mean()) / values.std()
    (found,) = FEATURES[name](scaled[None])
    return float(found)


def test_features_of_a_sine_follow_from_its_period():
    assert feature("middle_frequency", SINE) == pytest.approx(2 * np.pi / 40)
    assert feature("low_frequency_share", SINE) == pytest.approx(1.0)
    assert feature("low_frequency_share", np.cos(np.pi * np.arange(N) * 0.8)) == pytest.approx(0.0, abs=1e-9)
    lags = np.arange(N)
    biased = (1 - lags / N) * np.cos(2 * np.pi * lags / 40)
    crossing = np.interp(-1 / np.e, -biased[:20], lags[:20])
    assert feature("decay_time", SINE) == pytest.approx(crossing, abs=0.05)
    assert feature("first_autocorrelation_minimum", SINE) == pytest.approx(20, abs=1)
    assert feature("gaussian_information_minimum", SINE) == pytest.approx(10, abs=1), "a quarter: uncorrelated"
    assert feature("longest_decrease", SINE) == 20
    assert feature("change_decay_ratio", SINE) == pytest.approx(1.0, abs=0.05), "changes are a sine again"
    half = 2 * np.pi / 40  # x(t) - mean of the three before: a sine of known amplitude
    gain = abs(1 - sum(np.exp(-1j * half * k) for k in (1, 2, 3)) / 3)
    assert feature("forecast_error", SINE) == pytest.approx(gain, rel=0.01)


def test_features_of_simple_waves_are_counted_by_hand():
    assert feature("longest_above", SQUARE) == 20
    assert feature("large_changes", SQUARE) == pytest.approx((N // 20 - 1) / (N - 1))
    steps = np.diff((SAWTOOTH - SAWTOOTH.mean()) / SAWTOOTH.std())
    falls = N // 40 - 1
    unit = 1 / SAWTOOTH.std()
    assert len(steps) == N - 1
    expected = ((N - 1 - falls) * unit**3 - falls * (39 * unit) ** 3) / (N - 1)
    assert feature("time_asymmetry", SAWTOOTH) == pytest.approx(expected)
    assert feature("time_asymmetry", SAWTOOTH[::-1]) == pytest.approx(-expected)
    three = np.concatenate([np.full(700, 0.0), np.full(200, 10.0), [5.0]])
    assert histogram_mode(three[None], 5) == pytest.approx([1.0])
    assert histogram_mode(np.array([[0.0, 0.0, 10.0, 10.0]]), 10) == pytest.approx([5.0]), "two fullest bins"


def test_information_of_independent_and_of_repeating_samples():
    assert feature("histogram_information", NOISE) == pytest.approx(0.0, abs=0.01)
    alternating = np.tile([0.0, 0.0, 1.0, 1.0], 2000)  # two apart: the other value, surely
    assert feature("histogram_information", alternating) == pytest.approx(np.log(2), abs=1e-3)
    assert feature("motif_entropy", NOISE) == pytest.approx(2 * np.log(3), abs=0.01), "nine words alike"
    assert feature("motif_entropy", np.tile([0.0, 1.0, 2.0], 2000)) == pytest.approx(np.log(3), abs=1e-2)


def test_fluctuations_of_noise_and_of_its_sum():
    assert feature("fluctuation_exponent", NOISE) == pytest.approx(0.5, abs=0.05)
    assert feature("fluctuation_exponent", np.cumsum(NOISE)) == pytest.approx(1.5, abs=0.1)


def test_features_do_not_depend_on_the_unit_nor_on_other_windows(made):
    signal = made("rhythm").signal[:3].astype(float)
    found = TimeSeriesFeatures().transform(signal).reshape(3, 6, -1)
    larger = TimeSeriesFeatures().transform(1e6 * signal + 3.0).reshape(3, 6, -1)
    assert found.shape[-1] == len(FEATURES) + 1
    np.testing.assert_allclose(larger[..., :-1], found[..., :-1], rtol=1e-6, atol=1e-9)
    assert larger[..., -1] == pytest.approx(found[..., -1] + np.log(1e6))
    alone = TimeSeriesFeatures().transform(signal[1:2]).reshape(6, -1)
    np.testing.assert_array_equal(alone, found[1])


def test_many_channels_are_thinned_and_flat_ones_are_survived():
    signal = np.random.default_rng(0).normal(size=(2, 40, 128))
    signal[:, 0] = 0.0
    found = TimeSeriesFeatures(max_channels=4).transform(signal)
    assert found.shape == (2, 4 * (len(FEATURES) + 1))
    assert np.isfinite(found).all()
