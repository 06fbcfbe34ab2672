"""Pooling of embeddings: response to a rhythm in the features, sizes and names, trained heads."""

import pytest
import torch
from tests.messages import refusal

from emeg.errors import UserError
from emeg.models import POOLINGS, TaskHead, n_pooled, pool, pooled_names


def rhythm(frequency: float, amplitude: float, *, steps: int = 48, seed: int = 0) -> torch.Tensor:
    """Return features (8 windows, 3 sources, steps, 4) of a rhythm with random phase, cycles per step."""
    generator = torch.Generator().manual_seed(seed)
    phase = 2 * torch.pi * torch.rand(8, 3, 1, 4, generator=generator)
    time = torch.arange(steps)[None, None, :, None]
    return amplitude * torch.cos(2 * torch.pi * frequency * time + phase) + 0.5


def test_power_sees_a_rhythm_that_the_mean_does_not():
    quiet, loud = rhythm(0.25, 0.1), rhythm(0.25, 0.4)
    assert float((pool(quiet, "mean") - pool(loud, "mean")).abs().max()) < 0.02
    difference = (pool(loud, "power") - pool(quiet, "power")).unflatten(1, (3 * 4, 8)).mean(dim=(0, 1))
    # 48 steps have frequencies 1 to 24; 0.25 cycles a step is the 12th, in the fourth band of three
    assert int(difference.argmax()) == 3
    assert float(difference[3]) == pytest.approx(2 * torch.log(torch.tensor(4.0)).item(), abs=0.05)


def test_power_does_not_depend_on_phase_and_mean_std_is_mean_and_deviation():
    one, other = rhythm(0.25, 0.3, seed=1), rhythm(0.25, 0.3, seed=2)
    torch.testing.assert_close(pool(one, "power"), pool(other, "power"), atol=0.05, rtol=0)
    mean, std = pool(one, "mean_std").chunk(2, dim=1)
    torch.testing.assert_close(mean, one.mean(dim=2).flatten(1))
    torch.testing.assert_close(std, one.std(dim=2, correction=0).flatten(1))


@pytest.mark.parametrize("steps", [1, 2, 7, 48, 200])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_sizes_and_names_agree_whatever_the_number_of_steps(pooling, steps):
    out = pool(torch.randn(2, 3, steps, 4), pooling)
    assert out.shape == (2, n_pooled(pooling, 3, 4))
    assert bool(out.isfinite().all())
    names = pooled_names(pooling, 3, 4)
    assert len(set(names)) == out.shape[1]


def test_an_unknown_pooling_is_refused():
    with refusal(UserError, "pooling", "'median'", action="mean_power"):
        pool(torch.zeros(1, 1, 2, 2), "median")  # type: ignore[arg-type]


@pytest.mark.parametrize("pooling", [*POOLINGS, "attention"])
def test_heads_learn_to_tell_a_loud_rhythm_from_a_quiet_one(pooling):
    torch.manual_seed(0)
    x = torch.cat([rhythm(0.25, 0.1), rhythm(0.25, 0.4)])
    y = torch.tensor([0] * 8 + [1] * 8)
    layers = torch.stack([torch.randn_like(x), x])
    head = TaskHead(3, 4, 2, pooling=pooling, n_layers=2, dropout=0.0)
    head.standardise(head.pool(layers))
    optimiser = torch.optim.Adam(head.parameters(), lr=0.03)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(head(layers), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.3
    assert all(p.grad is not None for p in head.parameters())
    assert float(head.mix.detach().std()) > 0
