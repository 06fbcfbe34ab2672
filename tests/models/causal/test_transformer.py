"""The causal transformer: causality, cache, padding, generation, files."""

import math

import pytest
import torch
from tests.messages import refusal
from tests.small_models import TINY

from emeg.errors import UserError
from emeg.models import BrainOmni, BrainOmniConfig, Sources, build_objective, load_encoder
from emeg.models.causal.config import CausalConfig
from emeg.models.causal.transformer import CausalTransformer
from emeg.tokenizers.braintokenizer import BrainTokenizer
from emeg.tokenizers.braintokenizer.config import PRESETS
from emeg.tokenizers.interface import Tokens
from emeg.tokenizers.mulaw import MuLaw, MuLawConfig

SIZES = {"width": 32, "n_head": 2, "depth": 2, "context_tokens": 240}
LATENT, COUNTED, CHANNEL = "latent sources", "latent sources with counted shares", "channels"
PREDICTED = "latent sources with counted shares and predicted latents"


def make(kind: str, *, across: bool = True, **changes) -> CausalTransformer:
    torch.manual_seed(0)
    tokenizer = MuLaw(MuLawConfig(n_codes=32, window_length=64)) if kind == CHANNEL else BrainTokenizer(TINY)
    if kind == PREDICTED:
        changes |= {"latent_prediction": True}
    config = CausalConfig(across_sources=across, code_tables=kind in (COUNTED, PREDICTED), **SIZES, **changes)
    network = CausalTransformer(config, tokenizer).eval()
    if kind in (COUNTED, PREDICTED):
        counted = tokens(network, batch=6, seed=2)[0] ** 2 // 31
        network.prepare([Tokens(tokenizer.features_from_codes(counted), counted)])
    with torch.no_grad():
        network.predict_head.weight.mul_(50)  # logits that differ
    return network


def tokens(network: CausalTransformer, *, batch: int = 2, steps: int = 8, seed: int = 1):
    """Return codes, and sensors if channels are the sources."""
    generator = torch.Generator().manual_seed(seed)
    sizes = network.tokenizer.sizes
    n_sources = sizes.n_sources or 5
    codes = torch.randint(32, (batch, n_sources, steps, sizes.n_levels), generator=generator)
    if sizes.n_sources is not None:
        return codes, None
    mask = torch.ones(batch, n_sources, dtype=torch.bool)
    return codes, Sources(
        torch.randn(batch, n_sources, 6, generator=generator), torch.zeros(batch, n_sources).long(), mask
    )


every_form = pytest.mark.parametrize(
    ("kind", "across"),
    [
        (LATENT, True),
        (LATENT, False),
        (COUNTED, True),
        (PREDICTED, True),
        (CHANNEL, True),
        (CHANNEL, False),
    ],
)


@every_form
def test_a_change_of_the_future_changes_no_past_logit(kind, across):
    network = make(kind, across=across)
    codes, sources = tokens(network)
    before, sequence = network.logits(codes, sources)
    changed = codes.clone()
    changed[:, :, 5:] = (changed[:, :, 5:] + 7) % 32
    after, _ = network.logits(changed, sources)
    first = int((sequence.time[0] == 5).nonzero()[0])
    assert torch.equal(before[:, : first + 1], after[:, : first + 1])
    assert not torch.equal(before[:, first + 1 :], after[:, first + 1 :])


@pytest.mark.parametrize("tokenizer", [BrainTokenizer(PRESETS["emeg-nano"]).eval(), MuLaw(MuLawConfig())])
def test_a_change_of_later_windows_changes_no_earlier_code(tokenizer):
    """Otherwise a network that predicts codes could read the future from the codes of its prompt."""
    length = tokenizer.sizes.window_length
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 5, 4 * length, generator=generator)
    pos, types = torch.randn(1, 5, 6, generator=generator), torch.zeros(1, 5).long()
    changed = x.clone()
    changed[..., 2 * length :] *= -3
    with torch.no_grad():
        before, after = (tokenizer.tokenize(signal, pos, types).codes for signal in (x, changed))
    step = tokenizer.steps_of(2 * length)
    assert torch.equal(before[:, :, :step], after[:, :, :step])
    assert not torch.equal(before[:, :, step:], after[:, :, step:])


def test_levels_and_sources_of_a_step_are_in_order_too():
    """The second level of the third source sees its first level and the sources before, not those after."""
    network = make(LATENT)
    codes, _ = tokens(network, batch=1)
    before, sequence = network.logits(codes)
    changed = codes.clone()
    changed[0, 2, 3, 1] = (changed[0, 2, 3, 1] + 1) % 32
    same = (network.logits(changed)[0] == before).all(dim=-1)[0]
    here = int(((sequence.time == 3) & (sequence.source == 2) & (sequence.level == 1))[0].nonzero()[0])
    assert same[: here + 1].all()
    assert not same[here + 1]


@every_form
def test_the_cache_gives_the_logits_of_the_whole_sequence(kind, across):
    """The most likely codes, drawn one after the other with a cache, are those of one pass over all of them."""
    network = make(kind, across=across)
    codes, sources = tokens(network)
    made = network.continue_codes(codes, 4, generator=torch.Generator(), temperature=0, sources=sources)
    logits, sequence = network.logits(torch.cat([codes, made], dim=2), sources)
    is_new = sequence.time[0] >= 8
    assert torch.equal(logits.argmax(dim=-1)[:, is_new], sequence.codes[:, is_new])


def test_padded_channels_change_no_logit():
    for across in (True, False):
        network = make(CHANNEL, across=across)
        codes, sources = tokens(network)
        alone, _ = network.logits(codes[:, :3], Sources(*(part[:, :3] for part in sources)))
        mask = sources.mask.clone()
        mask[:, 3:] = False
        padded, sequence = network.logits(codes, sources._replace(mask=mask))
        assert torch.allclose(padded[sequence.valid].view_as(alone), alone, atol=1e-5)
        embedded = [
            network.embed_codes(codes, sources._replace(mask=mask)),
            network.embed_codes(codes[:, :3], Sources(*(part[:, :3] for part in sources))),
        ]
        assert torch.allclose(*embedded, atol=1e-5)


def test_the_loss_ignores_padded_channels():
    network = make(CHANNEL)
    codes, sources = tokens(network)
    mask = sources.mask.clone()
    mask[0, 3:] = False
    loss = network.pretraining_loss(codes, codes, sources=sources._replace(mask=mask)).total
    changed = codes.clone()
    changed[0, 3:] = 0
    assert torch.allclose(loss, network.pretraining_loss(changed, changed, sources=sources._replace(mask=mask)).total)


def test_an_untrained_head_starts_from_equal_probabilities():
    torch.manual_seed(0)
    network = CausalTransformer(CausalConfig(**SIZES), BrainTokenizer(TINY))
    codes, _ = tokens(network, batch=4)
    loss = network.pretraining_loss(codes, codes).total.detach()
    assert float(loss) == pytest.approx(math.log(32), abs=0.05)


def test_continuations_longer_than_the_context_are_repeatable_and_differ_by_seed():
    network = make(CHANNEL, across=False)
    codes, sources = tokens(network)
    long = [
        network.continue_codes(codes, 300, generator=torch.Generator().manual_seed(seed), top_p=0.9, sources=sources)
        for seed in (0, 0, 1)
    ]
    assert long[0].shape == (2, 5, 300, 1)
    assert torch.equal(long[0], long[1])
    assert not torch.equal(long[0], long[2])


def test_embeddings_of_parts_are_those_of_the_parts_alone():
    network = make(LATENT)
    steps = network.context_steps(5)
    codes, _ = tokens(network, steps=2 * steps)
    whole = network.embed_codes(codes, layers=(0, 2))
    assert whole.shape == (2, 2, 5, 2 * steps, 32)
    assert torch.allclose(whole[:, :, :, steps:], network.embed_codes(codes[:, :, steps:], layers=(0, 2)), atol=1e-6)


def test_a_saved_network_predicts_the_same(tmp_path):
    network = make(CHANNEL)
    network.save_pretrained(tmp_path)
    loaded = load_encoder(tmp_path)
    assert isinstance(loaded, CausalTransformer)
    codes, sources = tokens(network)
    assert torch.equal(network.logits(codes, sources)[0], loaded.logits(codes, sources)[0])


def test_an_objective_of_another_encoder_is_refused():
    brainomni = BrainOmni(BrainOmniConfig(lm_dim=24, lm_head=4, lm_depth=3, num_quantizers_used=3), TINY)
    with refusal(UserError, "next_token", "brainomni", action="causal"):
        build_objective("next_token", {}, encoder=brainomni)
    with refusal(UserError, "masked", "causal", action="the objective"):
        build_objective("masked", {}, encoder=make(LATENT))
    with refusal(UserError, "brainomni", action="another tokenizer"):
        BrainOmni(BrainOmniConfig(), MuLaw(MuLawConfig()))


def test_signals_of_any_cap_are_embedded_with_one_source():
    """Channels are averaged, so that heads and probes fit every cap; absent ones do not count."""
    network = make(CHANNEL, across=False)
    x, pos, types = torch.randn(2, 5, 256), torch.randn(2, 5, 6), torch.zeros(2, 5).long()
    whole = network.embed(x, pos, types)
    assert whole.shape == (2, network.n_sources, 256, network.n_features)
    mask = torch.tensor([[True, True, True, False, False]] * 2)
    some = network.embed(x, pos, types, mask)
    assert torch.allclose(some, network.embed(x[:, :3], pos[:, :3], types[:, :3]), atol=1e-5)
    assert not torch.allclose(some, whole, atol=1e-3)
    with refusal(UserError, "causal", action="sensors"):
        network.embed_latents(network.tokenizer.encode_latents(x, pos, types))


def test_the_order_of_channels_changes_nothing_where_each_is_predicted_from_its_own_past():
    network = make(CHANNEL, across=False)
    codes, sources = tokens(network, batch=1)
    logits, _ = network.logits(codes, sources)
    order = torch.tensor([3, 0, 4, 1, 2])
    moved, _ = network.logits(codes[:, order], Sources(*(part[:, order] for part in sources)))
    assert torch.allclose(moved, logits[order], atol=1e-6)


def test_the_number_of_parameters_does_not_depend_on_the_cap():
    """Sensors are known by their positions; a cap of another size needs no new parameters."""
    network = make(CHANNEL)
    for n_channels in (2, 9):
        codes = torch.zeros(1, n_channels, 4, 1, dtype=torch.int64)
        mask = torch.ones(1, n_channels, dtype=torch.bool)
        sources = Sources(torch.randn(1, n_channels, 6), torch.zeros(1, n_channels).long(), mask)
        assert network.logits(codes, sources)[0].shape == (1, 4 * n_channels, 32)
