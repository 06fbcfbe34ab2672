"""The study of quantizers and token rates, in a tiny form."""

import pytest
import torch
from benchmarks.study.quantizers import Levels, Run, bits_per_second, build, compare, split

TINY = {"n_filters": 2, "n_dim": 16, "n_head": 2, "codebook_dim": 16, "gain_harmonics": 1}


def segments(seed):
    generator = torch.Generator().manual_seed(seed)
    x, pos = torch.randn(4, 3, 1024, generator=generator).cumsum(-1), torch.randn(4, 3, 6, generator=generator)
    return (x - x.mean(-1, keepdim=True)) / 20, pos, torch.zeros(4, 3, dtype=torch.long)


@pytest.mark.parametrize(
    "options", [{"dropout": 1.0}, {"quantizer": "scalar"}, {"quantizer": "lookup_free"}, {"quantizer": "two_rates"}]
)
def test_every_quantizer_trains_and_is_measured_at_equal_rate(options):
    run = Run(network=TINY, steps=2, windows=4, **options)
    lines = compare(run, segments(0), segments(1))
    assert lines[0]["bits_per_second"] == 8192  # 16 sources, 64 bits, 8 steps a second
    assert [line["bits_per_second"] for line in lines[1:]] == ([6144, 4096, 2048] if "dropout" in options else [])
    assert all(-1 <= line["beta"] <= 1 for line in lines)


def test_the_split_separates_frequencies_and_adds_up():
    time = torch.arange(1024) / 256
    slow, fast = torch.sin(2 * torch.pi * 3 * time), torch.sin(2 * torch.pi * 20 * time)
    low, high = split((slow + fast)[None, None])
    torch.testing.assert_close(low + high, (slow + fast)[None, None])
    assert float((low - slow).square().mean()) < 0.01
    assert float((high - fast).square().mean()) < 0.01


def test_fewer_levels_have_a_lower_rate():
    network = build(Run(network=TINY))
    levels = Levels(network)
    levels.use(2)
    assert network.quantizer.encode(torch.randn(3, 16)).shape == (3, 2)
    assert bits_per_second(network, 2) == 2048
