"""Regions of sensors in the tokenizer: embedding, masks, intracranial types."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.messages import refusal

from emeg.errors import UserError
from emeg.tokenizers.braintokenizer import BrainTokenizer, normalise_signal
from emeg.tokenizers.braintokenizer.draws import draw_tokenizer_step, hide_regions


@st.composite
def masked_batches(draw):
    batch, channels = draw(st.integers(1, 3)), draw(st.integers(2, 12))
    region = torch.tensor(draw(st.lists(st.integers(0, 4), min_size=batch * channels, max_size=batch * channels)))
    real = torch.ones(batch, channels, dtype=torch.bool)
    for row in range(batch):
        real[row, draw(st.integers(2, channels)) :] = False
    order = torch.tensor(draw(st.permutations(range(channels))))
    return order, region.view(batch, channels), real, draw(st.sampled_from([0.0, 0.25, 0.5, 0.9]))


@given(masked_batches())
@settings(max_examples=200, deadline=None)
def test_no_channel_of_a_hidden_region_is_visible(masked):
    order, region, real, ratio = masked
    seen = hide_regions(order, region.float(), real, ratio)
    for row in range(len(region)):
        visible = set(seen.channels[row][seen.mask[row]].tolist())
        own = set(torch.nonzero(real[row]).flatten().tolist())
        hidden = own - visible
        assert visible
        assert hidden
        assert visible <= own
        assert len(visible) == int(seen.mask[row].sum())
        regions = [int(region[row, c]) for c in range(region.shape[1])]
        of = {c: regions[c] or -c - 1 for c in own}
        if len(set(of.values())) > 1:
            assert not {of[c] for c in hidden} & {of[c] for c in visible}
        groups = {g: sum(v == g for v in of.values()) for g in of.values()}
        first = next(of[c] for c in order.tolist() if c in own)
        largest = max(int(len(own) * ratio), 1, groups[first])
        assert len(hidden) <= largest


def test_the_order_of_channels_hides_no_other_regions():
    generator = torch.Generator().manual_seed(4)
    region = torch.randint(4, (30, 8), generator=generator)
    real = torch.rand(30, 8, generator=generator) < 0.8
    real[:, :2] = True
    drawn, moved = torch.randperm(8, generator=generator), torch.randperm(8, generator=generator)
    seen = hide_regions(drawn, region, real, 0.5)
    again = hide_regions(moved.argsort()[drawn], region[:, moved], real[:, moved], 0.5)
    for row in range(30):
        visible = moved[again.channels[row, again.mask[row]]]
        assert visible.tolist() == seen.channels[row, seen.mask[row]].tolist()


def tokenizer(tiny_config, **changes) -> BrainTokenizer:
    torch.manual_seed(0)
    return BrainTokenizer(type(tiny_config)(**{**tiny_config.model_dump(), **changes}))


def signal(channels=6, n_types=1):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, channels, 256, generator=generator)
    pos = torch.randn(2, channels, 7, generator=generator)
    pos[..., 6] = torch.tensor([1, 1, 2, 3, 3, 0]).repeat(2, 1)[:, :channels]
    types = torch.randint(0, n_types, (2, channels), generator=generator)
    return x, pos, types


def test_the_seventh_column_changes_nothing_where_it_is_not_used(tiny_config):
    model = tokenizer(tiny_config).eval()
    x, pos, types = signal()
    assert torch.equal(model.tokenize(x, pos, types).codes, model.tokenize(x, pos[..., :6], types).codes)
    assert torch.equal(model.encode_latents(x, pos, types), model.encode_latents(x, pos[..., :6].contiguous(), types))


def test_regions_matter_and_unknown_ones_add_nothing(tiny_config):
    plain = tokenizer(tiny_config).eval()
    model = tokenizer(tiny_config, regions=True).eval()
    model.load_state_dict(plain.state_dict(), strict=False)
    x, pos, types = signal()
    unknown = pos.clone()
    unknown[..., 6] = 0
    assert torch.equal(model.encode_latents(x, unknown, types), plain.encode_latents(x, pos, types))
    model.sensor_embed.region_embedding_layer.weight.data[1:] = torch.randn(20, tiny_config.n_dim)
    assert not torch.allclose(model.encode_latents(x, pos, types), model.encode_latents(x, unknown, types))
    with refusal(UserError, "pos", action="positions_with_regions"):
        model.encode_latents(x, pos[..., :6], types)


def test_the_number_of_parameters_does_not_depend_on_electrodes(tiny_config):
    model = tokenizer(tiny_config, regions=True, intracranial=True).eval()
    for channels in (1, 3, 6):
        x, pos, types = signal(channels, 6)
        assert model.encode_latents(x, pos, types).shape[:2] == (2, tiny_config.n_neuro)


def test_hidden_regions_do_not_reach_the_latents(tiny_config):
    """The latents of a step are the same whatever the hidden channels carry."""
    model = tokenizer(tiny_config, hidden_by="region", hidden_ratio=0.5, noise_std=0.0, target="signal").train()
    x, pos, types = signal()
    draws = draw_tokenizer_step(torch.Generator().manual_seed(3), shape=(2, 6, 2, 128), device=torch.device("cpu"))
    seen = hide_regions(draws.channel_order, pos[..., 6], None, 0.5)
    hidden = torch.ones(2, 6, dtype=torch.bool)
    hidden[torch.arange(2)[:, None].expand_as(seen.channels)[seen.mask], seen.channels[seen.mask]] = False
    assert hidden.any(dim=1).all()
    captured = []
    forward = model.encoder.forward
    model.encoder.forward = lambda *inputs: captured.append(forward(*inputs)) or captured[-1]
    for changed in (x, torch.where(hidden[..., None], 100.0 * torch.randn_like(x), x)):
        model.training_loss(changed, pos, types, draws=draws, follow=False)
    assert torch.equal(captured[0], captured[1])


def test_types_beyond_meg_need_the_option(tiny_config):
    x, pos, types = signal(n_types=6)
    types[0, 0] = 3
    with refusal(UserError, "sensor_type", action="use 0 (EEG)"):
        tokenizer(tiny_config).tokenize(x, pos, types)
    assert tokenizer(tiny_config, intracranial=True).tokenize(x, pos, types).codes.shape[0] == 2


def test_intracranial_signals_keep_their_reference():
    rng = np.random.default_rng(0)
    x = torch.from_numpy(5e-5 * rng.standard_normal((1, 6, 512))).float()
    types = torch.tensor([[0, 0, 3, 3, 4, 5]])
    common = torch.zeros_like(x)
    common[:, 2:] = 1e-3 * torch.sin(torch.arange(512) / 20.0)
    out, shifted = normalise_signal(x, types), normalise_signal(x + common, types)
    assert torch.equal(out[:, :2], shifted[:, :2])
    assert not torch.allclose(out[:, 2:], shifted[:, 2:], atol=0.1)
    # the only contact of its kind keeps its signal, and kinds are scaled separately
    assert 0.5 < float(shifted[0, 5].std()) < 1.0
    larger = x.clone()
    larger[:, 4] *= 100
    assert torch.equal(normalise_signal(larger, types)[:, 2:4], out[:, 2:4])
    # EEG beside contacts is normalised as it is alone, bit for bit
    assert torch.equal(out[:, :2], normalise_signal(x[:, :2], types[:, :2], intracranial=False))
    assert torch.equal(out, normalise_signal(x, types, torch.ones_like(types, dtype=torch.bool), intracranial=True))


@pytest.mark.parametrize("equaliser", [None, 0.75])
def test_a_saved_tokenizer_of_all_options_is_the_same(tiny_config, tmp_path, equaliser):
    target = "signal" if equaliser is not None else "window"
    model = tokenizer(
        tiny_config, regions=True, intracranial=True, hidden_by="region", equaliser=equaliser, target=target
    ).eval()
    model.save_pretrained(tmp_path)
    again = BrainTokenizer.from_pretrained(tmp_path)
    x, pos, types = signal(n_types=6)
    assert torch.equal(again.tokenize(x, pos, types).codes, model.tokenize(x, pos, types).codes)
