"""Gradients of a step from two real ranks under DDP and from one, for several numbers of micro-batches per rank."""

import sys
from pathlib import Path

import torch
from benchmarks._tiny import fork_ranks
from benchmarks.resume import free_port
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from emeg.data import numbers_of
from emeg.training.loop.accumulation import GradientTree

STEPS = 2
PER_RANK = (2, 4, 8, 16)


def network_of(n: int) -> nn.Module:
    torch.manual_seed(n)
    return nn.Sequential(nn.Linear(40, 30), nn.Tanh(), nn.Linear(30, 20))


def gradients(network: nn.Module, wrapped: nn.Module, tree: GradientTree, numbers: list[int], n: int) -> torch.Tensor:
    """Return the gradients of every step, one row per step."""
    rows = []
    for step in range(STEPS):
        generator = torch.Generator().manual_seed(step)
        batches = torch.randn(n, 16, 40, generator=generator) * torch.logspace(-2, 2, n)[:, None, None]
        network.zero_grad()
        for number in numbers:
            if isinstance(wrapped, DistributedDataParallel):
                wrapped.require_backward_grad_sync = number == numbers[-1]
            wrapped(batches[number]).square().mean().backward()
            tree.after_backward()
        rows.append(torch.cat([parameter.grad.flatten() for parameter in network.parameters()]))
    return torch.stack(rows)


def main(scratch: Path) -> None:
    def work(progress: object) -> None:
        del progress
        torch.set_num_threads(1)
        distributed.init_process_group("gloo")
        rank = distributed.get_rank()
        for per_rank in PER_RANK:
            n = 2 * per_rank
            network = network_of(n)
            ddp = DistributedDataParallel(network, forward_sync_buffers=False)
            tree = GradientTree(network.parameters(), per_rank)
            tree.follow(ddp)
            torch.save(gradients(network, ddp, tree, numbers_of(n, rank, 2), n), scratch / f"{per_rank}-{rank}.pt")

    log = scratch / "log"
    if any(fork_ranks(work, world=2, port=free_port(), log=log).wait()):
        sys.exit(log.read_text()[-3000:])
    for per_rank in PER_RANK:
        n = 2 * per_rank
        network = network_of(n)
        alone = gradients(network, network, GradientTree(network.parameters(), n), numbers_of(n), n)
        for rank in range(2):
            # DDP averages over the ranks; a factor of two is exact
            both = 2 * torch.load(scratch / f"{per_rank}-{rank}.pt", weights_only=True)
            if not torch.equal(alone, both):
                sys.exit(f"{per_rank} micro-batches per rank: rank {rank} differs by {(alone - both).abs().max()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
