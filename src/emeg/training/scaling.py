"""Forecast of training speed and memory on many GPUs, from counts of a step that need no GPU.

``gpu_counts.json`` holds what one micro-batch of each network costs, counted on fake CUDA tensors by
``python -m benchmarks.device_costs --large --write``. docs/explanation/scaling.md explains the model and its limits.
"""

import json
from functools import cache
from importlib import resources
from math import ceil, floor
from typing import Literal, NamedTuple

from emeg.config import Config
from emeg.errors import UserError

SEGMENT_S = 30.0
"""Seconds of a segment of BrainOmni in `gpu_counts.json`."""
STATE_SHARE = 0.5
"""Largest share of a GPU's memory for the state; activations need the rest. A larger network is sharded."""
Bound = Literal["device", "host", "exchange", "data", "step"]


class Hardware(NamedTuple):
    """A machine with several GPUs and its network. The defaults are those of eight H100 SXM with 400 Gb/s a GPU."""

    gpus: int = 8
    """GPUs of a machine."""
    peak: float = 989e12
    """Dense bf16 peak of a GPU, operations/s."""
    memory_bandwidth: float = 3.35e12
    """Bandwidth of a GPU's memory, bytes/s."""
    memory: float = 80e9
    """Memory of a GPU, bytes."""
    link: float = 350e9
    """Rate at which a GPU sends to the other GPUs of its machine, bytes/s: what collectives reach of 450 GB/s."""
    network: float = 40e9
    """Rate at which a GPU sends to other machines, bytes/s: what collectives reach of 50 GB/s."""
    latency_s: float = 20e-6
    """Seconds that a collective takes whatever its size, for each doubling of the number of GPUs."""
    launch_s: float = 5e-6
    """Seconds in which the host starts one kernel in eager mode."""
    bucket: float = 2e9
    """Rate at which a machine reads from object storage, bytes/s."""


H100 = Hardware()


class Counts(Config):
    """What a network costs on a GPU. A unit is a channel-second for a tokenizer and a segment of 30 s for BrainOmni."""

    parameters: int
    """Trained parameters."""
    codebook_numbers: int
    """Numbers of 8 bytes that ranks exchange about codebooks in a step."""
    kernels: int
    """Kernels of a micro-batch."""
    kernels_step: int
    """Kernels of the end of a step."""
    fixed_ms: float
    """Time of a micro-batch on an H100 whatever its size, ms."""
    unit_ms: float
    """Time of a unit on an H100 if each kernel is limited by memory or arithmetic, ms."""
    unit_fused_ms: float
    """The same with perfect fusion of element-wise operations, which compiled code approaches, ms."""
    unit_gflop: float
    """Arithmetic of the formula behind MFU, 1e9 operations a unit."""
    fixed_mib: float
    """Memory of a micro-batch whatever its size, MiB."""
    unit_mib: float
    """Memory of a unit: activations and what exists beside them at the peak, MiB."""


class Memory(NamedTuple):
    """Memory of a rank that holds the whole network."""

    state_gib: float
    """Weights, gradients, optimizer and the partial sums of gradients, GiB."""
    activations_gib: float
    """Activations of one micro-batch, GiB."""
    largest_micro_batch: int
    """Units of the largest micro-batch that fits, with a tenth of the memory left for the allocator and libraries."""


class StepForecast(NamedTuple):
    """Times of a step on a number of GPUs."""

    gpus: int
    micro_batches: int
    """Micro-batches of each rank in a step."""
    units: float
    """Units of a micro-batch: channel-seconds or segments."""
    device_ms: float
    """Time that the kernels need."""
    host_ms: float
    """Time in which the host starts them."""
    exchange_ms: float
    """Time of the collectives."""
    exposed_ms: float
    """Part of the collectives that the backward pass does not hide."""
    data_ms: float
    """Time in which a machine reads its data from the bucket."""
    step_ms: float
    """Time of the step."""
    bound: Bound
    """What the step waits for; ``step`` if it has too few segments to give every GPU one."""
    mfu: float
    """Share of the bf16 peak that the model's own arithmetic reaches."""
    efficiency: float
    """Speed of each GPU relative to one GPU with the same micro-batches as in the recipe."""


@cache
def read_counts() -> dict[str, dict[str, Counts]]:
    """Read the counts by kind of network (``braintokenizer``, ``brainomni``) and preset."""
    text = resources.files("emeg.training").joinpath("gpu_counts.json").read_bytes()
    return {
        kind: {name: Counts.checked(values, source="gpu_counts.json") for name, values in presets.items()}
        for kind, presets in json.loads(text).items()
    }


class GpuForecast(Config):
    """Forecast of a training on GPUs: H100 SXM, eight in a machine."""

    state_gib: float
    """Weights, gradients and optimizer of a rank, GiB."""
    activations_gib: float
    """Activations of a micro-batch of the recipe, GiB."""
    largest_micro_batch: int
    """Largest micro-batch that fits a GPU of 80 GB: channel-seconds, or segments of 30 s."""
    steps: dict[str, dict[str, float | str]]
    """Forecast of a step by number of GPUs; `StepForecast` explains the values."""


def forecast_training(
    kind: str, network: str, *, gpus: int, micro_batches: int, units: float, bytes_per_step: float
) -> GpuForecast:
    """Forecast memory and steps on one GPU, 8, 64, 512, and another number, eager and compiled.

    Parameters
    ----------
    kind : str
        ``braintokenizer`` or ``brainomni``.
    network : str
        Preset of the network.
    gpus : int
        Another number of GPUs.
    micro_batches : int
        Micro-batches of a step in the recipe.
    units : float
        Units of one of them: channel-seconds, or segments of 30 s.
    bytes_per_step : float
        Bytes that all ranks read for a step.

    Raises
    ------
    UserError
        There are no counts of this network.
    """
    known = read_counts()
    if kind not in known:
        raise UserError(f"--gpus: {kind} was not counted; leave out --gpus, or choose {' or '.join(known)}")
    presets = known[kind]
    if network not in presets:
        raise UserError(f"network={network!r}: it was not counted; for --gpus, use {', '.join(presets)}")
    counts = presets[network]
    memory = memory_of(counts, units)
    steps: dict[str, dict[str, float | str]] = {}
    for n in sorted({1, 8, 64, 512, gpus}):
        for is_compiled in (False, True):
            found = forecast_step(
                counts,
                gpus=n,
                micro_batches=micro_batches,
                units=units,
                bytes_per_unit=bytes_per_step / (micro_batches * units),
                least_units=1.0 if kind == "brainomni" else 0.0,
                compiled=is_compiled,
            )
            values = {name: value for name, value in found._asdict().items() if name != "gpus"}
            steps[f"{n} compiled" if is_compiled else str(n)] = {
                name: value if isinstance(value, str) else float(f"{value:.3g}") for name, value in values.items()
            }
    return GpuForecast(
        state_gib=memory.state_gib,
        activations_gib=memory.activations_gib,
        largest_micro_batch=memory.largest_micro_batch,
        steps=steps,
    )


def memory_of(counts: Counts, units: float, *, hardware: Hardware = H100, partial_sums: int = 1) -> Memory:
    """Forecast the memory of a rank.

    Parameters
    ----------
    counts : Counts
    units : float
        Units of a micro-batch.
    hardware : Hardware
    partial_sums : int
        Copies of the gradients that are kept while micro-batches are added.
    """
    state = counts.parameters * 4 * (4 + partial_sums)  # weights, gradients, two means of AdamW, partial sums
    used = (counts.fixed_mib + counts.unit_mib * units) * 2**20
    room = 0.9 * hardware.memory - state - counts.fixed_mib * 2**20
    return Memory(state / 2**30, used / 2**30, max(0, floor(room / (counts.unit_mib * 2**20))))


def forecast_step(
    counts: Counts,
    *,
    gpus: int,
    micro_batches: int,
    units: float,
    bytes_per_unit: float = 0.0,
    least_units: float = 0.0,
    compiled: bool = False,
    hardware: Hardware = H100,
) -> StepForecast:
    """Forecast a step on a number of GPUs. The step stays the same: more GPUs get smaller micro-batches.

    Parameters
    ----------
    counts : Counts
    gpus : int
        Number of GPUs, on machines of ``hardware.gpus``.
    micro_batches : int
        Micro-batches of a step in the recipe.
    units : float
        Units of one of them.
    bytes_per_unit : float
        Bytes that a unit is stored in.
    least_units : float
        Units that a GPU must get at least, such as one segment.
    compiled : bool
        Whether element-wise operations are fused; then the host starts a third of the kernels.
    hardware : Hardware
    """
    alone = _step(counts, 1, micro_batches, units, bytes_per_unit, compiled, hardware)
    found = _step(counts, gpus, micro_batches, units, bytes_per_unit, compiled, hardware)
    bound: Bound = "step" if found.units < least_units else found.bound
    return found._replace(bound=bound, efficiency=alone.step_ms / (found.step_ms * gpus))


def collective_bytes(counts: Counts) -> tuple[int, int]:
    """Return the bytes that a rank adds over all ranks in a step: gradients, and codebook statistics."""
    return 4 * counts.parameters, 8 * counts.codebook_numbers


def _step(
    counts: Counts,
    gpus: int,
    micro_batches: int,
    units: float,
    bytes_per_unit: float,
    compiled: bool,
    hardware: Hardware,
) -> StepForecast:
    per_rank = max(1, ceil(micro_batches / gpus))
    in_step = micro_batches * units
    share = in_step / gpus / per_rank  # units of a micro-batch, now that all ranks share the step
    unit_ms = counts.unit_fused_ms if compiled else counts.unit_ms
    n_kernels = counts.kernels / 3 if compiled else counts.kernels
    # AdamW and clipping read and write weight, gradient and two means: 36 bytes a parameter
    update_ms = 36e3 * counts.parameters / hardware.memory_bandwidth
    scale = H100.memory_bandwidth / hardware.memory_bandwidth
    device_ms = scale * per_rank * (counts.fixed_ms + unit_ms * share) + update_ms
    host_ms = 1e3 * hardware.launch_s * (per_rank * n_kernels + counts.kernels_step)
    exchange_ms, codebook_ms, last_ms = _exchange_ms(counts, gpus, hardware)
    hidden_ms = 2 / 3 * max(device_ms, host_ms) / per_rank  # the backward pass of the last micro-batch
    exposed_ms = codebook_ms + max(last_ms, exchange_ms - hidden_ms)
    machines = ceil(gpus / hardware.gpus)
    data_ms = 1e3 * in_step * bytes_per_unit / machines / hardware.bucket
    compute_ms = max(device_ms, host_ms)
    step_ms = max(compute_ms + exposed_ms, data_ms)
    bound: Bound = "device" if device_ms >= host_ms else "host"
    if exposed_ms > compute_ms:
        bound = "exchange"
    if data_ms >= step_ms:
        bound = "data"
    mfu = in_step * counts.unit_gflop * 1e9 / (gpus * step_ms * 1e-3 * hardware.peak)
    return StepForecast(
        gpus,
        per_rank,
        share,
        device_ms,
        host_ms,
        exchange_ms + codebook_ms,
        exposed_ms,
        data_ms,
        step_ms,
        bound,
        mfu,
        1.0,
    )


def _exchange_ms(counts: Counts, gpus: int, hardware: Hardware) -> tuple[float, float, float]:
    """Return the time of the gradients, of the codebooks, and of the last bucket of gradients, ms."""
    if gpus == 1:
        return 0.0, 0.0, 0.0
    rate = hardware.link if gpus <= hardware.gpus else min(hardware.link, hardware.network)
    latency_ms = 1e3 * hardware.latency_s * ceil(gpus - 1).bit_length()
    gradients, codebooks = collective_bytes(counts)

    def ring_ms(n_bytes: float) -> float:  # each rank sends and receives 2 (n - 1) / n of the bytes
        return 1e3 * 2 * (gpus - 1) / gpus * n_bytes / rate

    n_buckets = count_buckets(gradients)
    last_ms = latency_ms + ring_ms(min(gradients, 2**20))
    codebook_ms = ring_ms(codebooks) + latency_ms if codebooks else 0.0
    return ring_ms(gradients) + n_buckets * latency_ms, codebook_ms, last_ms


def count_buckets(n_bytes: int) -> int:
    """Return the number of buckets in which DDP sends gradients: a first one of 1 MiB, then of 25 MiB."""
    return 1 + ceil(max(0, n_bytes - 2**20) / (25 * 2**20))
