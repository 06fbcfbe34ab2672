"""Learned tokens of single samples: against a convolution, the optimal scalar quantizer, and the recorded signal."""

import numpy as np
import pytest
import torch
from scipy.signal import lfilter
from tests.messages import refusal

from emeg.errors import UserError
from emeg.tokenizers.interface import load_tokenizer
from emeg.tokenizers.kernels import Kernels, KernelsConfig

LLOYD_MAX_8 = 0.03454
"""Mean squared error of the best quantizer of a normal variable with eight levels (Max 1960, table 1)."""


def sensors(batch: int, channels: int):
    return torch.zeros(batch, channels, 6), torch.zeros(batch, channels, dtype=torch.int64)


def made(*, seed: int = 0, **changes) -> Kernels:
    """Return a tokenizer with random kernels and weights."""
    torch.manual_seed(seed)
    network = Kernels(KernelsConfig(**{"n_codes": 16, "kernel_length": 5, "width": 8, "window_length": 64} | changes))
    with torch.no_grad():
        network.kernels.normal_()
        network.project.weight.normal_(std=0.3)
    return network.eval()


def test_the_signal_is_the_sum_of_the_kernels_of_all_codes():
    """Each code's samples, as a train of pulses, convolved with its kernel in numpy."""
    network = made()
    codes = torch.randint(16, (2, 3, 128, 1))
    kernels = network.kernels.detach().double().numpy()
    signals = network.decode(codes, *sensors(2, 3)).flatten(0, 1).numpy()
    for row, found in zip(codes.flatten(0, 1)[..., 0].numpy(), signals, strict=True):
        expected = sum(np.convolve(row == code, kernels[code])[:128] for code in range(16))
        assert np.allclose(found, expected, atol=1e-5)


def test_untrained_it_is_the_best_scalar_quantizer():
    network = Kernels(KernelsConfig(n_codes=8, width=8))
    x = torch.randn(4, 5, 8192, generator=torch.Generator().manual_seed(0))
    network.prepare([(one[None], *sensors(1, 5)) for one in x])
    new = torch.randn(2, 5, 8192, generator=torch.Generator().manual_seed(1))
    error = network.reconstruct(new, *sensors(2, 5)) - network.targets(new)
    assert float(error.square().mean()) == pytest.approx(LLOYD_MAX_8, rel=0.03)


def test_codes_depend_on_the_past_of_their_window_only():
    network, x = made(), torch.randn(1, 2, 192)
    before = network.tokenize(x, *sensors(1, 2)).codes
    changed = x.clone()
    changed[0, 0, 100:] += 1.0
    after = network.tokenize(changed, *sensors(1, 2)).codes
    assert torch.equal(before[0, 0, :100], after[0, 0, :100])
    assert torch.equal(before[0, 1], after[0, 1])
    assert not torch.equal(before[0, 0, 100:], after[0, 0, 100:])
    alone = network.tokenize(x[..., 64:128], *sensors(1, 2)).codes
    assert torch.equal(before[:, :, 64:128], alone), "a window begins anew"


def test_features_are_the_kernels_and_absent_channels_change_nothing():
    network, x = made(), torch.randn(2, 4, 128)
    mask = torch.tensor([[True, True, False, False]] * 2)
    found = network.tokenize(x, *sensors(2, 4), channel_mask=mask)
    assert torch.equal(found.features, network.kernels.detach()[found.codes[..., 0]])
    assert torch.equal(found.codes[:, :2], network.tokenize(x[:, :2], *sensors(2, 2)).codes)
    assert not network.decode(found.codes, *sensors(2, 4), mask)[:, 2:].any()
    loss = network.training_loss(x, *sensors(2, 4), mask)
    assert torch.allclose(loss.total, network.training_loss(x[:, :2], *sensors(2, 2)).total)


def test_the_loss_without_mixture_is_the_error_of_the_codes():
    network, x = made(), torch.randn(2, 3, 128)
    error = network.reconstruct(x, *sensors(2, 3)) - network.targets(x)
    assert float(network.training_loss(x, *sensors(2, 3)).total.detach()) == pytest.approx(
        float(error.square().mean()), rel=1e-5
    )
    network.training_loss(x, *sensors(2, 3), loss_ramp=0.5).total.backward()
    assert all(bool(parameter.grad.abs().sum() > 0) for parameter in network.parameters())


def test_training_explains_more_than_the_best_scalar_quantizer():
    """A signal with slow rhythms: a sample tells much of the next one, which a scalar quantizer cannot use."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(lfilter([1.0], [1.0, -1.8, 0.85], rng.normal(size=(8, 4, 1024)), axis=2)).float()
    x = x / x.std()
    torch.manual_seed(0)
    network = Kernels(KernelsConfig(n_codes=8, width=16, window_length=256))
    network.prepare([(one[None], *sensors(1, 4)) for one in x[:6]])
    before = network.training_loss(x[6:], *sensors(2, 4)).explained
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for step in range(60):
        optimiser.zero_grad()
        network.training_loss(x[:6], *sensors(6, 4), loss_ramp=min(1.0, step / 30)).total.backward()
        optimiser.step()
    after = network.training_loss(x[6:], *sensors(2, 4)).explained
    assert float(1 - after) < 0.8 * float(1 - before)


def test_overlapping_windows_and_too_few_samples_are_refused():
    with refusal(UserError, "overlap", 0.25, action="--overlap 0"):
        made().tokenize(torch.randn(1, 2, 256), *sensors(1, 2), overlap=0.25)
    with refusal(UserError, "n_codes", 16, action="lower n_codes"):
        made().prepare([(torch.randn(1, 1, 8), *sensors(1, 1))])


def test_a_saved_tokenizer_makes_the_same_codes(tmp_path):
    network, x = made(), torch.randn(1, 2, 128)
    network.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert isinstance(loaded, Kernels)
    assert torch.equal(loaded.tokenize(x, *sensors(1, 2)).codes, network.tokenize(x, *sensors(1, 2)).codes)
