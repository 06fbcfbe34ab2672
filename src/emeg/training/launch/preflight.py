"""Checks of a launch before anything starts or is submitted: ranks, checkpoints, GPUs."""

import importlib.util
import math

from emeg.errors import UserError
from emeg.training.configs import PretrainConfig, TrainingConfig, TrainTokenizerConfig

CPUS_PER_RANK = 8
"""Cores requested from a scheduler for each rank, unless the caller sets another number."""


def check_launch(config: TrainingConfig) -> None:
    """Refuse a launch that cannot work.

    Raises
    ------
    UserError
        The ranks cannot share a step, machines could not read each other's checkpoints, there are fewer GPUs than
        ranks, or the package of the tracker is not installed.
    """
    check_shares(config)
    _check_checkpoints(config)
    _check_devices(config)
    if config.launcher == "local":  # a scheduler's machines may have another environment
        check_tracker(config.tracking)


def check_shares(config: TrainingConfig) -> None:
    """Refuse a number of ranks that does not divide the micro-batches of a step.

    Raises
    ------
    UserError
        It does not; the message has the numbers that do, and a division of the same step for these ranks.
    """
    ranks, micro_batches = config.nodes * config.processes, micro_batches_of(config)
    if micro_batches % ranks == 0:
        return
    numbers = ", ".join(str(n) for n in range(1, micro_batches + 1) if micro_batches % n == 0)
    raise UserError(
        f"{ranks} ranks ({config.nodes} machines with {config.processes} processes each) cannot share the"
        f" {micro_batches} micro-batches of a step of recipe {config.recipe}. Use one of {numbers} ranks, or divide the"
        f" same step into more micro-batches: {_divided(config, ranks)}"
    )


def micro_batches_of(config: TrainingConfig) -> int:
    """Return the number of micro-batches in a step, over all ranks."""
    if isinstance(config, TrainTokenizerConfig):
        return config.sampling.micro_batches
    if isinstance(config, PretrainConfig):
        return config.micro_batches
    raise TypeError(f"{type(config).__name__} has no micro-batches")


def _divided(config: TrainingConfig, ranks: int) -> str:
    """Return options that keep the size of a step and give every rank the same number of micro-batches."""
    before = micro_batches_of(config)
    after = math.lcm(before, ranks)
    if isinstance(config, TrainTokenizerConfig):
        budget = config.sampling.budget_channel_seconds * before / after
        return f"--sampling.micro-batches {after} --sampling.budget-channel-seconds {budget:g}"
    if isinstance(config, PretrainConfig) and config.batch_segments * before % after == 0:
        return f"--micro-batches {after} --batch-segments {config.batch_segments * before // after}"
    return f"--micro-batches {after}, with fewer --batch-segments"


def _check_checkpoints(config: TrainingConfig) -> None:
    is_remote = "://" in config.root and not config.root.startswith("file:")
    if config.nodes > 1 and is_remote and config.run_dir is None and config.checkpoints is None:
        raise UserError(
            f"nodes={config.nodes}, root={config.root}: without a common folder each machine would resume from its own"
            " checkpoints. Give a folder or URI that all machines can reach, such as"
            f" --checkpoints {config.root.rstrip('/')}-checkpoints"
        )


def _check_devices(config: TrainingConfig) -> None:
    gpus = gpus_per_node(config)
    if config.launcher != "local" and config.device == "cuda" and gpus < config.processes:
        raise UserError(
            f"launcher={config.launcher}: {config.processes} processes a machine need as many GPUs, but {gpus} are"
            f" requested. Give --{config.launcher}.gpus-per-node {config.processes}, or fewer --processes"
        )


def gpus_per_node(config: TrainingConfig) -> int:
    """Return the GPUs to request for each machine: as many as ranks, unless the caller says otherwise or uses CPUs."""
    asked = (config.slurm if config.launcher == "slurm" else config.kubernetes).gpus_per_node
    if asked is not None:
        return asked
    return 0 if config.device == "cpu" else config.processes


def cpus_per_node(config: TrainingConfig) -> int:
    """Return the CPU cores to request for each machine on Slurm."""
    return config.slurm.cpus_per_task or (config.threads or CPUS_PER_RANK) * config.processes


def check_tracker(tracking: str) -> None:
    """Check that the package of a tracker is installed.

    Raises
    ------
    UserError
        It is not; the message names the extra that has it.
    """
    if tracking in ("mlflow", "wandb") and importlib.util.find_spec(tracking) is None:
        raise UserError(
            f"tracking={tracking}: the package {tracking} is not installed; pip install 'emeg[{tracking}]', or use"
            " --tracking tensorboard"
        )
