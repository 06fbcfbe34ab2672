"""Tokens of windows: the log power of features, and of waveforms of sources."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tests.messages import refusal
from tests.small_models import TINY

from emeg.errors import UserError
from emeg.models import BrainOmni, BrainOmniConfig
from emeg.models.window_power import WindowPower, log_power, waveform_bands, waveform_power
from emeg.tokenizers.braintokenizer import BrainTokenizer, BrainTokenizerConfig
from emeg.tokenizers.interface import Tokens


def features(seed=0, steps=24):
    return torch.randn(2, 5, steps, 16, generator=torch.Generator().manual_seed(seed))


def test_power_equals_a_transform_written_out():
    x = features()
    made = log_power(x, 8).numpy().reshape(2, 5, 3, 5, 16)
    steps = np.arange(8)
    for window in range(3):
        part = x[:, :, 8 * window : 8 * window + 8].numpy().astype(np.float64)
        part = part - part.mean(axis=2, keepdims=True)
        powers = [
            np.abs((part * np.exp(-2j * np.pi * k * steps / 8)[None, None, :, None]).sum(axis=2)) ** 2
            for k in range(1, 5)
        ]
        wanted = np.log(np.stack([*powers, np.sum(powers, axis=0)], axis=2) + 1e-4)
        np.testing.assert_allclose(made[:, :, window], wanted, rtol=1e-4, atol=1e-4)


def test_power_has_no_phase():
    x = features(steps=8)
    torch.testing.assert_close(log_power(x.roll(3, dims=2), 8), log_power(x, 8), rtol=1e-4, atol=1e-3)


def test_the_embedding_has_a_step_for_each_window_and_keeps_its_scale_in_files(tmp_path):
    torch.manual_seed(0)
    model = BrainOmni(
        BrainOmniConfig(lm_dim=16, lm_head=2, lm_depth=2, num_quantizers_used=3, token="window"), TINY
    ).eval()
    model.prepare([Tokens(features(n), torch.zeros(0)) for n in (1, 2)])
    assert float(model.window_power(features(1)).mean().abs()) < 0.2
    embedded = model.embed_latents(features())
    assert embedded.shape == (2, 5, 3, 16)
    model.save_pretrained(tmp_path)
    assert torch.equal(BrainOmni.from_pretrained(tmp_path).embed_latents(features()), embedded)


def test_a_scale_needs_segments():
    with pytest.raises(ValueError, match="segment"):
        WindowPower(3, lambda x: x).fit([])


def test_scaled_features_are_refused_where_they_would_change_nothing():
    with pytest.raises(ValidationError, match="scaled_features"):
        BrainOmniConfig(token="window", scaled_features=True)


LEADFIELD = BrainTokenizerConfig(
    **TINY.model_dump()
    | {"signed_weights": True, "gain_harmonics": 2, "target": "signal", "spectral_loss": "complex", "leadfield": True}
)
WAVEFORM = BrainOmniConfig(lm_dim=16, lm_head=2, lm_depth=2, num_quantizers_used=3, token="waveform", lm_dropout=0.0)


def test_bands_of_waveforms_are_those_of_the_study_for_windows_of_two_seconds():
    edges = [low / 2 for low, _ in waveform_bands(512)] + [46.0]
    assert edges == [1.0, *np.arange(2.0, 47.0, 2.0)]
    assert waveform_bands(128)[-1] == (60, 64)


def test_power_of_a_rhythm_is_in_its_band_whatever_its_phase():
    """The power spectrum of a tapered sine, by scipy."""
    from scipy.signal import periodogram

    time_s = np.arange(512) / 256
    waves = np.stack([np.sin(2 * np.pi * 11 * time_s + phase) for phase in (0.0, 1.0)])
    found = waveform_power(torch.from_numpy(waves)[None, None].float())[0, 0].numpy()
    assert (found.argmax(axis=1) == 5).all()  # 10 to 12 Hz
    _, power = periodogram(waves, fs=256, window="hann", scaling="spectrum")
    scale = (np.hanning(513)[:-1].sum() ** 2) / 2  # of a one-sided spectrum
    np.testing.assert_allclose(np.exp(found[:, 5]) - 1e-4, scale * power[:, 20:24].mean(axis=1), rtol=1e-3)


def test_a_model_reads_waveforms_of_the_decoded_sources(tmp_path):
    torch.manual_seed(0)
    model = BrainOmni(WAVEFORM, LEADFIELD).eval()
    codes = torch.randint(TINY.codebook_size, (2, TINY.n_neuro, 24, TINY.num_quantizers))
    x = model.tokenizer.features_from_codes(codes)
    tokens = model.window_power(x)
    assert tokens.shape == (2, TINY.n_neuro, 3, len(waveform_bands(TINY.window_length)))
    torch.testing.assert_close(
        tokens, waveform_power(model.tokenizer.decoder.leadfield.sources(x.unflatten(2, (3, 8)))), rtol=1e-5, atol=1e-5
    )
    embedded = model.embed_latents(x)
    assert embedded.shape == (2, TINY.n_neuro, 3, 16)
    model.save_pretrained(tmp_path)
    assert torch.equal(BrainOmni.from_pretrained(tmp_path).embed_latents(x), embedded)


def test_waveforms_need_a_leadfield():
    with refusal(UserError, "waveform", action="braintokenizer-emeg-nano"):
        BrainOmni(WAVEFORM, BrainTokenizer(TINY))
    with refusal(UserError, "braintokenizer", action="leadfield"):
        BrainTokenizer(TINY).waveforms(torch.zeros(1, TINY.n_neuro, 8, TINY.n_dim))
