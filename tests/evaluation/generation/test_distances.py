"""Differences of signals whose answers are known."""

import numpy as np
import pytest

from emeg.evaluation.generation.distances import (
    compare_signals,
    covariance_distance,
    expected_difference,
    find_bursts,
    power_db,
)

SFREQ = 256.0
TYPES = np.zeros(4, np.int64)


def noise(seed: int, n_channels: int = 4, seconds: int = 20):
    generator = np.random.default_rng(seed)
    gains = np.array([1.0, 2.0, 4.0, 8.0])[:n_channels, None]
    return gains * generator.standard_normal((n_channels, int(seconds * SFREQ)))


def test_a_signal_does_not_differ_from_itself():
    found = compare_signals(noise(0), noise(0), TYPES, SFREQ)
    assert found.pop("within_1_db") == 1
    assert found.pop("map_correlation") == pytest.approx(1)
    assert found.pop("expected_db") > 0  # that of another realisation
    assert max(map(abs, found.values())) < 1e-9


def test_twice_the_amplitude_is_six_decibels():
    found = compare_signals(2 * noise(0), noise(0), TYPES, SFREQ)
    assert found["spectrum_db"] == pytest.approx(20 * np.log10(2))
    assert found["level_db"] == pytest.approx(20 * np.log10(2))
    assert found["within_1_db"] == 0
    assert found["map_correlation"] == pytest.approx(1)
    assert found["covariance_distance"] == pytest.approx(3)
    assert found["burst_rate_error"] == 0


def test_maps_of_the_reverse_order_are_anticorrelated():
    found = compare_signals(noise(0)[::-1], noise(0), TYPES, SFREQ)
    assert found["map_correlation"] < -0.95


def test_bursts_are_counted():
    """Ten bursts of half a second in twenty seconds, on a weak continuous rhythm."""
    time = np.arange(int(20 * SFREQ)) / SFREQ
    strength = np.where((time + 1) % 2 < 0.5, 2.0, 1.0)
    found = find_bursts((strength * np.sin(2 * np.pi * 10 * time))[None], SFREQ)
    assert found.rate_hz == pytest.approx(0.5)
    assert found.duration_s == pytest.approx(0.5, abs=0.15)


def test_the_distance_of_covariances_is_that_of_numpy():
    made, real = noise(1), noise(2)
    scaled = [np.cov(x / real.std(axis=1, keepdims=True)) for x in (made, real)]
    expected = np.linalg.norm(scaled[0] - scaled[1]) / np.linalg.norm(scaled[1])
    assert covariance_distance(made, real) == pytest.approx(expected)


@pytest.mark.parametrize(("shared", "n_draws"), [(0.0, 1), (0.8, 1), (0.8, 3)])
def test_the_expected_difference_is_that_of_independent_realisations(shared, n_draws):
    """Channels with a common part, as a share of their amplitude: their estimates do not average out."""
    generator = np.random.default_rng(0)

    def draw(*shape):
        common, own = generator.standard_normal((*shape, 1, 5120)), generator.standard_normal((*shape, 4, 5120))
        return shared * common + np.sqrt(1 - shared**2) * own

    pairs = [(draw(n_draws), draw()) for _ in range(60)]
    found = np.mean([compare_signals(made, real, TYPES, SFREQ)["spectrum_db"] for made, real in pairs])
    expected = np.mean([expected_difference(made, real, SFREQ) for made, real in pairs])
    assert expected == pytest.approx(found, rel=0.06)


def test_short_signals_have_no_expected_difference():
    assert expected_difference(noise(0), noise(1)[:, : int(4 * SFREQ)], SFREQ) is None
    assert "expected_db" not in compare_signals(noise(0), noise(1)[:, : int(4 * SFREQ)], TYPES, SFREQ)


def test_power_bursts_and_covariance_are_averaged_over_repeated_continuations():
    both = np.stack([noise(1), 3 * noise(2)])
    powers = [10 ** (power_db(one, SFREQ)[1] / 10) for one in both]
    assert 10 ** (power_db(both, SFREQ)[1] / 10) == pytest.approx(np.mean(powers, axis=0))
    assert find_bursts(both, SFREQ).rate_hz == pytest.approx(np.mean([find_bursts(one, SFREQ).rate_hz for one in both]))
    assert covariance_distance(np.stack([noise(0), noise(0)]), noise(0)) == pytest.approx(0, abs=1e-12)
