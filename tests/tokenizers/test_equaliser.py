"""The equaliser: its fit, phase and inverse, and unchanged models without it."""

import numpy as np
import pytest
import torch
from scipy.signal import welch

from emeg.tokenizers.braintokenizer import BrainTokenizer, Equaliser, PowerSum, sum_power

SFREQ = 256.0


def coloured(shape: tuple[int, ...], slope: float, seed: int) -> torch.Tensor:
    """Draw noise whose power falls as frequency^(-slope), standard deviation 1."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.standard_normal(shape), axis=-1)
    spectrum *= np.maximum(np.fft.rfftfreq(shape[-1], 1 / SFREQ), 0.5) ** (-slope / 2)
    x = np.fft.irfft(spectrum, n=shape[-1], axis=-1)
    return torch.from_numpy((x / x.std()).astype(np.float32))


def slope_of(x: torch.Tensor) -> float:
    """Fit the exponent of the power spectrum from 2 to 80 Hz."""
    freqs, power = welch(x.numpy(), SFREQ, nperseg=512, axis=-1)
    mean = power.reshape(-1, power.shape[-1]).mean(axis=0)
    inside = (freqs >= 2) & (freqs <= 80)
    return -float(np.polyfit(np.log(freqs[inside]), np.log(mean[inside]), 1)[0])


@pytest.fixture(scope="module")
def fitted() -> tuple[Equaliser, torch.Tensor, torch.Tensor]:
    """EEG (1/f²) and gradiometers (1/f), in two batches."""
    x = torch.stack([coloured((6, 2560), 2.0, 0), coloured((6, 2560), 1.0, 1)])
    types = torch.tensor([[0] * 6, [2] * 6])
    equaliser = Equaliser()
    equaliser.fit(sum_power(x, types), 0.75)
    return equaliser, x, types


def test_power_falls_with_the_given_slope_for_every_sensor_type(fitted):
    equaliser, x, types = fitted
    out = equaliser(x, types)
    assert slope_of(x[0]) == pytest.approx(2.0, abs=0.1)
    for of_type in out:
        assert slope_of(of_type) == pytest.approx(0.75, abs=0.1)
        assert float(of_type.std()) == pytest.approx(1.0, abs=0.1)


def test_a_type_without_training_data_takes_the_mean_gain(fitted):
    equaliser, _, _ = fitted
    log_gain = equaliser.gain.log()
    torch.testing.assert_close(log_gain[1], (log_gain[0] + log_gain[2]) / 2)


@pytest.mark.parametrize("n_samples", [512, 700, 2560, 2561])
def test_the_inverse_gives_the_signal_back(fitted, n_samples):
    equaliser, x, types = fitted
    x = x[..., :n_samples] if n_samples <= 2560 else torch.nn.functional.pad(x, (0, 1))
    torch.testing.assert_close(equaliser.invert(equaliser(x, types), types), x, atol=2e-5, rtol=0)


def test_the_phase_of_a_rhythm_stays(fitted):
    equaliser, _, _ = fitted
    time = torch.arange(2560) / SFREQ
    rhythm = torch.cos(2 * torch.pi * 11.0 * time)[None, None]
    out = equaliser(rhythm, torch.zeros(1, 1, dtype=torch.long))[0, 0, 512:-512]
    quadrature = torch.sin(2 * torch.pi * 11.0 * time)[512:-512]
    assert float((out * quadrature).mean().abs()) < 1e-3 * float(out.std())


def test_noise_above_a_low_pass_is_not_amplified_to_the_level_of_the_signal():
    x = coloured((8, 2560), 1.5, 2)
    spectrum = torch.fft.rfft(x)
    spectrum[:, torch.fft.rfftfreq(2560, 1 / SFREQ) > 45] *= 1e-4
    x = torch.fft.irfft(spectrum, n=2560)[None]
    types = torch.zeros(1, 8, dtype=torch.long)
    equaliser = Equaliser()
    equaliser.fit(sum_power(x, types), 0.75)
    power = sum_power(equaliser(x, types), types).power[0]
    assert float(power[120:180].mean()) < 0.05 * float(power[40:80].mean())


def test_nothing_measured_is_an_error():
    with pytest.raises(ValueError, match="training segment"):
        Equaliser().fit(PowerSum(torch.zeros(3, 257), torch.zeros(3)), 0.75)


def test_the_gains_are_saved_with_the_weights(tiny_config, tmp_path, fitted):
    config = tiny_config.model_copy(update={"equaliser": 0.75, "target": "signal"})
    model = BrainTokenizer(config)
    assert model.equaliser is not None
    model.equaliser.load_state_dict(fitted[0].state_dict())
    model.save_pretrained(tmp_path / "m")
    loaded = BrainTokenizer.from_pretrained(tmp_path / "m")
    assert loaded.equaliser is not None
    assert torch.equal(loaded.equaliser.gain, fitted[0].gain)
    assert not [name for name in BrainTokenizer(tiny_config).state_dict() if "equaliser" in name]
