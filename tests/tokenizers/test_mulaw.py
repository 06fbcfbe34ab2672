"""µ-law tokens against the formula of the standard."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.messages import refusal

from emeg.errors import UserError
from emeg.tokenizers.interface import load_tokenizer
from emeg.tokenizers.mulaw import MuLaw, MuLawConfig


def sensors(batch: int, channels: int):
    return torch.zeros(batch, channels, 6), torch.zeros(batch, channels, dtype=torch.int64)


def compress(x, config):
    """Compress amplitudes, in numpy and float64."""
    unit = np.clip(x / config.limit, -1, 1)
    return np.sign(unit) * np.log(1 + config.mu * np.abs(unit)) / np.log(1 + config.mu)


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 300), st.floats(1.0, 500.0), st.integers(0, 1000))
def test_the_compressed_amplitude_is_right_to_half_a_code(n_codes, mu, seed):
    config = MuLawConfig(n_codes=n_codes, mu=mu, window_length=64)
    x = 2 * torch.randn(2, 3, 128, generator=torch.Generator().manual_seed(seed))
    tokens = MuLaw(config).tokenize(x, *sensors(2, 3))
    assert tokens.codes.shape == (2, 3, 128, 1)
    made = MuLaw(config).decode(tokens.codes, *sensors(2, 3))
    error = np.abs(compress(made.double().numpy(), config) - compress(x.double().numpy(), config))
    assert error.max() <= 1 / n_codes + 1e-4
    again = MuLaw(config).tokenize(made, *sensors(2, 3)).codes
    assert torch.equal(again, tokens.codes), "the centre of a code has that code"


def test_codes_count_equal_steps_of_the_compressed_amplitude():
    config = MuLawConfig(n_codes=16, window_length=8)
    x = torch.linspace(-5, 5, 8)[None, None]
    expected = np.floor((compress(x.numpy(), config) + 1) * 8).clip(0, 15)
    assert MuLaw(config).tokenize(x, *sensors(1, 1)).codes[..., 0].tolist() == expected.astype(int).tolist()


def test_absent_channels_change_nothing():
    network, x = MuLaw(MuLawConfig()), torch.randn(2, 4, 256)
    mask = torch.tensor([[True, True, False, False]] * 2)
    codes = network.tokenize(x, *sensors(2, 4), channel_mask=mask).codes
    assert torch.equal(codes[:, :2], network.tokenize(x[:, :2], *sensors(2, 2)).codes)
    assert not network.decode(codes, *sensors(2, 4), mask)[:, 2:].any()


def test_overlapping_windows_are_refused():
    with refusal(UserError, "overlap", 0.25, action="--overlap 0"):
        MuLaw(MuLawConfig()).tokenize(torch.randn(1, 2, 256), *sensors(1, 2), overlap=0.25)


def test_it_is_found_by_its_kind_in_a_folder(tmp_path):
    MuLaw(MuLawConfig(n_codes=40)).save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert isinstance(loaded, MuLaw)
    assert loaded.sizes.n_codes == 40
    assert not loaded.learns


@pytest.mark.parametrize("n_samples", [100, 256, 600])
def test_steps_are_counted_as_made(n_samples):
    network = MuLaw(MuLawConfig())
    assert network.tokenize(torch.randn(1, 2, n_samples), *sensors(1, 2)).codes.shape[2] == network.steps_of(n_samples)
