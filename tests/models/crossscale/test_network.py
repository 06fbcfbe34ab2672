"""The blocks know no number and no order of sensors, ignore padding, and need memory in proportion to the length."""

import pytest
import torch
from tests.models.crossscale.caps import cap, helmet

from emeg.models.crossscale.config import PRESETS, CrossScaleConfig
from emeg.models.crossscale.network import CrossScaleBlocks
from emeg.models.crossscale.regions import assign_regions
from emeg.models.rotary import rotary_tables

CONFIG = CrossScaleConfig(n_dim=32, n_head=2, depth=2, window_steps=4, dropout=0.0)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return CrossScaleBlocks(CONFIG).eval()


def features(n_sensors, n_steps=12, n=1, seed=0):
    return torch.randn(n, n_sensors, n_steps, CONFIG.n_dim, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("pos", [cap("colin27_1020")[1][:19], cap("biosemi64")[1], helmet(306), helmet(5)])
def test_any_cap_is_computed_by_the_same_parameters(network, pos):
    x = features(len(pos))
    before = sum(p.numel() for p in network.parameters())
    assert network(x, pos[None]).shape == x.shape
    assert sum(p.numel() for p in network.parameters()) == before


def test_a_permutation_of_the_sensors_permutes_the_result(network):
    pos, x = helmet(24), features(24)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(network(x, pos[None])[:, order], network(x[:, order], pos[None, order]))


def test_padded_sensors_change_nothing(network):
    pos, x = helmet(24), features(24)
    padded_x = torch.cat([x, 50 * features(3, seed=2)], dim=1)
    padded_pos = torch.cat([pos, pos[:3]])[None]
    mask = torch.arange(27)[None] < 24
    torch.testing.assert_close(network(padded_x, padded_pos, mask)[:, :24], network(x, pos[None]))


def test_steps_of_the_last_window_do_not_see_its_padding(network):
    """A length that is no multiple of a window: values after the end cannot matter, as there are none to attend to."""
    x = features(6, n_steps=10)
    attention = network.blocks[0].window_attn
    weights = torch.eye(CONFIG.n_dim).repeat(3, 1)
    with torch.no_grad():  # keys of padding would be the bias alone
        attention.qkv.weight.copy_(weights)
        attention.qkv.bias.fill_(3.0)
    rotary = rotary_tables(3, CONFIG.n_dim, mode="cosine")._replace(cos=torch.ones(3, CONFIG.n_dim // 2))
    found = attention(x, rotary)
    # offsets 2 and 3 exist in two windows only
    rows = x[:, :, [2, 6]]
    alone = attention(rows.repeat_interleave(4, dim=2), rotary._replace(cos=rotary.cos[:2]))[:, :, ::4]
    torch.testing.assert_close(found[:, :, [2, 6]], alone)


@torch.no_grad()
def test_a_change_reaches_other_windows_other_regions_and_neighbours_in_time():
    torch.manual_seed(0)
    network = CrossScaleBlocks(CONFIG.model_copy(update={"window_steps": 8})).eval()
    pos, x = cap("biosemi64")[1], features(64, n_steps=16)
    changed = x.clone()
    changed[0, 0, 1] += torch.randn(CONFIG.n_dim, generator=torch.Generator().manual_seed(1))
    before, after = (network(given, pos[None], blocks=range(1))[0] for given in (x, changed))
    delta = (after - before).abs().amax(dim=-1)
    region = assign_regions(pos[None])[0]
    assert float(delta[region == region[0], 1].min()) > 0  # sensors of its region, at the same step
    assert float(delta[region != region[0], 1].min()) > 0  # sensors of other regions
    assert float(delta[0, 2]) > 0  # the next step, by a kernel
    assert float(delta[0, 9]) > 0  # the same offset in another window
    assert float(delta[0, 13]) == 0  # an offset that no kernel of one block reaches


def test_every_parameter_gets_a_gradient(network):
    network.train()
    x = features(19).requires_grad_()
    network(x, cap("colin27_1020")[1][None, :19]).square().sum().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert silent == []
    assert bool(x.grad.any())


def saved_bytes(network, n_steps):
    """Bytes that a forward pass keeps for the backward pass, without parameters."""
    kept = {}

    def pack(tensor):
        if not isinstance(tensor, torch.nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    pos, x = helmet(8), features(8, n_steps=n_steps)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = network(x, pos[None])
    del out
    return sum(kept.values())


def test_memory_is_linear_in_length(network):
    network.train()
    short, middle, long = (saved_bytes(network, n) for n in (64, 512, 4096))
    assert (long - middle) / (middle - short) == pytest.approx(8, rel=0.01)


def test_presets_are_small_enough_for_what_they_are_made_for():
    sizes = {name: sum(p.numel() for p in CrossScaleBlocks(preset).parameters()) for name, preset in PRESETS.items()}
    assert sizes["nano"] < 500_000 < sizes["base"] < 20_000_000
