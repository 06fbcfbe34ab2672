"""The cache of remote shards: complete, bounded in size, shared by processes, and without wrong bytes."""

import hashlib
import multiprocessing
import os
import signal
import threading
import time

import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem
from tests.messages import refusal

from emeg.data import BatchReader, CacheConfig, Corpus, Loader, SamplingConfig, SamplingPlan, ShardConfig, cache, shard
from emeg.data.reading.shard_cache import RemoteShard, ShardCache
from emeg.errors import TransientError, UserError
from emeg.store import Store
from emeg.uri import Location


class Bucket(LocalFileSystem):
    """A folder treated as remote that counts reads in a file and can simulate a slow or lost connection."""

    protocol = "bucket"
    cachable = False

    def __init__(self, log=None, wait_s=0.0, cut=False):
        super().__init__()
        self.log, self.wait_s, self.cut = log, wait_s, cut

    def cat_file(self, path, start=None, end=None, **kwargs):
        if self.log is not None and path.endswith(".tar"):
            with self.log.open("a") as file:
                file.write(f"{os.getpid()} {path.rsplit('/', 1)[-1]}\n")
        time.sleep(self.wait_s)
        if self.cut:
            raise ConnectionResetError("reset")
        return super().cat_file(path, start, end, **kwargs)


class Remote(Location):
    """Location in the bucket."""

    is_local = False

    def __truediv__(self, name):
        return Remote(self.fs, f"{self.path}/{name}")


def put(folder, name, size, seed=0, **how):
    content = np.random.default_rng(seed).bytes(size)
    (folder / name).write_bytes(content)
    place = Remote(Bucket(log=folder / "log", **how), str(folder / name))
    return RemoteShard(place, size, hashlib.sha256(content).hexdigest()), content


def reads(folder):
    return (folder / "log").read_text().splitlines() if (folder / "log").exists() else []


def take(kept, one):
    with kept.open(one) as file:
        return file.read()


def test_a_shard_is_copied_once_and_is_what_the_bucket_holds(tmp_path):
    one, content = put(tmp_path, "a.tar", 1000)
    kept = ShardCache(tmp_path / "cache", 5000)
    assert take(kept, one) == take(kept, one) == content
    assert len(reads(tmp_path)) == 1
    assert [entry.path.name for entry in kept.entries()] == [f"{one.sha256}.tar"]


def test_the_longest_unused_goes_first_and_an_open_one_stays_readable(tmp_path):
    shards = [put(tmp_path, f"{i}.tar", 1000, seed=i) for i in range(4)]
    kept = ShardCache(tmp_path / "cache", 3000)
    opened = kept.open(shards[1][0])
    for one, _ in (shards[0], shards[2]):
        take(kept, one)
    for k, (one, _) in enumerate((shards[1], shards[2], shards[0])):  # uses, oldest first
        os.utime(kept.folder / f"{one.sha256}.tar", (k, k))
    take(kept, shards[3][0])
    assert {e.path.stem for e in kept.entries()} == {shards[i][0].sha256 for i in (0, 2, 3)}
    assert opened.read() == shards[1][1]
    opened.close()
    os.utime(kept.folder / f"{shards[3][0].sha256}.tar", (3, 3))
    take(kept, shards[2][0])
    assert [e.path.stem for e in kept.entries()][-1] == shards[2][0].sha256
    assert sum(e.n_bytes for e in kept.entries()) <= 3000


def test_wrong_bytes_never_enter(tmp_path):
    one, _ = put(tmp_path, "a.tar", 1000)
    kept = ShardCache(tmp_path / "cache", 5000)
    (tmp_path / "a.tar").write_bytes(bytes(1000))
    with refusal(UserError, "a.tar", action="`emeg shard`"):
        take(kept, one)
    (tmp_path / "a.tar").write_bytes(bytes(10))
    with refusal(UserError, "a.tar", "byte 10", action="corpus again"):
        take(kept, one)
    one.location.fs.cut = True
    with refusal(TransientError, "a.tar", "reset", action="again"):
        take(kept, one)
    assert not list(kept.folder.glob("*.*"))
    with refusal(UserError, "a.tar", "1000 bytes", action="sampling.cache_gib"):
        ShardCache(tmp_path / "small", 999).open(one)


def copy(one, folder, start, results):
    start.wait()
    with ShardCache(folder, 10_000).open(one) as file:
        results.put(hashlib.sha256(file.read()).hexdigest())


def test_two_processes_that_want_the_same_shard_copy_it_once(tmp_path):
    one, _ = put(tmp_path, "a.tar", 1000, wait_s=0.3)
    fork = multiprocessing.get_context("fork")
    start, results = fork.Event(), fork.Queue()
    processes = [fork.Process(target=copy, args=(one, tmp_path / "cache", start, results)) for _ in range(4)]
    for process in processes:
        process.start()
    start.set()
    assert {results.get(timeout=20) for _ in processes} == {one.sha256}
    for process in processes:
        process.join()
    assert len(reads(tmp_path)) == 1


def test_threads_that_want_the_same_shard_copy_it_once(tmp_path):
    one, content = put(tmp_path, "a.tar", 1000, wait_s=0.1)
    kept = ShardCache(tmp_path / "cache", 5000)
    got = []
    threads = [threading.Thread(target=lambda: got.append(take(kept, one))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [content] * 6
    assert len(reads(tmp_path)) == 1


def test_a_killed_copy_leaves_nothing_that_counts_as_complete(tmp_path):
    one, content = put(tmp_path, "a.tar", 1000, wait_s=60)
    fork = multiprocessing.get_context("fork")
    start, results = fork.Event(), fork.Queue()
    start.set()
    process = fork.Process(target=copy, args=(one, tmp_path / "cache", start, results))
    process.start()
    kept = ShardCache(tmp_path / "cache", 5000)
    partial = kept.folder / f"{one.sha256}.partial"
    deadline = time.monotonic() + 20
    while not reads(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert partial.exists()
    assert kept.sweep() == 0  # under way
    assert not kept.entries()
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert partial.exists()
    assert cache(CacheConfig(folder=str(kept.folder))).n_unfinished == 1
    one.location.fs.wait_s = 0.0
    assert take(kept, one) == content


def test_the_verb_shows_verifies_limits_and_clears(tmp_path):
    kept = ShardCache(tmp_path / "cache", 10_000)
    shards = [put(tmp_path, f"{i}.tar", 1000, seed=i)[0] for i in range(3)]
    for one in shards:
        take(kept, one)
    folder = str(kept.folder)
    assert cache(CacheConfig(folder=folder)).n_shards == 3
    path = kept.folder / f"{shards[1].sha256}.tar"
    path.write_bytes(bytes(1000))
    assert cache(CacheConfig(folder=folder)).n_wrong == 0
    found = cache(CacheConfig(folder=folder, action="verify"))
    assert (found.n_wrong, found.n_shards) == (1, 2)
    assert not path.exists()
    found = cache(CacheConfig(folder=folder, limit_gib=1500 / 2**30))
    assert (found.n_removed, found.n_shards) == (1, 1)
    found = cache(CacheConfig(folder=folder, action="clear"))
    assert (found.n_removed, found.n_shards, found.gib) == (1, 0, 0.0)
    with refusal(UserError, "nowhere", action="--sampling.cache"):
        cache(CacheConfig(folder=str(tmp_path / "nowhere")))


@pytest.fixture
def remote(people, tmp_path):
    made = shard(ShardConfig(root=str(people.root), segment_s=5.0, max_shard_bytes=150_000))
    local = Corpus.open(people, made.corpus)
    fs = Bucket(log=tmp_path / "log")
    return local, Corpus(local.name, Remote(fs, str(local.folder)), local.manifest)


def loader(corpus, sampling):
    plan = SamplingPlan(corpus, sampling)
    return list(Loader(plan, BatchReader.configured(corpus, sampling), stop=3 * plan.n_steps(), workers=2))


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_loader_reads_through_the_cache(remote, tmp_path, share):
    """Shards that fit are copied once; the others are read by range in every epoch, and none evicts another."""
    local, there = remote
    total = sum(one["bytes"] for one in local.manifest["shards"])
    sampling = SamplingConfig(
        budget_channel_seconds=50.0, block_segments=4, cache=str(tmp_path / "cache"), cache_gib=share * total / 2**30
    )
    for a, b in zip(loader(local, sampling), loader(there, sampling), strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a.batch, b.batch, strict=True))
    entries = ShardCache(tmp_path / "cache", 0).entries()
    assert sum(entry.n_bytes for entry in entries) <= share * total
    cached = {one["name"] for one in local.manifest["shards"] if one["sha256"] in {e.path.stem for e in entries}}
    names = [line.split()[1] for line in reads(tmp_path)]
    assert cached
    assert all(names.count(name) == 1 for name in cached)
    train = {str(name) for name in local.column("shard")[local.column("split") == "train"]}
    assert (train <= cached) == (share == 1.0)
    assert {name for name in names if names.count(name) > 1} <= train - cached


def test_a_store_of_a_folder_needs_no_cache(people, tmp_path):
    corpus = Corpus.open(Store.open(people.root.local_path()), shard(ShardConfig(root=str(people.root))).corpus)
    sampling = SamplingConfig(budget_channel_seconds=50.0, cache=str(tmp_path / "cache"))
    assert loader(corpus, sampling)
    assert not (tmp_path / "cache").exists()
