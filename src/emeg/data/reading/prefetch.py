"""Reads of a rank's share of an epoch, planned before the first: each stretch of a shard once, none before its time."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.data.corpus.corpus import Corpus
from emeg.data.corpus.ranges import ByteRange
from emeg.data.sampling.plan import Share

MAX_GAP_REMOTE = 2 * 2**20
"""Bytes of a bucket read in vain rather than asked for around: at 20 ms and 100 MB/s, what a request costs."""


class Runs(NamedTuple):
    """Stretches of shards, in the order in which they are first needed."""

    ranges: list[ByteRange]
    first_batch: NDArray[np.int64]
    """(n_runs,): batch of the share that needs it first; rising."""
    uses: NDArray[np.int64]
    """(n_runs,): samples that lie in it, repeats counted."""
    of_sample: NDArray[np.int64]
    """(n_samples,): run of each sample of the share."""

    last_batch: NDArray[np.int64]
    """(n_runs,): batch that needs it last."""

    @property
    def n_bytes(self) -> int:
        """Bytes of all."""
        return sum(run.stop - run.start for run in self.ranges)

    def held_bytes(self) -> int:
        """Most bytes held at a time, if a run comes with its first batch and goes after its last."""
        sizes = np.array([run.stop - run.start for run in self.ranges], np.int64)
        change = np.zeros(int(self.last_batch.max(initial=-1)) + 2, np.int64)
        np.add.at(change, self.first_batch, sizes)
        np.add.at(change, self.last_batch + 1, -sizes)
        return int(np.cumsum(change).max())


def segment_ranges(corpus: Corpus, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First byte of each segment's signal, and the byte after its steps."""
    return corpus.column("offset")[rows], corpus.column("step_offset")[rows] + corpus.column("step_bytes")[rows]


def plan_runs(corpus: Corpus, share: Share, *, max_gap: int) -> Runs:
    """Join the segments of each block that lie at most `max_gap` bytes apart in a shard."""
    n = len(share.segments)
    batch = np.repeat(np.arange(len(share.borders) - 1), np.diff(share.borders))
    starts, stops = segment_ranges(corpus, share.segments)
    # rows lie in the order of their shards, so that a block's rows in order are its stretch from start to end
    order = np.lexsort((share.segments, share.blocks))
    shards = corpus.codes("shard")[1][share.segments][order]
    blocks, begin, end = share.blocks[order], starts[order], stops[order]
    new = np.ones(n, np.bool_)
    if n:
        same = (blocks[1:] == blocks[:-1]) & (shards[1:] == shards[:-1])
        new[1:] = ~same | (begin[1:] - end[:-1] > max_gap)
    heads = np.flatnonzero(new)
    tails = np.append(heads[1:], n)[: len(heads)] - 1
    number = np.cumsum(new) - 1
    first = np.minimum.reduceat(batch[order], heads) if n else np.zeros(0, np.int64)
    by_need = np.argsort(first, kind="stable")
    rank_of = np.empty_like(by_need)
    rank_of[by_need] = np.arange(len(by_need))
    of_sample = np.empty(n, np.int64)
    of_sample[order] = rank_of[number]
    names = corpus.codes("shard")[0]
    ranges = [
        ByteRange(str(names[shards[heads[r]]]), int(begin[heads[r]]), int(end[tails[r]])) for r in by_need.tolist()
    ]
    last = np.zeros(len(ranges), np.int64)
    np.maximum.at(last, of_sample, batch)
    return Runs(ranges, first[by_need], np.bincount(of_sample, minlength=len(ranges)), of_sample, last)
