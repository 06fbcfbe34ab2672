"""BrainOmni: masking, positions, dropout, padding, files."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.messages import refusal
from tests.small_models import TINY

from emeg.errors import UserError
from emeg.models import PRESETS, BrainOmni, BrainOmniConfig, PretrainingDraws, TaskHead, draw_pretraining_step
from emeg.models.objectives.masked import count_right, mask_features
from emeg.models.rotary import rotary_tables, turn
from emeg.tokenizers.braintokenizer import PRESETS as TOKENIZERS
from emeg.tokenizers.braintokenizer import BrainTokenizerConfig

SMALL = BrainOmniConfig(lm_dim=24, lm_head=4, lm_depth=3, num_quantizers_used=3, lm_dropout=0.0)


def make(**changes):
    torch.manual_seed(0)
    return BrainOmni(SMALL.model_copy(update=changes), TINY)


def tokens(model, batch=2, steps=16, seed=0):
    codes = torch.randint(32, (batch, 5, steps, 3), generator=torch.Generator().manual_seed(seed))
    return model.tokenizer.features_from_codes(codes), codes


def test_nano_is_small():
    model = BrainOmni(PRESETS["nano"], TOKENIZERS["nano"])
    beside = sum(p.numel() for name, p in model.named_parameters() if not name.startswith("tokenizer."))
    assert beside == 233_280


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), counts=st.lists(st.integers(1, 7), min_size=1, max_size=3), pad=st.integers(0, 3))
def test_padded_channels_change_nothing(seed, counts, pad):
    model = make().eval()
    generator = torch.Generator().manual_seed(seed)
    width = max(counts) + pad
    x, pos = (torch.randn(len(counts), width, n, generator=generator) for n in (300, 6))
    kind = torch.randint(3, (len(counts), width), generator=generator)
    mask = torch.arange(width) < torch.tensor(counts)[:, None]
    x[~mask] = torch.nan
    embedding, logits = model.embed(x, pos, kind, channel_mask=mask), model.logits(x, pos, kind, channel_mask=mask)
    codes = model.tokenizer.tokenize(x, pos, kind, 0.25, mask).codes
    for row, count in enumerate(counts):
        own = (x[row : row + 1, :count], pos[row : row + 1, :count], kind[row : row + 1, :count])
        if not torch.equal(model.tokenizer.tokenize(*own, 0.25).codes[0], codes[row]):
            continue  # a vector halfway between two codes fell to the other
        torch.testing.assert_close(embedding[row], model.embed(*own)[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(logits[row], model.logits(*own)[0], rtol=1e-4, atol=1e-5)


def test_shapes_and_lengths():
    model = make().eval()
    x, pos, kind = torch.randn(2, 4, 300), torch.randn(2, 4, 6), torch.zeros(2, 4, dtype=torch.long)
    steps = model.tokenizer.steps_of(300, 0.25)
    embedding = model.embed(x, pos, kind)
    assert embedding.shape == (2, 5, steps, 24)
    torch.testing.assert_close(embedding.norm(dim=-1), torch.ones(2, 5, steps))
    assert model.logits(x, pos, kind).shape == (2, 5, steps, 3 * 32)
    assert torch.equal(embedding, model.embed(x, pos, kind))


def test_loss_starts_at_even_odds():
    model = make().train()
    losses = model.pretraining_loss(*tokens(model), generator=torch.Generator().manual_seed(0))
    assert losses.total.item() == pytest.approx(math.log(32), abs=0.1)


def test_only_masked_places_are_asked_and_they_do_not_show_their_own_feature():
    """With the mask token at every masked position, codes and features there cannot reach the prediction."""
    model = make().train()
    features, codes = tokens(model)
    draws = draw_pretraining_step(torch.Generator().manual_seed(1), shape=(2, 5, 16), device=features.device)
    draws = draws._replace(uniform_mask_token=torch.zeros_like(draws.uniform_mask_token))
    masked = draws.uniform_mask <= 0.5
    loss = model.pretraining_loss(features, codes, draws=draws).total
    changed = features.masked_fill(masked[..., None], 9.0)
    other_codes = codes.where(masked[..., None], (codes + 1) % 32)
    assert torch.equal(loss, model.pretraining_loss(changed, other_codes, draws=draws).total)
    assert not torch.equal(loss, model.pretraining_loss(features + 0.1, codes, draws=draws).total)


def test_one_in_five_masked_places_takes_anothers_feature():
    model = make()
    features = torch.arange(2 * 5 * 16.0).view(2, 5, 16, 1).expand(-1, -1, -1, 16)
    draws = PretrainingDraws(torch.zeros(2, 5, 16), torch.full((2, 5, 16), 0.9), torch.randperm(160))
    masked = torch.ones(2, 5, 16, dtype=torch.bool)
    taken = mask_features(features, model.mask_token, masked, draws)
    assert torch.equal(taken[..., 0].flatten().long(), draws.shuffle)
    drawn = draw_pretraining_step(torch.Generator().manual_seed(0), shape=(8, 16, 56), device=torch.device("cpu"))
    assert float((drawn.uniform_mask <= 0.5).float().mean()) == pytest.approx(0.5, abs=0.02)
    assert float((drawn.uniform_mask_token <= 0.8).float().mean()) == pytest.approx(0.8, abs=0.02)


def test_accuracies_are_shares_of_the_masked_places():
    model = make()
    right = torch.zeros(2, 5, 16, 3)
    overlapped = model.overlapped_steps(16)
    # Windows of 8 steps, a quarter shared: the last two of the first and the first two of the second.
    assert overlapped.nonzero()[:, 0].tolist() == [6, 7, 8, 9]
    right[:, :, overlapped] = 1
    masked = torch.rand(2, 5, 16) < 0.5
    at = overlapped.expand_as(masked)[masked]
    figures = count_right(right[masked].bool(), torch.ones_like(at), at, both=True)
    share = float(masked[:, :, overlapped].sum() / masked.sum())
    assert figures["accuracy_overlapped"] == 1
    assert figures["accuracy_other"] == 0
    assert figures["accuracy"].item() == pytest.approx(share)
    assert not model.overlapped_steps(8).any()


def test_overlapped_steps_at_half_overlap_and_none():
    assert make(overlap_ratio=0.5).overlapped_steps(16).tolist() == [False] * 4 + [True] * 8 + [False] * 4
    assert not make(overlap_ratio=0.0).overlapped_steps(16).any()


def test_training_learns_to_predict():
    """Codes that repeat over the sources can be read from the unmasked ones."""
    model = make().train()
    parameters = [p for name, p in model.named_parameters() if not name.startswith("tokenizer.")]
    optimiser = torch.optim.AdamW(parameters, lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(120):
        codes = torch.randint(32, (8, 1, 8, 3), generator=generator).expand(-1, 5, -1, -1)
        losses = model.pretraining_loss(model.tokenizer.features_from_codes(codes), codes, generator=generator)
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
    assert losses.figures["accuracy_0"] > 0.3


def test_a_step_is_its_generators_and_dropout_only_trains():
    model = make(lm_dropout=0.3).train()
    features, codes = tokens(model)

    def loss(seed):
        torch.manual_seed(seed + 7)
        return model.pretraining_loss(features, codes, generator=torch.Generator().manual_seed(seed)).total.item()

    assert loss(1) == loss(1)
    assert loss(1) != loss(2)
    drawn = draw_pretraining_step(torch.Generator().manual_seed(1), shape=(2, 5, 16), device=features.device)
    trained = [model.pretraining_loss(features, codes, draws=drawn).total.item() for _ in range(2)]
    assert trained[0] != trained[1]
    model.eval()
    assert torch.equal(model.embed_latents(features), model.embed_latents(features))


def test_dropout_keeps_the_mean():
    from emeg.tokenizers.braintokenizer.attention import attend

    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 2, 6, 4, generator=generator) for _ in range(3))
    mask = torch.tensor([[True, True, False, True, True, True]])
    plain = attend(query, key, value, key_mask=mask)
    many = [attend(query, key, value, key_mask=mask, dropout_p=0.2, generator=generator) for _ in range(4000)]
    torch.testing.assert_close(torch.stack(many).mean(0), plain, rtol=0, atol=0.05)


def test_positions_are_relative_with_sines_and_not_with_cosines():
    query, key = torch.randn(1, 12), torch.randn(1, 12)

    def product(i, j, mode):
        tables = rotary_tables(40, 12, mode=mode)
        return float((turn(query.expand(40, -1), tables)[i] * turn(key.expand(40, -1), tables)[j]).sum())

    assert product(3, 7, "complex") == pytest.approx(product(30, 34, "complex"), abs=1e-4)
    assert product(3, 7, "cosine") != pytest.approx(product(30, 34, "cosine"), abs=1e-3)
    torch.testing.assert_close(turn(query, rotary_tables(1, 12, mode="complex")), query)


@pytest.mark.parametrize("mode", ["complex", "cosine"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rotation_and_its_gradient_are_those_of_the_formula_bit_for_bit(mode, dtype):
    """The formula as written, differentiated by autograd, for two groups of features that are rotated alike."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 40, 24, generator=generator).to(dtype).requires_grad_()
    wanted = torch.randn(3, 40, 24, generator=generator).to(dtype)
    tables = rotary_tables(40, 12, mode=mode)

    def formula(group):
        a, b = group.float().unflatten(-1, (-1, 2)).unbind(-1)
        cos, sin = tables.cos, tables.sin
        pair = (a * cos, b * cos) if sin is None else (a * cos - b * sin, a * sin + b * cos)
        return torch.stack(pair, dim=-1).flatten(-2).to(dtype)

    expected = torch.cat([formula(group) for group in x.chunk(2, dim=-1)], dim=-1)
    (expected_gradient,) = torch.autograd.grad(expected, x, wanted)
    found = turn(x, tables)
    (gradient,) = torch.autograd.grad(found, x, wanted)
    assert torch.equal(found, expected)
    assert torch.equal(gradient, expected_gradient)


def test_positions_stay_exact_in_a_model_cast_to_bfloat16():
    model = make().to(torch.bfloat16)
    assert not [name for name, _ in model.named_buffers() if "rot" in name]
    assert not [name for name in model.state_dict() if "rot" in name or "freq" in name]
    tables = model.rotary(500, torch.device("cpu"))
    assert tables.cos.dtype == torch.float32
    angle = torch.arange(500, dtype=torch.float64)
    torch.testing.assert_close(tables.sin[:, 0].double(), angle.sin(), rtol=0, atol=1e-4)


def test_cosine_mode_survives_the_folder(tmp_path):
    model = make(rotary="cosine").eval()
    model.save_pretrained(tmp_path)
    loaded = BrainOmni.from_pretrained(tmp_path)
    features, _ = tokens(model)
    assert loaded.config.rotary == "cosine"
    assert torch.equal(loaded.embed_latents(features), model.embed_latents(features))
    plain = make().eval()
    plain.load_state_dict(model.state_dict())
    assert not torch.equal(plain.embed_latents(features), model.embed_latents(features))


def test_fine_tuning_reaches_the_encoder_and_not_the_quantizer():
    model = make().train()
    head = TaskHead.of(model, 4)
    x, pos, kind = torch.randn(3, 4, 300), torch.randn(3, 4, 6), torch.zeros(3, 4, dtype=torch.long)
    logits = head(model.embed_latents(model.tokenizer.encode_latents(x, pos, kind, overlap=0.25)))
    assert logits.shape == (3, 4)
    logits.sum().backward()
    assert model.tokenizer.encoder.seanet_encoder.model[0].conv.bias.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in model.tokenizer.decoder.parameters())
    assert model.blocks[-1].ff.layer[0].weight.grad is None
    model.zero_grad()
    model.embed(x, pos, kind).sum().backward()
    assert all(parameter.grad is None for parameter in model.tokenizer.parameters())


def test_bad_input_is_refused():
    model = make()
    features, codes = tokens(model)
    with refusal(UserError, "latents", "(2, 4, 16, 16)", action="tokenizer"):
        model.embed_latents(features[:, :4])
    with refusal(UserError, "codes", "(2, 5, 8, 3)", action="same segments"):
        model.pretraining_loss(features, codes[:, :, :8])
    with refusal(UserError, "num_quantizers_used is 4", "has 3", action="at most"):
        make(num_quantizers_used=4)
    with refusal(UserError, "sensor_type", "sample 0, channel 0", action="0 (EEG)"):
        model.embed(torch.randn(1, 2, 200), torch.randn(1, 2, 6), torch.full((1, 2), 5))
    for change in ({"lm_head": 3}, {"lm_dim": 20}, {"lm_depth": 1}, {"rotary": "real"}):
        with pytest.raises(UserError):
            BrainOmniConfig.checked({**SMALL.model_dump(), **change}, source="test")


def test_a_model_cast_to_bfloat16_still_embeds():
    model = make().eval()
    given = (torch.randn(2, 4, 300), torch.randn(2, 4, 6), torch.zeros(2, 4, dtype=torch.long))
    plain, cast = model.embed(*given).detach(), model.to(torch.bfloat16).embed(*given).detach()
    # Codes flip where the latents' last digits decide, and with them the features.
    assert float((plain * cast).sum(-1).median()) > 0.9


def test_layers_are_those_that_the_blocks_give_one_after_the_other():
    torch.manual_seed(0)
    model = BrainOmni(PRESETS["nano"], BrainTokenizerConfig(n_filters=2, n_dim=64, codebook_dim=64, n_neuro=3)).eval()
    latents = torch.randn(2, 3, 8, 64)
    found = model.embed_latents(latents, layers=(3, 0, 4))
    assert torch.equal(found[0], model.embed_latents(latents))
    rotary = model.rotary(8, latents.device)
    hidden = latents + model.tokenizer.encoder.neuros[:, None]
    torch.testing.assert_close(found[1], torch.nn.functional.normalize(hidden, dim=-1))
    for block in model.blocks:
        hidden = block(hidden, rotary)
    torch.testing.assert_close(found[2], torch.nn.functional.normalize(hidden, dim=-1))
    with refusal(UserError, "layers: 5", "0 to 4", action="one of"):
        model.embed_latents(latents, layers=(5,))


def test_scaled_features_are_an_option_that_leaves_names_and_weights_alone():
    """The input follows the codes more by √n_dim; without the option, neither results nor names of products change."""
    assert "scaled_features" not in BrainOmniConfig().product_fields()
    spread = {}
    for scaled in (False, True):
        model = make(scaled_features=scaled).eval()
        with torch.no_grad():
            entered = model._enter(tokens(model)[0])
        spread[scaled] = float(entered.var(dim=(0, 2)).mean())
    assert spread[True] == pytest.approx(TINY.n_dim * spread[False], rel=1e-3)
