"""The cross-scale encoder under the interface of encoders: files, layers, gradients, refusals, recipe."""

import pytest
import torch
from tests.messages import refusal
from tests.small_models import SMALL, TINY

from emeg.errors import UserError
from emeg.models import load_encoder
from emeg.models.crossscale.config import CrossScaleConfig
from emeg.models.crossscale.encoder import CrossScale
from emeg.models.crossscale.source_positions import imagine_cap, locate_sources
from emeg.models.objectives.building import build_objective
from emeg.tokenizers.braintokenizer import BrainTokenizer, BrainTokenizerConfig
from emeg.training import PretrainConfig
from emeg.training.product_names import encoder_network

CONFIG = CrossScaleConfig(n_dim=32, n_head=2, depth=3, window_steps=4, num_quantizers_used=3)


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return CrossScale(CONFIG, BrainTokenizer(TINY).eval().requires_grad_(requires_grad=False))


def codes(n=2, steps=16):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(TINY.codebook_size, (n, TINY.n_neuro, steps, TINY.num_quantizers), generator=generator)


def test_a_saved_encoder_is_the_same(encoder, tmp_path):
    encoder.eval().save_pretrained(tmp_path)
    again = load_encoder(tmp_path)
    assert isinstance(again, CrossScale)
    features = encoder.tokenizer.features_from_codes(codes())
    assert torch.equal(again.embed_latents(features), encoder.embed_latents(features))
    assert torch.equal(again.source_pos, encoder.source_pos)


def test_layers_are_the_states_between_blocks(encoder):
    encoder.eval()
    features = encoder.tokenizer.features_from_codes(codes())
    first, default, last = encoder.embed_latents(features, layers=(0, 2, 3))
    assert torch.equal(default, encoder.embed_latents(features))
    expected = torch.nn.functional.normalize(encoder.hidden(features), dim=-1)
    torch.testing.assert_close(last, expected)
    assert first.shape == (2, TINY.n_neuro, 16, CONFIG.n_dim)
    with refusal(UserError, "layers: 4", action="choose"):
        encoder.embed_latents(features, layers=(4,))
    with refusal(UserError, "latents", action="tokenizer"):
        encoder.embed_latents(features[:, :2])


def test_masked_prediction_trains_every_parameter_but_the_tokenizer(encoder):
    encoder.train()
    encoder.objective = build_objective("masked", {}, encoder=encoder)
    found = codes()
    features = encoder.tokenizer.features_from_codes(found)
    losses = encoder.pretraining_loss(features, found, generator=torch.Generator().manual_seed(1))
    losses.total.backward()
    silent = [
        n for n, p in encoder.named_parameters() if p.requires_grad and (p.grad is None or not bool(p.grad.any()))
    ]
    assert silent == []
    groups = encoder.parameter_groups(learning_rate=1e-3, weight_decay=0.1)
    grouped = {id(p) for group in groups for p in group["params"]}
    assert grouped == {id(p) for p in encoder.parameters() if p.requires_grad}


def test_recomputed_activations_change_nothing(encoder):
    encoder.train()
    features = encoder.tokenizer.features_from_codes(codes())
    gradients = []
    for _ in range(2):
        torch.manual_seed(3)
        encoder.zero_grad()
        encoder.hidden(features).square().mean().backward()
        gradients.append(encoder.projection.weight.grad.clone())
        encoder.checkpoint_activations()
    assert torch.equal(*gradients)


def test_sources_lie_where_the_sensors_are_that_they_attend_to():
    torch.manual_seed(0)
    tokenizer = BrainTokenizer(BrainTokenizerConfig(**SMALL)).eval()
    cap = imagine_cap()
    front, back = cap[:, 1].argmax(), cap[:, 1].argmin()
    with torch.no_grad():
        sensors = tokenizer.sensor_embed(cap[None], torch.zeros(1, len(cap), dtype=torch.long))[0]
        keys = tokenizer.encoder.k_proj(sensors)
        tokenizer.encoder.neuros[0] = 50 * (keys[front] - keys.mean(dim=0))
        tokenizer.encoder.neuros[1] = 50 * (keys[back] - keys.mean(dim=0))
    found = locate_sources(tokenizer)
    assert found.shape == (SMALL["n_neuro"], 3)
    assert float(found[0, 1]) > 0 > float(found[1, 1])


def test_more_levels_than_the_tokenizer_has_are_refused():
    with refusal(UserError, "num_quantizers_used", action="Set it"):
        CrossScale(CrossScaleConfig(num_quantizers_used=4), BrainTokenizer(TINY))


@pytest.mark.parametrize("wrong", [{"n_dim": 30}, {"step_kernels": (1, 2, 5)}, {"region_widths": (1.0,)}])
def test_sizes_that_do_not_fit_are_refused(wrong):
    with refusal(UserError, next(iter(wrong)), action="correct"):
        CrossScaleConfig.checked(wrong, source="test")


def test_the_recipe_names_the_encoder():
    config = PretrainConfig(root="store", recipe="crossscale-nano")
    assert config.encoder == "crossscale"
    assert encoder_network(config) == CrossScaleConfig(n_dim=64, n_head=4, depth=4, scaled_features=True)


def test_scaled_features_weigh_as_much_as_the_source():
    """The input of the blocks follows the codes: without the scale, source vectors are √n_dim times as long."""
    tokenizer = BrainTokenizer(TINY).eval()
    with torch.no_grad():
        features = tokenizer.features_from_codes(codes())
    spread = {}
    for scaled in (False, True):
        torch.manual_seed(0)
        network = CrossScale(CONFIG.model_copy(update={"scaled_features": scaled}), tokenizer).eval()
        with torch.no_grad():
            entered = network._enter(features)
        spread[scaled] = float(entered.var(dim=(0, 2)).mean())
    assert spread[True] == pytest.approx(TINY.n_dim * spread[False], rel=1e-3)
