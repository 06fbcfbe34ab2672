"""One step of a small network whose parameters are split over two real ranks: results are printed as JSON."""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from benchmarks._tiny import fork_ranks
from benchmarks.resume import free_port
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh

from emeg.training import PretrainConfig
from emeg.training.loop.history import History
from emeg.training.loop.lightning_module import Training
from emeg.training.loop.strategies import ShardedStrategy, shard, whole_state


class Toy(Training):
    """Training without Lightning's trainer. As on a GPU, not every step checks for numbers that are not finite."""

    def _check_numbers(self):
        pass


def sharded(mesh, **how):
    network = nn.Linear(4, 4, bias=False)
    nn.init.ones_(network.weight)
    shard(network, mesh, **how)
    return network


def module_of(network):
    optimiser = PretrainConfig(root="").optimiser
    shared = {"n_steps": 10, "seed": 0, "log_every": 10, "history": History(), "describe": str}
    module = Toy(network, [{"params": list(network.parameters())}], optimiser=optimiser, **shared)
    module._unsharded.append(nn.Linear(4, 4, bias=False))
    return module


def weights_after(mesh, gradient):
    """Weights after a step with a gradient of this value everywhere."""
    network = sharded(mesh)
    module = module_of(network)
    optimizer = module.configure_optimizers()["optimizer"]
    (network(torch.full((1, 4), gradient)).sum()).backward()
    module.configure_gradient_clipping(optimizer)
    optimizer.step()
    return whole_state(network.state_dict())["weight"].tolist()


def summed_gradient(mesh, values, **how):
    """Gradient of a step whose micro-batches have these gradients on both ranks."""
    network = sharded(mesh, **how)
    strategy = ShardedStrategy()
    strategy._lightning_module = SimpleNamespace(modules=network.modules)
    for value in values[:-1]:
        with strategy.block_backward_sync():
            network(torch.full((1, 4), value)).sum().backward()
    exchanged = [parameter.grad is not None for parameter in network.parameters()]
    network(torch.full((1, 4), values[-1])).sum().backward()
    return {"gradient": network.weight.grad.full_tensor().unique().tolist(), "exchanged_early": any(exchanged)}


def main(scratch: Path) -> None:
    report = scratch / "report.json"

    def work(progress):
        del progress
        torch.set_num_threads(1)
        distributed.init_process_group("gloo")
        mesh = init_device_mesh("cpu", (2,))
        small = [2.0**-9] * 4
        found = {
            "finite": weights_after(mesh, 1.0),
            "not_finite": weights_after(mesh, float("nan")),
            "float32": summed_gradient(mesh, [1.0, *small]),
            "bf16": summed_gradient(mesh, [1.0, *small], reduce_bf16=True),
            "bf16_rounds": summed_gradient(mesh, [1.0, 2.0**-9], reduce_bf16=True),
        }
        if os.environ["RANK"] == "0":
            report.write_text(json.dumps(found))

    log = scratch / "log"
    codes = fork_ranks(work, world=2, port=free_port(), log=log).wait()
    if any(codes):
        sys.exit(log.read_text()[-3000:])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
