import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from emeg.data import n_in_pairs, numbers_of
from emeg.training.loop.accumulation import GradientTree

ROOT = Path(__file__).parents[3]


@given(st.integers(1, 48), st.integers(1, 6))
def test_ranks_share_a_step_out(per_rank, n_ranks):
    shares = [numbers_of(per_rank * n_ranks, rank, n_ranks) for rank in range(n_ranks)]
    assert [sorted(share) for share in shares] == [
        list(range(rank, per_rank * n_ranks, n_ranks)) for rank in range(n_ranks)
    ]
    groups, members = n_in_pairs(per_rank)
    assert groups * members == per_rank
    assert groups & (groups - 1) == 0


def test_an_order_that_can_be_read():
    assert numbers_of(8) == [0, 4, 2, 6, 1, 5, 3, 7]
    assert numbers_of(8, 1, 2) == [1, 5, 3, 7]
    assert numbers_of(6) == [0, 2, 4, 1, 3, 5]


def add_up(network, batches, numbers):
    """Gradients of the batches as one rank adds them, and those that a plain sum gives."""
    tree = GradientTree(network.parameters(), len(numbers))
    network.zero_grad()
    for number in numbers:
        network(batches[number]).square().mean().backward()
        tree.after_backward()
    return torch.cat([parameter.grad.flatten() for parameter in network.parameters()])


@pytest.mark.parametrize("n", [2, 4, 6, 8, 12, 16])
def test_two_ranks_add_as_one_does(n):
    torch.manual_seed(n)
    network = nn.Sequential(nn.Linear(40, 30), nn.Tanh(), nn.Linear(30, 20))
    batches = torch.randn(n, 16, 40) * torch.logspace(-2, 2, n)[:, None, None]
    alone = add_up(network, batches, numbers_of(n))
    first, second = (add_up(copy.deepcopy(network), batches, numbers_of(n, rank, 2)) for rank in range(2))
    assert torch.equal(alone, first + second)
    if n % 4 == 0:
        parts = [add_up(copy.deepcopy(network), batches, numbers_of(n, rank, 4)) for rank in range(4)]
        assert torch.equal(alone, (parts[0] + parts[2]) + (parts[1] + parts[3]))
    exact = add_up(network.double(), batches.double(), list(range(n)))
    assert (alone - exact).norm() < 1e-5 * exact.norm()
    if n > 2:  # the order does matter, or this would show nothing
        one_by_one = [torch.cat([g.flatten() for g in plain(network.float(), batch)]) for batch in batches]
        assert not torch.equal(alone, sum(one_by_one))


def plain(network, batch):
    return torch.autograd.grad(network(batch).square().mean(), list(network.parameters()))


def test_a_parameter_without_a_gradient_in_some_micro_batches():
    """Of four, the second layer is in the last only."""
    network = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)])
    tree = GradientTree(network.parameters(), 4)
    x = torch.randn(5, 3)
    for number in range(4):
        y = network[0](x)
        (network[1](y) if number == 3 else y).sum().backward()
        tree.after_backward()
    assert torch.allclose(network[1].weight.grad, network[0](x).sum(dim=0).expand(3, 3))
    assert network[2].weight.grad is None
    through = network[1].weight.sum(dim=0)[:, None] * x.sum(dim=0)
    assert torch.allclose(network[0].weight.grad, 3 * x.sum(dim=0).expand(3, 3) + through, rtol=1e-4, atol=1e-5)


def test_two_real_ranks_under_ddp_add_as_one_does(tmp_path):
    """With 2, 4, 8 and 16 micro-batches per rank, bit for bit: the last three go through DDP's communication hook."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "OMP_NUM_THREADS": "1"}
    script = Path(__file__).with_name("ddp_gradients.py")
    done = subprocess.run([sys.executable, script, tmp_path], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
