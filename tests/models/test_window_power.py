"""Tokens of windows: the log power of features."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tests.small_models import TINY

from emeg.models import BrainOmni, BrainOmniConfig
from emeg.models.window_power import WindowPower, log_power
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
        WindowPower(TINY.sizes).fit([])


def test_scaled_features_are_refused_where_they_would_change_nothing():
    with pytest.raises(ValidationError, match="scaled_features"):
        BrainOmniConfig(token="window", scaled_features=True)
