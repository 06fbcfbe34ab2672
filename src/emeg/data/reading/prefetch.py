"""Plan the reads of a rank's share of an epoch: every stretch of a shard is read once, shortly before it is needed."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.data.corpus.corpus import Corpus
from emeg.data.corpus.ranges import ByteRange
from emeg.data.sampling.plan import Share

MAX_GAP_REMOTE = 2 * 2**20
"""Largest gap, bytes, read through instead of sending another request: a request costs 20 ms at 100 MB/s."""


class ReadPlan(NamedTuple):
    """Ranges of shards in the order in which they are first needed."""

    ranges: list[ByteRange]
    first_batch: NDArray[np.int64]
    """(ranges,): first batch of the share that needs each range; ascending."""
    uses: NDArray[np.int64]
    """(ranges,): samples inside each range, repeats included."""
    of_sample: NDArray[np.int64]
    """(samples,): index of the range of each sample of the share."""

    last_batch: NDArray[np.int64]
    """(ranges,): last batch that needs each range."""

    @property
    def n_bytes(self) -> int:
        """Bytes of all ranges."""
        return sum(run.stop - run.start for run in self.ranges)

    def held_bytes(self) -> int:
        """Return the most bytes held at a time if a range is held from its first to its last batch."""
        sizes = np.array([run.stop - run.start for run in self.ranges], np.int64)
        change = np.zeros(int(self.last_batch.max(initial=-1)) + 2, np.int64)
        np.add.at(change, self.first_batch, sizes)
        np.add.at(change, self.last_batch + 1, -sizes)
        return int(np.cumsum(change).max())


def segment_ranges(corpus: Corpus, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first byte of each segment's signal and the byte after its scales.

    Parameters
    ----------
    rows : int64, shape (segments,)
        Row indices of the corpus.
    """
    return corpus.column("offset")[rows], corpus.column("step_offset")[rows] + corpus.column("step_bytes")[rows]


def plan_reads(corpus: Corpus, share: Share, *, max_gap: int) -> ReadPlan:
    """Merge the segments of each block that are at most `max_gap` bytes apart in a shard into ranges."""
    n = len(share.segments)
    batch = np.repeat(np.arange(len(share.borders) - 1), np.diff(share.borders))
    starts, stops = segment_ranges(corpus, share.segments)
    # rows are in the order of their shards, so that the sorted rows of a block cover its stretch from start to end
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
    return ReadPlan(ranges, first[by_need], np.bincount(of_sample, minlength=len(ranges)), of_sample, last)
