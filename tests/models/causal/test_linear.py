"""The adaptive linear prediction: it finds the process, is causal, and an untrained network begins from it."""

import numpy as np
import pytest
import torch
from scipy.signal import lfilter
from scipy.stats import norm
from tests.messages import refusal
from tests.small_models import TINY

from emeg.errors import UserError
from emeg.models import Sources, load_encoder
from emeg.models.causal.config import CausalConfig
from emeg.models.causal.drawing import Draws, mixing
from emeg.models.causal.linear import LinearState
from emeg.models.causal.transformer import CausalTransformer
from emeg.tokenizers.braintokenizer import BrainTokenizer
from emeg.tokenizers.interface import Tokens
from emeg.tokenizers.kernels import Kernels, KernelsConfig
from emeg.tokenizers.mulaw import MuLaw, MuLawConfig

RESONANCE = (1.6, -0.8)
"""Coefficients of the simulated process."""
NOISE = 0.3
N_CHANNELS = 3


def process(n_samples: int, seed: int) -> np.ndarray:
    """Simulate channels whose noise is correlated by .8 between the first two: (channels, samples)."""
    mixed = np.array([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])
    noise = NOISE * mixed @ np.random.default_rng(seed).normal(size=(N_CHANNELS, n_samples + 500))
    return lfilter([1.0], [1.0, -RESONANCE[0], -RESONANCE[1]], noise, axis=1)[:, 500:]


def codes_of(network, signal):
    x = torch.from_numpy(signal)[None].float()
    n = len(signal)
    sources = Sources(torch.zeros(1, n, 6), torch.zeros(1, n).long(), torch.ones(1, n, dtype=torch.bool))
    return network.tokenizer.tokenize(x, sources.pos, sources.sensor_type).codes, sources


def make(*, across: bool = False, taps: int = 4) -> CausalTransformer:
    torch.manual_seed(0)
    sizes = {"width": 32, "n_head": 2, "depth": 2, "context_tokens": 192}
    tokenizer = MuLaw(MuLawConfig(n_codes=128, window_length=64))
    network = CausalTransformer(CausalConfig(across_sources=across, linear_taps=taps, **sizes), tokenizer).eval()
    codes = codes_of(network, process(4096, 2))[0]
    network.prepare([Tokens(tokenizer.features_from_codes(codes), codes)])
    return network


def test_an_untrained_network_predicts_as_the_true_process_does():
    network = make()
    codes, sources = codes_of(network, process(4096, 1))
    with torch.no_grad():
        logits, sequence = network.logits(codes, sources)
    lost = torch.nn.functional.cross_entropy(logits.transpose(1, 2), sequence.codes, reduction="none")
    # the true process, on the same tokens: the probability of each interval given the two samples before
    x = network.tokenizer.decode(codes, sources.pos, sources.sensor_type)[0].numpy()
    edges = network.tokenizer.code_edges().numpy()
    expected = RESONANCE[0] * x[:, 1:-1] + RESONANCE[1] * x[:, :-2]
    index = codes[0, :, 2:, 0].numpy()
    share = norm.cdf(edges[index + 1], expected, NOISE) - norm.cdf(edges[index], expected, NOISE)
    assert float(lost[:, 2:].mean()) == pytest.approx(-np.log(share).mean(), abs=0.03)


def test_coefficients_and_scale_of_a_prompt_are_those_of_the_process():
    network = make(taps=2)
    samples = torch.from_numpy(process(20000, 3))
    coefficients, scale, innovations = network.linear.fit(samples)
    assert np.allclose(coefficients, np.tile(RESONANCE, (N_CHANNELS, 1)), atol=0.03)
    assert np.allclose(scale, NOISE, rtol=0.03)
    assert innovations.shape == (N_CHANNELS, 20000 - 2)
    assert float(torch.corrcoef(innovations)[0, 1]) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("across", [True, False])
def test_a_change_of_the_future_changes_no_past_logit(across):
    network = make(across=across)
    codes, sources = codes_of(network, process(192, 4))
    changed = codes.clone()
    changed[:, :, 100:] = (changed[:, :, 100:] + 40) % 128
    before, sequence = network.logits(codes, sources)
    after, _ = network.logits(changed, sources)
    first = int((sequence.time[0] == 100).nonzero()[0])
    assert torch.equal(before[:, : first + 1], after[:, : first + 1])
    assert not torch.equal(before[:, first + 1 :], after[:, first + 1 :])


@pytest.mark.parametrize("across", [True, False])
def test_continuations_have_the_spectrum_and_the_correlations_of_the_process(across):
    network = make(across=across)
    codes, sources = codes_of(network, process(2048, 5))
    n = 192 if across else 1024
    made = network.continue_codes(codes, n, generator=torch.Generator().manual_seed(0), sources=sources)
    x = network.tokenizer.decode(made, sources.pos, sources.sensor_type)[0].double()
    assert x.shape == (N_CHANNELS, n)
    coefficients, scale, innovations = network.linear.fit(x)
    assert np.allclose(scale, NOISE, rtol=0.25)
    if not across:  # channels are drawn together; otherwise the network itself would have to learn it
        assert np.allclose(coefficients[:, :2].mean(0), RESONANCE, atol=0.15)
        assert float(torch.corrcoef(innovations)[0, 1]) == pytest.approx(0.8, abs=0.1)
        assert abs(float(torch.corrcoef(innovations)[0, 2])) < 0.15


@pytest.mark.parametrize("starts", [(0, 64, 500, 1900), (1, 130, 1999)])
def test_later_parts_of_a_continuation_have_the_prediction_of_the_whole_past(starts):
    """Sums are kept between the parts; nothing may be counted twice or left out."""
    network = make()
    codes, _ = codes_of(network, process(2048, 5))
    state = LinearState(network.linear, codes[:, :, :1024])
    whole = network.predict_linearly(codes)
    for start in starts:
        so_far = codes[:, :, : max(start + 40, 1024)]
        found = state.of_prompt(so_far, start, 1)
        for part, expected in zip(found, whole, strict=True):
            n = so_far.shape[2] - start
            torch.testing.assert_close(part[:, :n], expected[0, :, start : start + n], rtol=1e-6, atol=1e-6)
            assert part.shape[1] == n + 1


def test_draws_of_channels_are_correlated_and_keep_their_distributions():
    innovations = torch.from_numpy(process(4000, 6))[None]
    shares = torch.tensor([0.1, 0.2, 0.4, 0.3])
    draws = Draws(torch.Generator().manual_seed(0), 1.0, 1.0, mixing(innovations).expand(2000, -1, -1))
    drawn = draws.draw(shares.log().expand(2000 * N_CHANNELS, -1)).view(2000, N_CHANNELS)
    for channel in range(N_CHANNELS):
        found = torch.bincount(drawn[:, channel], minlength=4) / 2000
        assert torch.allclose(found, shares, atol=0.04)
    correlation = torch.corrcoef(drawn.T.double())
    assert correlation[0, 1] > 0.6
    assert abs(correlation[0, 2]) < 0.1


def test_learned_samples_are_predicted_by_their_first_value_and_saved_with_it(tmp_path):
    """Edges and centres follow from trained kernels, which a loaded network does not have when it is built."""
    torch.manual_seed(0)
    tokenizer = Kernels(KernelsConfig(n_codes=32, width=4, window_length=64))
    levels = torch.linspace(-2, 2, 32) + 0.05 * torch.linspace(-2, 2, 32) ** 3
    with torch.no_grad():
        tokenizer.kernels[:, 0] = levels
        tokenizer.kernels[:, 1:] = 0.01
    config = CausalConfig(across_sources=False, linear_taps=4, width=32, n_head=2, depth=2, context_tokens=192)
    network = CausalTransformer(config, tokenizer).eval()
    assert torch.equal(network.linear.centres, levels)
    assert torch.allclose(network.linear.edges[1:-1], (levels[1:] + levels[:-1]) / 2)
    codes = torch.randint(32, (1, N_CHANNELS, 64, 1))
    sources = Sources(
        torch.randn(1, N_CHANNELS, 6), torch.zeros(1, N_CHANNELS).long(), torch.ones(1, N_CHANNELS).bool()
    )
    network.save_pretrained(tmp_path)
    loaded = load_encoder(tmp_path)
    assert torch.equal(loaded.logits(codes, sources)[0], network.logits(codes, sources)[0])
    with torch.no_grad():
        tokenizer.kernels[0, 0] = 3.0
    assert tokenizer.code_edges() is None
    with refusal(UserError, "linear_taps", "kernels", action="nano-samples"):
        CausalTransformer(config, tokenizer)


def test_tokens_that_are_no_samples_are_refused():
    with refusal(UserError, "linear_taps", "braintokenizer", action="mulaw"):
        CausalTransformer(CausalConfig(linear_taps=4), BrainTokenizer(TINY))
