"""Rotary positions: the kernels of a GPU compute what the formula says."""

import pytest
import torch

from emeg.models.rotary import _turn, _turn_on_gpu, rotary_tables


@pytest.mark.parametrize("mode", ["complex", "cosine"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 8e-3)])
def test_a_gpu_rotates_as_a_cpu_does(mode, dtype, tolerance):
    tables = rotary_tables(7, 8, mode=mode)
    x = torch.randn(3, 7, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected, found = (turned(x, tables.cos, tables.signed_sin) for turned in (_turn, _turn_on_gpu))
    assert found.dtype == dtype
    assert found.shape == x.shape
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
