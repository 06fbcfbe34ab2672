"""How a network is spread over ranks: whole on each (DDP), or in shards. Checkpoints are the same for all.

Shards are spread over all ranks (FSDP2), or over the ranks of each machine, with a copy on every machine (hybrid).

A checkpoint holds whole tensors, gathered from the shards, in the optimiser's own format: a run can continue with
another number of ranks and with the other strategy. Sharded checkpoints would be written faster, which networks of a
few hundred million parameters do not need.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.fsdp._fully_shard._fsdp_api import ReduceScatter
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from emeg.training.configs import TrainingConfig
from emeg.training.loop.rank import RunContext
from emeg.training.loop.watchdog import GRACE_S

FORWARD_METHODS = ("training_loss", "pretraining_loss", "encode_latents", "reconstruct")
"""Methods of our networks that need their parameters whole: FSDP2 itself knows of ``forward`` only."""


def make_strategy(config: TrainingConfig, run: RunContext, *, nodes: int = 1) -> Strategy | str:
    """Turn ``strategy`` into Lightning's; ``auto`` is DDP where there are several ranks.

    Parameters
    ----------
    config : TrainingConfig
    run : RunContext
    nodes : int
        Machines of the run; each has the same number of ranks.
    """
    timeout = timedelta(seconds=config.stall_after_s + GRACE_S)
    if config.strategy == "fsdp2":
        return ShardedStrategy(data_parallel_size=run.world, tensor_parallel_size=1, timeout=timeout)
    if config.strategy == "hybrid":
        return ShardedStrategy(data_parallel_size=nodes, tensor_parallel_size=run.world // nodes, timeout=timeout)
    if run.world == 1:
        return "auto"
    # the codebooks' statistics are summed over ranks; rank 0's own must not overwrite them
    return DDPStrategy(forward_sync_buffers=False, timeout=timeout)


class Bf16ReduceScatter(ReduceScatter):
    """Send gradients in bf16, half the bytes; what a rank adds over its micro-batches stays in float32.

    A mixed-precision policy of FSDP2 with a ``reduce_dtype`` would add the micro-batches in bf16 too.
    """

    def allocate(self, size: Sequence[int | torch.SymInt], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Allocate a buffer of FSDP2."""
        return torch.empty(*size, dtype=dtype, device=device)

    def __call__(
        self,
        output_tensor: Tensor,
        input_tensor: Tensor,
        group: distributed.ProcessGroup,
        op: Any,  # noqa: ANN401 - of torch
        async_op: bool = False,
    ) -> distributed.Work | None:
        """Sum the gradients of all ranks, a part on each.

        Parameters
        ----------
        output_tensor : float32, shape (parameters of this rank,)
            Gradients of any unit.
        input_tensor : float32, shape (parameters,)
            Gradients of any unit.
        """
        received = torch.empty_like(output_tensor, dtype=torch.bfloat16)
        distributed.reduce_scatter_tensor(received, input_tensor.bfloat16(), op=op, group=group)
        output_tensor.copy_(received)
        return None


def shard(network: nn.Module, mesh: DeviceMesh, *, reduce_bf16: bool = False) -> None:
    """Split the trained parameters into shards, block by block if the network has blocks.

    Frozen ones stay whole: they need neither gradient nor optimiser, and are used outside the methods that gather.

    Parameters
    ----------
    network : Module
    mesh : DeviceMesh
        Of one dimension, or of two (machines, ranks of a machine) for shards within each machine.
    reduce_bf16 : bool
        Send gradients in bf16.
    """
    frozen = {parameter for parameter in network.parameters() if not parameter.requires_grad}
    blocks = getattr(network, "blocks", None)
    for block in blocks if isinstance(blocks, nn.ModuleList) else ():
        fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh, ignored_params=frozen)
    for name in FORWARD_METHODS:
        if hasattr(network, name):
            register_fsdp_forward_method(network, name)
    if reduce_bf16:
        for module in sharded_modules(network):
            module.set_custom_reduce_scatter(Bf16ReduceScatter())


def sharded_modules(network: nn.Module) -> list[FSDPModule]:
    """Return the parts of a network that exchange shards."""
    return [module for module in network.modules() if isinstance(module, FSDPModule)]


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

    @property
    def data_mesh(self) -> DeviceMesh:
        """Ranks among which parameters are split: all, or (machines, ranks of a machine)."""
        mesh: DeviceMesh = self.device_mesh
        return mesh if mesh["tensor_parallel"].size() > 1 else mesh["data_parallel"]

    @contextmanager
    def block_backward_sync(self) -> Iterator[None]:
        """Add gradients without communication: only the last micro-batch of a step exchanges them."""
        modules = sharded_modules(self._trained())
        for module in modules:
            module.set_requires_gradient_sync(False, recurse=False)
        try:
            yield
        finally:
            for module in modules:
                module.set_requires_gradient_sync(True, recurse=False)

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
