"""Checks of a launch before anything starts or is submitted: data, checkpoints, GPUs."""

import importlib.util
import logging
import re
import shutil
import subprocess
from typing import NamedTuple

from emeg.data import Corpus, SamplingPlan
from emeg.errors import UserError
from emeg.store import Store
from emeg.training.configs import PretrainConfig, TrainingConfig, TrainTokenizerConfig, token_sampling

logger = logging.getLogger(__name__)

GPU_LINE = re.compile(r"(\d+), (\d+\.\d+)")
"""Line of nvidia-smi: memory in MiB and compute capability."""
BF16_SINCE = 8.0
"""Compute capability from which a GPU computes in bf16."""
CPUS_PER_RANK = 8
"""Cores requested from a scheduler for each rank, unless the caller sets another number."""


def check_launch(config: TrainingConfig) -> None:
    """Refuse a launch that cannot work.

    Raises
    ------
    UserError
        Machines could not read each other's checkpoints, there are fewer GPUs than ranks, or the package of the tracker
        is not installed.
    """
    check_checkpoints(config, nodes=config.nodes)
    _check_devices(config)
    if config.launcher == "local":  # a scheduler's machines may have another environment
        check_tracker(config.tracking)


def check_data(store: Store, config: TrainingConfig) -> None:
    """Refuse a training whose data do not fill its steps, before anything is submitted.

    Raises
    ------
    UserError
        There are too few segments, a weight matches nothing, or a micro-batch is smaller than every segment.
    """
    if isinstance(config, TrainTokenizerConfig):
        plan = SamplingPlan(Corpus.open(store, config.corpus), config.sampling)
        seconds = plan.n_samples / plan.corpus.sfreq
        fewest = int(plan.corpus.column("channels").min())
        least = min(fewest, config.sampling.max_channels or fewest) * seconds
        size = config.sampling.micro_batches * config.sampling.budget_channel_seconds
        if config.sampling.budget_channel_seconds < least * (1 - 1e-9):
            raise UserError(
                f"a step of {size:g} channel-seconds in {config.sampling.micro_batches} micro-batches leaves"
                f" {config.sampling.budget_channel_seconds:g} for each, but the smallest segment of corpus"
                f" {config.corpus} has {least:g}. Use at most {int(size / least)} ranks, or"
                f" --sampling.step-channel-seconds {config.sampling.micro_batches * least:g} or more"
            )
    elif isinstance(config, PretrainConfig):
        manifest = store.location("tokens", str(config.tokens), "manifest.json").read_json()
        corpus = Corpus.open(store, str(manifest["corpus"]))
        SamplingPlan(corpus, token_sampling(config, corpus.n_samples / corpus.sfreq), channels=1)


class GpuAtHand(NamedTuple):
    """The smallest GPU that a training will use."""

    memory_gib: float
    """Memory, GiB."""
    has_bf16: bool
    """Whether it computes in bf16 without emulation."""


def find_gpu(config: TrainingConfig) -> GpuAtHand | None:
    """Return the GPU that a training is launched on; None on a CPU, and where a scheduler chooses an unknown one.

    The driver's tool is asked, because PyTorch would start a context on the GPU in the launching process.
    """
    if config.device not in {"auto", "cuda"}:
        return None
    if config.gpu_memory_gib is not None:
        return GpuAtHand(config.gpu_memory_gib, has_bf16=True)
    program = shutil.which("nvidia-smi")
    if config.launcher != "local" or program is None:
        return None
    command = [program, "--query-gpu=memory.total,compute_cap", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.warning("%s does not answer (%s); micro-batches are those of the recipe", program, error)
        return None
    found = [GPU_LINE.fullmatch(line.strip()) for line in done.stdout.splitlines()]
    gpus = [GpuAtHand(float(one[1]) / 1024, float(one[2]) >= BF16_SINCE) for one in found if one]
    return min(gpus, default=None)


def check_checkpoints(config: TrainingConfig, *, nodes: int) -> None:
    """Refuse several machines that could not read each other's checkpoints.

    Raises
    ------
    UserError
        The store is in a bucket, and neither checkpoints nor runs have a common location.
    """
    is_remote = "://" in config.root and not config.root.startswith("file:")
    if nodes > 1 and is_remote and config.run_dir is None and config.checkpoints is None:
        raise UserError(
            f"nodes={nodes}, root={config.root}: without a common folder each machine would resume from its own"
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
            f"tracking={tracking}: the package {tracking} is not installed; run pip install 'emeg[{tracking}]', or use"
            " --tracking tensorboard"
        )
