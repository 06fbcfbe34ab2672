import importlib.util

import numpy as np
import pytest
from tests.messages import refusal

from emeg.errors import UserError
from emeg.evaluation.rivals.spectral_features import AperiodicFeatures, BandPower, fit_aperiodic


def spectrum(freqs, exponent, offset, peak):
    return 10**offset / freqs**exponent * (1 + peak * np.exp(-(((freqs - 10) / 1.5) ** 2)))


@pytest.mark.parametrize("exponent", [0.0, 0.8, 1.5, 2.2])
@pytest.mark.parametrize("peak", [0.0, 5.0, 30.0])
def test_the_exponent_is_recovered_whatever_the_peak(exponent, peak):
    freqs = np.arange(1, 45, 0.5)
    found = fit_aperiodic(spectrum(freqs, exponent, -11.0, peak), freqs)
    assert found.exponent == pytest.approx(exponent, abs=0.06)
    assert found.offset == pytest.approx(-11.0, abs=0.06)
    assert found.power(freqs) == pytest.approx(spectrum(freqs, exponent, -11.0, 0.0), rel=0.15)


@pytest.mark.skipif(importlib.util.find_spec("specparam") is None, reason="specparam is not installed")
def test_the_fit_agrees_with_specparam():
    from specparam import SpectralModel

    freqs = np.arange(1, 45, 0.5)
    generator = np.random.default_rng(0)
    for exponent in (0.9, 1.4, 2.0):
        power = spectrum(freqs, exponent, 1.0, 4.0) * np.exp(0.05 * generator.normal(size=len(freqs)))
        model = SpectralModel(verbose=False)
        model.fit(freqs, power, [2, 40])
        assert fit_aperiodic(power, freqs).exponent == pytest.approx(model.get_params("aperiodic")[1], abs=0.1)


def test_a_simulated_slope_is_measured_from_two_seconds(made):
    data = made("slope")
    found = AperiodicFeatures(128.0).transform(data.signal)
    assert found.shape == (120, 6)
    steep, flat = found[data.labels == 1].mean(), found[data.labels == 0].mean()
    assert steep - flat == pytest.approx(0.6, abs=0.1)
    both = AperiodicFeatures(128.0, with_offset=True).transform(data.signal)
    assert both.shape == (120, 12)


def test_windows_too_short_for_a_fit_are_refused():
    with refusal(UserError, "2 and 40 Hz", action="windows"):
        AperiodicFeatures(128.0).transform(np.ones((2, 3, 8), np.float32))


def test_band_power_is_scaled_by_the_square_of_the_signal(made):
    signal = made("rhythm").signal[:4]
    features = BandPower(128.0, (0,) * 6)
    assert features.transform(10 * signal) == pytest.approx(features.transform(signal) + np.log(100), abs=1e-3)
    narrow = BandPower(128.0, (0,) * 6, "narrow").transform(signal)
    assert narrow.shape[1] > features.transform(signal).shape[1]
    # half a second has no bands of 1 Hz
    short = BandPower(128.0, (0,) * 6, "narrow").transform(signal[..., :64])
    assert short.shape == BandPower(128.0, (0,) * 6).transform(signal[..., :64]).shape
