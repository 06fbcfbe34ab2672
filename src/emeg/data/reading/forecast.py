"""Forecast what an epoch will read: steps, batches, bytes, requests and memory, computed from the plan."""

from collections import Counter
from typing import NamedTuple

import numpy as np

from emeg.data.corpus.corpus import Corpus
from emeg.data.reading.loader import check_ranks
from emeg.data.reading.prefetch import MAX_GAP_REMOTE, plan_reads
from emeg.data.sampling.plan import SamplingPlan


class Forecast(NamedTuple):
    """What an epoch of a plan reads on a number of ranks."""

    n_steps: int
    n_segments: int
    """Segments shown, repeats included."""
    n_bytes: int
    """Bytes that all ranks read; blocks shared by two lanes count twice."""
    n_requests: int
    """Requests that all ranks send."""
    batches: dict[int, int]
    """Micro-batches by channel count."""
    padding: float
    """Share of padding among the values of a batch."""
    shown: float
    """Share of the values read that remain after crops and the choice of channels."""
    batch_bytes: int
    """Bytes of the largest micro-batch as floats, positions and types included."""
    held_bytes: int
    """Largest number of bytes of a bucket that the first rank holds at a time."""


def forecast(corpus: Corpus, plan: SamplingPlan, *, n_ranks: int = 1, epoch: int = 0) -> Forecast:
    """Compute the order of an epoch and count what it reads.

    Raises
    ------
    UserError
        The ranks do not divide the micro-batches of a step.
    """
    check_ranks(plan.config.micro_batches, n_ranks)
    channels_of = corpus.column("channels").astype(np.int64)
    n_bytes = n_requests = held = 0
    batches: Counter[int] = Counter()
    real = padded = let_through = largest = 0
    for rank in range(n_ranks):
        share = plan.share(epoch, rank=rank, n_ranks=n_ranks)
        reads = plan_reads(corpus, share, max_gap=MAX_GAP_REMOTE)
        n_bytes += reads.n_bytes
        n_requests += len(reads.ranges)
        if rank == 0:
            held = reads.held_bytes()
        channels = channels_of[share.segments]
        widest = np.maximum.reduceat(channels, share.borders[:-1])
        sizes = np.diff(share.borders)
        batches.update(widest.tolist())
        real += int(channels.sum())
        padded += int((widest * sizes).sum())
        let_through += int(np.minimum(channels, plan.config.max_channels or channels.max()).sum())
        largest = max(largest, int((widest * sizes).max()))
    return Forecast(
        n_steps=plan.n_steps(epoch),
        n_segments=plan.n_segments,
        n_bytes=n_bytes,
        n_requests=n_requests,
        batches=dict(sorted(batches.items())),
        padding=1 - real / padded,
        shown=let_through / real * plan.n_samples / corpus.n_samples,
        batch_bytes=largest * (4 * plan.n_samples + 6 * 4 + 8 + 1),
        held_bytes=held,
    )
