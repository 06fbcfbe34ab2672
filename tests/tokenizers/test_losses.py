"""Targets and correlation against numpy."""

import numpy as np
import torch

from emeg.tokenizers.braintokenizer import pcc, target
from emeg.tokenizers.braintokenizer.losses import spectrum


def test_target_and_correlation():
    generator = torch.Generator().manual_seed(0)
    x = 3e-4 + 1e-3 * torch.randn(2, 3, 4, 50, generator=generator)
    y = x + 1e-3 * torch.randn(2, 3, 4, 50, generator=generator)
    wanted = (x.numpy() - x.numpy().mean(-1, keepdims=True)) / (x.numpy().std(-1, ddof=1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(target(x), wanted, rtol=1e-4, atol=1e-5)
    mask = torch.tensor([[True, True, False], [True, False, True]])
    found = pcc(target(y), target(x), mask)
    for place in np.ndindex(2, 3, 4):
        value = found[place].item()
        if mask[place[:2]]:
            np.testing.assert_allclose(value, np.corrcoef(x[place], y[place])[0, 1], atol=1e-4)
        else:
            assert np.isnan(value)


def test_correlation_ignores_scale_and_offset_and_is_0_for_a_constant():
    x = torch.randn(1, 1, 1, 64)
    torch.testing.assert_close(pcc(7 * x + 3, x), torch.ones(1, 1, 1), rtol=0, atol=1e-4)
    assert pcc(torch.full_like(x, 2.0), x).abs().max() < 1e-3


def test_spectrum_is_orthonormal_and_windowed():
    x = torch.randn(5, 512, dtype=torch.float64)
    magnitude, angle = spectrum(x)
    window = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(512) / 512)
    wanted = np.fft.rfft(x.numpy() * window) / np.sqrt(512)
    np.testing.assert_allclose(magnitude.numpy() * np.exp(1j * angle.numpy()), wanted, atol=1e-9)
