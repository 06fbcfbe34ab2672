"""Continuations with a held scale: their innovations have the average scale that the network gives to the prompt."""

import pytest
import torch
from scipy.signal import lfilter

from emeg.models import Sources
from emeg.models.causal.config import CausalConfig
from emeg.models.causal.continuing import average_scale_change
from emeg.models.causal.transformer import CausalTransformer
from emeg.tokenizers.interface import Tokens
from emeg.tokenizers.mulaw import MuLaw, MuLawConfig

N_CHANNELS, N_PROMPT = 3, 1024
RESONANCE = (1.6, -0.8)


def make(*, across: bool, heavy_tail: bool = False) -> tuple[CausalTransformer, torch.Tensor, Sources]:
    """Return a network without logits of its own, codes of a prompt, and sensors."""
    torch.manual_seed(0)
    sizes = {"width": 32, "n_head": 2, "depth": 2, "context_tokens": 192}
    config = CausalConfig(across_sources=across, linear_taps=4, heavy_tail=heavy_tail, **sizes)
    network = CausalTransformer(config, MuLaw(MuLawConfig(n_codes=256, window_length=64))).eval()
    noise = 0.3 * torch.randn(N_CHANNELS, N_PROMPT + 200)
    x = torch.from_numpy(lfilter([1.0], [1.0, *(-value for value in RESONANCE)], noise.numpy())[:, 200:])[None].float()
    sources = Sources(
        torch.randn(1, N_CHANNELS, 6), torch.zeros(1, N_CHANNELS).long(), torch.ones(1, N_CHANNELS, dtype=torch.bool)
    )
    codes = network.tokenizer.tokenize(x, sources.pos, sources.sensor_type).codes
    network.prepare([Tokens(network.tokenizer.features_from_codes(codes), codes)])
    with torch.no_grad():
        network.predict_head.weight.zero_()
        network.predict_head.bias.zero_()
    return network, codes, sources


def continued(network, codes, sources, n, **settings):
    generator = torch.Generator().manual_seed(0)
    return network.continue_codes(codes, n, generator=generator, sources=sources, **settings)


@pytest.mark.parametrize("across", [True, False])
def test_innovations_of_a_continuation_have_the_average_scale_of_the_prompt(across):
    """The network changes the scale by sensor and from sample to sample; held, it differs by sensor only."""
    network, codes, sources = make(across=across)
    with torch.no_grad():
        network.correct_linear.weight[1].normal_(std=0.1)
    n = 192 if across else 1024
    made = continued(network, codes, sources, n, hold_scale=True)
    assert not torch.equal(made, continued(network, codes, sources, n))
    centres = network.linear.centres
    coefficients, scale, _ = network.linear.fit(centres[codes[0, ..., 0]].double())
    whole = centres[torch.cat([codes, made], dim=2)[0, ..., 0]].double()
    expected = (whole.unfold(1, 4, 1).flip(-1) * coefficients[:, None]).sum(dim=2)
    innovations = (whole[:, 4:] - expected[:, :-1])[:, -n:]
    held = average_scale_change(network, codes, sources).widening.view(N_CHANNELS)
    assert held.std() > 0.05, "the sensors differ"
    assert torch.allclose(innovations.std(dim=1), scale * held.exp(), rtol=0.2 if across else 0.08)


def test_the_average_leaves_out_the_first_context():
    """The scales of a pass over each context, written out, whose first samples follow an unknown channel."""
    network, codes, sources = make(across=False, heavy_tail=True)
    with torch.no_grad():
        network.correct_linear.weight[1].normal_(std=0.1)
        network.correct_tail.weight.normal_(std=0.1)
    seen = []
    network.last_norm.register_forward_hook(lambda module, given, made: seen.append(made))
    for start in range(192, N_PROMPT, 192):
        linear = network.predict_linearly(codes).cut(start, start + 192)
        network.logits(codes[:, :, start : start + 192], sources, linear=linear)
    normed = torch.cat(seen, dim=1)
    widening = (normed @ network.correct_linear.weight[1]).double()
    found = average_scale_change(network, codes, sources)
    assert torch.allclose(found.widening[:, 0].exp().double().square(), (2 * widening).exp().mean(dim=1), rtol=1e-4)
    tail = (normed @ network.correct_tail.weight.T).mean(dim=1)
    assert torch.allclose(found.tail[:, 0], tail, atol=1e-5)


def test_a_constant_change_of_the_scale_needs_no_hold():
    network, codes, sources = make(across=False)
    with torch.no_grad():
        network.correct_linear.bias[1] = -0.5
    made = [continued(network, codes, sources, 64, hold_scale=hold) for hold in (True, False)]
    assert torch.equal(*made)
