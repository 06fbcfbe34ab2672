"""Reads from mapped files and from a bucket: the same arrays, and no part of a shard read twice."""

import pickle
import threading
from collections import Counter

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from tests.messages import refusal

from emeg.data import BatchReader, Corpus, Loader, MicroBatch, SamplingConfig, SamplingPlan, ShardConfig, collate, shard
from emeg.data.corpus.ranges import Pieces
from emeg.data.reading.prefetch import MAX_GAP_REMOTE, plan_reads
from emeg.data.sampling.plan import Share
from emeg.errors import TransientError, UserError
from emeg.store import Store
from emeg.uri import Location


class CountingFileSystem(MemoryFileSystem):
    """File system of a bucket that counts requests for shards and can be set to fail."""

    protocol = "counted"
    cachable = False
    store: dict = {}  # noqa: RUF012 - as in the parent
    pseudo_dirs: list = [""]  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.requests = []
        self.failure = None
        self.lock = threading.Lock()

    def cat_file(self, path, start=None, end=None, **kwargs):
        if path.endswith(".tar"):
            with self.lock:
                self.requests.append((path.rsplit("/", 1)[-1], start, end))
            if self.failure is not None:
                raise self.failure
        return super().cat_file(path, start, end, **kwargs)


@pytest.fixture(params=[5.0, 7.0])  # 7 s: most segments lie across two chunks of the recording
def corpus(people, request):
    return Corpus.open(people, shard(ShardConfig(root=str(people.root), segment_s=request.param)).corpus)


@pytest.fixture
def bucket(corpus, people):
    fs = CountingFileSystem()
    fs.put(str(people.root.local_path()) + "/", "/bucket/", recursive=True)
    yield Corpus.open(Store(Location(fs, "/bucket")), corpus.name)
    fs.rm("/bucket", recursive=True)


def loader_of(corpus, **more):
    sampling = {"budget_channel_seconds": 50.0, "crop_s": 2.0, "micro_batches": 4, "block_segments": 4}
    plan = SamplingPlan(corpus, SamplingConfig(**sampling, window_blocks=2))
    return Loader(plan, BatchReader(corpus), **({"stop": 2 * plan.n_steps() + 1} | more))


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_stored_values_are_those_of_the_segments(corpus):
    rng = np.random.default_rng(0)
    for channels in (5, 7):
        rows = rng.permutation(np.flatnonzero(corpus.column("channels") == channels))[:9].tolist()
        crops = rng.integers(0, corpus.n_samples - 512, len(rows)).tolist()
        expected = collate(corpus.samples(rows, crops, 512))
        stored = BatchReader(corpus).read_stored(MicroBatch(tuple(rows), tuple(crops), 512))
        assert equal(stored.values(), expected)
        assert stored.signal.dtype == np.int16
        whole = BatchReader(corpus).read(MicroBatch(tuple(rows), (0,) * len(rows), corpus.n_samples))
        assert equal(whole, collate(corpus.samples(rows)))


def test_several_channel_counts_are_padded(corpus):
    rows = [len(corpus) - 1, 0, len(corpus) - 2, 1, 1]
    crops = [100, 0, 3, 17, 18]
    batch = BatchReader(corpus).read(MicroBatch(tuple(rows), tuple(crops), 700))
    assert equal(batch, collate(corpus.samples(rows, crops, 700)))
    assert set(batch.channel_mask.sum(axis=1).tolist()) == {5, 7}


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_a_bucket_gives_the_same_batches_and_reads_every_run_once(corpus, bucket, workers):
    local = {(x.step, x.micro_batch): x.batch for x in loader_of(corpus, workers=0)}
    fs = bucket.folder.fs
    for n_ranks in (1, 2, 4):
        fs.requests.clear()
        loaders = [loader_of(bucket, workers=workers, rank=r, n_ranks=n_ranks) for r in range(n_ranks)]
        got = [x for loader in loaders for x in loader]
        assert sorted((x.step, x.micro_batch) for x in got) == sorted(local)
        assert all(equal(x.batch, local[x.step, x.micro_batch]) for x in got)
        runs = []
        plan = loaders[0].plan
        for r in range(n_ranks):
            for epoch, stop in ((0, None), (1, None), (2, 1)):
                share = plan.share(epoch, stop=stop, rank=r, n_ranks=n_ranks)
                runs += plan_reads(bucket, share, max_gap=MAX_GAP_REMOTE).ranges
        assert Counter(fs.requests) == Counter(tuple(run) for run in runs)
    assert not [t for t in threading.enumerate() if t.name.startswith(("emeg-fetch", "emeg-loader"))]


def test_a_block_is_one_request(bucket):
    plan = loader_of(bucket).plan
    share = plan.share(0)
    assert len(plan_reads(bucket, share, max_gap=MAX_GAP_REMOTE).ranges) <= len(np.unique(share.blocks)) + 2
    assert len(plan_reads(bucket, share, max_gap=-1).ranges) == len(share.segments)


def test_runs_hold_all_that_is_needed_and_no_more_than_asked(bucket):
    rng = np.random.default_rng(3)
    rows = rng.integers(0, len(bucket), 40)
    share = Share(rows, rows // 8, np.array([0, 13, 13, 40]))
    runs = plan_reads(bucket, share, max_gap=0)
    assert runs.uses.sum() == 40
    assert (np.diff(runs.first_batch) >= 0).all()
    for k, row in enumerate(rows.tolist()):
        run = runs.ranges[runs.of_sample[k]]
        assert run.shard == bucket.column("shard")[row]
        assert run.start <= bucket.column("offset")[row]
        assert run.stop >= bucket.column("step_offset")[row] + bucket.column("step_bytes")[row]
        assert runs.first_batch[runs.of_sample[k]] <= (0 if k < 13 else 2)


def test_a_refusal_of_a_bucket_names_the_next_action(bucket):
    bucket.folder.fs.failure = ConnectionResetError("reset")
    with refusal(TransientError, "-00000.tar", "reset", action="again"):
        list(loader_of(bucket))
    bucket.folder.fs.failure = PermissionError("403")
    with refusal(UserError, "-00000.tar", "403", action="rights"):
        list(loader_of(bucket))
    bucket.folder.fs.failure = None
    path = bucket.folder.path + "/shards/5-00000.tar"
    bucket.folder.fs.pipe_file(path, bucket.folder.fs.cat_file(path)[:20000])
    with refusal(UserError, "-00000.tar", "0 bytes", action="corpus again"):
        list(loader_of(bucket))


def test_a_short_local_shard_is_refused_before_it_is_mapped(corpus):
    path = corpus.folder.local_path() / "shards" / "5-00000.tar"
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.truncate(20000)
    with refusal(UserError, "-00000.tar", "20000 bytes", action="shard again"):
        list(loader_of(corpus))


def test_gathering_takes_bytes_from_any_place():
    rng = np.random.default_rng(0)
    data = [rng.bytes(300), rng.bytes(200)]
    which, base = np.array([1, 0, 1]), np.array([50, 0, 50])
    offsets = np.array([[57, 61], [3, 297], [50, 247]])
    got = Pieces(data, which, base).gather(offsets, 3)
    for b in range(3):
        for k in range(2):
            at = offsets[b, k] - base[b]
            assert got[b, k].tobytes() == data[which[b]][at : at + 3]
    with pytest.raises(IndexError):
        Pieces(data, which, base).gather(offsets + 1, 3)


def test_a_copied_reader_reads(corpus):
    loader = loader_of(corpus)
    first = next(iter(loader)).batch
    copied = pickle.loads(pickle.dumps(loader.reader))
    again = copied.read_stored(loader.plan.micro_batch(0, 0, 0))
    assert equal(first, again)
