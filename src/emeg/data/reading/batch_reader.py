"""Read micro-batches as stored arrays, from mapped shards or ranges of a bucket that are requested ahead."""

import mmap
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from emeg.data.batch import Batch, StoredBatch
from emeg.data.corpus.corpus import Corpus
from emeg.data.corpus.ranges import MAX_GAP, ByteRange, Pieces
from emeg.data.reading.prefetch import MAX_GAP_REMOTE, ReadPlan, plan_reads
from emeg.data.reading.shard_cache import RemoteShard, ShardCache
from emeg.data.sampling.plan import MicroBatch, SamplingConfig, Share

FETCHERS = 8
"""Requests in flight; with more, bandwidth instead of latency of a bucket is the limit."""


class ShareReader(Protocol):
    """Reader of the batches of one share."""

    def read(self, number: int, micro_batch: MicroBatch) -> Any:  # noqa: ANN401 - arrays or codes
        """Return the arrays of batch `number` of the share; threads may call it in any order."""

    def close(self) -> None:
        """Stop reading and drop pending requests."""


class BatchReader:
    """Read micro-batches of a corpus.

    Parameters
    ----------
    corpus : Corpus
    cache : ShardCache, optional
        Cache of shards of a bucket on this machine. None: ranges are read from the bucket each time.
    """

    def __init__(self, corpus: Corpus, *, cache: ShardCache | None = None) -> None:
        self.corpus = corpus
        self._shards = corpus.shards
        self._cache = cache if cache is not None and not corpus.shards.is_local else None
        self._held: dict[str, RemoteShard] = {}
        if self._cache is not None:
            self._cache.sweep()  # what killed processes left counts for the limit
            self._held = self._cache.choose(corpus.folder / "shards", corpus.manifest)

    @classmethod
    def configured(cls, corpus: Corpus, config: SamplingConfig) -> Self:
        """Create a reader with the cache that a sampling configuration names."""
        if config.cache is None:
            return cls(corpus)
        return cls(corpus, cache=ShardCache(Path(config.cache), round(config.cache_gib * 2**30)))

    def read(self, micro_batch: MicroBatch) -> Batch:
        """Return a micro-batch in physical units (V, T or T/m), cropped, not normalised."""
        return self.read_stored(micro_batch).values()

    def read_stored(self, micro_batch: MicroBatch) -> StoredBatch:
        """Return a micro-batch as stored, cropped."""
        rows = np.array(micro_batch.segments, np.int64)
        share = Share(rows, np.zeros(len(rows), np.int64), np.array([0, len(rows)]))
        with self.follow(share, ahead=0) as follower:
            return follower.read(0, micro_batch)

    def follow(self, share: Share, *, ahead: int) -> "Follower":
        """Start reading a rank's share of an epoch, `ahead` batches ahead of the consumer."""
        return Follower(self, share, ahead)

    def max_gap(self) -> int:
        """Return the largest gap, bytes, that is read through instead of sending another request."""
        return MAX_GAP if self._shards.is_local else MAX_GAP_REMOTE

    def request(self, run: ByteRange, pool: Callable[[], ThreadPoolExecutor]) -> "Future[Content] | Content":
        """Start reading a range: mapped files by the kernel, others by threads."""
        if self._shards.is_local:
            return _will_need(self._shards.map(run.shard), run)
        return pool().submit(self._fetch, run)

    def _fetch(self, run: ByteRange) -> "Content":
        if self._cache is not None and run.shard in self._held:
            held = self._held[run.shard]
            return _will_need(self._shards.map(run.shard, partial(self._cache.open, held)), run)
        return self._shards.fetch(run), run.start

    def gather(self, micro_batch: MicroBatch, pieces: Pieces) -> StoredBatch:
        """Copy a micro-batch out of the bytes read."""
        rows = np.array(micro_batch.segments, np.int64)
        crop = np.array(micro_batch.crop_start, np.int64)
        counts = self.corpus.column("channels")[rows].astype(np.int64)
        if (counts == counts[0]).all():
            return self._gather_alike(rows, crop, micro_batch.n_samples, int(counts[0]), pieces)
        parts = []
        for count in np.unique(counts).tolist():
            mine = np.flatnonzero(counts == count)
            chosen = Pieces(pieces.buffers, pieces.which[mine], pieces.base[mine])
            parts.append((mine, self._gather_alike(rows[mine], crop[mine], micro_batch.n_samples, count, chosen)))
        return _side_by_side(parts, len(rows))

    def _gather_alike(
        self, rows: NDArray[np.int64], crop: NDArray[np.int64], n: int, channels: int, pieces: Pieces
    ) -> StoredBatch:
        corpus = self.corpus
        starts = corpus.column("offset")[rows] + 2 * crop
        signal = pieces.gather_rows(starts, (channels, n), 2 * corpus.n_samples)
        # chunks of the crop: those of the recording are `chunk` long, counted from its start
        chunk = int(corpus.manifest["chunk_samples"])
        begins = corpus.column("start")[rows]
        first = (begins + crop) // chunk
        n_chunks = int(((begins + crop + n - 1) // chunk - first).max()) + 1
        edges = (first[:, None] + 1 + np.arange(n_chunks)) * chunk - (begins + crop)[:, None]
        stored = corpus.column("step_bytes")[rows] // (4 * channels)
        which = np.minimum((first - begins // chunk)[:, None] + np.arange(n_chunks), stored[:, None] - 1)
        indices = which[:, None, :] + stored[:, None, None] * np.arange(channels)[:, None]
        scale = pieces.gather(corpus.column("step_offset")[rows][:, None, None] + 4 * indices, 4).view("<f4")
        pos, sensor_type = corpus.sensors_of(rows, channels)
        mask = np.ones((len(rows), channels), np.bool_)
        return StoredBatch(signal, scale, edges, pos, sensor_type, mask, rows)


Content = tuple[bytes | mmap.mmap, int]
"""Bytes of a shard, and the byte of the shard at which they begin."""


class Follower:
    """Read the batches of one share, roughly in order; threads may share it."""

    def __init__(self, reader: BatchReader, share: Share, ahead: int) -> None:
        self._reader = reader
        self._ahead = ahead
        self._borders = share.borders
        self._plan: ReadPlan = plan_reads(reader.corpus, share, max_gap=reader.max_gap())
        self._left = self._plan.uses.copy()
        self._requested: dict[int, Future[Content] | Content] = {}
        self._next = 0
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def read(self, number: int, micro_batch: MicroBatch) -> StoredBatch:
        """Return batch `number` of the share; the bytes of a range are released after their last use."""
        needed = self._plan.of_sample[self._borders[number] : self._borders[number + 1]]
        runs, which = np.unique(needed, return_inverse=True)
        self._request(number + self._ahead)
        contents = [self._content(run) for run in runs.tolist()]
        bases = np.array([base for _, base in contents], np.int64)
        buffers = {id(buffer): buffer for buffer, _ in contents}
        index = {key: k for k, key in enumerate(buffers)}
        buffer_of = np.array([index[id(buffer)] for buffer, _ in contents], np.int64)
        pieces = Pieces(list(buffers.values()), buffer_of[which], bases[which])
        batch = self._reader.gather(micro_batch, pieces)
        self._release(runs, np.bincount(which))
        return batch

    def _request(self, batch: int) -> None:
        """Request all ranges that batches up to `batch` need."""
        with self._lock:
            first = self._plan.first_batch
            while self._next < len(first) and first[self._next] <= batch:
                self._requested[self._next] = self._reader.request(self._plan.ranges[self._next], self._pool)
                self._next += 1

    def _content(self, run: int) -> Content:
        with self._lock:
            requested = self._requested[run]
        return requested.result() if isinstance(requested, Future) else requested

    def _release(self, runs: NDArray[np.int64], uses: NDArray[np.int64]) -> None:
        with self._lock:
            self._left[runs] -= uses
            for run in runs[self._left[runs] == 0].tolist():
                del self._requested[run]

    def _pool(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(FETCHERS, thread_name_prefix="emeg-fetch")
        return self._threads

    def close(self) -> None:
        """Cancel pending requests."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)


def _will_need(mapped: mmap.mmap, run: ByteRange) -> Content:
    """Advise the kernel to read a stretch of a file now: one long read instead of one fault a page."""
    start = run.start // mmap.PAGESIZE * mmap.PAGESIZE
    mapped.madvise(mmap.MADV_WILLNEED, start, run.stop - start)
    return mapped, 0


def _side_by_side(parts: list[tuple[NDArray[np.int64], StoredBatch]], n: int) -> StoredBatch:
    """Merge batches of several channel counts into one, padding channels with zeros."""
    channels = max(part.signal.shape[1] for _, part in parts)
    chunks = max(part.scale.shape[2] for _, part in parts)
    n_samples = parts[0][1].signal.shape[2]
    whole = StoredBatch(
        signal=np.zeros((n, channels, n_samples), np.int16),
        scale=np.zeros((n, channels, chunks), np.float32),
        edges=np.full((n, chunks), n_samples, np.int64),
        pos=np.zeros((n, channels, parts[0][1].pos.shape[2]), np.float32),
        sensor_type=np.zeros((n, channels), np.int8),
        channel_mask=np.zeros((n, channels), np.bool_),
        segments=np.zeros(n, np.int64),
    )
    for rows, part in parts:
        c, k = part.scale.shape[1:]
        whole.signal[rows, :c] = part.signal
        whole.scale[rows, :c, :k] = part.scale
        whole.edges[rows, :k] = part.edges
        whole.pos[rows, :c] = part.pos
        whole.sensor_type[rows, :c] = part.sensor_type
        whole.channel_mask[rows, :c] = True
        whole.segments[rows] = part.segments
    return whole
