import numpy as np
import pytest

from emeg.evaluation.probes import PERTURBATIONS
from emeg.evaluation.probes.perturbations import perturb
from emeg.evaluation.rivals.spectral_features import AperiodicFeatures

SFREQ = 128.0


@pytest.fixture
def signal():
    """Return noise with exponents 1 and 2 in two halves of 60 windows, and alpha in every second window."""
    generator = np.random.default_rng(0)
    freqs = np.fft.rfftfreq(512, 1 / SFREQ)
    exponents = np.repeat([1.0, 2.0], 30)
    size = np.maximum(freqs, 0.5) ** (-exponents[:, None, None] / 2) * (freqs > 0)
    noise = np.fft.irfft(size * np.exp(2j * np.pi * generator.random((60, 5, len(freqs)))), 512)
    time = np.arange(512) / SFREQ
    noise[::2] += 0.1 * np.sin(2 * np.pi * 10 * time)
    return (1e-5 * noise).astype(np.float32)


def exponents(signal):
    return AperiodicFeatures(SFREQ).transform(signal).mean(axis=1)


def alpha(signal):
    power = np.abs(np.fft.rfft(signal, axis=-1)) ** 2
    freqs = np.fft.rfftfreq(signal.shape[-1], 1 / SFREQ)
    near = power[..., (freqs > 9) & (freqs < 11)].max(axis=-1)
    around = power[..., (freqs > 5) & (freqs < 20)]
    return np.median(near / np.median(around, axis=-1), axis=1)


def test_removing_the_aperiodic_part_leaves_the_rhythm(signal):
    found = perturb("without_aperiodic", signal, SFREQ).signal_BCN
    assert exponents(found)[:30].mean() == pytest.approx(0, abs=0.1)
    assert exponents(found)[30:].mean() == pytest.approx(0, abs=0.1)
    assert alpha(found)[::2].min() > 5 * alpha(found)[1::2].max()


def test_the_aperiodic_part_alone_has_the_slope_and_no_rhythm(signal):
    found = perturb("aperiodic_only", signal, SFREQ).signal_BCN
    assert exponents(found)[30:].mean() - exponents(found)[:30].mean() == pytest.approx(1.0, abs=0.1)
    assert np.median(alpha(found)[::2]) < 2 * np.median(alpha(found)[1::2])


def test_random_phases_keep_power_and_correlation_of_channels(signal):
    found = perturb("phase_randomised", signal, SFREQ).signal_BCN
    assert np.abs(np.fft.rfft(found)) == pytest.approx(np.abs(np.fft.rfft(signal)), abs=1e-8)
    assert np.einsum("bcn,bdn->bcd", found, found) == pytest.approx(
        np.einsum("bcn,bdn->bcd", signal, signal), abs=1e-3 * float(np.einsum("bcn,bcn->bc", signal, signal).max())
    )
    alike = [np.corrcoef(found[i, 0], signal[i, 0])[0, 1] for i in range(60)]
    assert abs(np.mean(alike)) < 0.3


def test_a_band_is_removed_and_the_others_stay(signal):
    found = perturb("without_alpha", signal, SFREQ).signal_BCN
    before, after = (np.abs(np.fft.rfft(one)) for one in (signal, found))
    freqs = np.fft.rfftfreq(512, 1 / SFREQ)
    inside = (freqs >= 8) & (freqs < 13)
    assert after[..., inside].max() < 1e-4 * before[..., inside].max()
    assert after[..., ~inside] == pytest.approx(before[..., ~inside], abs=1e-8)


def test_sensors_change_places_in_each_window_on_its_own(signal):
    found = perturb("sensors_shuffled", signal, SFREQ).signal_BCN
    assert np.sort(found[:, :, 7], axis=1) == pytest.approx(np.sort(signal[:, :, 7], axis=1))
    moved = {tuple(int(np.argmax((row == signal[i]).all(axis=1))) for row in found[i]) for i in range(60)}
    assert len(moved) > 20


def test_two_of_five_sensors_stay_the_same_in_every_window(signal):
    found = perturb("sensors_dropped", signal, SFREQ, seed=4)
    assert len(found.picks) == 2
    assert np.array_equal(found.signal_BCN, signal[:, found.picks])
    assert np.array_equal(perturb("sensors_dropped", signal, SFREQ, seed=4).picks, found.picks)


@pytest.mark.parametrize("name", sorted(PERTURBATIONS))
def test_flat_channels_and_odd_lengths_are_survived(name, signal):
    odd = signal[:3, :, :511].copy()
    odd[:, 2] = 0.0
    found = perturb(name, odd, SFREQ)
    assert np.isfinite(found.signal_BCN).all()
    assert found.signal_BCN.shape[::2] == (3, 511)
