"""How a network is spread over ranks: whole on each (DDP), or in shards (FSDP2). Checkpoints are the same for both.

A checkpoint holds whole tensors, gathered from the shards, in the optimiser's own format: a run can continue with
another number of ranks and with the other strategy. Sharded checkpoints would be written faster, which networks of a
few hundred million parameters do not need.
"""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from emeg.training.configs import TrainingConfig
from emeg.training.loop.rank import RunContext
from emeg.training.loop.watchdog import GRACE_S

FORWARD_METHODS = ("training_loss", "pretraining_loss", "encode_latents", "reconstruct")
"""Methods of our networks that need their parameters whole: FSDP2 itself knows of ``forward`` only."""


def make_strategy(config: TrainingConfig, run: RunContext) -> Strategy | str:
    """Turn ``strategy`` into Lightning's; ``auto`` is DDP where there are several ranks."""
    timeout = timedelta(seconds=config.stall_after_s + GRACE_S)
    if config.strategy == "fsdp2":
        return ShardedStrategy(data_parallel_size=run.world, tensor_parallel_size=1, timeout=timeout)
    if run.world == 1:
        return "auto"
    # the codebooks' statistics are summed over ranks; rank 0's own must not overwrite them
    return DDPStrategy(forward_sync_buffers=False, timeout=timeout)


def shard(network: nn.Module, mesh: DeviceMesh) -> None:
    """Split the trained parameters into shards, block by block if the network has blocks.

    Frozen ones stay whole: they need neither gradient nor optimiser, and are used outside the methods that gather.
    """
    frozen = {parameter for parameter in network.parameters() if not parameter.requires_grad}
    blocks = getattr(network, "blocks", None)
    for block in blocks if isinstance(blocks, nn.ModuleList) else ():
        fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh, ignored_params=frozen)
    for name in FORWARD_METHODS:
        if hasattr(network, name):
            register_fsdp_forward_method(network, name)


def whole(value: Any) -> Any:  # noqa: ANN401 - tensors and plain values of a state
    """Gather a sharded tensor, on every rank; other values are given back."""
    return value.full_tensor().detach() if isinstance(value, DTensor) else value


def whole_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Gather every sharded tensor of a state dict; all ranks must call it."""
    return {name: whole(value) for name, value in state.items()}


def sharded_like(value: Any, like: Any) -> Any:  # noqa: ANN401 - tensors and plain values of a state
    """Cut a whole tensor as `like` is cut; each rank keeps its part of what it has."""
    if not isinstance(like, DTensor) or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


class ShardedStrategy(ModelParallelStrategy):
    """FSDP2 whose checkpoints are whole, go through the `CheckpointIO`, and may lie in a bucket."""

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Optimisers are restored by `load_optimizer_state_dict`."""
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Gather the network, on every rank."""
        return whole_state(self._trained().state_dict())

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Load this rank's part of each tensor."""
        module = self._trained()
        own = module.state_dict()
        state = {name: sharded_like(value, own.get(name)) for name, value in checkpoint["state_dict"].items()}
        module.load_state_dict(state, strict=True)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Gather an optimiser's state, on every rank, as an optimiser without shards has it."""
        given = getattr(optimizer, "_optimizer", optimizer).state_dict()
        return {**given, "state": {number: whole_state(entry) for number, entry in given["state"].items()}}

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Load this rank's part of each optimiser's state."""
        for optimizer, given in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            state = {
                number: {name: sharded_like(value, parameters[number]) for name, value in entry.items()}
                for number, entry in given["state"].items()
            }
            optimizer.load_state_dict({**given, "state": state})

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: object | None = None
    ) -> None:
        """Write from rank 0."""
        if self.is_global_zero:
            self.checkpoint_io.save_checkpoint(checkpoint, filepath)

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Read on every rank."""
        torch.cuda.empty_cache()
        checkpoint: dict[str, Any] = self.checkpoint_io.load_checkpoint(checkpoint_path)
        return checkpoint

    def _trained(self) -> nn.Module:
        module: nn.Module | None = self.lightning_module
        if module is None:
            raise RuntimeError("the strategy has no module yet")
        return module
