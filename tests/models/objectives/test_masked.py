"""Masks by region over tokens of single channels."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.messages import refusal
from tests.small_models import TINY

from emeg.errors import UserError
from emeg.models import BrainOmni, BrainOmniConfig, Sources, build_objective
from emeg.models.crossscale.config import CrossScaleConfig
from emeg.models.crossscale.encoder import CrossScale
from emeg.models.draws import draw_pretraining_step
from emeg.models.objectives.configs import MaskedConfig
from emeg.models.objectives.masked import MaskedPrediction, mask_regions
from emeg.tokenizers.mulaw import MuLaw, MuLawConfig


@given(
    st.lists(st.lists(st.integers(0, 4), min_size=7, max_size=7), min_size=1, max_size=3),
    st.integers(2, 7),
    st.floats(0.05, 0.95),
    st.integers(0, 99),
)
@settings(max_examples=150, deadline=None)
def test_regions_are_masked_as_a_whole(regions, n_real, ratio, seed):
    region = torch.tensor(regions)
    real = (torch.arange(7) < n_real).expand(len(region), 7)
    uniform = torch.rand(region.shape, generator=torch.Generator().manual_seed(seed))
    masked = mask_regions(region.float(), real, uniform, ratio)
    assert not (masked & ~real).any()
    for row in range(len(region)):
        of = {c: int(region[row, c]) or -c - 1 for c in range(n_real)}
        hidden = {of[c] for c in of if masked[row, c]}
        visible = {of[c] for c in of if not masked[row, c]}
        assert not hidden & visible
        assert visible
        assert bool(hidden) == (len(set(of.values())) > 1)


def test_the_order_of_sensors_changes_no_mask():
    generator = torch.Generator().manual_seed(4)
    region, uniform = torch.randint(5, (40, 9), generator=generator), torch.rand(40, 9, generator=generator)
    real = torch.rand(40, 9, generator=generator) < 0.8
    order = torch.randperm(9, generator=generator)
    masked = mask_regions(region, real, uniform, 0.4)
    assert torch.equal(mask_regions(region[:, order], real[:, order], uniform[:, order], 0.4), masked[:, order])


@pytest.mark.parametrize("size", [1, 5])
def test_a_region_is_masked_with_the_stated_probability_whatever_its_size(size):
    """Of many regions, so that the rules for the lowest and the highest draw matter little."""
    region = torch.arange(200).repeat_interleave(size).expand(20, -1) + 1
    uniform = torch.rand(region.shape, generator=torch.Generator().manual_seed(5))
    share = mask_regions(region, torch.ones_like(region, dtype=torch.bool), uniform, 0.3).float().mean()
    assert abs(float(share) - 0.3) < 0.03  # four standard errors of 4,000 draws


class ChannelEncoder:
    """Encoder over tokens of channels that remembers its input."""

    kind = "stub"
    n_levels = 1
    mask_token = torch.full((2,), 9.0)
    config = SimpleNamespace(mask_ratio=0.5)

    def __init__(self, n_sources=None):
        self.tokenizer = SimpleNamespace(sizes=SimpleNamespace(n_sources=n_sources), kind="stub")
        self.predict_head = torch.nn.Linear(2, 5)

    def hidden(self, features, *, generator=None, sources=None):
        self.seen = features
        return features

    def overlapped_steps(self, n_steps, device=None):
        return torch.zeros(n_steps, dtype=torch.bool)


def window_model():
    torch.manual_seed(0)
    return BrainOmni(
        BrainOmniConfig(lm_dim=16, lm_head=2, lm_depth=2, num_quantizers_used=3, token="window", lm_dropout=0.0), TINY
    )


def test_a_masked_window_is_predicted_without_its_own_features():
    model = window_model()
    features = torch.randn(2, 5, 24, 16, generator=torch.Generator().manual_seed(1))
    masked = torch.zeros(2, 5, 3, dtype=torch.bool)
    masked[0, 2, 1] = True
    made = model.hidden_windows(model.window_power(features), masked)
    features[0, 2, 8:16] += 1.0 + features[0, 2, 8:16]  # a window has 8 steps
    assert not torch.equal(model.window_power(features)[0, 2, 1], model.window_power(features * 0.5)[0, 2, 1])
    torch.testing.assert_close(model.hidden_windows(model.window_power(features), masked), made)
    features[0, 3, 8:16] *= 2.0
    assert not torch.allclose(model.hidden_windows(model.window_power(features), masked), made)


def test_power_loss_is_the_squared_error_of_masked_windows():
    model = window_model()
    objective = MaskedPrediction(MaskedConfig())
    objective.check(model)
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(4, 5, 24, 16, generator=generator)
    codes = torch.zeros(4, 5, 24, 3, dtype=torch.long)
    draws = draw_pretraining_step(generator, shape=(4, 5, 3), device=torch.device("cpu"))
    losses = objective.loss(model, features, codes, draws=draws)
    masked, wanted = draws.uniform_mask <= model.config.mask_ratio, model.window_power(features)
    made = model.predict_head(model.hidden_windows(wanted, masked))
    torch.testing.assert_close(losses.total, ((made - wanted) ** 2)[masked].mean())
    expected = 1 - ((made - wanted) ** 2)[masked].mean() / wanted[masked].var(dim=0, correction=0).mean()
    torch.testing.assert_close(losses.figures["explained_variance"], expected)
    assert tuple(losses.figures) == objective.metric_names(model)[1:]


def inputs():
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(2, 6, 4, 2, generator=generator)
    codes = torch.randint(0, 5, (2, 6, 4, 1), generator=generator)
    pos = torch.randn(2, 6, 7, generator=generator)
    pos[..., 6] = torch.tensor([1, 1, 2, 2, 3, 0])
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[1, 4:] = False
    return features, codes, Sources(pos, torch.zeros(2, 6, dtype=torch.long), mask)


def test_no_token_of_a_masked_region_reaches_the_encoder():
    features, codes, sources = inputs()
    objective = MaskedPrediction(MaskedConfig(mask_by="region"))
    for seed in range(20):
        draws = draw_pretraining_step(torch.Generator().manual_seed(seed), shape=(2, 6, 4), device=torch.device("cpu"))
        encoder = ChannelEncoder()
        losses = objective.loss(encoder, features, codes, draws=draws, sources=sources)
        assert torch.isfinite(losses.total)
        masked = mask_regions(sources.pos[..., 6], sources.mask, draws.uniform_mask[..., 0], 0.5)
        assert masked.any(dim=1).all()
        assert (encoder.seen[masked] == 9.0).all()
        assert torch.equal(encoder.seen[~masked], features[~masked])
        assert not masked[1, 4:].any()


def test_one_region_alone_is_masked_by_tokens():
    features, codes, sources = inputs()
    sources.pos[..., 6] = 1
    encoder = ChannelEncoder()
    losses = MaskedPrediction(MaskedConfig(mask_by="region")).loss(
        encoder, features, codes, generator=torch.Generator().manual_seed(0), sources=sources
    )
    assert torch.isfinite(losses.total)
    hidden = (encoder.seen == 9.0).all(dim=-1)
    assert hidden.any()
    assert not hidden.all()
    assert not hidden[1, 4:].any()


def test_masks_by_region_need_channels_and_regions():
    objective = MaskedPrediction(MaskedConfig(mask_by="region"))
    with refusal(UserError, "mask_by", action="hidden_by region"):
        objective.check(ChannelEncoder(n_sources=16))
    objective.check(ChannelEncoder())
    features, codes, sources = inputs()
    with refusal(UserError, "mask_by", action="positions_with_regions"):
        objective.loss(ChannelEncoder(), features, codes, sources=sources._replace(pos=sources.pos[..., :6]))


@pytest.mark.parametrize("with_sources", [True, False])
def test_masks_by_token_are_as_before(with_sources):
    features, codes, sources = inputs()
    draws = draw_pretraining_step(torch.Generator().manual_seed(1), shape=(2, 6, 4), device=torch.device("cpu"))
    encoder = ChannelEncoder()
    MaskedPrediction(MaskedConfig()).loss(
        encoder, features, codes, draws=draws, sources=sources if with_sources else None
    )
    visible = draws.uniform_mask > 0.5
    assert torch.equal(encoder.seen[visible], features[visible])


def test_an_encoder_of_channels_learns_from_regions_that_it_sees():
    """The loss of masked regions does not depend on their codes' features, nor on absent channels."""
    torch.manual_seed(0)
    tokenizer = MuLaw(MuLawConfig(n_codes=16, window_length=64))
    sizes = CrossScaleConfig(n_dim=32, n_head=2, depth=2, overlap_ratio=0.0, num_quantizers_used=1, dropout=0.0)
    network = CrossScale(sizes, tokenizer)
    network.objective = build_objective("masked", {"mask_by": "region"}, encoder=network)
    generator = torch.Generator().manual_seed(1)
    codes = torch.randint(16, (2, 6, 64, 1), generator=generator)
    region = torch.tensor([1, 1, 2, 2, 3, 3]).expand(2, 6)
    pos = torch.cat([torch.randn(2, 6, 6, generator=generator), region[..., None].float()], dim=-1)
    sources = Sources.of(pos, torch.full((2, 6), 3), (torch.arange(6) < 5).expand(2, 6))
    draws = draw_pretraining_step(generator, shape=(2, 6, 64), device=torch.device("cpu"))
    masked = mask_regions(region, sources.mask, draws.uniform_mask[..., 0], 0.5)
    assert masked.any(dim=1).all()

    def loss_of(features):
        return network.pretraining_loss(features, codes, draws=draws, sources=sources).total

    features = tokenizer.features_from_codes(codes)
    before = loss_of(features)
    before.backward()
    assert network.scales.region_kernels.maps[0].weight.grad.abs().sum() > 0
    hidden = features.clone()
    hidden[masked | ~sources.mask] = 7.0
    assert torch.equal(loss_of(hidden), before)
    seen = features.clone()
    seen[~masked & sources.mask] *= -1.0
    assert not torch.equal(loss_of(seen), before)


def test_channels_of_any_cap_are_embedded_with_one_source():
    torch.manual_seed(0)
    sizes = CrossScaleConfig(n_dim=32, n_head=2, depth=2, overlap_ratio=0.0, num_quantizers_used=1)
    network = CrossScale(sizes, MuLaw(MuLawConfig(window_length=64))).eval()
    x, pos, types = torch.randn(2, 5, 128), torch.randn(2, 5, 6), torch.zeros(2, 5).long()
    whole = network.embed(x, pos, types)
    assert whole.shape == (2, network.n_sources, 128, 32)
    mask = (torch.arange(5) < 3).expand(2, 5)
    alone = network.embed(x[:, :3], pos[:, :3], types[:, :3])
    assert torch.allclose(network.embed(x, pos, types, mask), alone, atol=1e-5)
    order = torch.tensor([4, 2, 0, 1, 3])
    assert torch.allclose(network.embed(x[:, order], pos[:, order], types[:, order]), whole, atol=1e-5)
