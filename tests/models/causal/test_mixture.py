"""A mixture of two normal distributions: its probabilities, its fit, and a network that begins from it."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.signal import lfilter
from scipy.stats import norm

from emeg.models import Sources
from emeg.models.causal.config import CausalConfig
from emeg.models.causal.mixture import NormalMixture, interval_shares
from emeg.models.causal.transformer import CausalTransformer
from emeg.tokenizers.interface import Tokens
from emeg.tokenizers.mulaw import MuLaw, MuLawConfig

NARROW, WIDE, WEIGHT = 0.7, 2.6, 0.08
RESONANCE, NOISE = (1.6, -0.8), 0.1


def innovations(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    is_wide = rng.random(shape) < WEIGHT
    return rng.normal(size=shape) * np.where(is_wide, WIDE, NARROW)


def make(*, heavy_tail: bool) -> CausalTransformer:
    torch.manual_seed(0)
    config = CausalConfig(
        width=32, n_head=2, depth=2, context_tokens=128, across_sources=False, linear_taps=4, heavy_tail=heavy_tail
    )
    network = CausalTransformer(config, MuLaw(MuLawConfig(n_codes=128, window_length=64))).eval()
    codes, _ = process(network, seed=1)
    network.prepare([Tokens(network.tokenizer.features_from_codes(codes), codes)])
    return network


def process(network: CausalTransformer, *, seed: int) -> tuple[torch.Tensor, Sources]:
    """Return the codes of four channels whose innovations have a heavy tail, and their sensors."""
    noise = NOISE * innovations(np.random.default_rng(seed), (4, 6644))
    x = torch.from_numpy(lfilter([1.0], [1.0, *(-value for value in RESONANCE)], noise, axis=1)[:, 500:])[None].float()
    sources = Sources(torch.zeros(1, 4, 6), torch.zeros(1, 4).long(), torch.ones(1, 4, dtype=torch.bool))
    return network.tokenizer.tokenize(x, sources.pos, sources.sensor_type).codes, sources


def loss_of(network: CausalTransformer, codes: torch.Tensor, sources: Sources) -> float:
    with torch.no_grad():
        logits, sequence = network.logits(codes, sources)
    lost = torch.nn.functional.cross_entropy(logits.transpose(1, 2), sequence.codes, reduction="none")
    return float(lost[:, 2:].mean())


def test_shares_are_those_of_both_distributions_and_of_their_change():
    edges = torch.linspace(-9, 9, 61)
    mixture = NormalMixture()
    mixture.values.copy_(torch.tensor([NARROW, WIDE, WEIGHT]))
    location, scale = torch.tensor([0.3, -8.0]), torch.tensor([1.0, 0.5])
    change = torch.tensor([[0.0, 0.0], [1.0, 0.5]])
    found = mixture.shares(edges, location, scale, change)
    odds = WEIGHT / (1 - WEIGHT) * np.exp([0.0, 1.0])
    weight, wide = (odds / (1 + odds))[:, None], WIDE * np.exp([0.0, 0.5])
    centre, unit = location.numpy()[:, None], scale.numpy()[:, None]
    expected = (1 - weight) * norm.cdf(edges, centre, NARROW * unit) + weight * norm.cdf(
        edges, centre, wide[:, None] * unit
    )
    assert np.allclose(found, np.diff(expected, axis=1), atol=1e-6)
    assert torch.equal(mixture.shares(edges, location[:1], scale[:1]), found[:1])
    far = interval_shares(edges, torch.tensor([0.0]), torch.tensor([1.0]))[0, -1]
    assert float(far) == pytest.approx(norm.sf(8.7) - norm.sf(9.0), rel=1e-3)  # no digits are lost


def test_the_fit_finds_both_widths_and_the_weight():
    mixture = NormalMixture()
    mixture.fit(torch.from_numpy(innovations(np.random.default_rng(0), (200_000,))))
    assert np.allclose(mixture.values, [NARROW, WIDE, WEIGHT], rtol=0.05)


def test_an_untrained_network_predicts_innovations_with_a_heavy_tail_as_the_process_does():
    network = make(heavy_tail=True)
    codes, sources = process(network, seed=2)
    x = network.tokenizer.decode(codes, sources.pos, sources.sensor_type)[0].numpy()
    edges, index = network.tokenizer.code_edges().numpy(), codes[0, :, 2:, 0].numpy()
    centre = RESONANCE[0] * x[:, 1:-1] + RESONANCE[1] * x[:, :-2]
    shares = [
        norm.cdf(edges[index + 1], centre, NOISE * s) - norm.cdf(edges[index], centre, NOISE * s)
        for s in (NARROW, WIDE)
    ]
    expected = -np.log((1 - WEIGHT) * shares[0] + WEIGHT * shares[1]).mean()
    found = loss_of(network, codes, sources)
    assert found == pytest.approx(expected, abs=0.03)
    assert found < loss_of(make(heavy_tail=False), codes, sources) - 0.03


def test_continuations_have_tails_as_heavy_as_those_of_the_process():
    network = make(heavy_tail=True)
    codes, sources = process(network, seed=3)
    made = network.continue_codes(codes[:, :, :2048], 1024, generator=torch.Generator().manual_seed(0), sources=sources)
    x = network.tokenizer.decode(made, sources.pos, sources.sensor_type)[0].double()
    found = network.linear.fit(x)[2]
    kurtosis = float((found**4).mean() / found.square().mean() ** 2)
    true = innovations(np.random.default_rng(4), (200_000,))
    assert kurtosis == pytest.approx((true**4).mean() / (true**2).mean() ** 2, rel=0.4)


def test_a_heavy_tail_needs_a_linear_prediction():
    with pytest.raises(ValidationError, match="linear_taps"):
        CausalConfig(heavy_tail=True)
