"""Masks in blocks, log power as a target, contrast between segments, weights of levels."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from tests.models.test_brainomni import make, tokens

from emeg.models import BrainOmniConfig
from emeg.models.objectives import (
    arrange_draws,
    contrastive_loss,
    power_loss,
    power_targets,
    standardised_spreads,
)


def test_blocks_of_time_are_masked_in_all_sources_and_sources_at_all_times():
    draws = torch.rand(3, 4, 10, generator=torch.Generator().manual_seed(0))
    assert torch.equal(arrange_draws(draws, "tokens", 4), draws)
    time = arrange_draws(draws, "time", 4)
    assert time.shape == draws.shape
    assert all(len(time[b, :, start : start + 4].unique()) == 1 for b in range(3) for start in (0, 4, 8))
    assert len(time.unique()) == 9
    sources = arrange_draws(draws, "sources", 4)
    assert all(len(sources[b, s].unique()) == 1 for b in range(3) for s in range(4))
    assert len(sources.unique()) == 12


def test_power_targets_are_standardised_log_deviations():
    features = torch.randn(2, 3, 32, 5, generator=torch.Generator().manual_seed(0))
    windows = features.numpy().astype(np.float64).reshape(2, 3, 2, 16, 5)
    log_std = np.log(windows.std(axis=3) + 1e-2)
    expected = log_std - log_std.mean(axis=(0, 2), keepdims=True)
    expected /= log_std.std(axis=(0, 2), keepdims=True) + 0.1
    np.testing.assert_allclose(power_targets(features, 16).numpy(), expected, atol=1e-4)


def test_spreads_are_compared_without_what_all_segments_share():
    generator = torch.Generator().manual_seed(0)
    scale = torch.rand(4, 1, 1, 6, generator=generator) + 0.5
    halves = [torch.randn(4, 2, 400, 6, generator=generator) * scale for _ in range(2)]
    first, second = standardised_spreads(halves).chunk(2)
    both = torch.cat([first, second])
    torch.testing.assert_close(both.mean(dim=0), torch.zeros(12), atol=1e-5, rtol=0)
    nearest = torch.cdist(first, second).argmin(dim=1)
    assert nearest.tolist() == [0, 1, 2, 3]


def test_power_counts_in_masked_windows_only():
    predicted, target = torch.zeros(1, 2, 2, 3), torch.ones(1, 2, 2, 3)
    target[0, 0, 0] = 5.0
    masked = torch.zeros(1, 2, 8, dtype=torch.bool)
    masked[0, 0, :4], masked[0, 1, 4:6] = True, True
    assert float(power_loss(predicted, target, masked)) == pytest.approx((25.0 + 0.5) / 1.5)


def test_contrast_is_the_cross_entropy_of_the_own_half():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(6, 8, generator=generator), torch.randn(6, 8, generator=generator)
    a, b = (x.double().numpy() / np.linalg.norm(x.double().numpy(), axis=1, keepdims=True) for x in (first, second))
    cosines = a @ b.T / 0.1
    expected = -(np.diag(log_softmax(cosines, axis=1)).mean() + np.diag(log_softmax(cosines, axis=0)).mean()) / 2
    assert float(contrastive_loss(first, second)) == pytest.approx(expected, rel=1e-4)
    assert float(contrastive_loss(first, first)) < 0.1 * float(contrastive_loss(first, second))


@pytest.mark.parametrize(("option", "part"), [("power_weight", "power_head"), ("contrast_weight", "contrast_head")])
def test_further_terms_add_to_the_loss_and_reach_the_blocks_before_the_last(option, part):
    plain, model = make(), make(**{option: 0.5})
    features, codes = tokens(model)
    losses = model.pretraining_loss(features, codes, generator=torch.Generator().manual_seed(1))
    before = plain.pretraining_loss(features, codes, generator=torch.Generator().manual_seed(1))
    (name,) = losses.figures.keys() - before.figures.keys()
    torch.testing.assert_close(losses.total, before.total + 0.5 * losses.figures[name])
    (losses.total - before.total.detach()).backward()
    assert float(getattr(model, part).weight.grad.abs().sum()) > 0
    assert float(model.blocks[1].ff.layer[0].weight.grad.abs().sum()) > 0
    assert part not in dict(plain.named_children())


def test_level_decay_weights_the_first_codebook_most():
    features, codes = tokens(make())
    losses = {}
    for decay in (1.0, 0.5, 1e-6):
        model = make(level_decay=decay).eval()
        losses[decay] = model.pretraining_loss(features, codes, generator=torch.Generator().manual_seed(1)).total.item()
    first_only = make(num_quantizers_used=1)
    state = make().state_dict()
    first_only.load_state_dict(
        {name: value[:32] if name.startswith("predict_head") else value for name, value in state.items()}
    )
    alone = first_only.eval().pretraining_loss(features, codes, generator=torch.Generator().manual_seed(1)).total
    assert losses[1e-6] == pytest.approx(alone.item(), rel=1e-4)
    assert losses[0.5] != losses[1.0]


def test_options_that_are_off_stay_out_of_product_names():
    assert "power_weight" not in BrainOmniConfig().product_fields()
    assert BrainOmniConfig(power_weight=1.0).product_fields()["power_weight"] == 1.0
