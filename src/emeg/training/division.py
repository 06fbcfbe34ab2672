"""Divide a step into micro-batches, so that every rank gets the same number of them. Loads no network library.

A step has a size: segments, or channel-seconds of signal. It is divided into the fewest micro-batches that fit into a
GPU, or into a multiple of that number if the ranks do not divide it. The division decides which random draws a segment
gets and is part of the model's name. Therefore ranks join a model or a run that exists with another division, if they
can share it.
"""

import logging
import math
from collections.abc import Callable, Iterator
from typing import TypeVar

from emeg.data import SamplingConfig
from emeg.errors import UserError
from emeg.training.configs import PretrainConfig, TrainingConfig, TrainTokenizerConfig
from emeg.training.scaling import H100, STATE_SHARE, memory_of, read_counts

logger = logging.getLogger(__name__)

C = TypeVar("C", bound=TrainingConfig)

FINER = 32
"""Finer divisions, multiples of the coarsest, that are looked for among the runs of a store."""


def divide(config: C, ranks: int) -> C:
    """Return a configuration whose micro-batches the ranks can share: the fewest that fit.

    Raises
    ------
    UserError
        The segments of a step cannot be spread evenly over the ranks.
    """
    return next(_divisions(config, ranks))


def fit_memory(config: C, *, memory_gib: float, is_bf16: bool = True) -> C:
    """Lower the largest micro-batch to what fits a GPU by forecast, with a tenth of its memory left.

    The size of a step stays the same. A network that was not counted keeps the micro-batch of its recipe, and so does
    one whose state takes more than half of the memory: it has to be sharded.

    Parameters
    ----------
    config : TrainingConfig
    memory_gib : float
        Memory of a GPU, GiB.
    is_bf16 : bool
        Whether it computes in bf16; activations in float32 need twice the memory.
    """
    counts = read_counts().get(_family(config), {}).get(config.network)
    if counts is None or config.overrides:
        return config
    hardware = H100._replace(memory=memory_gib * 2**30)
    memory = memory_of(counts, 0.0, hardware=hardware)
    if memory.state_gib > STATE_SHARE * memory_gib:
        return config
    largest = max(1, memory.largest_micro_batch // (1 if is_bf16 else 2))
    if isinstance(config, TrainTokenizerConfig):
        sampling = config.sampling
        if sampling.budget_channel_seconds <= largest:
            return config
        sizes = {"step_channel_seconds": _channel_seconds(sampling), "budget_channel_seconds": float(largest)}
        return config.model_copy(update={"sampling": sampling.model_copy(update=sizes)})
    if isinstance(config, PretrainConfig):
        if config.batch_segments <= largest:
            return config
        return config.model_copy(update={"step_segments": _segments(config), "batch_segments": largest})
    raise TypeError(f"{type(config).__name__} has no micro-batches")


def join_run(config: C, ranks: int, *, exists: Callable[[C], bool]) -> C:
    """Divide a step as a model or a run that exists divides it; otherwise like `divide`.

    Parameters
    ----------
    config : TrainingConfig
    ranks : int
    exists : callable
        Returns whether the model of a configuration, or a run that trains it, is in the store.

    Raises
    ------
    UserError
        The segments of a step cannot be spread evenly over the ranks.
    """
    coarsest = divide(config, ranks)
    found = next((one for one in _divisions(config, ranks) if exists(one)), coarsest)
    n = micro_batches_of(found)
    if n != micro_batches_of(divide(config, 1)):
        logger.info("a step of %s is divided into %d micro-batches, for %d ranks", config.recipe, n, ranks)
    return found


def micro_batches_of(config: TrainingConfig) -> int:
    """Return the number of micro-batches in a step, over all ranks."""
    if isinstance(config, TrainTokenizerConfig):
        return config.sampling.micro_batches
    if isinstance(config, PretrainConfig):
        return config.micro_batches
    raise TypeError(f"{type(config).__name__} has no micro-batches")


def _divisions(config: C, ranks: int) -> Iterator[C]:
    """Yield divisions that the ranks can share, coarsest first."""
    if isinstance(config, TrainTokenizerConfig):
        yield from (config.model_copy(update={"sampling": sampling}) for sampling in _of_signal(config, ranks))
    elif isinstance(config, PretrainConfig):
        yield from (config.model_copy(update=sizes) for sizes in _of_segments(config, ranks))
    else:
        raise TypeError(f"{type(config).__name__} has no micro-batches")


def _of_signal(config: TrainTokenizerConfig, ranks: int) -> Iterator[SamplingConfig]:
    sampling = config.sampling
    size = _channel_seconds(sampling)
    # the least number of micro-batches of the caller, and as many as memory needs
    needed = math.ceil(size / sampling.budget_channel_seconds / sampling.micro_batches - 1e-9)
    coarsest = math.lcm(sampling.micro_batches * needed, ranks)
    for n in range(coarsest, (FINER + 1) * coarsest, coarsest):
        is_same = sampling.step_channel_seconds is None and n == sampling.micro_batches
        budget = sampling.budget_channel_seconds if is_same else size / n
        yield sampling.model_copy(update={"micro_batches": n, "budget_channel_seconds": budget})


def _of_segments(config: PretrainConfig, ranks: int) -> Iterator[dict[str, int]]:
    size = _segments(config)
    fitting = [n for n in _divisors(size) if n % config.micro_batches == 0 and size // n <= config.batch_segments]
    shared = [n for n in fitting if n % ranks == 0]
    if not shared:
        numbers = sorted({m for n in fitting for m in _divisors(n)})
        near = [m for m in (size // ranks * ranks, (size // ranks + 1) * ranks) if m]
        raise UserError(
            f"{ranks} ranks ({config.nodes} machines with {config.processes} processes each) cannot share the {size}"
            f" segments of a step of recipe {config.recipe}, at least {config.micro_batches} micro-batches of at most"
            f" {config.batch_segments} segments: each rank needs the same number. Use one of"
            f" {', '.join(map(str, numbers))} ranks, or another step, with --micro-batches 1 --step-segments"
            f" {' or '.join(map(str, near))}"
        )
    for n in shared[: FINER + 1]:
        yield {"micro_batches": n, "batch_segments": size // n}


def _family(config: TrainingConfig) -> str:
    """Return the name of the tokenizer or the encoder that a configuration trains."""
    if isinstance(config, TrainTokenizerConfig):
        return config.tokenizer
    if isinstance(config, PretrainConfig):
        return config.encoder
    raise TypeError(f"{type(config).__name__} trains no network")


def _channel_seconds(sampling: SamplingConfig) -> float:
    return sampling.step_channel_seconds or sampling.micro_batches * sampling.budget_channel_seconds


def _segments(config: PretrainConfig) -> int:
    return config.step_segments or config.micro_batches * config.batch_segments


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]
